"""Who still runs when nobody should, and how it is ended.

The processes of a phase are told by a tag that the kernel keeps (csrc/tag_linux.h), by what their environment names,
by whose children they are, and by the sessions of setsid(2) that they have made. Programs that start others and end
quicker than anybody can look are hunted: the newest process first, a whole process group by one signal, until a look
finds none and has missed none.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from porttrace._core import ffi, lib
from porttrace.procstat import Running, all_pids, executable, running
from porttrace.records import record

__all__ = ["Leftover", "Moment", "Search", "become_subreaper", "end_processes", "told"]

_LISTINGS = 64
"""So many lists of the processes a look makes at most, because there were new ones again."""
_HUNT = 0.01  # seconds
_ROUNDS = 150  # looks at least: a busy machine leaves little time
_ROOM = 256
_AT_ONCE = 64
"""So many processes are asked for their age by one call."""
_ALIVE_EVERY = 1000
"""So many processes are looked at between two signs of life: thousands that nobody waits for may be in the table."""
_HOLDS = hasattr(os, "pidfd_open")
"""Whether the system gives descriptors of processes, which never mean another one of the same number."""


def become_subreaper() -> bool:
    """Have orphans below this process handed to it and not to init (Linux); False where that does not exist."""
    return bool(lib.pt_become_subreaper())


@record(frozen=True)
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


@record(frozen=True)
class Moment:
    """A point in time that processes can be compared with.

    `ticks`: in the unit of a process's start time (csrc/procstat.h), a tenth of a second early. `number`: the process
    id that was given away last (ns_last_pid of proc(5)). `forks`: how many processes and threads the machine has made
    (`processes` of /proc/stat, proc(5)). 0 where the system does not tell.
    """

    ticks: int
    number: int
    forks: int

    @classmethod
    def now(cls) -> Moment:
        """This moment."""
        if sys.platform == "darwin":
            return cls(int(time.time() * 1e6) - 100_000, 0, 0)
        ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
        forks = _forks()
        return cls(ticks - 10, _number("ns_last_pid"), forks)


def _number(name: str) -> int:
    try:
        return int(Path(f"/proc/sys/kernel/{name}").read_bytes())
    except (OSError, ValueError):
        return 0


def _forks() -> int:
    try:
        told = Path("/proc/stat").read_bytes().partition(b"\nprocesses ")[2]
        return int(told.partition(b"\n")[0])
    except (OSError, ValueError):
        return 0


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
    zombies. `alive` is called now and then: on a busy machine with a crowd of processes a look takes long.
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
        alive: Callable[[], None] | None = None,
    ) -> None:
        self._below, self._since, self._spare = below, since, spare
        self._alive, self._looked_at = alive, 0
        self._own = {os.getpid()}
        # 0 is a session, and a group, that was made outside of this pid namespace.
        self._own_sessions = {0, os.getsid(0)}
        ancestor = running(os.getpid())
        while ancestor is not None and ancestor.ppid > 0 and ancestor.ppid not in self._own:
            self._own.add(ancestor.ppid)
            ancestor = running(ancestor.ppid)
            if ancestor is not None:
                self._own_sessions.add(ancestor.session)
        self._sessions: set[int] = set()
        """Sessions that the build has made: only their maker's descendants can be in one."""
        self._told: bool | None = None
        """Whether process ids tell what was born since, once that is known."""
        self._belonged: set[tuple[int, int]] = set()
        """Who once did does for ever: one that is about to end is not to be told by anything but its tag any more."""
        self._ended: set[tuple[int, int]] = set()
        """Who had ended, and might have been one of those: not an occasion to look again each time."""
        self.missed = False
        """Whether the last look may have overlooked somebody: amid an exec, or because there were always new ones."""
        tags = [tag for tag in map(lib.pt_hunt_tag, _with_policies(os.fsencode(directory))) if tag]
        self._keep = (
            ffi.new("uint64_t[]", [*tags, 0]),
            ffi.new("char[]", os.fsencode(directory) + b"/"),
            ffi.new("char[]", os.fsencode(directory.parent) + b"/"),
            ffi.new("int32_t[]", [*self._own_sessions, -1]),
        )
        self._state = ffi.new("struct pt_hunt *")
        self._state.tags, self._state.mark, self._state.others, self._state.own_sessions = self._keep
        self._state.below, self._state.uid = below or 0, -1 if uid is None else uid
        self._state.strangers, self._state.since = strangers, since.ticks if since is not None else 0

    def look(self, strike: Callable[[Running], None] | None = None) -> dict[int, Running]:
        """The processes that belong and run. `strike` is called with each as soon as it is known to belong.

        What is born meanwhile is looked at, too. Its parent is, or was, one of those that belong: so another list is
        made as long as one of these, or one that ended before it could be looked at, was on the last.
        """
        self.missed = False
        table: dict[int, Running] = {}
        found: dict[int, Running] = {}
        spared = {*self._own, *self._spare}
        seen: set[int] = set()

        def belongs(process: Running) -> None:
            found[process.pid] = process
            self._belonged.add((process.pid, process.started))
            if process.session not in self._own_sessions:
                self._note(process.session)
            if strike is not None and process.lives and not process.ending:
                strike(process)

        for number in range(_LISTINGS + 1):
            last = _number("ns_last_pid")
            fresh = [pid for pid in self._newest_first() if pid not in seen]
            seen.update(fresh)
            restless = False
            for pid in self._young(fresh):
                process, verdict = self._judge(pid)
                if process is None:
                    restless = True
                    continue
                table[pid] = process
                if pid in spared:
                    continue
                if verdict == lib.PT_OURS:
                    restless = True
                    belongs(process)
                    if not process.lives:
                        self._bury(process)
                elif verdict == lib.PT_ENDED:
                    restless |= (pid, process.started) not in self._ended
                    self._ended.add((pid, process.started))
                self.missed |= verdict == lib.PT_UNSURE
            if not restless and (number or (last and last == _number("ns_last_pid"))):
                break
        else:
            self.missed = True
        grown = True
        while grown:
            more = [p for p in table.values() if p.ppid in found and p.pid not in found and p.pid not in spared]
            grown = bool(more)
            for process in more:
                belongs(process)
        return {pid: process for pid, process in found.items() if process.lives}

    def _young(self, pids: list[int]) -> Iterator[int]:
        """Who did not start before; a few at a time, so that the newest need not wait until all are known."""
        for first in range(0, len(pids), _AT_ONCE):
            some = ffi.new("int32_t[]", pids[first : first + _AT_ONCE])
            signs = self._looked_at // _ALIVE_EVERY
            self._looked_at += len(some)
            if self._looked_at // _ALIVE_EVERY > signs:
                self.alive()
            yield from some[0 : lib.pt_hunt_young(self._state, some, len(some))]

    def alive(self) -> None:
        """Tell whoever waits that the search goes on."""
        if self._alive is not None:
            self._alive()

    def _judge(self, pid: int) -> tuple[Running | None, int]:
        at = ffi.new("struct pt_process *")
        verdict = lib.pt_hunt_look(self._state, pid, at)
        if verdict == lib.PT_GONE:
            return None, verdict
        process = Running.of(at)
        if process.session in self._sessions or (pid, process.started) in self._belonged:
            verdict = lib.PT_OURS
        return process, verdict

    def _note(self, session: int) -> None:
        if session not in self._sessions and self._state.count < len(self._state.sessions):
            self._state.sessions[self._state.count] = session
            self._state.count += 1
        self._sessions.add(session)

    def hunt(self, number: signal.Signals, seconds: float) -> list[Leftover]:
        """Send a signal to who belongs among the newest processes, again and again for so long."""
        spared = ffi.new("int32_t[]", [*self._own, *self._spare, -1])
        with_room = ffi.new("struct pt_prey[]", _ROOM)
        self._state.spared = spared
        count = lib.pt_hunt(self._state, number, int(seconds * 1000), _ROUNDS, with_room, _ROOM)
        self._sessions.update(self._state.sessions[0 : self._state.count])
        self._belonged.update((prey.pid, prey.started) for prey in with_room[0:count])
        name = "KILL" if number == signal.SIGKILL else "TERM"
        return [
            Leftover(prey.pid, os.fsdecode(ffi.string(prey.exe)).removesuffix(" (deleted)"), name)
            for prey in with_room[0:count]
        ]

    def groups(self, found: Iterable[Running]) -> set[int]:
        """Process groups of these that hold nobody else: one signal reaches all, also who is just being started."""
        return {process.group for process in found if process.session in self._sessions and process.group > 1}

    def _newest_first(self) -> list[int]:
        since = self._since
        if self._told is None:
            self._told = since is not None and _born_after(since) is not None
        pids = sorted(all_pids(), reverse=True)
        if not self._told or since is None:
            return pids
        # Asked after the list was made: what was born meanwhile is among those to look at.
        born = _between(since.number, _number("ns_last_pid"))
        return [pid for pid in pids if born(pid)]

    def _bury(self, process: Running) -> None:
        """Take note that an orphan has ended: nobody else does, and it would be in the table for ever."""
        if process.ppid == os.getpid() == self._below and process.session not in self._own_sessions:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def _with_policies(directory: bytes) -> list[bytes]:
    """The directory, and those of the policies in it where it is a session's."""
    try:
        names = os.listdir(directory)  # noqa: PTH208 - bytes
    except OSError:
        names = []
    return [directory, *(directory + b"/" + name for name in names if name[:1].isdigit())]


def end_processes(search: Search, grace: float = 2.0, patience: float = 5.0) -> list[Leftover]:
    """End the processes that `search` finds, TERM first, KILL after `grace` seconds, until it finds none.

    Processes started meanwhile are ended as well. Returns what was ended, and what still runs `patience` seconds after
    that. The search gives a sign of life in each round. Children of this process are reaped.
    """
    ended: dict[int, Leftover] = {}
    sent: dict[tuple[int, int], int] = {}
    began = time.monotonic()
    while True:
        passed = time.monotonic() - began
        number = signal.SIGKILL if passed >= grace else signal.SIGTERM
        fresh = False

        def strike(process: Running, number: signal.Signals = number) -> None:
            nonlocal fresh
            if sent.get((process.pid, process.started)) == number:
                return
            exe = _exe(process)
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
        search.alive()
        if not found and not fresh:
            if not search.missed or passed > grace:
                break
            continue
        if passed > grace + patience:
            for process in found.values():
                ended[process.pid] = Leftover(process.pid, _exe(process), "")
            break
        if number == signal.SIGKILL:
            for group in search.groups(found.values()):
                with contextlib.suppress(OSError):
                    os.killpg(group, number)
        if not fresh:
            _wait(found, 0.02)
    _reap(ended)
    return list(ended.values())


def _signal(process: Running, number: signal.Signals) -> bool:
    """Send a signal to a process if it is the same and still runs."""
    try:
        descriptor = os.pidfd_open(process.pid) if _HOLDS else None
    except OSError:
        return False
    try:
        again = running(process.pid)
        if again is None or again.started != process.started or not again.lives:
            return False
        if descriptor is None:
            os.kill(process.pid, number)
        else:
            signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    else:
        return True
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _wait(pids: Iterable[int], seconds: float) -> None:
    """Until one of these ends, or so long."""
    if not _HOLDS:
        time.sleep(seconds)
        return
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


def _exe(process: Running) -> str:
    return executable(process.pid) or process.name
