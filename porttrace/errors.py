"""What goes wrong in ways that a user can act on."""

from __future__ import annotations

__all__ = ["PorttraceError", "UsageError"]


class PorttraceError(Exception):
    """One clear line: what is wrong, and what to do about it. Command lines print it and exit non-zero."""


class UsageError(PorttraceError):
    """The command line is wrong, whatever the machine is like; nothing was begun. The exit status is 2, that of
    `porttrace run` 125."""
