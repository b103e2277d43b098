"""The supervisor of one trace: a small process beside port that answers for programs which tracelib cannot enter.

It is started with the trace and ends with it, or with port, whatever way port ends: it watches a pipe that only port
holds open.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
from importlib import resources
from pathlib import Path
from types import TracebackType

from porttrace.errors import PorttraceError

__all__ = ["Supervisor", "SupervisorStats", "supervisor_available"]

_START_SECONDS = 10.0


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


class Supervisor:
    """Serves the session directory `directory` (``N/``: its ``policy`` and ``events`` must be there).

    `alone`: no injected library announces the session's programs. `program` is the installed
    ``porttrace-supervisor`` unless named. Also a context manager.
    """

    def __init__(self, directory: Path, program: Path | None = None, *, alone: bool = False) -> None:
        self.directory = directory
        self._program = program or Path(str(resources.files("porttrace") / "porttrace-supervisor"))
        self._alone = alone
        self._process: subprocess.Popen[bytes] | None = None
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
        try:
            # In a process group of its own: Ctrl-C at the terminal is for the build, which still needs answers then.
            self._process = subprocess.Popen(
                [self._program, *(["--alone"] if self._alone else []), self.directory],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                cwd="/",
                process_group=0,
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

    def stop(self) -> SupervisorStats:
        """End it. Processes that still ask get ENOSYS from now on: stop them first. Can be called again."""
        process, self._process = self._process, None
        if process is None:
            return self.stats
        try:
            out, _ = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        with contextlib.suppress(AttributeError, ValueError):
            match = re.search(rb"calls (\d+) refused (\d+)", out)
            if match:
                self.stats = SupervisorStats((int(match[1]), int(match[2])))
        return self.stats

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
