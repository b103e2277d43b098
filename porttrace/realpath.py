"""Where a path leads, asked of the C library: the standard library's own way takes ten times as long.

A core looks up several hundred of them before the first program of a build can start.
"""

from __future__ import annotations

import os
import sys

from porttrace._core import ffi, lib

__all__ = ["both_names", "real_path"]

_ROOM = 4096  # PATH_MAX of Linux: what realpath(3) may write


def real_path(path: bytes) -> bytes:
    """As ``os.path.realpath``: what is missing at the end stays as it is written.

    realpath(3) refuses what is missing and what is too long; and on macOS it tells the letters that a volume has where
    a path was written in others. There it is the standard library that answers.
    """
    if sys.platform == "linux" and b"\0" not in path:
        found = ffi.new("char[]", _ROOM)
        if lib.realpath(path, found):
            return ffi.string(found)  # type: ignore[no-any-return]
    return os.path.realpath(path)


def both_names(path: bytes) -> list[bytes]:
    """A place by the name it was given, and by its real one where links lead elsewhere: verdicts are on real paths."""
    real = real_path(path)
    return [path] if real == path else [path, real]
