"""Sessions: one call sets up the policy for what a build starts from now on, another ends it and says what was found.

A process has one session at a time; a session has a policy (a trace) for each phase. Processes keep the policy with
which they were started, for their lifetime.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from porttrace import fence
from porttrace.askserver import Asked, AskServer
from porttrace.endings import Leftover, Moment, Search, become_subreaper, end_processes
from porttrace.errors import PorttraceError
from porttrace.eventlog import create
from porttrace.filemap import Action, Rule
from porttrace.findings import Finding, Program, merge
from porttrace.identity import Identity, privileged
from porttrace.installed import installed
from porttrace.places import known
from porttrace.policy import Image, Policy, PolicyError
from porttrace.processes import ProcessTree
from porttrace.readout import Reader, Readout, Used, merge_used
from porttrace.records import field, record, replace
from porttrace.runtime_dir import RuntimeDir, remove_tree
from porttrace.stamps import Stamps
from porttrace.supervisor import Supervisor
from porttrace.tiers import TIERS, available_tiers

if TYPE_CHECKING:
    from porttrace.absent import Probe
    from porttrace.sipcopy import SipCache

__all__ = ["Session", "Trace", "TraceResult"]

_CAPACITY = 256 << 20  # bytes of address space in each process; the file is sparse
_LOG_CAPACITY = 16 << 30
_PRELOAD = "DYLD_INSERT_LIBRARIES" if sys.platform == "darwin" else "LD_PRELOAD"
_INJECTED = "tracelib.dylib" if sys.platform == "darwin" else "tracelib.so"
_LIBRARY = "libtracelib.dylib" if sys.platform == "darwin" else "libtracelib.so"
_MUSL_LIBRARY = "libtracelib-musl.so"
"""For programs whose C library is musl; only where porttrace was built with a compiler for it."""


def _package_file(name: str) -> Path:
    path = installed(name)
    if not path.is_file():
        raise PorttraceError(f"this installation is incomplete: {path} is missing; install porttrace again")
    return path


@record(frozen=True)
class TraceResult:
    """What a trace found, the processes that had to be ended, figures for the report, and what went missing.

    `incomplete` says what makes it less than the whole truth: events that found no room, an event file that the build
    has spoilt. Nothing may be concluded from what such a result does not have.
    """

    findings: list[Finding]
    processes: list[Leftover]
    stats: dict[str, Any]
    incomplete: list[str]
    notices: list[str] = field(default_factory=list)
    used: Used = field(default_factory=dict)
    """Files of ports that were used: port -> path -> accesses. Each is told once, whoever asked, however often."""
    phase: str = ""
    remarks: list[str] = field(default_factory=list)
    """What only a user who wants to know everything is told: where the kernel's fence differs from the policy."""
    rules_used: frozenset[tuple[bytes, str]] = frozenset()
    """Rules that decided something, as (path, origin)."""
    listed: dict[str, Program] = field(default_factory=dict)
    """Directories whose listing left out files of undeclared ports, and who listed them (`porttrace.listings`)."""
    probed: dict[str, Probe] = field(default_factory=dict)
    """With `Policy.absent`: what was looked for and found nowhere (`porttrace.absent`)."""


class Trace:
    """One policy in force; made by `Session.start`. What is started with `env` or `launch_argv` is held by it."""

    def __init__(
        self,
        session: Session,
        number: int,
        policy: Policy,
        workpath: Path,
        identity: Identity,
        former: Trace | None,
    ) -> None:
        self.session = session
        self.number = number
        self.policy = policy
        self.workpath = workpath
        self.probed: dict[str, Probe] = {}
        self.identity = identity
        self.directory = session.directory / str(number)
        self._former = former
        self._result: TraceResult | None = None
        self._stopping = threading.RLock()
        self._events = -1
        self._capacity = _LOG_CAPACITY if policy.log or policy.absent else _CAPACITY
        self._started = time.monotonic()
        self._since = None if session.owns_children else Moment.now()
        self.started: dict[int, str] = {}
        """Names for reports of what was started with this trace: process id, command as it was given."""
        self.tree = ProcessTree()
        """The programs that ran, as of the last look at the events."""
        self._fenced = policy.fence and not policy.audit and "fence" in session.tiers
        self.fence: fence.Fence | None = None
        """What the kernel keeps this trace from writing, and where that differs from the policy."""
        self.image = self._fill(self._compile())
        self._reader = Reader(self.image, policy, self._capacity)
        self._supervisor: Supervisor | None = None
        if "supervisor" in session.tiers and policy.supervised:
            self._supervise()
        self._stamps = Stamps(self._events) if session.stamped else None

    def _supervise(self) -> None:
        session = self.session
        alone = "tracelib" not in session.tiers
        supervisor = Supervisor(self.directory, session.directory / "supervisor", alone=alone)

        def failed(error: PorttraceError) -> None:
            session.notices.append(f"static programs run untraced: {error}")

        try:
            if alone or session.tiers_named:
                supervisor.start()
                assert supervisor.pid is not None
                session.spared.add(supervisor.pid)
            else:
                supervisor.start_on_demand(session.server, session.spared.add, failed)
        except PorttraceError as error:
            if session.tiers_named:
                raise
            failed(error)
            return
        self._supervisor = supervisor

    def _compile(self) -> Any:
        read, write = self.policy.read.copy(), self.policy.write.copy()
        session = os.fsencode(self.session.directory)
        # The library opens its files by plain system calls, which the supervisor judges like any other.
        read.prepend(Rule(session, Action.ALLOW, origin="the session's own files"))
        if sys.platform == "darwin":
            copies = os.fsencode(self.session.copies.directory)
            read.prepend(Rule(copies, Action.ALLOW, origin="copies of protected programs"))
        write.prepend(Rule(session, Action.DENY, origin="the session's own files"))
        write.prepend(Rule(os.fsencode(self.directory / "events"), Action.ALLOW, origin="the session's own files"))
        try:
            places = known(self.policy.prefix)
            return replace(self.policy, read=read, write=write, fence=self._fenced, places=places).build()
        except PolicyError as error:
            raise PorttraceError(str(error)) from None

    def _fill(self, data: Any) -> Image:
        """Make the directory of this trace; its image, as the processes map it."""
        directory, identity = self.directory, self.identity
        try:
            self.session.make_directory(self.number)
            image = directory / "policy"
            image.write_bytes(data)
            image.chmod(0o444)
            with image.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            events = directory / "events"
            create(events, self._capacity)
            # Opened before it is given away: what the build user does to the name or the mode no longer matters.
            self._events = os.open(events, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if identity.uid != os.geteuid():
                os.chown(events, identity.uid, identity.gid)
            if self._fenced:
                self.fence = fence.write(directory, self.policy.write)
        except OSError as error:
            raise PorttraceError(f"cannot set up {directory}: {error.strerror}") from None
        return Image(mapped)

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that hold this trace's processes: not all that the session has, where a phase does without."""
        used = {
            "tracelib": "tracelib" in self.session.tiers,
            "supervisor": self._supervisor is not None,
            "fence": self._fenced,
        }
        return tuple(tier for tier in TIERS if used[tier])

    @property
    def notices(self) -> list[str]:
        """What a user should be told about this trace's report, as of the last look at the events."""
        lines = self._former.notices if self._former is not None else []
        incomplete = self._reader.incomplete
        if incomplete:
            lines = [*lines, f"the report is not complete: {'; '.join(incomplete)}"]
        return lines

    @property
    def remarks(self) -> list[str]:
        """Where the kernel's fence differs from the policy; see `Fence.remarks`."""
        before = self._former.remarks if self._former is not None else []
        return list(dict.fromkeys([*before, *(self.fence.remarks() if self.fence is not None else [])]))

    @property
    def former(self) -> Trace | None:
        """The trace of the same phase that this one replaced."""
        return self._former

    @property
    def began(self) -> float:
        """When the trace started: seconds, monotonic."""
        return self._started

    def when(self, stamp: int) -> float:
        """When an event with this stamp happened, as `began`; the beginning where the session is not `stamped`."""
        return self._stamps.when(stamp) if self._stamps is not None else self._started

    @property
    def library(self) -> Path:
        """The injected library, as the processes of this trace load it."""
        return self.directory / _INJECTED

    @property
    def env(self) -> dict[str, str]:
        """All that a process's environment needs. Nothing in it can widen the policy."""
        return {_PRELOAD: os.fspath(self.library)} if "tracelib" in self.session.tiers else {}

    @property
    def launch_argv(self) -> list[str]:
        """Words to put before a command: they take the build user's ids for good, raise the fence, set the library."""
        words = [os.fspath(self.session.directory / "launch")]
        traced = "tracelib" in self.session.tiers
        if traced or self._supervisor is not None:
            words += ["--session", os.fspath(self.directory)]
        if self._supervisor is not None:
            # With the library inside, only programs that it cannot enter need answers; without it the whole tree does.
            words += ["--supervise=auto"] if traced else ["--supervise", "--no-preload"]
        identity = self.identity
        if not identity.is_current:
            groups = ",".join(map(str, identity.groups or (identity.gid,)))
            words += ["--uid", str(identity.uid), "--gid", str(identity.gid), "--groups", groups]
        if self._fenced:
            words.append(f"--fence={self.directory / fence.LIST_NAME}")
        return [*words, "--"]

    def answer_with(self, owner: Callable[[bytes], str | None] | None) -> None:
        """Answer live asks by `owner` (path -> name of the port that it belongs to), or by the image (None)."""
        image, policy = self.image, self.policy

        def by_image(path: bytes) -> str | None:
            return image.decide(path, "read").port

        self.session.server.policies[self.number] = Asked(image, owner or by_image, policy.strict, policy.audit)

    @property
    def running(self) -> bool:
        """Whether `stop` was not called yet."""
        return self._result is None

    def _read(self, *, last: bool = False) -> Readout:
        readout = self._reader.read(self._events, self.started, last=last)
        self.tree = readout.tree
        return readout

    def findings(self) -> list[Finding]:
        """What was found so far, processes that still run included."""
        former = self._former.findings() if self._former is not None else []
        if self._result is not None:
            return list(self._result.findings)
        return merge([former, self._read().findings])

    def stop(self) -> TraceResult:
        """End what still runs under this policy, and say what was found. A second call returns the same result.

        `write_log` works until the session is closed.
        """
        with self._stopping:
            if self._result is None:
                self._result = self._stop()
            return self._result

    def _stop(self) -> TraceResult:
        before = self._former.stop() if self._former is not None else None
        with privileged():
            ended = self._end_processes()
            supervised = self._supervisor.stop() if self._supervisor is not None else None
        if self._stamps is not None:
            self._stamps.stop()
        readout = self._read(last=True)
        if self.policy.absent:
            from porttrace.absent import probes  # reads archives, for which it loads a lot

            self.probed = probes(readout.accesses, readout.tree, self.workpath, self.policy.prefix)
        stats = readout.stats
        stats["seconds"] = round(time.monotonic() - self._started, 3)
        stats["supervised_calls"] = supervised.calls if supervised is not None else 0
        found, used, rules, listed = readout.findings, readout.used, readout.rules_used, readout.listed
        incomplete = readout.incomplete
        if before is not None:
            found = merge([before.findings, found])
            ended = [*before.processes, *ended]
            used = merge_used([before.used, used])
            rules |= before.rules_used
            listed = {**listed, **before.listed}
            incomplete = list(dict.fromkeys([*before.incomplete, *incomplete]))
            self.probed = {**self.probed, **before.probed}
            for key in ("processes", "programs", "events_lost", "events_unsound", "supervised_calls"):
                stats[key] += before.stats[key]
            stats["seconds"] = before.stats["seconds"]  # it began earlier, and ends now, too
        stats["incomplete"] = incomplete
        self.session.server.policies.pop(self.number, None)
        return TraceResult(
            found,
            ended,
            stats,
            incomplete,
            self.notices,
            used,
            self.policy.phase,
            rules_used=rules,
            remarks=self.remarks,
            listed=listed,
            probed=self.probed,
        )

    def _end_processes(self) -> list[Leftover]:
        session = self.session
        # Orphans come to us (subreaper). Where the build user is ours too, a child of port's own looks the same, but
        # for those that have left port's session: nothing does that but commands of a phase and daemons.
        same = not session.owns_children and self.identity.uid == os.getuid()
        uid = None if session.owns_children or same else self.identity.uid
        search = Search(
            self.directory, below=os.getpid(), uid=uid, strangers=same, spare=session.spared, since=self._since
        )
        return end_processes(search, alive=session.alive)

    def write_log(self, fd: int) -> int:
        """Write every access as a line of JSON to the open descriptor `fd`; returns their number.

        Needs a policy with `log`. Raises OSError.
        """
        lines = self._former.write_log(fd) if self._former is not None else 0
        return lines + self._reader.write_log(self._events, fd)

    def _close(self) -> None:
        if self._events >= 0:
            os.close(self._events)
            self._events = -1


_current: Session | None = None


class Session:
    """The traces of one port process; a context manager. A process has at most one at a time.

    `identity`: who the build runs as (default: the effective user). `tiers`: names of the tiers to use (default: all
    that this machine has). `pid`: the process after which the directory is named (default: this one).
    `owns_children`: whatever this process started belongs to the build and is ended with it.
    `spared`: process ids that are never ended. `stamped` (set before a trace starts): it is to be known when
    programs started. `alive` is called now and then while processes are waited for.

    Raises PorttraceError where the session directory cannot be ours, or a tier that was named is missing.
    """

    def __init__(
        self,
        identity: Identity | None = None,
        tiers: Iterable[str] | None = None,
        *,
        pid: int | None = None,
        owns_children: bool = False,
    ) -> None:
        global _current
        if _current is not None:
            raise PorttraceError("this process has a session already: close it first")
        self.identity = identity or Identity.current()
        self.owns_children = owns_children
        self.spared: set[int] = set()
        self.stamped = False
        self.alive: Callable[[], None] | None = None
        self.traces: list[Trace] = []
        self.closed = False
        self._made = 0
        self._closing = False
        self._pending_signal = 0
        self._pid = os.getpid()
        self._handlers: dict[int, Any] = {}
        present = available_tiers()
        self.tiers_named = tiers is not None
        wanted = list(present) if tiers is None else list(dict.fromkeys(tiers))
        for tier in wanted:
            if tier not in present:
                raise PorttraceError(f"this machine does not have the tier {tier}: it has {', '.join(present)}")
        self.tiers: tuple[str, ...] = tuple(wanted)
        with privileged():  # also to read this installation, which the effective user may not be able to
            files = {_LIBRARY: _LIBRARY, "launch": "porttrace-launch"}
            if "supervisor" in self.tiers:
                files["supervisor"] = "porttrace-supervisor"
            if installed(_MUSL_LIBRARY).is_file():
                files[_MUSL_LIBRARY] = _MUSL_LIBRARY
            self._files = frozenset(files)
            sources = {name: _package_file(source) for name, source in files.items()}
            become_subreaper()
            self._runtime = RuntimeDir(on_stale=self._end_stale, pid=pid)
            try:
                self._fill(sources)
            except BaseException:
                self._runtime.close()
                raise
        if not self.tiers_named and sys.platform == "linux":
            if "fence" not in self.tiers:
                self.notices.append(
                    "this machine has no Landlock: the kernel does not stop writes that go around the library"
                )
            if "supervisor" not in self.tiers:
                self.notices.append("this machine has no seccomp user notification: static programs run untraced")
        _current = self
        atexit.register(self.close)
        self._catch_signals()

    def _fill(self, sources: dict[str, Path]) -> None:
        try:
            for name, source in sources.items():
                # a copy: the build user, or a thread that works as such, may not get at the installation
                (self.directory / name).write_bytes(source.read_bytes())
                (self.directory / name).chmod(0o755)
            sock = self.directory / "socket"
            self.server = AskServer(sock, {os.geteuid(), os.getuid(), self.identity.uid})
            sock.chmod(0o666)  # who connects is looked at instead
            if sys.platform == "darwin":
                from porttrace.sipcopy import SipCache, cache_directory

                self.copies: SipCache = SipCache(cache_directory(self._runtime.base))
                (self.directory / "sip").symlink_to(self.copies.directory)
                self.server.copier = self.copies.copy
        except OSError as error:
            raise PorttraceError(f"cannot set up {self.directory}: {error.strerror}") from None

    @staticmethod
    def _end_stale(directory: Path) -> None:
        end_processes(Search(directory))

    @property
    def directory(self) -> Path:
        """/tmp/macports/{pid}, or where it had to lie instead (see `notices`)."""
        return self._runtime.path

    @property
    def notices(self) -> list[str]:
        """What a user should be told about the set-up."""
        return self._runtime.notices

    def start(
        self,
        policy: Policy,
        workpath: Path,
        *,
        owner: Callable[[bytes], str | None] | None = None,
        replaces: Trace | None = None,
        identity: Identity | None = None,
    ) -> Trace:
        """Put `policy` in force for processes that are started from now on with the trace's `env` or `launch_argv`.

        `owner` answers live asks (path -> name of the port that it belongs to); without it the image does.
        `replaces`: a running trace of the same phase whose policy changed: its processes run on under it, and its
        findings become part of this one's. `identity`: who this phase runs as, where it is not the session's.

        Raises PorttraceError where the policy cannot be compiled or the directory cannot be filled.
        """
        if self.closed:
            raise PorttraceError("the session is closed")
        with privileged():
            trace = Trace(self, len(self.traces) + 1, policy, workpath, identity or self.identity, replaces)
        self.server.uids.add(trace.identity.uid)
        trace.answer_with(owner)
        self.traces.append(trace)
        return trace

    def make_directory(self, number: int) -> None:
        """Make the directory of a trace, with what does not depend on its policy. It may be there already.

        Raises OSError.
        """
        if number == self._made:
            return
        directory = self.directory / str(number)
        directory.mkdir()
        directory.chmod(0o755)
        os.link(self.directory / _LIBRARY, directory / _INJECTED)
        if _MUSL_LIBRARY in self._files:
            os.link(self.directory / _MUSL_LIBRARY, directory / "tracelib-musl.so")
        if "fence" in self.tiers:
            fence.make_probe(directory)
        self._made = number

    def get_ahead(self) -> None:
        """Make the directory of the next trace, and load what it will need, while nobody waits for it."""
        if "supervisor" in self.tiers:
            # A program that the build has made itself, and every configure script makes one, waits for it to start.
            import subprocess  # noqa: F401
        number = len(self.traces) + 1
        with privileged():
            try:
                self.make_directory(number)
            except OSError:  # fails again, and is said, where it is needed
                remove_tree(self.directory / str(number))

    def close(self) -> None:
        """Stop all traces and remove the directory. Can be called again; a forked child's call does nothing."""
        global _current
        if self.closed or self._closing or os.getpid() != self._pid:
            return
        self._closing = True
        try:
            for trace in reversed(self.traces):
                with contextlib.suppress(PorttraceError, OSError):
                    trace.stop()
        finally:
            with privileged():
                self.server.close()
                for trace in self.traces:
                    trace._close()
                self._runtime.close()
            self.closed = True
            _current = None
            atexit.unregister(self.close)
            self._restore_signals()
        if self._pending_signal:
            self._die(self._pending_signal)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Signals that end a process without a word: clean up, then die of them as one does without a handler.

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            handler = signal.getsignal(number)
            if handler is signal.SIG_DFL:
                self._handlers[number] = handler
                signal.signal(number, self._on_signal)

    def _restore_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._handlers.items():
                if signal.getsignal(number) == self._on_signal:
                    signal.signal(number, handler)
            self._handlers.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._closing and not self.closed:
            self._pending_signal = number
            return
        self.close()
        self._die(number)

    @staticmethod
    def _die(number: int) -> None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
