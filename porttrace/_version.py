"""The version, told by the compiled core."""

from __future__ import annotations

from porttrace._core import ffi, lib

__all__ = ["version"]


def version() -> str:
    """This package's version, as in pyproject.toml."""
    return bytes(ffi.string(lib.pt_version())).decode()
