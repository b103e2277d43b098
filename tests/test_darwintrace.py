"""MacPorts' own tests of its trace library, run against our `tracelib` command and library.

``pytest tests/test_darwintrace.py --macports-source DIR --macports-prefix PREFIX``: DIR is a source tree of MacPorts
base (its src/darwintracelib1.0/tests are copied and compiled unchanged), PREFIX an installed MacPorts whose tclsh and
Pextlib run them. tests/darwintrace/adapter.tcl says what is put between. Nothing is checked without both.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, run_command
from macports_host import open_python

ADAPTER = ROOT / "tests" / "darwintrace"
#: Tests that are left out, and why.
LEFT_OUT = {
    "they turn tracing off in a traced program, for which ours has no switch": (
        "access_allowed_when_uninitialized",
        "mkdir_allowed_when_uninitialized",
        "open_succeeds_when_uninitialized",
        "readdir_allowed_when_uninitialized",
        "readlink_succeeds_when_uninitialized",
        "rename_succeeds_when_uninitialized",
        "rmdir_uninitialized",
        "stat_uninitialized",
        "unlink_uninitialized",
        "execve_uninitialized",
        "spawn_uninitialized",
    ),
    "they look at darwintrace's descriptor and second variable, and ours has neither": (
        "close_dt_socket",
        "dup2_dt_socket",
        "darwintrace_without_log_env_fails",
        "darwintrace_with_incorrect_log_env_fails",
    ),
    "theirs says of a directory outside that is there already that it was made; ours EEXIST, as the system does": (
        "mkdir_allows_existing_dirs",
    ),
    "they are about file systems and protected programs of macOS": (
        "darwintrace_ignores_rsrc_forks",
        "darwintrace_on_volfs",
        "spawn_sip_binary",
        "spawn_sip_script",
        "spawn_sip_suid_binary",
    ),
}
#: Programs that need darwintrace's own functions; only tests that are left out use them.
INSIDE = ("close", "dup2")
SKIPPED = [name for names in LEFT_OUT.values() for name in names]
#: Test files, and how many tests of each are run.
FILES = {
    "access": 3,
    "darwintrace": 14,
    "mkdir": 2,
    "open": 5,
    "proc": 12,
    "readdir": 3,
    "readlink": 3,
    "rename": 3,
    "rmdir": 2,
    "stat": 4,
    "unlink": 2,
}


@pytest.fixture(scope="module")
def programs(macports_source: Path) -> Iterator[Path]:
    """MacPorts' test files with their programs compiled; the directory that they call their own."""
    scratch = Path(tempfile.mkdtemp(prefix="porttrace-darwintrace-", dir="/var/tmp"))
    scratch.chmod(0o755)
    source = macports_source / "src/darwintracelib1.0/tests"
    assert source.is_dir(), f"{macports_source} is no source tree of MacPorts base: {source} is missing"
    tests = scratch / "tests"
    shutil.copytree(source, tests)
    shutil.copy(ADAPTER / "darwintrace.h", scratch)
    for path in tests.glob("*.c"):
        if path.stem in INSIDE:
            continue
        subprocess.run(["cc", "-D_GNU_SOURCE", "-w", "-o", path.with_suffix(""), path], check=True)
    yield tests
    shutil.rmtree(scratch)


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """A Python that runs our core for any user."""
    with tempfile.TemporaryDirectory(prefix="porttrace-darwintrace-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield open_python(Path(name))


@pytest.mark.parametrize("name", FILES)
def test_macports_own(name: str, programs: Path, macports_prefix: Path, python: Path) -> None:
    tclsh = next((macports_prefix / "libexec/macports/bin").glob("tclsh*"))
    package = next((python.parent.parent / "lib").glob("python3*/site-packages/porttrace/tcl/porttrace"))
    argv: list[str | Path] = [tclsh, ADAPTER / "adapter.tcl", package, programs / f"{name}.test", *SKIPPED]
    done = run_command(
        argv, cwd=programs, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PORTTRACE_PYTHON": str(python)}
    )
    said = done.text
    counts = re.search(r"Total\s+(\d+)\s+Passed\s+(\d+)\s+Skipped\s+(\d+)\s+Failed\s+(\d+)", said)
    assert counts is not None, said
    total, passed, skipped, failed = map(int, counts.groups())
    assert (passed, failed) == (FILES[name], 0), said
    assert total == passed + skipped
    # Their comparison of the reported paths only speaks, and fails nothing.
    assert "violation" not in said, said
    assert "unknown" not in said, said


def test_what_is_left_out_is_known(programs: Path) -> None:
    """Every test of theirs is either run or named above."""
    there = {
        name: re.findall(r"^test (\S+)", (programs / f"{name}.test").read_text(), re.MULTILINE)
        for name in (path.stem for path in programs.glob("*.test"))
    }
    assert set(SKIPPED) <= {name for names in there.values() for name in names}
    assert {name: len(set(names) - set(SKIPPED)) for name, names in there.items() if set(names) - set(SKIPPED)} == FILES


if sys.platform == "darwin":
    pytest.skip("NOT CHECKED on macOS: the adapter speaks of LD_PRELOAD", allow_module_level=True)
