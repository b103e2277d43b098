"""Whose the files of the ask area are is asked by their names: a directory that holds others' keeps its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ground import NEEDS

from porttrace.filemap import Action, Filemap, Rule
from porttrace.identity import Identity
from porttrace.policy import Ownership, Policy
from porttrace.session import Session

pytestmark = NEEDS

RENAME = """
import ctypes, errno, os, sys
for words in sys.stdin.read().splitlines():
    old, new, *swap = words.split()
    try:
        if swap:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.renameat2(-100, old.encode(), -100, new.encode(), 2): raise OSError(ctypes.get_errno(), "")
        else:
            os.rename(old, new)
        print(old, new, "done")
    except OSError as error:
        print(old, new, errno.errorcode[error.errno])
"""


@pytest.fixture
def prefix() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="porttrace-renamed-", dir="/var/tmp") as name:
        top = Path(os.path.realpath(name)) / "prefix"
        for path in (
            "stray/doc/deep/file",
            "dep/doc/file",
            "mine/sub/file",
            "other/stray-in-it/file",
            "next/to/it/file",
        ):
            (top / path).parent.mkdir(parents=True)
            (top / path).write_text(path)
        (top / "empty").mkdir()
        (top / "link").symlink_to("stray")
        yield top


def renamed(prefix: Path, tiers: list[str], moves: str, *, audit: bool = False, live: bool = False) -> dict[str, str]:
    """What became of each of the moves, by their words."""
    files = {"stray/doc/deep/file": "stray", "dep/doc/file": "dep", "other/stray-in-it/file": "stray"}
    owners = Ownership([(os.fsencode(prefix / path), port) for path, port in files.items()], resolve=False)
    read = Filemap([Rule(os.fsencode(prefix), Action.ASK, live=live), Rule(b"/", Action.ALLOW)])
    write = Filemap([Rule(os.fsencode(prefix), Action.ALLOW), Rule(b"/dev/null", Action.ALLOW)])
    held = Policy(read, write, owners=owners, closure=frozenset({"dep"}), audit=audit)
    with Session(Identity.current(), tiers) as session:
        trace = session.start(held, prefix)
        words = [*trace.launch_argv, "/usr/bin/python3", "-I", "-S", "-c", RENAME]
        done = subprocess.run(words, input=moves, cwd=prefix, capture_output=True, text=True, check=False)
        trace.stop()
    assert done.stderr == ""
    return {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("live", [False, True], ids=["", "live"])
@pytest.mark.parametrize("tiers", [["tracelib", "supervisor"], ["supervisor"]], ids="-".join)
def test_a_directory_that_holds_what_is_hidden_keeps_its_name(prefix: Path, tiers: list[str], live: bool) -> None:
    moves = (
        "stray new\nstray/doc new\nstray/doc/deep new\nother new\nstray empty swap\nempty stray swap\nlink new-link\n"
    )
    moves += "mine mine-too\ndep dep-too\nempty empty-too\nnext mine-too swap\nnone new\nnext/sub/file mine-too/file\n"
    got = renamed(prefix, tiers, moves, live=live)
    refused = [words for words, what in got.items() if what == "EACCES"]
    assert refused == ["stray new", "stray/doc new", "stray/doc/deep new", "other new", "stray empty", "empty stray"]
    assert got.pop("none new") == "ENOENT"
    assert {what for words, what in got.items() if words not in refused} == {"done"}
    assert (prefix / "stray/doc/deep/file").exists() and not (prefix / "new").exists()


def test_an_audit_refuses_none(prefix: Path) -> None:
    assert renamed(prefix, ["tracelib", "supervisor"], "stray new\n", audit=True) == {"stray new": "done"}
