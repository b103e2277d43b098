"""The processes of a build: who started whom, and who still runs when nobody should."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from porttrace.eventlog import Event, Kind

__all__ = [
    "Image",
    "Leftover",
    "Moment",
    "ProcessTree",
    "become_subreaper",
    "end_processes",
    "members",
    "untraced_reason",
]

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(slots=True)
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

    def chain(self) -> list[Image]:
        """This image's ancestors up to the phase, outermost first, and itself."""
        images: list[Image] = []
        image: Image | None = self
        while image is not None and len(images) < 1000 and image not in images[-50:]:
            images.append(image)
            image = image.parent
        return images[::-1]


def _name(exe: bytes, target: bytes) -> str:
    # A script is told by its own name, and "cc" by the name that was called, not by where its link leads.
    return os.fsdecode((target or exe).rpartition(b"/")[2] or exe)


@dataclass
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
                tree.images[event.image] = image
                latest[event.pid] = image
                if not image.announced:
                    unannounced[event.pid] = image
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
                return "built for another architecture"
            (offset,) = struct.unpack_from("=Q", head, 32)
            size, count = struct.unpack_from("=HH", head, 54)
            file.seek(offset)
            headers = file.read(size * count)
    except (OSError, struct.error, IndexError):
        return None
    if not any(struct.unpack_from("=I", headers, at)[0] == 3 for at in range(0, len(headers) - 3, max(size, 4))):
        return "statically linked"
    if info.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "set-uid or set-gid: the loader ignores LD_PRELOAD"
    with contextlib.suppress(OSError, AttributeError):
        if os.getxattr(executable, "security.capability"):
            return "has file capabilities: the loader ignores LD_PRELOAD"
    return "did not announce itself: ended before it started, or its loader refused the library"


def _own_machine() -> bytes:
    try:
        with Path(sys.executable).open("rb") as file:
            return file.read(20)[18:20]
    except OSError:
        return b""


def become_subreaper() -> bool:
    """Have orphans below this process handed to it and not to init (Linux); False where that does not exist."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


@dataclass(frozen=True)
class Leftover:
    """A process that had to be ended: its id, executable, and the signal that did it ("TERM" or "KILL")."""

    pid: int
    exe: str
    signal: str


@dataclass(frozen=True)
class _Running:
    pid: int
    ppid: int
    state: str
    started: int


def _running(since: Moment | None) -> dict[int, _Running]:
    table: dict[int, _Running] = {}
    if not os.path.exists("/proc/self/stat"):  # noqa: PTH110 - one of these scans is made for each phase
        return table
    born = _born_after(since) if since is not None else None
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdecimal() or (born is not None and not born(int(name))):
            continue
        process = _process(int(name))
        if process is not None and (since is None or process.started >= since.ticks):
            table[process.pid] = process
    return table


def _process(pid: int) -> _Running | None:
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(file, 4096)
    except OSError:
        return None
    finally:
        os.close(file)
    # proc(5): pid (comm) state ppid … starttime is field 22; comm may hold anything, parentheses too
    fields = text.rpartition(b")")[2].split()
    return _Running(pid, int(fields[1]), fields[0].decode(), int(fields[19]))


def _carries(pid: int, directory: bytes) -> bool:
    """Whether the process has a file of the session directory mapped or names it in its environment."""
    for name in ("environ", "maps"):
        with contextlib.suppress(OSError):
            if directory in Path(f"/proc/{pid}/{name}").read_bytes():
                return True
    return False


@dataclass(frozen=True)
class Moment:
    """A point in time that processes can be compared with.

    `ticks`: in the unit of a process's start time, proc(5), a tenth of a second early. `number`: the process id that
    was given away last (ns_last_pid of proc(5)). `forks`: how many processes and threads the machine has made
    (`processes` of /proc/stat, proc(5)). 0 where the system does not tell.
    """

    ticks: int
    number: int
    forks: int

    @classmethod
    def now(cls) -> Moment:
        """This moment."""
        clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        ticks = int(time.clock_gettime(clock) * os.sysconf("SC_CLK_TCK"))
        forks = _forks()
        return cls(ticks - 10, _number("ns_last_pid"), forks)


def _number(name: str) -> int:
    try:
        return int(Path(f"/proc/sys/kernel/{name}").read_bytes())
    except (OSError, ValueError):
        return 0


def _forks() -> int:
    try:
        found = re.search(rb"^processes (\d+)", Path("/proc/stat").read_bytes(), re.M)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _born_after(since: Moment) -> Callable[[int], bool] | None:
    """Whether a process id can have been given away since then; None where ids do not tell that.

    They tell while the counter cannot have gone round more than once: then the few processes of a short phase are found
    without a look at every other one of the machine.
    """
    first, last, most = since.number, _number("ns_last_pid"), _number("pid_max")
    made = _forks() - since.forks
    if not (first and last and since.forks) or made > most - 1000:
        return None
    if last >= first:
        return (lambda pid: first < pid <= last) if made >= last - first else None
    return lambda pid: pid > first or pid <= last


def members(
    directory: Path,
    *,
    below: int | None = None,
    uid: int | None = None,
    spare: Iterable[int] = (),
    since: Moment | None = None,
) -> set[int]:
    """Ids of the processes that belong to a session's or a policy's directory, with all their descendants.

    `below`: also the children of this process (those of user `uid` only, where given) that belong to no other policy
    of the same session. Zombies, this process, its ancestors, `spare` and what started before `since` are left out.
    """
    table = _running(since)
    mark = os.fsencode(directory) + b"/"
    others = os.fsencode(directory.parent) + b"/"
    spared = {*spare, os.getpid()}
    ancestor = _process(os.getpid())
    while ancestor is not None and ancestor.ppid > 0 and ancestor.ppid not in spared:
        spared.add(ancestor.ppid)
        ancestor = _process(ancestor.ppid)
    found = {pid for pid in table if pid not in spared and _carries(pid, mark)}
    for pid, process in table.items() if below is not None else ():
        if process.ppid == below and pid not in spared and uid in (None, _owner(pid)) and not _carries(pid, others):
            found.add(pid)
    grown = True
    while grown:
        more = {pid for pid, process in table.items() if process.ppid in found and pid not in spared} - found
        grown = bool(more)
        found |= more
    return {pid for pid in found if table[pid].state not in "ZX"}


def _owner(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


def end_processes(find: Callable[[], set[int]], grace: float = 2.0) -> list[Leftover]:
    """End the processes that `find` names, TERM first, KILL after `grace` seconds, until it names none.

    Processes started meanwhile are ended as well. Returns what was ended; children of this process are reaped.
    """
    ended: dict[int, Leftover] = {}
    deadline = time.monotonic() + grace
    told: dict[int, int] = {}
    for _ in range(200):
        pids = find()
        if not pids:
            break
        killing = time.monotonic() >= deadline
        watched = select.poll()
        descriptors = []
        for pid in pids:
            process = _process(pid)
            if process is None:
                continue
            try:
                descriptor = os.pidfd_open(pid)
            except OSError:
                continue
            descriptors.append(descriptor)
            watched.register(descriptor, select.POLLIN)
            again = _process(pid)
            if again is None or again.started != process.started:
                continue
            number = signal.SIGKILL if killing else signal.SIGTERM
            if told.get(pid) != number:
                ended[pid] = Leftover(pid, _exe(pid), "KILL" if killing else "TERM")
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(descriptor, number)
                told[pid] = number
        watched.poll(20 if not killing else 50)
        for descriptor in descriptors:
            os.close(descriptor)
        _reap(told)
    _reap(told)
    return list(ended.values())


def _reap(pids: Iterable[int]) -> None:
    for pid in list(pids):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _exe(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink()).removesuffix(" (deleted)")
    except OSError:
        return "?"
