"""A program maps the first part of the event file, and the rest of it only when it has something new to tell."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import pytest
from tracelib_session import Session

from porttrace._core import ffi, lib

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere all is mapped at once")


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    (tmp_path / "hidden").touch()
    return tmp_path / "hidden"


def sizes(maps: str, session: Session) -> list[int]:
    """How large the maps of the event file are, in a text of /proc/PID/maps."""
    lines = [line.split() for line in maps.splitlines() if line.endswith(str(session.dir / "events"))]
    bounds = [[int(bound, 16) for bound in line[0].split("-")] for line in lines]
    return sorted(end - begin for begin, end in bounds)


@pytest.mark.parametrize("log", [False, True], ids=["findings", "log"])
def test_the_rest_is_mapped_by_who_tells_something(hidden: Path, log: bool) -> None:
    script = f'm() {{ while read -r line; do echo "$line"; done </proc/self/maps; }}; m; [ -e {hidden} ]; echo ==; m'
    with Session("rw:/=+", log=log) as session, Session(f"r:{hidden}=-", "rw:/=+", log=log) as other:
        whole = (session.dir / "events").stat().st_size
        before, after = (sizes(text, session) for text in session.run("sh", "-c", script).stdout.split("=="))
        assert before == after == [whole if log else lib.PT_STARTS_END]
        before, after = (sizes(text, other) for text in other.run("sh", "-c", script).stdout.split("=="))
        assert (before, after) == (([whole], [whole]) if log else ([lib.PT_STARTS_END], [lib.PT_STARTS_END, whole]))
        assert [e.path for e in other.findings()] == [str(hidden)]


def test_what_another_has_told_needs_no_more_of_the_file(hidden: Path) -> None:
    """Each shell of a configure script looks for the same programs at the same places in vain."""
    script = f"[ -e {hidden} ]; while read -r line; do echo $line; done </proc/self/maps"
    with Session(f"r:{hidden}=-", "rw:/=+") as session:
        whole = (session.dir / "events").stat().st_size
        first, second = (sizes(session.run("sh", "-c", script).stdout, session) for _ in range(2))
        assert (first, second) == ([lib.PT_STARTS_END, whole], [lib.PT_STARTS_END])
        assert [e.count for e in session.findings()] == [2]


def fill_starts(session: Session, times: int) -> None:
    """Starts of a program whose path has 60,000 bytes."""
    with (session.dir / "events").open("r+b") as f:
        m = mmap.mmap(f.fileno(), 0)
    ev = ffi.cast("struct pt_events *", ffi.from_buffer(m))
    path = ffi.from_buffer(b"/" + b"f" * 60000)
    for _ in range(times):
        event = ffi.new("struct pt_event *", {"kind": lib.PT_EV_PROCESS, "pid": os.getpid()})
        event.path, event.path_len = path, len(path)
        lib.pt_events_image(ev, event)


def test_a_start_at_the_end_of_its_part_needs_no_more_of_the_file() -> None:
    with Session("rw:/=+") as session:
        fill_starts(session, lib.PT_STARTS_END // 60100)  # less than 30,000 bytes are left
        maps = session.run("sh", "-c", "exec cat /proc/self/maps").stdout
        assert sizes(maps, session) == [lib.PT_STARTS_END]
        assert len(list(session.events("exec"))) == 1


def test_starts_that_find_their_part_full_are_told_in_the_rest() -> None:
    with Session("rw:/=+") as session:
        fill_starts(session, lib.PT_STARTS_END // 60000 + 1)
        assert session.run("sh", "-c", "/bin/true; sh -c '/bin/false; exit 3'").returncode == 3
        told = [(e.kind, Path(e.path).name) for e in session.events("process", "exec") if len(e.path) < 1000]
        assert [name for kind, name in told if kind == "process"] == [
            Path(os.path.realpath(f"/bin/{name}")).name for name in ("sh", "true", "sh", "false")
        ]
        assert len([name for kind, name in told if kind == "exec"]) == 3


def test_what_cannot_be_told_is_counted(hidden: Path) -> None:
    """The map of the whole file does not fit into the address space that this program lets itself have."""
    with Session(f"r:{hidden}=-", "rw:/=+") as session:
        done = session.run("sh", "-c", f"ulimit -v 30000; [ -e {hidden} ] || echo absent")
        assert (done.stdout, done.stderr) == ("absent\n", "")
        with (session.dir / "events").open("r+b") as f:
            m = mmap.mmap(f.fileno(), 0)
        assert lib.pt_events_lost(ffi.cast("struct pt_events *", ffi.from_buffer(m))) == 1
