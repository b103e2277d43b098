"""A file that takes the place of another one when it is written, or is not there: a full disk leaves no half of one."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["whole"]


@contextlib.contextmanager
def whole(path: Path, mode: int | None = None) -> Iterator[int]:
    """A descriptor of a file that becomes `path` (a link there is replaced, not followed) at the end of the block.

    Where the block raises, nothing has changed. It has `mode`, by default that of the file which was there, whose owner
    it keeps too where we may give it away, or else what the umask leaves. Raises OSError.
    """
    try:
        before = path.lstat()
    except FileNotFoundError:
        before = None
    if before is not None and not stat.S_ISREG(before.st_mode):
        before = None
    beside = path.with_name(f".{path.name[:200]}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        try:
            if before is not None:
                with contextlib.suppress(PermissionError):
                    os.fchown(fd, before.st_uid, before.st_gid)
                mode = before.st_mode & 0o777 if mode is None else mode
            if mode is not None:
                os.fchmod(fd, mode)
            yield fd
        finally:
            os.close(fd)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
