"""The processes of a build: who started whom, and why the library is not in a program."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from porttrace.eventlog import Event, Kind
from porttrace.installed import installed
from porttrace.records import field, record

__all__ = [
    "REASONS",
    "UNANNOUNCED",
    "Image",
    "ProcessTree",
    "untraced_reason",
]


REASONS = {
    "static": "statically linked",
    "other ABI": "built for another architecture",
    "other C library": "made for another C library, for which this porttrace has no library",
    "set-user-ID": "set-uid or set-gid: the loader ignores LD_PRELOAD",
    "file capabilities": "has file capabilities: the loader ignores LD_PRELOAD",
    "own calls": "made by Go: its runtime makes system calls past the C library",
    "protected by the system": "protected by the system, and no copy of it could be made",
    "restricted": "has a restricted segment or entitlements: the loader ignores DYLD_INSERT_LIBRARIES",
    "hardened": "has the hardened runtime: the loader takes no library that is not signed by the same maker",
}
"""Why the library cannot enter a program: the library's own word for it (csrc/tracelib), and what a report says."""

UNANNOUNCED = "did not announce itself: ended before it started, ran as another user, or its loader refused the library"
"""The reason where nothing is known of the program that would explain it."""


@record(slots=True)
class Image:
    """A program that ran in a process: its executable, the name it was started by, and the image that started it."""

    index: int
    pid: int
    ppid: int
    exe: bytes
    name: str
    parent: Image | None = None
    announced: bool = True
    """Whether an exec record of its start was seen."""
    started: int = 0
    """When it announced itself: ns, monotonic."""

    def __init__(  # by hand, for the same reason as that of `Event`
        self,
        index: int,
        pid: int,
        ppid: int,
        exe: bytes,
        name: str,
        parent: Image | None = None,
        announced: bool = True,
        started: int = 0,
    ) -> None:
        self.index = index
        self.pid = pid
        self.ppid = ppid
        self.exe = exe
        self.name = name
        self.parent = parent
        self.announced = announced
        self.started = started

    def chain(self) -> list[Image]:
        """This image's ancestors up to the phase, outermost first, and itself."""
        images: dict[int, Image] = {}
        image: Image | None = self
        while image is not None and len(images) < 1000 and id(image) not in images:
            images[id(image)] = image
            image = image.parent
        return list(images.values())[::-1]


def _name(exe: bytes, target: bytes) -> str:
    # A script is told by its own name, and "cc" by the name that was called, not by where its link leads.
    return os.fsdecode((target or exe).rpartition(b"/")[2] or exe)


@record
class ProcessTree:
    """All images that announced themselves, and the exec calls that nothing answered."""

    images: dict[int, Image] = field(default_factory=dict)
    unanswered: list[tuple[Event, Image | None]] = field(default_factory=list)

    @classmethod
    def build(cls, events: Iterable[Event], started: Mapping[int, str] | None = None) -> ProcessTree:
        """From the PROCESS and EXEC records, in any order.

        `started`: names of what was started from outside (process id: command), for which there is no exec record.
        """
        tree = cls()
        latest: dict[int, Image] = {}
        pending: dict[int, Event] = {}
        unannounced: dict[int, Image] = {}
        later: list[tuple[Image, int]] = []
        for event in sorted(events, key=lambda e: e.time):
            if event.kind is Kind.EXEC:
                # A second record with an errno says that the call came back: nothing was started.
                spawned = unannounced.get(event.pid)
                by = tree.images.get(event.image)
                if event.error:
                    pending.pop(event.pid, None)
                elif spawned and by is not None and by.pid != event.pid:
                    # posix_spawn knows the pid only when the child may have spoken, and become another program.
                    spawned.parent, spawned.announced = by, True
                    del unannounced[event.pid]
                    spawned.name = _name(spawned.exe, event.asked or event.path)
                else:
                    pending[event.pid] = event
            elif event.kind is Kind.PROCESS:
                target = pending.pop(event.pid, None)
                image = Image(
                    event.image,
                    event.pid,
                    event.ppid,
                    event.path,
                    _name(event.path, (target.asked or target.path) if target else b""),
                )
                image.announced, image.started = target is not None, event.time
                if target is None and event.pid not in latest and started and event.pid in started:
                    image.name, image.announced = _name(event.path, os.fsencode(started[event.pid])), True
                # Without an exec record (yet) the parent process's image did it.
                parent = event.parent or (target.image if target else 0)
                image.parent = tree.images.get(parent) or latest.get(event.pid) or latest.get(event.ppid)
                if parent and parent not in tree.images:
                    later.append((image, parent))
                tree.images[event.image] = image
                latest[event.pid] = image
                if not image.announced:
                    unannounced[event.pid] = image
        for image, parent in later:  # told in another part of the file, whose places say nothing of the order
            image.parent = tree.images.get(parent) or image.parent
        tree.unanswered = [(event, tree.images.get(event.image)) for event in pending.values() if event.pid > 0]
        return tree


def untraced_reason(executable: bytes) -> str | None:
    """Why the injected library would not be in a process of this program; None where it cannot have been started.

    ELF layout: elf(5); secure execution: ld.so(8).
    """
    try:
        path = Path(os.fsdecode(executable))
        info = path.stat()
        if not stat.S_ISREG(info.st_mode) or not info.st_mode & 0o111:
            return None
        with path.open("rb") as file:
            head = file.read(64)
            if head[:2] == b"#!":
                interpreter = head[2:].split(None, 1)[0] if head[2:].split(None, 1) else b""
                return untraced_reason(interpreter) if interpreter[:1] == b"/" else None
            if head[:4] != b"\x7fELF":
                return None
            if head[4] != (2 if sys.maxsize > 2**32 else 1) or head[18:20] != _own_machine():
                return REASONS["other ABI"]
            (offset,) = struct.unpack_from("=Q", head, 32)
            size, count = struct.unpack_from("=HH", head, 54)
            file.seek(offset)
            headers = file.read(size * count)
    except (OSError, struct.error, IndexError):
        return None
    loader = next(
        (at for at in range(0, len(headers) - size + 1, max(size, 4)) if struct.unpack_from("=I", headers, at)[0] == 3),
        None,
    )
    if loader is None:
        return REASONS["static"]
    if not _is_known_loader(path, *struct.unpack_from("=QQQQ", headers, loader + 8)):
        return REASONS["other C library"]
    if info.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return REASONS["set-user-ID"]
    with contextlib.suppress(OSError, AttributeError):
        if os.getxattr(executable, "security.capability"):
            return REASONS["file capabilities"]
    return UNANNOUNCED


def _is_known_loader(path: Path, offset: int, _address: int, _physical: int, size: int) -> bool:
    """Whether a library is there for programs of this loader (elf_linux.c says the same)."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            name = file.read(min(size, 4096))
    except OSError:
        return True
    if b"/ld-musl-" in name:
        return installed("libtracelib-musl.so").is_file()
    return b"/ld-linux" in name or not name.startswith(b"/")


def _own_machine() -> bytes:
    try:
        with Path(sys.executable).open("rb") as file:
            return file.read(20)[18:20]
    except OSError:
        return b""
