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
from tracelib_session import SOURCE

CSRC = SOURCE / "csrc"
SUITES = sorted(
    path.name
    for path in Path(__file__).parent.glob("test_tracelib_*.py")
    if path.name != Path(__file__).name
    and re.search(r"^from tracelib_session import .*\bSession\b", path.read_text(), re.M)
)
_WORDS = (
    "-shared -fPIC -std=gnu11 -g -O2 -D_GNU_SOURCE -U_FILE_OFFSET_BITS -fvisibility=hidden -fno-plt -ffreestanding "
    "-fno-stack-protector -U_FORTIFY_SOURCE -Wno-nonnull-compare -foptimize-sibling-calls -Wl,-z,now "
    "-fsanitize=undefined,bounds-strict -fsanitize-undefined-trap-on-error "
    # callers' null pointers are looked at and passed on, although the C library's headers promise that there are none
    "-fno-sanitize=null,nonnull-attribute,returns-nonnull-attribute"
)
FLAGS = _WORDS.split()
PLANTED = "__attribute__((constructor)) static void plant(void) { volatile int i = 0x7fffffff; i = i + 1; }\n"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the library of Linux"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="NOT CHECKED: gcc is needed for traps without a runtime"),
]


def sources() -> list[Path]:
    """The library's files, as the build lists them."""
    text = (CSRC / "meson.build").read_text()
    found: list[str] = []
    for name in ("tracelib_common", "tracelib_linux"):
        listed = re.search(rf"^{name} = files\((.*?)^\)", text, re.S | re.M)
        assert listed, f"csrc/meson.build has no list {name}"
        found += re.findall(r"'([^']+\.c)'", listed[1])
    return [CSRC / name for name in (*found, "policy.c", "path.c", "events.c")]


def build(directory: Path, *more: Path) -> Path:
    """The library with traps; `more` are further sources."""
    for what, name in (("wrappers", "calls.inc"), ("ops.h", "ops.h")):
        command = [sys.executable, CSRC / "gen_calls.py", CSRC / "calls.table", what, directory / name]
        subprocess.run(command, check=True)
    pattern = ["-ftrivial-auto-var-init=pattern"]
    probe = ["gcc", *pattern, "-E", "-x", "c", "/dev/null"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pattern = []  # gcc before 12
    out = directory / "libtracelib.so"
    includes = [f"-I{place}" for place in (CSRC, CSRC / "tracelib", directory)]
    subprocess.run(["gcc", *FLAGS, *pattern, *includes, "-o", out, *sources(), *more], check=True)
    return out


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
