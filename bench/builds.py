"""Real builds of real packages, got by name: what recall and noise are measured on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sources import SourceError, apt_source


def pypi_source(project: str, directory: Path) -> Path:
    """Unpack the sdist of a PyPI project below `directory` (cached). Raises SourceError."""
    done = directory / f"{project}.tree"
    if done.is_dir():
        return done
    work = directory / f"{project}.pypi"
    work.mkdir(exist_ok=True)
    fetch = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        ":all:",
        "-d",
        str(work),
        project,
    ]
    if subprocess.run(fetch, capture_output=True).returncode:
        raise SourceError(f"{project}: pip could not download its source")
    (archive,) = work.glob("*.tar.gz")
    subprocess.run(["tar", "-xf", str(archive), "-C", str(work)], check=True)
    (tree,) = [path for path in work.iterdir() if path.is_dir()]
    tree.rename(done)
    return done


@dataclass(frozen=True)
class Build:
    """`script` runs under sh in a fresh copy of the source tree."""

    name: str
    source: str  # "apt:NAME" or "pypi:NAME"
    script: str
    needs: str  # the program without which it cannot run

    def tree(self, cache: Path) -> Path:
        """The unpacked source. Raises SourceError."""
        kind, _, package = self.source.partition(":")
        return apt_source(package, cache) if kind == "apt" else pypi_source(package, cache)


BUILDS = [
    Build("autotools", "apt:hello", "./configure --quiet --disable-nls && make -s", "cc"),
    Build(
        "cmake",
        "apt:cjson",
        "cmake -S . -B out -DENABLE_CJSON_TEST=Off && cmake --build out",
        "cmake",
    ),
    Build("meson", "apt:pkgconf", "meson setup out -Dtests=false && ninja -C out", "meson"),
    Build("perl", "apt:libyaml-libyaml-perl", "perl Makefile.PL </dev/null && make -s", "perl"),
    Build("python extension", "pypi:markupsafe==2.1.5", "python3 setup.py -q build", "python3"),
    Build("shell-heavy", "apt:libtool", "./configure --quiet", "sh"),
]
