"""The injected library with traps in the place of undefined behaviour, put to the other suites of the library.

The sanitizers' runtimes allocate, lock and print: they cannot live where this library lives. Traps need none; a
program in which the library meets undefined behaviour dies of SIGILL. Local variables begin filled with a pattern.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tracelib_build import compile_object, generate, link, sources
from tracelib_session import SOURCE

SUITES = sorted(
    path.name
    for path in Path(__file__).parent.glob("test_tracelib_*.py")
    if path.name != Path(__file__).name
    and re.search(r"^from tracelib_session import .*\bSession\b", path.read_text(), re.M)
)
TRAPS = (
    *("-g", "-fsanitize=undefined,bounds-strict", "-fsanitize-undefined-trap-on-error"),
    # callers' null pointers are looked at and passed on, although the C library's headers promise that there are none
    "-fno-sanitize=null,nonnull-attribute,returns-nonnull-attribute",
)
PLANTED = "__attribute__((constructor)) static void plant(void) { volatile int i = 0x7fffffff; i = i + 1; }\n"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the library of Linux"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="NOT CHECKED: gcc is needed for traps without a runtime"),
]


def build(directory: Path, *more: Path) -> Path:
    """The library with traps; `more` are further sources."""
    generate(directory)
    flags = [*TRAPS, "-ftrivial-auto-var-init=pattern"]
    probe = ["gcc", flags[-1], "-E", "-x", "c", "/dev/null"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        flags.pop()  # gcc before 12
    objects = [compile_object(source, directory, flags) for source in (*sources(), *more)]
    return link(objects, directory / "libtracelib.so")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("traps"))


@pytest.mark.parametrize("suite", SUITES)
def test_nothing_undefined_is_met(library: Path, suite: str) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).parent / "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            "not musl and not valgrind",
            Path(__file__).parent / suite,
        ],
        env={**os.environ, "PORTTRACE_TEST_TRACELIB": str(library)},
        cwd=SOURCE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"\d+ passed", done.stdout), done.stdout


def test_the_traps_are_there(tmp_path: Path) -> None:
    """A mistake that is planted in the library ends the program."""
    planted = tmp_path / "planted.c"
    planted.write_text(PLANTED)
    done = subprocess.run(["/bin/true"], env={"LD_PRELOAD": str(build(tmp_path, planted))}, check=False)
    assert done.returncode == -signal.SIGILL
