"""Sessions: one call sets up the policy for what a build starts from now on, another ends it and says what was found.

A process has one session at a time; a session has a policy (a trace) for each phase. Processes keep the policy with
which they were started, for their lifetime.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from porttrace import fence
from porttrace.askserver import AskServer
from porttrace.endings import Search, become_subreaper, end_processes
from porttrace.errors import PorttraceError, reason
from porttrace.identity import Identity, privileged
from porttrace.inject import InjectedLibrary
from porttrace.installed import installed
from porttrace.policy import Policy
from porttrace.runtime_dir import RuntimeDir, remove_tree
from porttrace.tiers import available_tiers
from porttrace.trace import INJECTED, Trace

if TYPE_CHECKING:
    from porttrace.sipcopy import SipCache

__all__ = ["Session"]

_LIBRARY = "libtracelib.dylib" if sys.platform == "darwin" else "libtracelib.so"
_MUSL_LIBRARY = "libtracelib-musl.so"
"""For programs whose C library is musl; only where porttrace was built with a compiler for it."""
_INJECTED = {INJECTED: _LIBRARY, "tracelib-musl.so": _MUSL_LIBRARY}
"""Names in a trace's directory, and those of the session's copies."""


def _package_file(name: str) -> Path:
    path = installed(name)
    if not path.is_file():
        raise PorttraceError(f"this installation is incomplete: {path} is missing; install porttrace again")
    return path


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
        self._libraries: dict[str, InjectedLibrary] = {}
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
                content = source.read_bytes()
                if name in _INJECTED.values():
                    self._libraries[name] = InjectedLibrary(content)
                    if self._libraries[name].has_room:
                        continue  # each trace gets a copy of its own
                (self.directory / name).write_bytes(content)
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
            raise PorttraceError(f"cannot set up {self.directory}: {reason(error)}") from None

    @staticmethod
    def _end_stale(directory: Path) -> None:
        end_processes(Search(directory))

    @property
    def directory(self) -> Path:
        """/tmp/macports/{pid}, or where it had to lie instead (see `notices`)."""
        return self._runtime.path

    @property
    def bases(self) -> list[Path]:
        """Where this and other sessions' directories may lie."""
        return self._runtime.bases

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
        for name, source in _INJECTED.items():
            if (library := self._libraries.get(source)) and library.has_room:
                library.write(directory / name)
            elif library:
                os.link(self.directory / source, directory / name)
        if "fence" in self.tiers:
            fence.make_probe(directory)
        self._made = number

    def put_into_library(self, directory: Path, image: Any) -> None:
        """Put a trace's image into the libraries in its directory, where they have room for it. Raises OSError."""
        for name, source in _INJECTED.items():
            if library := self._libraries.get(source):
                library.put(directory / name, image)

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
