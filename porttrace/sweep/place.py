"""The prefix of one job, made anew: at the same path for all jobs where that can be, so that one archive serves all.

What a port installs holds the path of its prefix (in rpaths, ``#!`` lines, .pc files), so an archive is good for one
path only. Where this process may make mount namespaces (root on Linux), each job has a directory of its own mounted at
the one path. Elsewhere each job that runs at a time has a path of its own, and archives for that path.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Place", "mounts", "sweep_out", "take"]

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of <sched.h>
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18  # MS_BIND, MS_REC, MS_PRIVATE of <sys/mount.h>


@dataclass(frozen=True)
class Place:
    """Where a job works. `lock` is a descriptor that keeps others out as long as any process holds it."""

    prefix: Path
    archives: Path
    lock: int


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def mounts() -> bool:
    """Whether this user may give processes their own mounts; tried in a process of its own."""
    if sys.platform != "linux":
        return False
    child = os.fork()
    if child == 0:
        os._exit(0 if _enter_namespace() else 1)
    return os.waitpid(child, 0)[1] == 0


def _enter_namespace() -> bool:
    libc = _libc()
    made = libc.unshare(_NEW_MOUNTS) == 0 and libc.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None) == 0
    return bool(made)


def _lock(file: Path) -> int | None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _directory(path: Path) -> Path:
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    return path


@contextmanager
def take(directory: Path) -> Iterator[Place]:
    """An empty prefix for this process and its children; it is removed afterwards. Changes this process's mounts."""
    if mounts():
        own = Path(tempfile.mkdtemp(prefix="job-", dir=_directory(directory / "jobs")))
        own.chmod(0o755)
        lock = _lock(own.with_suffix(".lock"))
        assert lock is not None
        prefix = _directory(directory / "prefix")
        _enter_namespace()
        if _libc().mount(os.fsencode(own), os.fsencode(prefix), None, _BIND, None) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(prefix))
        try:
            yield Place(prefix, _directory(directory / "archives"), lock)
        finally:
            shutil.rmtree(own, ignore_errors=True)
            own.with_suffix(".lock").unlink()
        return
    number = 1
    slots = _directory(directory / "slots")
    while (lock := _lock(slots / f"{number}.lock")) is None:
        number += 1
    slot = _directory(slots / str(number))
    shutil.rmtree(slot / "prefix", ignore_errors=True)  # of one that was killed
    try:
        yield Place(_directory(slot / "prefix"), _directory(slot / "archives"), lock)
    finally:
        shutil.rmtree(slot / "prefix", ignore_errors=True)


def sweep_out(directory: Path) -> None:
    """Remove what killed jobs have left; what is still in use stays."""
    for file in (directory / "jobs").glob("job-*.lock"):
        lock = _lock(file)
        if lock is not None:
            shutil.rmtree(file.with_suffix(""), ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
            os.close(lock)
