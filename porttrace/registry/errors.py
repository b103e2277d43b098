"""The one error of the registry."""

from __future__ import annotations


class RegistryError(Exception):
    """The registry cannot be read or changed; the message is one line: what is wrong and what to do."""
