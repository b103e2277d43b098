"""The supervisor of one trace: a small process beside port that answers for programs which tracelib cannot enter.

It is started with the trace and ends with it, or with port, whatever way port ends: it watches a pipe that only port
holds open.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from porttrace.askserver import AskServer
from porttrace.errors import PorttraceError
from porttrace.installed import installed

if TYPE_CHECKING:
    import subprocess

__all__ = ["Supervisor", "SupervisorStats", "filtered", "supervisor_available"]

_START_SECONDS = 10.0
_SOCKET = "supervise"  # PT_SUPERVISE_SOCKET of csrc/supervisor_calls.h


class SupervisorStats(tuple[int, int]):
    """(calls answered, calls refused)."""

    __slots__ = ()

    @property
    def calls(self) -> int:
        return self[0]

    @property
    def refused(self) -> int:
        return self[1]


def supervisor_available() -> bool:
    """Whether this machine has seccomp user notification with file descriptor injection (Linux 5.14 and later)."""
    if sys.platform != "linux":
        return False
    try:
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text(encoding="ascii").split()
    except OSError:
        return False
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return "user_notif" in actions and match is not None and (int(match[1]), int(match[2])) >= (5, 14)


@cache
def filtered() -> bool:
    """Whether this process runs under a seccomp filter, and so everything that it starts: proc(5), ``Seccomp``."""
    try:
        return b"\nSeccomp:\t2" in Path("/proc/self/status").read_bytes()
    except OSError:
        return False


class Supervisor:
    """Serves the session directory `directory` (``N/``: its ``policy`` and ``events`` must be there).

    `alone`: no injected library announces the session's programs. `program` is the installed
    ``porttrace-supervisor`` unless named. Also a context manager.
    """

    def __init__(self, directory: Path, program: Path | None = None, *, alone: bool = False) -> None:
        self.directory = directory
        self._program = program or installed("porttrace-supervisor")
        self._alone = alone
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None
        self._server: AskServer | None = None
        self._turn = threading.Lock()
        self._first: Callable[[], None] | None = None
        self.stats = SupervisorStats((0, 0))

    @property
    def pid(self) -> int | None:
        """Its process id while it runs: not to be ended with the build's processes."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start serving; returns when launchers can connect. Raises PorttraceError where that fails."""
        if self._process is not None:
            raise PorttraceError("the supervisor runs already")
        import subprocess

        listener = self._listener
        inherited = () if listener is None else (listener.fileno(),)
        try:
            # In a process group of its own: Ctrl-C at the terminal is for the build, which still needs answers then.
            self._process = subprocess.Popen(
                [
                    self._program,
                    *(["--alone"] if self._alone else []),
                    *(f"--socket={number}" for number in inherited),
                    self.directory,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                cwd="/",
                process_group=0,
                pass_fds=inherited,
            )
        except OSError as error:
            raise PorttraceError(f"cannot start {self._program}: {error.strerror}") from None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _START_SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if line != b"ready\n":
            process, self._process = self._process, None
            process.kill()
            _, errors = process.communicate()
            told = errors.decode("utf-8", "replace").strip() or "it said nothing"
            raise PorttraceError(f"the supervisor did not start: {told}")

    def start_on_demand(
        self, server: AskServer, started: Callable[[int], None], failed: Callable[[PorttraceError], None]
    ) -> None:
        """Listen, and start only when a first program connects, which in most phases none does.

        `server`'s thread waits for it, and calls `started` with the process id before that program is answered, or
        `failed`: then it, and all that come after, find nobody. Raises PorttraceError where nobody can listen here.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        directory = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # By the descriptor: the directory's path may be longer than a socket's name.
            listener.bind(f"/proc/self/fd/{directory}/{_SOCKET}")
            os.chmod(_SOCKET, 0o666, dir_fd=directory)
            listener.listen(128)
        except OSError as error:
            listener.close()
            raise PorttraceError(f"cannot listen in {self.directory}: {error.strerror}") from None
        finally:
            os.close(directory)
        self._listener, self._server = listener, server

        def first() -> None:
            with self._turn:
                if self._listener is None:
                    return
                try:
                    self.start()
                    assert self._process is not None
                    started(self._process.pid)
                except PorttraceError as error:
                    failed(error)
                finally:
                    self._deafen()

        self._first = first
        server.watch(listener, first)

    def start_ahead(self) -> None:
        """After `start_on_demand`: start now, where that has not happened yet."""
        if self._first is not None:
            self._first()

    def _deafen(self) -> None:
        """Hear no more on demand: a supervisor that has started has the socket now."""
        listener, self._listener = self._listener, None
        if listener is not None and self._server is not None:
            self._server.forget(listener)
            listener.close()

    def stop(self) -> SupervisorStats:
        """End it. Processes that still ask get ENOSYS from now on: stop them first. Can be called again."""
        with self._turn:
            self._deafen()
            process, self._process = self._process, None
        if process is None:
            return self.stats
        import subprocess

        try:
            out, _ = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        with contextlib.suppress(AttributeError, ValueError):  # it was killed, and has said nothing
            calls, _, refused = out.rpartition(b"calls ")[2].partition(b" refused ")
            self.stats = SupervisorStats((int(calls), int(refused)))
        return self.stats

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
