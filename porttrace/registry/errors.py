"""The one error of the registry."""

from __future__ import annotations

from porttrace.errors import PorttraceError

__all__ = ["RegistryError"]


class RegistryError(PorttraceError):
    """The registry cannot be read or changed; the message is one line: what is wrong and what to do."""
