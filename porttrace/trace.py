"""One policy in force: its directory, its tiers, what was found under it, and the end of what it started."""

from __future__ import annotations

import mmap
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porttrace import fence
from porttrace.askserver import Asked
from porttrace.endings import Leftover, Moment, Search, end_processes
from porttrace.errors import PorttraceError, reason
from porttrace.eventlog import create
from porttrace.filemap import Action, Filemap, Rule
from porttrace.findings import Finding, Program, merge
from porttrace.identity import Identity, privileged
from porttrace.places import known
from porttrace.policy import Image, Policy, PolicyError
from porttrace.processes import ProcessTree
from porttrace.programs import usual
from porttrace.rawdevices import raw_devices
from porttrace.readout import Reader, Readout, Used, merge_used
from porttrace.records import field, record, replace
from porttrace.runtime_dir import NESTED
from porttrace.stamps import Stamps
from porttrace.supervisor import Supervisor, filtered
from porttrace.tiers import TIERS

if TYPE_CHECKING:
    from porttrace.absent import Probe
    from porttrace.session import Session

__all__ = ["INJECTED", "Trace", "TraceResult"]

INJECTED = "tracelib.dylib" if sys.platform == "darwin" else "tracelib.so"
"""Name of the injected library in a trace's directory."""

_CAPACITY = 256 << 20  # bytes of address space in each process that tells something; the file is sparse
_LOG_CAPACITY = 16 << 30
_PRELOAD = "DYLD_INSERT_LIBRARIES" if sys.platform == "darwin" else "LD_PRELOAD"


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
        self._write = self._writable()
        self.image = self._fill(self._compile())
        self._reader = Reader(self.image, policy, self._capacity, self.directory / "events")
        self._supervisor: Supervisor | None = None
        if "supervisor" in session.tiers and policy.supervised:
            self._supervise()
        self._stamps = Stamps(self._events, self._capacity) if session.stamped else None

    def get_ahead(self) -> None:
        """Start what will be asked for most likely, while a program of the phase runs and nobody waits for us."""
        if self._supervisor is not None and self.running and self.policy.phase == "configure":
            # Nearly every configure script makes a program and runs it, and would wait for the supervisor to start.
            self._supervisor.start_ahead()

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

    def _writable(self) -> Filemap:
        """The policy's write map. No session's files are to be written, but for those that the build itself starts."""
        write = self.policy.write.copy()
        for base in self.session.bases:
            write.prepend(Rule(os.fsencode(base), Action.DENY, origin="files of sessions"))
        write.prepend(Rule(os.fsencode(self.directory / NESTED), Action.ALLOW, origin="sessions in this one"))
        return write

    def _compile(self) -> Any:
        read, write = self.policy.read.copy(), self._write.copy()
        session = os.fsencode(self.session.directory)
        for path in raw_devices(self.identity, [rule.path for rule in read]):
            read.prepend(Rule(path, Action.DENY, origin="no disk or memory as a whole"))
        for base in self.session.bases:
            read.prepend(Rule(os.fsencode(base), Action.DENY, origin="files of sessions"))
        # The library opens its files by plain system calls, which the supervisor judges like any other. The events,
        # which the library writes, supervisor and fence let be opened; a program itself has nothing to do with them.
        read.prepend(Rule(session, Action.ALLOW, origin="the session's own files"))
        if sys.platform == "darwin":
            copies = os.fsencode(self.session.copies.directory)
            read.prepend(Rule(copies, Action.ALLOW, origin="copies of protected programs"))
        try:
            return replace(
                self.policy,
                read=read,
                write=write,
                fence=self._fenced,
                places=known(self.policy.prefix),
                programs=usual(),
                filtered=filtered(),
            ).build()
        except PolicyError as error:
            raise PorttraceError(str(error)) from None

    def _fill(self, data: Any) -> Image:
        """Make the directory of this trace; its image, as the processes map it."""
        directory, identity = self.directory, self.identity
        try:
            self.session.make_directory(self.number)
            self._make_nested(directory / NESTED)
            image = directory / "policy"
            image.write_bytes(data)
            image.chmod(0o444)
            self.session.put_into_library(directory, data)
            with image.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            events = directory / "events"
            create(events, self._capacity)
            # Opened before it is given away: what the build user does to the name or the mode no longer matters.
            self._events = os.open(events, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if identity.uid != os.geteuid():
                os.chown(events, identity.uid, identity.gid)
            if self._fenced:
                self.fence = fence.write(directory, self._write)
        except OSError as error:
            raise PorttraceError(f"cannot set up {directory}: {reason(error)}") from None
        return Image(mapped)

    def _make_nested(self, nested: Path) -> None:
        nested.mkdir()
        nested.chmod(0o755)
        if self.identity.uid != os.geteuid():
            os.chown(nested, self.identity.uid, self.identity.gid)

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
        return self.directory / INJECTED

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
            self.directory,
            below=os.getpid(),
            uid=uid,
            strangers=same,
            spare=session.spared,
            since=self._since,
            alive=session.alive,
        )
        return end_processes(search)

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
