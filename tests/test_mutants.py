"""The list of bad manners for bench/mutants.py: each is a change of the library as it is today."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from tracelib_build import CSRC, compile_object, generate
from tracelib_session import SOURCE

sys.path.append(str(SOURCE / "bench"))
from manners import MANNERS, Manner


@pytest.mark.parametrize("manner", MANNERS, ids=lambda m: m.name)
def test_the_text_that_is_changed_is_there_once(manner: Manner) -> None:
    for name, there, instead in manner.edits:
        assert (CSRC / "tracelib" / f"{name}.c").read_text().count(there) == 1, there
        assert there != instead


@pytest.mark.skipif(shutil.which("gcc") is None, reason="NOT CHECKED: gcc is needed")
def test_what_is_no_c_is_told(tmp_path: Path) -> None:
    generate(tmp_path)
    source = CSRC / "tracelib" / "fds.c"
    assert compile_object(source, tmp_path).stat().st_size > 0
    with pytest.raises(ValueError, match="error"):
        compile_object(source, tmp_path, text="int x = ;")
