"""What goes wrong in ways that a user can act on."""

from __future__ import annotations

__all__ = ["NotStartedError", "PorttraceError", "UsageError"]


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
