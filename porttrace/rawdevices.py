"""What goes around every file: disks as a row of blocks, the machine's memory. Hidden from who could open it."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from porttrace.identity import Identity

__all__ = ["raw_devices"]

_KCORE = Path("/proc/kcore")
_MEMORY = {os.makedev(1, 1), os.makedev(1, 2), os.makedev(1, 4)}  # mem, kmem, port
_MAJORS = {
    21,
    90,
    162,
}  # SCSI commands, flash memory, raw: the kernel's numbers for what is no block device and yet a disk
_COMMANDS = ("nvme", "ng", "bsg")  # likewise, by name: their numbers are given out anew at each start


def _is_raw(name: str, info: os.stat_result) -> bool:
    if stat.S_ISBLK(info.st_mode):
        return True
    if not stat.S_ISCHR(info.st_mode):
        return False
    return info.st_rdev in _MEMORY or os.major(info.st_rdev) in _MAJORS or name.startswith(_COMMANDS)


def _openable(identity: Identity, info: os.stat_result) -> bool:
    if identity.uid in (0, info.st_uid):
        return True
    return bool(info.st_mode & (0o066 if info.st_gid in (identity.gid, *identity.groups) else 0o006))


def _nodes(directory: str, device: int, prefix: str = "") -> Iterator[tuple[str, str, os.stat_result]]:
    """All but links of a directory and what is below it, in the same file system: path, name within, what it is."""
    try:
        with os.scandir(directory) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        try:
            info = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISDIR(info.st_mode) and info.st_dev == device:
            yield from _nodes(entry.path, device, f"{prefix}{entry.name}/")
        elif not stat.S_ISLNK(info.st_mode):
            yield entry.path, prefix + entry.name, info


_FRESH = 10.0
"""Seconds: a phase lasts longer, and what appears in the meantime is not hidden from it either."""
_seen: dict[Path, tuple[float, list[tuple[str, os.stat_result]]]] = {}


def _all_raw(top: Path) -> list[tuple[str, os.stat_result]]:
    """Such devices below `top`, as of a few seconds ago: each phase of a port asks, and looking is a fifth of a start.

    Raises OSError.
    """
    at, found = _seen.get(top, (0.0, []))
    now = time.monotonic()
    if not found or now - at > _FRESH:
        nodes = _nodes(str(top), top.stat().st_dev)
        found = [(path, info) for path, name, info in nodes if _is_raw(name, info)]
        _seen[top] = (now, found)
    return found


def raw_devices(identity: Identity, named: Iterable[bytes] = (), top: Path = Path("/dev")) -> list[bytes]:
    """Paths of such devices below `top` that `identity` may open, and of the memory in /proc.

    Without those in `named`: who names a device means it. Where `top` cannot be read, what was found. Linux only: an
    empty list elsewhere.
    """
    if not sys.platform.startswith("linux"):
        return []
    kept = set(named)
    try:
        found = [path for path, info in _all_raw(top) if _openable(identity, info)]
    except OSError:
        return []
    if identity.uid == 0 and _KCORE.exists():
        found.append(str(_KCORE))
    return sorted(encoded for path in found if (encoded := os.fsencode(path)) not in kept)
