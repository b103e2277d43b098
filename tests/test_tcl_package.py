"""The Tcl package over each of its transports: one suite, run by every Tcl that this machine has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "tcl"
LIBRARY = str(files("porttrace") / "tcl")
SUITES = sorted(path.name for path in HERE.glob("*.test"))
TRANSPORTS = ("embedded", "tclsh8.6", "tclsh9.0")


def command(transport: str) -> list[str]:
    """The command that runs a script over a transport; skips where this machine lacks that Tcl, and says so."""
    if transport == "embedded":
        return [sys.executable, str(HERE / "embedded.py")]
    variable = "PORTTRACE_" + transport.replace(".", "").upper()
    program = os.environ.get(variable) or shutil.which(transport)
    if program is None:
        pytest.skip(f"NOT CHECKED: there is no {transport} on this machine ({variable} may name one)")
    return [program]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory that everybody may enter."""
    path = Path(tempfile.mkdtemp(prefix="porttrace-tcl-"))
    path.chmod(0o755)
    yield path.resolve()
    shutil.rmtree(path)


def run(transport: str, script: Path, *args: str, **extra: str) -> subprocess.CompletedProcess[str]:
    library = () if transport == "embedded" else (LIBRARY,)
    environment = {**os.environ, "PORTTRACE_PYTHON": sys.executable, **extra}
    return subprocess.run(
        [*command(transport), str(script), *args, *library],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
        env=environment,
    )


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_suite(transport: str, suite: str, scratch: Path) -> None:
    done = run(transport, HERE / suite, str(scratch))
    counts = re.search(r"Total\s+(\d+)\s+Passed\s+(\d+)\s+Skipped\s+(\d+)\s+Failed\s+(\d+)", done.stdout)
    assert counts is not None, done.stdout
    total, passed, skipped, failed = map(int, counts.groups())
    assert (failed, skipped) == (0, 0), done.stdout
    assert total == passed > 0
    assert done.returncode == 0, done.stdout
