"""Directories of the base system and their real paths, for the policy image.

A program that starts knows nothing of the machine: to find the real path of ``/usr/include/x.h`` the injected library
would ask the kernel about each directory on the way, in each process anew. What nobody in the session can change need
not be asked: it is found once, here, and every process reads it in the image it has mapped anyway.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from porttrace.defaults import base_os_places
from porttrace.realpath import real_path

__all__ = ["known"]


@cache
def known(prefix: Path | None = None) -> Mapping[bytes, bytes]:
    """The directories that there are: a path, and its real one. None of them is ``prefix`` or lies below.

    Only those whose path holds no link but perhaps the last component, which then leads to a directory without
    further links: so whoever could change the meaning of a path could write at the path itself or at its real one.
    Source of the list: ``porttrace/data/baseos-PLATFORM.toml``, ``places``.
    """
    found = _known()
    if prefix is None:
        return found
    own = {os.fsencode(prefix), os.fsencode(os.path.realpath(prefix))}
    below = tuple(top + b"/" for top in own)
    return {path: real for path, real in found.items() if real not in own and not real.startswith(below)}


@cache
def _known() -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for pattern in base_os_places():
        for directory in glob.iglob(os.fsencode(pattern)):  # noqa: PTH207 - bytes
            if real_path(directory) != directory:
                continue
            if directory != b"/":
                found[directory] = directory
            try:
                entries = list(os.scandir(directory))
            except OSError:
                continue
            found.update(_below(directory, entries))
    return found


def _below(directory: bytes, entries: list[os.DirEntry[bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield entry.path, entry.path
        elif b".so" not in entry.name and entry.is_symlink() and entry.is_dir():  # many lead to libraries
            target = os.path.normpath(os.path.join(directory, os.readlink(entry.path)))  # noqa: PTH115, PTH118 - bytes
            if real_path(target) == target:
                yield entry.path, target
