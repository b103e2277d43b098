"""The injected library of one trace, with the beginning of the policy in it.

Each process that starts needs its policy. In the library, which the loader maps anyway, it costs no call; as a file of
its own it is opened, mapped and closed by each. What few ask for, whose a file of the prefix is, stays in that file.
Linux only: a library on macOS is signed as it is.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from porttrace._core import ffi, lib

__all__ = ["InjectedLibrary", "policy_in"]

_MARK = b"porttrace: room for a policy"
_SIZE = struct.Struct("@Q")
_SIZE_AT, _HEAD = 56, 64  # struct pt_room of csrc/tracelib/trace.h
_ALIGNED = 64
_MAGIC = b"PTIMAGE\0"  # csrc/image.h


class InjectedLibrary:
    """The library as it was built (its bytes), of which each trace gets a copy."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = content.find(_MARK)
        self._room = _SIZE.unpack_from(content, self._at + _SIZE_AT)[0] if self._at >= 0 else 0

    @property
    def has_room(self) -> bool:
        """Whether a policy can be put into it."""
        return self._room > 0

    def write(self, path: Path) -> None:
        """Make a copy, whose room is left out of what is written. Raises OSError."""
        with path.open("xb") as file:
            os.fchmod(file.fileno(), 0o755)
            file.write(self._content[: self._at + _HEAD])
            file.seek(self._at + self._room)
            file.write(self._content[self._at + self._room :])

    def put(self, path: Path, image: Any) -> bool:
        """Put all of ``image`` (a buffer) but its ownership table into a copy. Raises OSError.

        False where it is too long: then the file beside the library serves.
        """
        front = lib.pt_image_front(ffi.from_buffer(image), len(image))
        if not 0 < front <= self._room:
            return False
        with path.open("r+b") as file:
            file.seek(self._at)
            file.write(memoryview(image)[:front])
        return True


def policy_in(library: bytes) -> bytes:
    """What `InjectedLibrary.put` has put into one, of which these bytes are the beginning; b"" where it has not.

    It is an image as long as its ownership table is not looked at: that is missing.
    """
    at = library.find(_MAGIC)
    while at >= 0 and at % _ALIGNED:
        at = library.find(_MAGIC, at + 1)
    if at < 0:
        return b""
    front = lib.pt_image_front(ffi.from_buffer(library[at:]), len(library) - at)
    return library[at : at + front] if 0 < front <= len(library) - at else b""
