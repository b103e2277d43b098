"""What goes wrong in ways that a user can act on."""

from __future__ import annotations

import errno

__all__ = ["NotStartedError", "PorttraceError", "UsageError", "reason"]


class PorttraceError(Exception):
    """One clear line: what is wrong, and what to do about it. Command lines print it and exit non-zero."""


class UsageError(PorttraceError):
    """The command line is wrong, whatever the machine is like; nothing was begun. The exit status is 2, that of
    `porttrace run` 125."""


class NotStartedError(PorttraceError):
    """The command that `porttrace run` was given cannot be started. `status`: 127 where there is none of that name, 126
    where it cannot be executed, as of a shell and env(1)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def reason(error: OSError) -> str:
    """The system's words for an error, and what to do where it lies in a limit of the process that met it: no file that
    could be named with it is at fault then."""
    words = error.strerror or str(error)
    return f"{words}; raise the limit (ulimit -n)" if error.errno == errno.EMFILE else words
