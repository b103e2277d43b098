"""The file of ``porttrace run --log``: tried before the command starts, and written whole when it has ended."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from porttrace.errors import PorttraceError
from porttrace.streams import STANDARD_OUTPUT
from porttrace.wholefile import whole

__all__ = ["LogFile"]


class LogFile:
    """Where a log goes. Raises PorttraceError where it can be told already that none can be written there."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open = -1
        try:
            if name == STANDARD_OUTPUT:
                self._open = os.dup(1)
            elif not self._replaceable():
                self._open = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> PorttraceError:
        return PorttraceError(f"cannot write the log {self._name}: {error.strerror}")

    def _replaceable(self) -> bool:
        """Whether it is a file, or none yet, in a directory in which another one can be made: no link, no device."""
        path = Path(self._name)
        if not os.access(path.parent, os.W_OK):
            return False
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                return False
        except FileNotFoundError:
            return True
        if not os.access(path, os.W_OK):  # to replace it nobody would need that
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return True

    def write(self, lines: Callable[[int], int]) -> int:
        """What `lines` says it has written to the descriptor that it is given. PorttraceError."""
        try:
            if self._open < 0:
                with whole(Path(self._name)) as descriptor:
                    return lines(descriptor)
            try:
                return lines(self._open)
            except OSError:
                # Where a file could not be made beside it, at least no half of a log is left.
                with contextlib.suppress(OSError):
                    if stat.S_ISREG(os.fstat(self._open).st_mode) and self._name != STANDARD_OUTPUT:
                        os.ftruncate(self._open, 0)
                raise
            finally:
                os.close(self._open)
        except OSError as error:
            raise self._failed(error) from None
