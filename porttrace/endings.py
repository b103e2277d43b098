"""Who still runs when nobody should, and how it is ended.

The processes of a phase are told by what they carry (the injected library, its name in the environment), by whose
children they are, and by the sessions of setsid(2) that they have made. Programs that start others and end quicker than
anybody can look are hunted: the newest process first, a whole process group by one signal, until a look finds none and
has missed none.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from porttrace._core import ffi, lib

__all__ = ["Leftover", "Moment", "Search", "become_subreaper", "end_processes", "told"]

_UNSURE_LOOKS = 3
"""So often in a row may a look miss a process that ended under its eyes: on a machine full of work many do."""
_HUNT = 0.01  # seconds
_ROUNDS = 150  # looks at least: a busy machine leaves little time
_ROOM = 256


def become_subreaper() -> bool:
    """Have orphans below this process handed to it and not to init (Linux); False where that does not exist."""
    return bool(lib.pt_become_subreaper())


@dataclass(frozen=True)
class Leftover:
    """A process that had to be ended: its id, executable, and the signal that did it ("TERM" or "KILL").

    `signal` is empty for one that could not be ended.
    """

    pid: int
    exe: str
    signal: str

    def __str__(self) -> str:
        if not self.signal:
            return f"process {self.pid} ({self.exe}) still runs: it could not be ended"
        return f"process {self.pid} ({self.exe}) was still running and was ended (SIG{self.signal})"


def told(leftovers: Iterable[Leftover]) -> list[str]:
    """A line for each; one for many of the same program."""
    kinds: dict[tuple[str, str], list[Leftover]] = {}
    for left in leftovers:
        kinds.setdefault((left.exe, left.signal), []).append(left)
    lines: list[str] = []
    for (exe, number), several in kinds.items():
        if len(several) < 4:
            lines += map(str, several)
            continue
        pids = f"{len(several)} processes ({several[0].pid} to {several[-1].pid}, {exe})"
        lines.append(
            f"{pids} were still running and were ended (SIG{number})"
            if number
            else f"{pids} still run: they could not be ended"
        )
    return lines


@dataclass(frozen=True)
class _Running:
    pid: int
    ppid: int
    group: int
    session: int
    state: str
    threads: int
    started: int

    @property
    def lives(self) -> bool:
        # The first thread may have ended while others work on: it looks like a zombie then.
        return self.state not in "ZX" or (self.state == "Z" and self.threads > 1)


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
    # proc(5): pid (comm) state ppid pgrp session … num_threads is field 20, starttime 22; comm may hold anything
    fields = text.rpartition(b")")[2].split()
    return _Running(
        pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0].decode(), int(fields[17]), int(fields[19])
    )


def _carries(process: _Running, mark: bytes) -> bool:
    """Whether the process has a file of the session directory mapped or names it in its environment."""
    places = [f"/proc/{process.pid}"]
    if process.state == "Z":  # its first thread has no memory any more, the others do
        with contextlib.suppress(OSError):
            places = [f"/proc/{process.pid}/task/{thread}" for thread in os.listdir(f"/proc/{process.pid}/task")]  # noqa: PTH208
    for place in places:
        for name in ("environ", "maps"):
            with contextlib.suppress(OSError):
                if mark in Path(f"{place}/{name}").read_bytes():
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
    if made < last - first:
        return None
    return _between(first, last)


def _between(first: int, last: int) -> Callable[[int], bool]:
    if last >= first:
        return lambda pid: first < pid <= last
    return lambda pid: pid > first or pid <= last


class Search:
    """Looks for the processes that belong to a session's or a policy's `directory`, with all their descendants.

    `below`: also the children of this process (those of user `uid` only, where given) that belong to no other policy of
    the same session. `strangers`: of those only the ones in a session (setsid(2)) of their own, which a program's plain
    helpers are not. This process, its ancestors, `spare` and what started before `since` are left out, and so are
    zombies.
    """

    def __init__(
        self,
        directory: Path,
        *,
        below: int | None = None,
        uid: int | None = None,
        strangers: bool = False,
        spare: Iterable[int] = (),
        since: Moment | None = None,
    ) -> None:
        self._mark = os.fsencode(directory) + b"/"
        self._others = os.fsencode(directory.parent) + b"/"
        self._below, self._uid, self._strangers = below, uid, strangers
        self._spare, self._since = spare, since
        self._own = {os.getpid()}
        # 0 is a session, and a group, that was made outside of this pid namespace.
        self._own_sessions = {0, os.getsid(0)}
        self._sessions: set[int] = set()
        """Sessions that the build has made: only their maker's descendants can be in one."""
        self._told: bool | None = None
        """Whether process ids tell what was born since, once that is known."""
        self._dead: set[tuple[int, int]] = set()
        self.missed = False
        """Whether the last look came too late for a process: it had ended before it could be told whose it was."""
        self._bytes = ffi.new("char[]", self._mark), ffi.new("char[]", self._others)
        self._state = ffi.new("struct pt_hunt *")
        self._state.mark, self._state.others = self._bytes
        self._state.below, self._state.uid = below or 0, -1 if uid is None else uid
        self._state.strangers, self._state.since = strangers, since.ticks if since is not None else 0
        ancestor = _process(os.getpid())
        while ancestor is not None and ancestor.ppid > 0 and ancestor.ppid not in self._own:
            self._own.add(ancestor.ppid)
            ancestor = _process(ancestor.ppid)
            if ancestor is not None:
                self._own_sessions.add(ancestor.session)

    def look(self, strike: Callable[[_Running], None] | None = None) -> dict[int, _Running]:
        """The processes that belong and run. `strike` is called with each as soon as it is known to belong."""
        self.missed = False
        table: dict[int, _Running] = {}
        found: dict[int, _Running] = {}
        spared = {*self._own, *self._spare}

        def belongs(process: _Running) -> None:
            found[process.pid] = process
            if process.session not in self._own_sessions:
                self._sessions.add(process.session)
            if strike is not None and process.lives:
                strike(process)

        for pid in self._newest_first():
            process = _process(pid)
            if process is None:
                self.missed = True
                continue
            if self._since is not None and process.started < self._since.ticks:
                continue
            table[pid] = process
            if pid in spared:
                continue
            if not process.lives:
                # It may have left a child behind that was born after the list was made.
                self.missed |= (pid, process.started) not in self._dead
                self._dead.add((pid, process.started))
                self._bury(process)
            elif self._is_ours(process):
                belongs(process)
            else:
                again = _process(pid)
                # What it carried could not be read to the end, perhaps.
                self.missed |= again is None or not again.lives
        grown = True
        while grown:
            more = [p for p in table.values() if p.ppid in found and p.pid not in found and p.pid not in spared]
            grown = bool(more)
            for process in more:
                belongs(process)
        return {pid: process for pid, process in found.items() if process.lives}

    def hunt(self, number: signal.Signals, seconds: float) -> list[Leftover]:
        """Send a signal to who belongs among the newest processes, again and again for so long."""
        spared = [*self._own, *self._spare, -1]
        sessions = list(self._sessions)[: len(self._state.sessions)]
        with_room = ffi.new("struct pt_prey[]", _ROOM)
        keep = ffi.new("int32_t[]", spared), ffi.new("int32_t[]", [*self._own_sessions, -1])
        self._state.spared, self._state.own_sessions = keep
        self._state.sessions[0 : len(sessions)] = sessions
        self._state.count = len(sessions)
        count = lib.pt_hunt(self._state, number, int(seconds * 1000), _ROUNDS, with_room, _ROOM)
        self._sessions.update(self._state.sessions[0 : self._state.count])
        name = "KILL" if number == signal.SIGKILL else "TERM"
        return [
            Leftover(prey.pid, os.fsdecode(ffi.string(prey.exe)).removesuffix(" (deleted)") or "?", name)
            for prey in with_room[0:count]
        ]

    def groups(self, found: Iterable[_Running]) -> set[int]:
        """Process groups of these that hold nobody else: one signal reaches all, also who is just being started."""
        return {process.group for process in found if process.session in self._sessions and process.group > 1}

    def _newest_first(self) -> list[int]:
        if not os.path.exists("/proc/self/stat"):  # noqa: PTH110 - one of these looks is made for each phase
            return []
        since = self._since
        if self._told is None:
            self._told = since is not None and _born_after(since) is not None
        pids = sorted((int(name) for name in os.listdir("/proc") if name.isdecimal()), reverse=True)  # noqa: PTH208
        if not self._told or since is None:
            return pids
        # Asked after the list was made: what was born meanwhile is among those to look at.
        born = _between(since.number, _number("ns_last_pid"))
        return [pid for pid in pids if born(pid)]

    def _is_ours(self, process: _Running) -> bool:
        if process.session in self._sessions:
            return True
        return self._is_child(process) or _carries(process, self._mark)

    def _is_child(self, process: _Running) -> bool:
        if process.ppid != self._below or self._below is None:
            return False
        if self._strangers and process.session in self._own_sessions:
            return False
        return self._uid in (None, _owner(process.pid)) and not _carries(process, self._others)

    def _bury(self, process: _Running) -> None:
        """Take note that an orphan has ended: nobody else does, and it would be in the table for ever."""
        if process.ppid == os.getpid() == self._below and process.session not in self._own_sessions:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def _owner(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


def end_processes(
    search: Search, grace: float = 2.0, patience: float = 5.0, alive: Callable[[], None] | None = None
) -> list[Leftover]:
    """End the processes that `search` finds, TERM first, KILL after `grace` seconds, until it finds none.

    Processes started meanwhile are ended as well. Returns what was ended, and what still runs `patience` seconds after
    that. `alive` is called now and then. Children of this process are reaped.
    """
    ended: dict[int, Leftover] = {}
    sent: dict[tuple[int, int], int] = {}
    began = time.monotonic()
    missed = 0
    while True:
        passed = time.monotonic() - began
        number = signal.SIGKILL if passed >= grace else signal.SIGTERM
        fresh = False

        def strike(process: _Running, number: signal.Signals = number) -> None:
            nonlocal fresh
            if sent.get((process.pid, process.started)) == number:
                return
            exe = _exe(process.pid)
            if _signal(process, number):
                fresh = True
                sent[process.pid, process.started] = number
                ended[process.pid] = Leftover(process.pid, exe, "KILL" if number == signal.SIGKILL else "TERM")

        found = search.look(strike)
        if fresh or search.missed:
            # Whoever starts another one and ends is quicker than this loop.
            for prey in search.hunt(number, _HUNT):
                fresh = True
                ended[prey.pid] = prey
        _reap(ended)
        if alive is not None:
            alive()
        if not found and not fresh:
            missed += 1
            if not search.missed or missed > _UNSURE_LOOKS:
                break
            continue
        missed = 0
        if passed > grace + patience:
            for pid in found:
                ended[pid] = Leftover(pid, _exe(pid), "")
            break
        if number == signal.SIGKILL:
            for group in search.groups(found.values()):
                with contextlib.suppress(OSError):
                    os.killpg(group, number)
        if not fresh:
            _wait(found, 0.02)
    _reap(ended)
    return list(ended.values())


def _signal(process: _Running, number: signal.Signals) -> bool:
    """Send a signal to a process if it is the same and still runs."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        again = _process(process.pid)
        if again is None or again.started != process.started or not again.lives:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _wait(pids: Iterable[int], seconds: float) -> None:
    """Until one of these ends, or so long."""
    watched = select.poll()
    descriptors = []
    for pid in pids:
        with contextlib.suppress(OSError):
            descriptors.append(os.pidfd_open(pid))
            watched.register(descriptors[-1], select.POLLIN)
    watched.poll(int(seconds * 1000))
    for descriptor in descriptors:
        os.close(descriptor)


def _reap(pids: Iterable[int]) -> None:
    for pid in list(pids):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _exe(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink()).removesuffix(" (deleted)")
    except OSError:
        return "?"
