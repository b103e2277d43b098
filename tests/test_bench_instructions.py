"""The instructions that the library adds to a call are held to the committed figures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
sys.path.insert(0, str(BENCH))

from instructions import dearer  # noqa: E402


def test_ten_percent_more_is_dearer() -> None:
    known = {"stat": 500, "few": 3}
    assert dearer({"stat": 550, "few": 6}, known) == []
    assert dearer({"stat": 551}, known) == ["stat: 551 instructions, was 500"]
    assert dearer({"few": 8}, known) == ["few: 8 instructions, was 3"]
    assert dearer({"new": 1}, known) == ["new: 1 instructions, was not counted"]


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed: nothing counts instructions")
def test_no_call_has_become_dearer() -> None:
    done = subprocess.run([sys.executable, BENCH / "instructions.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
