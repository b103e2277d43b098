"""From a given path to the real one, through the resolver that the injected library uses."""

from __future__ import annotations

import os
from typing import Any, Protocol

from porttrace._core import ffi, lib
from porttrace.filemap import Action
from porttrace.policy import Image
from porttrace.records import record

__all__ = ["FileSystem", "Resolved", "System", "resolve"]


class FileSystem(Protocol):
    """What the resolver asks of a file system; ``OSError`` with an errno is the only failure."""

    def readlink(self, path: bytes) -> bytes:
        """Text of the link at a physical path; EINVAL where there is something that is no link."""

    def exists(self, path: bytes) -> None:
        """Raises where nothing is at the path; a final ``/`` asks for a directory, ``/.`` for one to be searched."""


class System:
    """The file system of this machine."""

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(path)  # noqa: PTH115 - bytes

    def exists(self, path: bytes) -> None:
        os.lstat(path)


@record(frozen=True)
class Resolved:
    """See ``struct pt_resolved`` in ``csrc/path.h``."""

    error: int
    """0, or the errno that ends the walk."""
    slash: bool
    hidden: bool
    real: bytes
    physical: bytes
    action: Action
    """Of the read map for the real path; asks are answered."""
    rule: int | None


def resolve(
    image: Image | None,
    path: bytes,
    *,
    follow: bool = True,
    create: bool = False,
    entry: bool = False,
    fs: FileSystem | None = None,
) -> Resolved:
    """Resolve an absolute path. ``follow=False`` means the last component's own link, ``create`` lets it be missing,
    ``entry`` means it as a directory entry even with a slash behind it."""
    system: FileSystem = fs or System()

    def readlink(_user: Any, name: Any, buf: Any, size: int) -> int:
        try:
            text = system.readlink(ffi.string(name))[:size]
        except OSError as e:
            return -(e.errno or 5)
        ffi.memmove(buf, text, len(text))
        return len(text)

    def exists(_user: Any, name: Any) -> int:
        try:
            system.exists(ffi.string(name))
        except OSError as e:
            return -(e.errno or 5)
        return 0

    c_readlink = ffi.callback("ssize_t(void *, const char *, char *, size_t)", readlink)
    c_exists = ffi.callback("int(void *, const char *)", exists)
    c_fs = ffi.new("struct pt_fs *", {"readlink": c_readlink, "exists": c_exists})
    out = ffi.new("struct pt_resolved *")
    buffers = [ffi.new("char[]", lib.PT_PATH_CAP) for _ in range(3)]
    out.real, out.physical = buffers[0], buffers[1]
    flags = (
        (0 if follow else lib.PT_RES_NOFOLLOW_LAST)
        | (lib.PT_RES_CREATE if create else 0)
        | (lib.PT_RES_ENTRY if entry else 0)
    )
    pointer = image.pointer if image else ffi.NULL
    lib.pt_resolve(pointer, c_fs, path, len(path), flags, buffers[2], out)
    return Resolved(
        out.error,
        out.slash,
        out.hidden,
        bytes(ffi.buffer(out.real, out.real_len)),
        bytes(ffi.buffer(out.physical, out.physical_len)),
        Action(out.read.action),
        out.read.rule if out.read.rule != lib.PT_NO_RULE else None,
    )
