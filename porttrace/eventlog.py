"""What a session's processes told it: a safe copy of the event file, its records, and the full log as JSON Lines.

The build user can write to the event file, shrink it included, so it is never mapped here: readers work on a private
copy, and the C code checks every record in it.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from types import TracebackType

from porttrace._core import ffi, lib
from porttrace.errors import PorttraceError
from porttrace.records import record

__all__ = ["ACCESSES", "Event", "Kind", "Outcome", "Snapshot", "create"]

# enum pt_access of csrc/policy.h
ACCESSES = ("read", "stat", "exec", "list", "readlink", "write", "create", "delete", "rename", "link", "attributes")
NONE = 0xFFFFFFFF  # PT_NO_RULE, PT_NO_PORT


class Kind(IntEnum):
    """enum pt_event_kind of csrc/events.h."""

    PROCESS = 1
    EXEC = 2
    FINDING = 3
    ACCESS = 4
    UNTRACED = 5
    USED = 6


class Outcome(IntEnum):
    """enum pt_outcome of csrc/events.h."""

    ALLOW = 0
    HIDE = 1
    DENY = 2
    REDIRECT = 3
    UNOWNED = 4
    ABSENT = 5
    REDIRECTED_MISSING = 6


_KINDS = {int(kind): kind for kind in Kind}
_OUTCOMES = {int(outcome): outcome for outcome in Outcome}
"""By number: quicker than a call of the class, and a large build has a hundred thousand."""

_EVENT = struct.Struct("@4BHhiiIIIIQQPIPI0P")
"""struct pt_event of csrc/events.h: taken apart at once, because each look at a member by its name costs as much."""
assert _EVENT.size == ffi.sizeof("struct pt_event")


@record(slots=True)
class Event:
    """One record of csrc/events.h; `image`, `parent` and `op` are numbers of that file, `time` is in ns (monotonic)."""

    kind: Kind
    access: str
    outcome: Outcome
    op: int
    error: int
    pid: int
    ppid: int
    image: int
    parent: int
    rule: int | None
    port: int | None
    count: int
    time: int
    path: bytes
    asked: bytes

    def __init__(  # by hand, because port waits at the end of a phase for as many of these as that made
        self,
        kind: Kind,
        access: str,
        outcome: Outcome,
        op: int,
        error: int,
        pid: int,
        ppid: int,
        image: int,
        parent: int,
        rule: int | None,
        port: int | None,
        count: int,
        time: int,
        path: bytes,
        asked: bytes,
    ) -> None:
        self.kind = kind
        self.access = access
        self.outcome = outcome
        self.op = op
        self.error = error
        self.pid = pid
        self.ppid = ppid
        self.image = image
        self.parent = parent
        self.rule = rule
        self.port = port
        self.count = count
        self.time = time
        self.path = path
        self.asked = asked


def create(path: Path, capacity: int) -> None:
    """Make a fresh sparse event file of `capacity` bytes. Raises PorttraceError."""
    error = int(lib.pt_events_create(os.fsencode(path), capacity))
    if error:
        raise PorttraceError(f"cannot make {path}: {os.strerror(-error)}")


def _mapped(copy: int, size: int) -> mmap.mmap:
    """The copy's `size` bytes. Raises OSError that says what a low limit has to do with it: the kernel's bare words
    ("Cannot allocate memory") would be all that a user reads after a build that went well."""
    try:
        return mmap.mmap(copy, size, prot=mmap.PROT_READ)
    except OSError as error:
        need = f"that takes {size >> 20} MiB of address space; raise the limit (ulimit -v)"
        raise OSError(error.errno, f"what was recorded cannot be read ({error.strerror}): {need}") from error


class Snapshot:
    """A private copy of an event file, taken now from the open `fd`; `capacity`: as it was made, in bytes."""

    def __init__(self, fd: int, capacity: int) -> None:
        if hasattr(os, "memfd_create"):
            copy = os.memfd_create("porttrace-events", os.MFD_CLOEXEC)
        else:
            import tempfile  # loads a lot, for systems without memfd_create only

            copy, name = tempfile.mkstemp()
            Path(name).unlink()
        self.found_size = os.lseek(fd, 0, os.SEEK_END)
        """How large the file is: its capacity and the starts behind that, where nobody has cut it off."""
        size = int(lib.pt_events_extent(capacity, self.found_size))
        ends = ffi.new("uint64_t[2]")
        try:
            error = int(lib.pt_events_copy(fd, copy, size))
            if error:
                raise OSError(-error, os.strerror(-error))
            # Who was told of in the slots meanwhile lies behind what was copied.
            self._told_end = os.lseek(fd, 0, os.SEEK_END)
            lib.pt_events_ends(copy, ends)
            self._map = _mapped(copy, size)
        finally:
            os.close(copy)
        self._size = size
        self._buffer = ffi.from_buffer(self._map)
        self._events = ffi.cast("struct pt_events *", self._buffer)
        self.sound = int(lib.pt_events_capacity(self._events, size)) == capacity
        self.ends = (int(ends[0]), int(ends[1]))
        """How far its two parts are written; they only grow."""
        self._dropped = 0

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory back; the snapshot cannot be used after it."""
        self._events = None
        ffi.release(self._buffer)
        self._map.close()

    @property
    def lost(self) -> int:
        """Events that the processes could not write because the file was full."""
        return int(lib.pt_events_lost(self._events)) if self.sound else 0

    @property
    def ends_sound(self) -> bool:
        """Whether the ends lie where they can."""
        return self.sound and bool(lib.pt_events_ends_sound(self._events, self._told_end))

    @property
    def unsound(self) -> int:
        """Records that had to be dropped in the last iteration because they were not sound."""
        return self._dropped if self.sound else 1

    def events(self, kinds: Sequence[Kind], *, last: bool = False) -> Iterator[Event]:
        """The records of these kinds, in the order in which they were written; `last`: nobody writes there any more."""
        if not self.sound:
            return
        room = 256
        batch = ffi.new("struct pt_event[]", room)
        cursor = ffi.new("struct pt_reading *", {"last": last})
        mask = sum(1 << kind for kind in set(kinds))
        count = room
        memory, start = self._map, int(ffi.cast("uintptr_t", self._events))
        while count == room:
            count = lib.pt_eventlog_collect(self._events, self._size, cursor, mask, batch, room)
            found = ffi.buffer(batch, count * _EVENT.size)
            for row in _EVENT.iter_unpack(found):
                number, access, outcome, _, op, error, pid, ppid, image, rule, port, times, stamp, _, *texts = row
                path, length, asked, asked_length = texts
                process = number == Kind.PROCESS
                # C looked that both lie in the copy
                path, asked = path - start, asked - start
                yield Event(
                    _KINDS[number],
                    ACCESSES[access],
                    _OUTCOMES[outcome],
                    op,
                    error,
                    pid,
                    ppid,
                    image,
                    rule if process else 0,
                    None if process or rule == NONE else rule,
                    None if port == NONE else port,
                    times,
                    stamp,
                    memory[path : path + length],
                    memory[asked : asked + asked_length],
                )
        self._dropped = int(cursor.drops)

    def rules_used(self, count: int) -> frozenset[int]:
        """Which of the policy's first `count` rules (by index) have decided something."""
        if not self.sound:
            return frozenset(range(count))
        return frozenset(rule for rule in range(count) if lib.pt_events_rule_was_used(self._events, rule))

    def write_log(self, fd: int, ops: Sequence[str], ports: Sequence[str]) -> int:
        """Write the full log as JSON Lines to `fd`; returns the number of lines.

        `ops` names the rows of csrc/calls.table, `ports` the image's ports. Raises OSError as write(2) does.
        """
        if not self.sound:
            return 0
        keep = []

        def names(strings: Sequence[str]) -> object:
            array = [ffi.new("char[]", os.fsencode(string)) for string in strings]
            pointers = ffi.new("char *[]", array)
            keep.extend([*array, pointers])
            names = ffi.new("struct pt_names *")
            names.names = pointers
            names.count = len(array)
            return names

        lines = int(lib.pt_eventlog_json(self._events, self._size, fd, names(ops), names(ports)))
        if lines < 0:
            raise OSError(-lines, os.strerror(-lines))
        return lines
