"""The list of places for the kernel's fence (format: csrc/fence_linux.h), made from a policy's write map."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from porttrace.filemap import Action, Filemap

__all__ = ["fence_list"]


def _places(path: bytes, literal: bool) -> list[bytes]:
    if not literal:
        return [path]
    directory, _, start = path.rpartition(b"/")
    try:
        names = os.listdir(directory or b"/")  # noqa: PTH208 - bytes
    except OSError:
        return []
    return [directory + b"/" + name for name in names if name.startswith(start)] if start else [directory or b"/"]


def fence_list(write: Filemap, also: Iterable[bytes] = ()) -> bytes:
    """The places that some rule of `write` lets a build write to, and the paths `also`.

    The fence only adds up: a rule that refuses below an allowed place is the other tiers' affair. What does not exist
    yet is named as it is; the fence skips it.
    """
    records = [b"porttrace-fence 1\n"]
    wanted = [*also]
    for rule in write:
        if rule.action is Action.DENY:
            continue
        path = rule.target if rule.action is Action.REDIRECT and rule.target else rule.path
        wanted += _places(path, rule.literal)
    for path in dict.fromkeys(wanted):
        try:
            directory = stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - bytes
        except (OSError, ValueError):
            continue
        records.append((b"d" if directory else b"f") + path + b"\0")
    return b"".join(records)
