"""What the library keeps in a process stays below the bound after work that fills all that it remembers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/pagemap of Linux")


def test_no_process_keeps_more_than_the_bound() -> None:
    done = subprocess.run([sys.executable, BENCH / "memory.py", "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^\| (\w+) \| ([\w.-]+) \| (\d+) \| (\d+) \|$", done.stdout, re.MULTILINE)
    assert {("copy", "cp"), ("unpack", "tar"), ("compile", "cc1"), ("look", "sh"), ("open", "python")} <= {
        row[:2] for row in rows
    }
    assert all(int(kib) >= 8 for row in rows for kib in row[2:]), "each has at least the library's data"
