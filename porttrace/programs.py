"""Programs of the base system that need no look when they are started, for the policy image.

Whoever starts a program has to know whether the injected library can enter it: a static one, one of another machine or
one with rights of its own is the supervisor's. The library opens the file to see. For those that a build starts by the
thousand it is seen once, here, and every process reads it in the image it has mapped anyway.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import re
import stat
from collections.abc import Iterator
from functools import cache

from porttrace._core import lib
from porttrace.defaults import base_os_programs
from porttrace.realpath import real_path

__all__ = ["usual"]

_DIRECTORIES = ("/usr/bin", "/bin")
_HOPS = 4
"""Links from a name to its program: awk has two. One fewer than ``csrc/tracelib/known.c`` follows steps."""


@cache
def usual() -> dict[bytes, bytes]:
    """Where a path leads in one step: a link to what it names, a program to itself. Every chain ends at a program.

    The directories of all of them are real paths, so that a name means the same as long as nobody can write there.
    Source of the list: ``porttrace/data/baseos-PLATFORM.toml``, ``programs``.
    """
    found: dict[bytes, bytes] = {}
    for path in _named():
        if path not in found:
            found |= _steps(path)
    real = {each: real_path(each) == each for each in {os.path.dirname(path) for path in found}}  # noqa: PTH120
    return {path: to for path, to in found.items() if real[os.path.dirname(path)]}  # noqa: PTH120 - bytes


def _named() -> Iterator[bytes]:
    listed = base_os_programs()
    inside = [name for name in listed if "/" not in name]
    exact = {name for name in inside if glob.escape(name) == name or name == "["}
    like = re.compile("|".join(fnmatch.translate(name) for name in inside if name not in exact))
    for directory in _DIRECTORIES:
        if os.path.realpath(directory) == directory:
            with contextlib.suppress(OSError):
                names = os.listdir(directory)  # noqa: PTH208 - of a thousand, for which objects would be dear
                yield from (os.fsencode(f"{directory}/{name}") for name in names if name in exact or like.match(name))
    for pattern in listed:
        if "/" in pattern:
            yield from glob.iglob(os.fsencode(pattern))  # noqa: PTH207 - bytes


def _steps(name: bytes) -> dict[bytes, bytes]:
    path = name
    steps: dict[bytes, bytes] = {}
    while len(steps) <= _HOPS:
        directory = os.path.dirname(path)  # noqa: PTH120 - bytes
        try:
            if stat.S_ISREG(os.lstat(path).st_mode):
                steps[path] = path
                return steps if real_path(name) == path and lib.pt_library_enters(path) else {}
            steps[path] = os.path.normpath(os.path.join(directory, os.readlink(path)))  # noqa: PTH115, PTH118 - bytes
        except OSError:
            return {}
        path = steps[path]
    return {}
