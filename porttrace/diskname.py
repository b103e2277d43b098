"""Names as they stand on the disk, where a volume finds one in other letters and other normal forms of accents too.

The injected library asks macOS' kernel for the name of each component and judges by that: there, rules have to be
spelt as the disk spells, however a person has typed them. No table of letters is as good as the kernel's own answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import zip_longest

__all__ = ["spelt"]

_EVTONLY, _SYMLINK, _GETPATH = 0x8000, 0x200000, 50  # of <sys/fcntl.h>: O_EVTONLY, O_SYMLINK, F_GETPATH
_MAXPATHLEN = 1024


def _of_kernel(path: bytes) -> bytes | None:
    """The last component of `path` as the kernel gives it; None: it cannot be asked, or nothing is there."""
    import fcntl  # nothing loads it where nobody is asked

    try:
        fd = os.open(path, _EVTONLY | _SYMLINK | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return fcntl.fcntl(fd, _GETPATH, bytes(_MAXPATHLEN)).partition(b"\0")[0].rpartition(b"/")[2]
    except OSError:
        return None
    finally:
        os.close(fd)


def _akin(one: bytes, other: bytes) -> bool:
    """The same but for case and what is not ASCII? A volume or a hard link may have quite another name.

    As ``akin`` in csrc/tracelib/sys_darwin.c, so that both believe the same answers.
    """
    differ = ((a, b) for a, b in zip_longest(one.lower(), other.lower(), fillvalue=0) if a != b)
    return max(next(differ, (0x80,))) >= 0x80


def spelt(path: bytes, known: dict[bytes, bytes], ask: Callable[[bytes], bytes | None] | None = None) -> bytes:
    """An absolute `path` with the names of its components as they stand on the disk, as far as it is there.

    No link is followed. `known` keeps what was found, for the paths that come next. `ask` gives a path's last component
    as the disk has it, or None; without it the kernel is asked on macOS, and elsewhere the path is as good as it is.
    """
    if ask is None:
        if sys.platform != "darwin":
            return path
        ask = _of_kernel
    if path in known:
        return known[path]
    above, slash, name = path.rpartition(b"/")
    if not slash or not name:
        return path
    found = f if (f := spelt(above, known, ask)) != b"/" else b""
    answer = ask(found + b"/" + name)
    known[path] = found + b"/" + (answer if answer and _akin(name, answer) else name)
    return known[path]
