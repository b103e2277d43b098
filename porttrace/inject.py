"""The injected library of one trace, with the beginning of the policy in it.

Each process that starts needs its policy. In the library, which the loader maps anyway, it costs no call; as a file of
its own it is opened, mapped and closed by each. What few ask for, whose a file of the prefix is, stays in that file.
Linux only: a library on macOS is signed as it is.
"""

from __future__ import annotations

import struct
from typing import Any

from porttrace._core import ffi, lib

__all__ = ["policy_in", "with_policy"]

_MARK = b"porttrace: room for a policy"
_SIZE = struct.Struct("@Q")
_SIZE_AT = 56  # struct pt_room of csrc/tracelib/trace.h
_ALIGNED = 64
_MAGIC = b"PTIMAGE\0"  # csrc/image.h


def with_policy(library: bytes, image: Any) -> bytes | None:
    """The library's bytes with all of ``image`` (a buffer) but its ownership table in the room that it has for that.

    None where there is no such room, or not enough of it: then the file beside the library serves.
    """
    at = library.find(_MARK)
    if at < 0:
        return None
    (room,) = _SIZE.unpack_from(library, at + _SIZE_AT)
    front = lib.pt_image_front(ffi.from_buffer(image), len(image))
    if not 0 < front <= room:
        return None
    return b"".join((library[:at], memoryview(image)[:front], library[at + front :]))


def policy_in(library: bytes) -> bytes:
    """What `with_policy` has put into a library, of which these bytes are the beginning; b"" where it has not.

    It is an image as long as its ownership table is not looked at: that is missing.
    """
    at = library.find(_MAGIC)
    while at >= 0 and at % _ALIGNED:
        at = library.find(_MAGIC, at + 1)
    if at < 0:
        return b""
    front = lib.pt_image_front(ffi.from_buffer(library[at:]), len(library) - at)
    return library[at : at + front] if 0 < front <= len(library) - at else b""
