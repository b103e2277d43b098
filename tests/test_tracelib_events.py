"""The event file: writers that are killed or scribble harm nothing but their own records."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from porttrace._core import ffi, lib


class File:
    """An event file mapped into this process."""

    def __init__(self, path: Path, capacity: int = 0) -> None:
        assert lib.pt_events_create(os.fsencode(path), capacity) == 0
        self.path = path
        self.see()

    def see(self) -> None:
        """Map all that is there now."""
        fd = os.open(self.path, os.O_RDWR)
        self.map = mmap.mmap(fd, 0)
        os.close(fd)
        self.buffer = ffi.from_buffer(self.map)
        self.ev = ffi.cast("struct pt_events *", self.buffer)
        self.cursor = ffi.new("struct pt_reading *")

    def event(self, kind: int, path: bytes, pid: int = 0, **fields: int) -> Any:
        e = ffi.new("struct pt_event *", {"kind": kind, "pid": pid or os.getpid(), **fields})
        self.keep = ffi.from_buffer(path)
        e.path, e.path_len = self.keep, len(path)
        return e

    def put(self, kind: int, path: bytes, pid: int = 0, **fields: int) -> None:
        lib.pt_events_put(self.ev, self.event(kind, path, pid, **fields))

    def put_at(self, kind: int, path: bytes, **fields: int) -> int:
        """Where in the file it is."""
        return int(lib.pt_events_put(self.ev, self.event(kind, path, **fields)))

    @contextlib.contextmanager
    def opened(self, calls: bool = True) -> Iterator[int]:
        """The descriptor for one start or exec: it is told by calls, or through the map."""
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND) if calls else -1
        yield fd
        if calls:
            os.close(fd)

    def start(self, path: bytes, pid: int, calls: bool = True, **fields: int) -> int:
        with self.opened(calls) as fd:
            return int(lib.pt_events_image(self.ev, fd, self.event(lib.PT_EV_PROCESS, path, pid, **fields)))

    def exec(self, path: bytes, pid: int, calls: bool = True, asked: bytes = b"", **fields: int) -> int:
        event = self.event(lib.PT_EV_EXEC, path, pid, **fields)
        held = ffi.from_buffer(asked)
        event.asked, event.asked_len = held, len(asked)
        with self.opened(calls) as fd:
            return int(lib.pt_events_told_exec(self.ev, fd, event))

    def executed(self, pid: int, asked: bytes) -> bytes | None:
        """What the program that this process now runs knows of its own path."""
        out, room = ffi.new("struct pt_event *"), ffi.new("uint64_t[48]")
        with self.opened() as fd:
            known = lib.pt_events_exec(self.ev, fd, pid, asked, room, ffi.sizeof(room), out)
        return bytes(ffi.buffer(out.path, out.path_len)) if known else None

    def read(self, again: bool = False) -> Iterator[tuple[int, bytes, Any]]:
        if again:
            self.cursor[0] = ffi.new("struct pt_reading *")[0]
        out = ffi.new("struct pt_event *")
        while lib.pt_events_next(self.ev, len(self.map), self.cursor, out):
            yield out.kind, bytes(ffi.buffer(out.path, out.path_len)), out

    def unsound(self) -> int:
        return int(self.cursor.drops)


@pytest.fixture
def events(tmp_path: Path) -> File:
    return File(tmp_path / "events")


def test_equal_findings_are_counted_not_repeated(events: File) -> None:
    image = events.start(b"/bin/sh", os.getpid(), calls=False)
    for path in (b"/a", b"/b", b"/a", b"/a"):
        events.put(lib.PT_EV_FINDING, path, image=image, outcome=lib.PT_OUT_HIDE)
    found = {path: e.count for kind, path, e in events.read() if kind == lib.PT_EV_FINDING}
    assert found == {b"/a": 3, b"/b": 1}


def test_findings_of_a_program_that_has_very_many_are_counted_too(events: File) -> None:
    """More than the page of its kind holds: the others have a place also where that page lies in the way."""
    image = events.start(b"/bin/sh", os.getpid(), calls=False)
    for _ in range(2):
        for number in range(4000):
            events.put(lib.PT_EV_FINDING, b"/hidden/%d" % number, image=image, outcome=lib.PT_OUT_HIDE)
    counts = [e.count for kind, _, e in events.read() if kind == lib.PT_EV_FINDING]
    assert counts == [2] * 4000


def test_same_finding_of_another_program_stands_apart(events: File) -> None:
    for pid, exe in ((10, b"/bin/sh"), (11, b"/bin/cc"), (12, b"/bin/sh")):
        image = events.start(exe, pid, calls=False)
        events.put(lib.PT_EV_FINDING, b"/a", image=image)
    assert sorted(e.count for kind, _, e in events.read() if kind == lib.PT_EV_FINDING) == [1, 2]


@pytest.mark.parametrize("ways", list(itertools.product([False, True], repeat=3)), ids=str)
def test_exec_connects_an_image_with_its_parent(events: File, ways: tuple[bool, ...]) -> None:
    """However each of them is told: by calls, or through the map."""
    shell = events.start(b"/bin/sh", 10, ways[0])
    events.exec(b"/bin/cc", 11, ways[1], image=shell)
    cc = events.start(b"/bin/cc", 11, ways[2])
    spawned = events.start(b"/bin/as", 12, ways[2], ppid=11)
    events.see()
    seen = {path: (e.image, e.rule) for kind, path, e in events.read() if kind == lib.PT_EV_PROCESS}
    assert seen == {b"/bin/sh": (shell, 0), b"/bin/cc": (cc, shell), b"/bin/as": (spawned, cc)}
    assert events.unsound() == 0


def by_four(times: int, write: Callable[[int, bytes], object]) -> None:
    """So many paths of different lengths, written by each of four processes at once."""
    children = []
    for n in range(4):
        pid = os.fork()
        if pid == 0:
            for i in range(times):
                write(n, b"/p/%d/%d" % (n, i) + b"x" * (i % 50))
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


def test_starts_appended_by_many_processes_arrive_whole_and_in_order(events: File) -> None:
    by_four(500, lambda n, path: events.exec(path, 100 + n))
    events.see()
    paths = [path.rstrip(b"x") for _, path, _ in events.read()]
    for n in range(4):
        assert [path for path in paths if path.startswith(b"/p/%d/" % n)] == [b"/p/%d/%d" % (n, i) for i in range(500)]
    assert (len(paths), events.unsound()) == (2000, 0)


@pytest.mark.parametrize("left", [1, 8, 31, 40, 64])
def test_what_a_killed_writer_has_left_of_a_start_costs_that_one(events: File, left: int) -> None:
    """The kernel ends a write in the middle only where the writer is killed: then the next one begins anywhere."""
    events.start(b"/bin/first", 10)
    size = events.path.stat().st_size
    events.start(b"/bin/killed", 11)
    os.truncate(events.path, size + left)
    events.see()
    assert [path for _, path, _ in events.read()] == [b"/bin/first"]
    whole = [events.start(b"/bin/after%d" % n, 12 + n) for n in range(20)]
    events.see()
    told = [(path, e.image) for _, path, e in events.read()]
    assert set(told) >= {(b"/bin/first", size - 80 >> 4), (b"/bin/after19", whole[19])}
    assert len(told) >= 20  # the killed one may have taken the head of the next for its own path
    assert events.unsound() <= 1


def test_starts_that_are_still_being_written_are_read_later(events: File) -> None:
    events.start(b"/bin/first", 10)
    size = events.path.stat().st_size
    events.start(b"/bin/second", 11)
    whole = events.path.read_bytes()[size:]
    os.truncate(events.path, size + 70)
    events.see()
    assert [path for _, path, _ in events.read()] == [b"/bin/first"]
    seen = events.cursor
    os.truncate(events.path, size)
    with events.path.open("ab") as f:
        f.write(whole)
    events.see()
    events.cursor = seen
    assert [path for _, path, _ in events.read()] == [b"/bin/second"]
    assert events.unsound() == 0


def test_a_file_is_known_by_its_head_and_its_size(events: File) -> None:
    capacity, room = events.path.stat().st_size, ffi.new("bool *")

    def opened() -> tuple[int, bool]:
        with events.opened() as fd:
            return int(lib.pt_events_opened(fd, room)), bool(room[0])

    assert opened() == (capacity, True)
    os.truncate(events.path, capacity + (256 << 20) - 1)
    assert opened() == (capacity, True)
    os.truncate(events.path, capacity + (256 << 20))
    assert opened() == (capacity, False)  # no more starts: they go to the arena
    assert lib.pt_events_extent(capacity, capacity + (1 << 40)) == capacity + (256 << 20)
    os.truncate(events.path, capacity - 1)
    assert opened()[0] == 0
    os.truncate(events.path, capacity)
    with events.path.open("r+b") as f:
        f.write(b"x")
    assert opened()[0] == 0


def test_events_written_by_many_processes_arrive_whole(events: File) -> None:
    by_four(2000, lambda _, path: events.put(lib.PT_EV_ACCESS, path))
    paths = [path.rstrip(b"x") for _, path, _ in events.read()]
    assert len(paths) == 8000
    assert set(paths) == {b"/p/%d/%d" % (n, i) for n in range(4) for i in range(2000)}
    assert events.unsound() == 0


def test_a_killed_writer_costs_one_record(events: File) -> None:
    pid = os.fork()
    if pid == 0:
        while True:
            events.put(lib.PT_EV_ACCESS, b"/flood")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    events.put(lib.PT_EV_FINDING, b"/after")
    assert [path for _, path, _ in events.read()][-1] == b"/after"
    assert events.unsound() <= 1


def test_a_reservation_of_a_process_that_is_gone_is_passed_over(events: File) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    events.put(lib.PT_EV_FINDING, b"/one", pid)
    first = bytes(events.map).index(b"/one") - 64
    word = struct.unpack_from("<Q", events.map, first)[0]
    struct.pack_into("<Q", events.map, first, word & ~3 | 1)  # as if killed before it published
    events.put(lib.PT_EV_FINDING, b"/two")
    assert [path for _, path, _ in events.read()] == [b"/two"]
    assert events.unsound() == 1


def test_full_file_counts_what_it_lost(events: File) -> None:
    for i in range(6000):
        events.put(lib.PT_EV_ACCESS, b"/%d/" % i + b"y" * 1000)
    kept = sum(1 for _ in events.read())
    assert 0 < kept < 6000
    assert kept + lib.pt_events_lost(events.ev) == 6000


@pytest.mark.parametrize("seed", range(30))
def test_reader_survives_scribbling(tmp_path: Path, seed: int) -> None:
    import random

    rng = random.Random(seed)
    events = File(tmp_path / "events")
    for i in range(200):
        events.put(lib.PT_EV_FINDING if i % 3 else lib.PT_EV_EXEC, b"/dir/%d" % i)
    start = bytes(events.map).index(b"/dir/0") - 64
    for _ in range(rng.choice([1, 5, 50])):
        where = start + rng.randrange(200 * 96)
        events.map[where : where + 4] = rng.randbytes(4)
    seen = 0
    for _, path, e in events.read():
        seen += 1
        assert e.access < 11
        assert len(path) < 1 << 17
    assert seen <= 400
    events.put(lib.PT_EV_FINDING, b"/still/alive")  # a writer does not hang either
    events.map[16 : len(events.map)] = rng.randbytes(4096) + b"\xff" * (len(events.map) - 16 - 4096)
    list(events.read(again=True))
    events.put(lib.PT_EV_FINDING, b"/still/alive")


def test_create_refuses_what_exists(tmp_path: Path) -> None:
    (tmp_path / "e").symlink_to("/etc/passwd")
    assert lib.pt_events_create(os.fsencode(tmp_path / "e"), 0) < 0


def test_a_program_learns_its_path_from_its_exec(events: File) -> None:
    """Where it was told by calls or through the map, and only from a record that says so."""
    for calls in (True, False):
        where = events.exec(b"/usr/bin/program", 12345, calls, asked=b"/bin/program")
        assert events.executed(12345, b"/bin/program") == b"/usr/bin/program"
        assert events.executed(12345, b"/usr/bin/program") is None
        assert events.executed(12345 + 64, b"/bin/program") is None  # the same slot, another's
    whole = events.exec(b"/usr/bin/program", 12345, asked=b"/usr/bin/program")
    assert events.executed(12345, b"/usr/bin/program") == b"/usr/bin/program"
    assert events.exec(b"/" + b"long" * 100, 12345, asked=b"/long") and events.executed(12345, b"/long") is None
    events.exec(b"/usr/bin/program", 12345, asked=b"/bin/program")
    at = events.map.find(struct.pack("=Q", events.exec(b"/bin/p", 12345, asked=b"/bin/p")), 0, 4096)
    assert at > 0
    size = events.path.stat().st_size
    for forged in (0, 3, where + 1, whole - 16, size - 8, size + 4096, 1 << 63, (1 << 64) - 1):
        events.map[at : at + 8] = struct.pack("=Q", forged)
        assert events.executed(12345, b"/bin/p") is None
    assert events.path.stat().st_size == size


@pytest.mark.parametrize("asked", [b"", b"/usr/include/a.h", b"a.h", b"../include/a.h", b"/x/usr/include/a.h"])
@pytest.mark.parametrize("kind", [lib.PT_EV_ACCESS, lib.PT_EV_FINDING])
def test_what_was_asked_comes_back_as_it_was(events: File, kind: int, asked: bytes) -> None:
    e = events.event(kind, b"/usr/include/a.h", error=2, rule=7, port=8, access=3)
    held = ffi.from_buffer(asked)
    e.asked, e.asked_len = held, len(asked)
    lib.pt_events_put(events.ev, e)
    [(_, path, out)] = events.read()
    assert (path, bytes(ffi.buffer(out.asked, out.asked_len))) == (b"/usr/include/a.h", asked)
    assert (out.pid, out.error, out.rule, out.port, out.access) == (os.getpid(), 2, 7, 8, 3)


def test_a_log_of_accesses_takes_little_room(events: File) -> None:
    """What each access costs is the room that its record takes."""
    first, second = (events.put_at(lib.PT_EV_ACCESS, b"/usr/include/stdio.h", image=5) for _ in range(2))
    assert second - first == 64  # a head of 32, and the path


def test_an_access_told_by_another_keeps_its_pid_and_parent(events: File) -> None:
    pids = [(os.getpid() + 1, 0, 2), (os.getpid(), 3, 1), (1 << 25, 0, 1)]
    for pid, ppid, tier in pids:
        events.put(lib.PT_EV_ACCESS, b"/a", pid, ppid=ppid, tier=tier)
    assert [(e.pid, e.ppid, e.tier) for _, _, e in events.read()] == pids


@pytest.mark.parametrize(
    "kind, asked, marks", [(lib.PT_EV_ACCESS, 4, 8 | 1), (lib.PT_EV_ACCESS, 0, 4 | 1), (lib.PT_EV_EXEC, 0, 1)]
)
def test_a_record_that_cannot_be_is_dropped(events: File, kind: int, asked: int, marks: int) -> None:
    """An end that is longer than the path, details that have no room, an exec without them."""
    where = events.put_at(lib.PT_EV_ACCESS, b"/ab")
    events.put(lib.PT_EV_ACCESS, b"/next")
    events.map[where + 8 : where + 12] = bytes([kind, 0, 0, marks])
    events.map[where + 30 : where + 32] = struct.pack("H", asked)
    assert [path for _, path, _ in events.read()] == [b"/next"]
    assert events.unsound() == 1


def test_a_count_ends_before_it_touches_the_key(events: File) -> None:
    events.put(lib.PT_EV_FINDING, b"/a", image=0)
    words = [n for n in range(0, lib.PT_EVENTS_PART, 8) if events.map[n : n + 8] != bytes(8)]
    [slot] = [n for n in words if 12288 <= n < 12288 + 65536 * 8]
    events.map[slot : slot + 3] = (0x7FFFFE).to_bytes(3, "little")
    for _ in range(3):
        events.put(lib.PT_EV_FINDING, b"/a", image=0)
    assert [e.count for _, _, e in events.read()] == [0x7FFFFF]
