"""The port of porttrace itself, built and installed in an unmodified MacPorts, and what it installs put to use there.

``pytest --macports-prefix PREFIX``, as root. MacPorts' Python and its modules are stood in for by this machine's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PORT_HEAD, ROOT, Result, prefix_script, run_command
from macports_host import Macports, scratch_macports

#: What the port depends on, by the name of its Portfile; all but the first install a word and nothing else.
STAND_INS = [
    "python313", "py313-build", "py313-installer", "py313-meson-python", "py313-setuptools", "py313-cffi",
    "py313-tkinter", "py313-zstandard", "meson", "ninja", "tcllib", "patchelf",
]  # fmt: skip
MODULES = """
build cffi _cffi_backend.* installer mesonbuild mesonpy ninja packaging pycparser pyproject_hooks pyproject_metadata
setuptools pkg_resources _distutils_hack zstandard
"""


@dataclass(frozen=True)
class Installed:
    """A MacPorts in which the port is installed, and what was said of it before and meanwhile."""

    host: Macports
    lint: Result
    said: Result

    def porttrace(self, *words: str | Path) -> Result:
        """Run the porttrace that the port has installed."""
        return run_command([self.host.path / "bin/porttrace", *words], env=self.host.env, cwd=Path("/"))


def modules() -> Iterator[Path]:
    """What the port's Python has to know, as it is installed here."""
    site = Path(sysconfig.get_paths()["purelib"])
    for pattern in MODULES.split():
        found = [path for folder in (site, Path("/usr/lib/python3/dist-packages")) for path in folder.glob(pattern)]
        assert found, f"{pattern} is not installed here"
        yield found[0]


def stand_in(host: Macports, name: str, body: str) -> None:
    text = PORT_HEAD.format(name=name) + "build {}\ndestroot {\n    xinstall -d ${destroot}${prefix}/share/stood-in\n"
    text += f'    system "echo {name} > ${{destroot}}${{prefix}}/share/stood-in/{name}"\n{body}}}\n'
    host.prefix.add_port("lang", name, text)


def python_of_this_machine(host: Macports) -> str:
    """Tcl that installs it as bin/python3.13, with the modules and the programs that the port asks for."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    root, home = host.path.parent / "python", Path(sys.base_prefix) / "bin"
    site, programs = root / "lib" / version / "site-packages", root / "bin"
    site.mkdir(parents=True)
    programs.mkdir()
    (root / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    for path in modules():
        shutil.copytree(path, site / path.name) if path.is_dir() else shutil.copy2(path, site)
    compileall = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", site]
    subprocess.run(compileall, check=True)
    meson = f"#!{host.path}/bin/python3.13\nimport sys\nfrom mesonbuild.mesonmain import main\nsys.exit(main())\n"
    (programs / "meson").write_text(meson)
    (programs / "meson").chmod(0o755)
    shutil.copy2(Path(sys.executable).parent / "ninja", programs)
    prefix_script.open_up(root)
    (programs / "python3.13").symlink_to(home / version)
    return f'    system "cp -R {root}/. ${{destroot}}${{prefix}}/"\n'


@pytest.fixture(scope="module")
def installed(macports_prefix: Path) -> Iterator[Installed]:
    """The port, installed as docs/macports.md says, from a checkout that all users can read; in our own trace mode."""
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("NOT CHECKED: the port is built from what a git checkout has, and this is none")
    with scratch_macports(macports_prefix) as host:
        archive = ["git", "archive", "--prefix=checkout/", "HEAD"]
        made = subprocess.run(archive, cwd=ROOT, capture_output=True, check=True)
        checkout = host.path.parent / "checkout"
        subprocess.run(["tar", "x", "-C", checkout.parent], input=made.stdout, check=True)
        prefix_script.open_up(checkout)
        for name in STAND_INS:
            stand_in(host, name, python_of_this_machine(host) if name == "python313" else "")
        host.index()
        assert host.porttrace("integrate", host.home).status == 0
        host.port("-s", "install", *STAND_INS, timeout=300)
        port = ["-D", checkout / "ports/devel/porttrace"]
        lint = host.port(*port, "lint", "--nitpick")
        yield Installed(host, lint, host.port(*port, "-v", "-s", "-t", "install", timeout=500))


def test_its_portfile_is_in_order(installed: Installed) -> None:
    assert "0 errors and 0 warnings found" in installed.lint.text, installed.lint.text


def test_it_builds_in_its_own_trace_mode(installed: Installed) -> None:
    """From the checkout, which its Portfile allows; with no file of a port that it does not declare."""
    said = installed.said.text
    assert "phase build: tiers used: tracelib" in said
    assert "which porttrace does not declare" not in said, said
    hidden = said.partition("hidden from the build system by trace mode:\n")[2].splitlines()
    assert all(line.startswith("  /usr/local/") for line in hidden if line.startswith("  /")), said


def test_it_leaves_the_name_port_to_macports(installed: Installed) -> None:
    programs = installed.host.path / "bin"
    assert (programs / "porttrace-port").exists() and not (programs / "port").exists()
    assert installed.porttrace("--version").out.startswith("porttrace ")
    assert run_command([programs / "porttrace-port", "--help"], env=installed.host.env).status == 0


def test_its_porttrace_gives_macports_its_trace_mode(installed: Installed) -> None:
    host = installed.host
    assert host.porttrace("integrate", "--undo", host.home).status == 0
    done = installed.porttrace("integrate", host.home)
    assert done.status == 0, done.text
    assert str(host.path / "bin") in (host.package / "pkgIndex.tcl").read_text(), "with the port's Python"
    host.port("-s", "install", "stray")
    said = host.port("-v", "-s", "-t", "install", "foo").text
    assert f"  {host.path}/include/stray.h\n    belongs to port stray, which foo does not declare\n" in said, said
    assert installed.porttrace("integrate", "--undo", host.home).status == 0
    assert not host.package.exists()


@pytest.mark.parametrize("words", [["doctor"], ["run", "--", "/bin/sh", "-c", "test -e /bin/sh"]], ids=lambda w: w[0])
def test_its_other_commands(installed: Installed, words: list[str]) -> None:
    done = installed.porttrace(*words)
    assert done.status == 0, done.text
