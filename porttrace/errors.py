"""What goes wrong in ways that a user can act on."""

from __future__ import annotations

__all__ = ["PorttraceError"]


class PorttraceError(Exception):
    """One clear line: what is wrong, and what to do about it. Command lines print it and exit non-zero."""
