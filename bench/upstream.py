"""Six upstream packages in Portfiles that declare too little: are the right ports named, and in how many lines?

usage: bench/upstream.py [--cache DIR] [--only NAME,…] [--show] [--write FILE]

Each source is had by name from a registry (a Debian source package, a PyPI sdist); the ports that it needs are made of
upstream sources as well, and installed. What `port deptest` says of the under-declared port has to name these and no
others, in at most a screen; then `--apply --verify` has to lead to a port that builds with nothing left to say.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[at] / name) for at, name in ((0, ""), (1, "scripts"))]

import prefix as prefix_script  # noqa: E402
from builds import pypi_source  # noqa: E402
from sources import SourceError, apt_source  # noqa: E402

PORT = Path(sys.executable).with_name("port")
SCREEN = 24
"""Lines of a terminal."""
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

HEAD = """\
PortSystem          1.0
name                {name}
version             1.0
categories          devel
license             Permissive
maintainers         nomaintainer
description         {name}, as upstream ships it
long_description    {{*}}${{description}}
homepage            https://porttrace.invalid/
distfiles
extract.mkdir       yes
use_configure       no

{depends}
post-extract {{ system "cp -R ${{filespath}}/source/. ${{worksrcpath}}" }}
"""


@dataclass(frozen=True)
class Port:
    """`source`: apt:NAME or pypi:NAME (nothing: the port has none); `needs`: what has to be named."""

    name: str
    source: str
    body: str
    depends: str = ""
    needs: tuple[str, ...] = ()
    kind: str = ""

    def portfile(self) -> str:
        """The Portfile's text."""
        return HEAD.format(name=self.name, depends=self.depends) + self.body

    def tree(self, cache: Path) -> Path | None:
        """The source, unpacked. Raises SourceError."""
        kind, _, package = self.source.partition(":")
        if not package:
            return None
        return apt_source(package, cache) if kind == "apt" else pypi_source(package, cache)


def phases(build: str, destroot: str, test: str = "") -> str:
    """Bodies of phases, each a line of shell in the source tree."""
    rows = [
        f'{name} {{ system -W ${{worksrcpath}} "{text}" }}\n'
        for name, text in (("build", build), ("destroot", destroot))
    ]
    return "".join(rows) + (f'test.run yes\ntest {{ system -W ${{worksrcpath}} "{test}" }}\n' if test else "")


DEST = "DESTDIR=${destroot}"
SITE = "${prefix}/lib/python3/site-packages"
PERL = "INSTALL_BASE=${prefix}"
PROVIDERS = (
    Port(
        "zlib",
        "apt:zlib",
        phases("CC=cc ./configure --prefix=${prefix} && make -s", f"make -s install {DEST}"),
    ),
    Port(
        "libogg",
        "apt:libogg",
        phases("./configure --quiet --disable-static --prefix=${prefix} && make -s", f"make -s install {DEST}"),
    ),
    Port(
        "p5-try-tiny",
        "apt:libtry-tiny-perl",
        phases(f"perl Makefile.PL {PERL} && make -s", f"make -s pure_install {DEST}"),
    ),
    Port(
        "py-setuptools",
        "pypi:setuptools==68.2.2",
        phases(
            ":", f"mkdir -p ${{destroot}}{SITE} && cp -R setuptools pkg_resources _distutils_hack ${{destroot}}{SITE}"
        ),
    ),
    Port(
        "meson",
        "pypi:meson==1.3.2",
        phases(
            ":",
            f"mkdir -p ${{destroot}}${{prefix}}/bin ${{destroot}}{SITE} && cp -R mesonbuild ${{destroot}}{SITE} && "
            "{ echo '#!/usr/bin/python3'; echo 'import sys'; "
            f"echo 'sys.path.insert(0, \\\"{SITE}\\\")'; echo 'from mesonbuild.mesonmain import main'; "
            "echo 'sys.exit(main())'; } >${destroot}${prefix}/bin/meson && chmod 755 ${destroot}${prefix}/bin/meson",
        ),
    ),
    # A program of our own build tools: Debian's source of it takes minutes.
    Port(
        "ninja", "", phases(":", "mkdir -p ${destroot}${prefix}/bin && cp ${filespath}/ninja ${destroot}${prefix}/bin/")
    ),
)
PORTS = (
    Port(
        "libvorbis",
        "apt:libvorbis",
        phases(
            "./configure --quiet --disable-static --disable-docs --disable-examples --disable-oggtest "
            "--prefix=${prefix} PKG_CONFIG_PATH=${prefix}/lib/pkgconfig && make -s",
            f"make -s install {DEST}",
        ),
        needs=("depends_lib-append port:libogg",),
        kind="autotools",
    ),
    Port(
        "libzip",
        "apt:libzip",
        phases(
            "cmake -S . -B out -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_INSTALL_PREFIX=${prefix} -DBUILD_EXAMPLES=OFF "
            "-DBUILD_REGRESS=OFF -DBUILD_DOC=OFF -DENABLE_BZIP2=OFF -DENABLE_LZMA=OFF -DENABLE_ZSTD=OFF "
            "-DENABLE_OPENSSL=OFF -DENABLE_GNUTLS=OFF -DENABLE_MBEDTLS=OFF -DCMAKE_INSTALL_RPATH=${prefix}/lib "
            "&& make -s -C out -j2",
            f"make -s -C out install {DEST}",
        ),
        needs=("depends_lib-append port:zlib",),
        kind="cmake",
    ),
    Port(
        "pkgconf",
        "apt:pkgconf",
        phases(
            "PATH=${prefix}/bin:\\$PATH; meson setup out --prefix=${prefix} -Dtests=false && ninja -C out",
            f"PATH=${{prefix}}/bin:\\$PATH; {DEST} meson install -C out --no-rebuild",
        ),
        needs=("depends_build-append port:meson", "depends_build-append port:ninja"),
        kind="meson",
    ),
    Port(
        "p5-test-fatal",
        "apt:libtest-fatal-perl",
        phases(
            f"perl Makefile.PL {PERL} && make -s",
            f"make -s pure_install {DEST}",
            "PERL5LIB=${prefix}/lib/perl5 make -s test",
        ),
        needs=("depends_test-append port:p5-try-tiny",),
        kind="perl",
    ),
    Port(
        "py-markupsafe",
        "pypi:markupsafe==2.1.5",
        phases(
            f"PYTHONPATH={SITE} python3 setup.py -q build",
            f"mkdir -p ${{destroot}}{SITE} && cp -R build/lib*/markupsafe ${{destroot}}{SITE}",
        ),
        needs=("depends_lib-append port:py-setuptools",),
        kind="python extension",
    ),
    Port(
        "pngcheck",
        "apt:pngcheck",
        phases(
            "make -s -f Makefile.unx CC=cc LD=cc ZINC=-I${prefix}/include "
            "ZLIB='-L${prefix}/lib -lz -Wl,-rpath,${prefix}/lib' pngcheck",
            "mkdir -p ${destroot}${prefix}/bin && cp pngcheck ${destroot}${prefix}/bin/",
        ),
        needs=("depends_lib-append port:zlib",),
        kind="plain make",
    ),
)


class Ground:
    """A prefix with the ports in its tree; a context manager."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.top = Path(tempfile.mkdtemp(prefix="porttrace-upstream-"))
        self.top.chmod(0o755)
        self.prefix = prefix_script.make(self.top / "prefix")

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.top)

    def add(self, port: Port) -> Path:
        """Put a port into the tree; its Portfile. Raises SourceError."""
        directory = self.prefix / "var/macports/sources/ports/upstream" / port.name
        (directory / "files").mkdir(parents=True)
        (directory / "Portfile").write_text(port.portfile())
        tree = port.tree(self.cache)
        if tree is not None:
            shutil.copytree(tree, directory / "files/source", symlinks=True)
        elif port.name == "ninja":
            shutil.copyfile(Path(sys.executable).with_name("ninja"), directory / "files/ninja")
            (directory / "files/ninja").chmod(0o755)
        else:
            (directory / "files/source").mkdir()
        if port.name == "ninja":
            (directory / "files/source").mkdir()
        prefix_script.open_up(directory)
        return directory / "Portfile"

    def port(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run port."""
        argv = [str(PORT), f"--prefix={self.prefix}", *words]
        env = {"PATH": PATH, "HOME": "/", "LANG": "C"}
        return subprocess.run(argv, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def install(self, *names: str) -> None:
        """Install providers. Raises RuntimeError where one does not build."""
        for port in PROVIDERS:
            if port.name in names:
                self.add(port)
        done = self.port("install", *names)
        if done.returncode:
            raise RuntimeError(f"{', '.join(names)}: {done.stderr[-2000:]}")


@dataclass(frozen=True)
class Outcome:
    """What was said of one port: its lines, what it came to with --apply --verify."""

    lines: list[str]
    said: list[str]
    after: bool
    text: str
    seconds: float


def try_port(ground: Ground, port: Port) -> Outcome:
    """Test an under-declared port, then with the changes."""
    ground.add(port)
    began = time.monotonic()
    done = ground.port("deptest", port.name)
    shown = (done.stderr + done.stdout).replace(str(ground.prefix), "${prefix}").replace(str(PORT), "port")
    second = ground.port("deptest", "--json", "--apply", "--verify", port.name)
    try:
        value = json.loads(second.stdout)
    except ValueError:
        raise RuntimeError(f"{port.name}: {shown}\n{second.stderr[-2000:]}") from None
    found = [*value["findings"], *value.get("after", {}).get("findings", [])]
    portfile = ground.prefix / "var/macports/sources/ports/upstream" / port.name / "Portfile"
    words = portfile.read_text().split()
    said = {line for finding in found for line in finding["fix"].splitlines()}
    # Where each build comes to the next missing one, the Portfile holds them all.
    said |= {line for line in port.needs if line.split()[1] in words}
    return Outcome(
        shown.splitlines(), sorted(said), second.returncode == 0, shown + second.stderr, time.monotonic() - began
    )


def main() -> int:
    """The command line; 1 where a port is not named, another one is, or it takes more than a screen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "porttrace-sources")
    parser.add_argument("--only", default="")
    parser.add_argument("--show", action="store_true", help="print what was said")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table and what was said there")
    options = parser.parse_args()
    options.cache.mkdir(exist_ok=True)
    only = [name for name in options.only.split(",") if name]
    rows = [
        "| built by | package | to be named | named | lines | builds with it, nothing left | s |",
        "|---|---|---|---|---|---|---|",
    ]
    texts: list[str] = []
    bad = 0
    with Ground(options.cache) as ground:
        ground.install(*(port.name for port in PROVIDERS))
        for port in PORTS:
            if only and port.name not in only:
                continue
            try:
                outcome = try_port(ground, port)
            except (SourceError, RuntimeError) as error:
                print(f"NOT CHECKED: {error}", file=sys.stderr)
                bad += 1
                continue
            right = outcome.said == sorted(port.needs)
            ok = right and outcome.after and len(outcome.lines) <= SCREEN
            bad += not ok
            cells = [
                port.kind,
                port.source,
                ", ".join(port.needs),
                "these" if right else ", ".join(outcome.said) or "none",
            ]
            cells += [str(len(outcome.lines)), "yes" if outcome.after else "NO", f"{outcome.seconds:.0f}"]
            rows.append(f"| {' | '.join(cells)} |")
            print(rows[-1], flush=True)
            texts.append(f"### {port.name}\n\n    " + "\n    ".join(outcome.lines))
            if options.show or not ok:
                print(outcome.text, file=sys.stderr)
    if options.write is not None:
        head = (
            "# Under-declared ports of upstream packages\n\nWritten by `bench/upstream.py`: what `port deptest` says.\n"
        )
        options.write.write_text(head + "\n" + "\n".join(rows) + "\n\n" + "\n\n".join(texts) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
