"""The policy's verdict on paths that the port process itself uses.

The injected library judges a program's calls; Tcl commands of the port process are judged here, on the same image and
by the same rules: links in every component are followed where they are visible, a hidden link does not exist, the real
path decides.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Final, Literal

from porttrace.filemap import Access, Action
from porttrace.policy import Decision, Image

__all__ = ["Answer", "Resolver"]

Verdict = Literal["ok", "ENOENT", "EACCES", "ELOOP"]

_LINKS = 40
#: What Tcl's side may ask that is no access of the reports: how it is judged, and whether the last link is the object.
_ASKS: Final[dict[str, tuple[Access, bool]]] = {
    "lstat": (Access.STAT, True),
    "entry": (Access.STAT, True),
    "readlink": (Access.READLINK, True),
    "delete": (Access.DELETE, True),
    "rename": (Access.RENAME, True),
    "link": (Access.LINK, True),
}


@dataclass(frozen=True)
class Answer:
    """What becomes of one path. `finding` is the access to report, None where there is nothing to say."""

    verdict: Verdict
    real: bytes
    physical: bytes
    decision: Decision | None = None
    finding: str | None = None


class Resolver:
    """Judges absolute paths against one image. The files are looked at as they are now; nothing is kept."""

    def __init__(self, image: Image) -> None:
        self._image = image
        from porttrace._core import lib

        self._audit = bool(image.flags & lib.PT_IMG_AUDIT)

    def judge(self, ask: str, path: bytes) -> Answer:
        """`ask` is an access of the reports, ``lstat``, or ``entry`` (a listing's entry: never reported).

        Raises ValueError for another word or a relative path.
        """
        if not path.startswith(b"/"):
            raise ValueError(f"not absolute: {os.fsdecode(path)}")
        access, nofollow = _ASKS.get(ask, (None, False))
        if access is None:
            access = Access(ask)
        found = self._walk(path, nofollow)
        if isinstance(found, Answer):
            if ask == "entry":
                return Answer(found.verdict, found.real, found.physical)
            return found
        real = found
        seen = self._image.decide(real, "read")
        if not access.writes:
            return self._reading(ask, access, real, seen)
        return self._writing(access, real, seen)

    def _reading(self, ask: str, access: Access, real: bytes, seen: Decision) -> Answer:
        physical = _physical(seen, real)
        if seen.action is not Action.DENY:
            mention = str(access) if seen.unowned and ask != "entry" and _is_file(real) else None
            return Answer("ok", real, physical, seen, mention)
        if seen.visible_dir and os.path.isdir(real):  # noqa: PTH112 - bytes
            return Answer("ok", real, real)
        quiet = ask == "entry" or seen.silent
        finding = None if quiet else str(access)
        return Answer("ok" if self._audit else "ENOENT", real, real, seen, finding)

    def _writing(self, access: Access, real: bytes, seen: Decision) -> Answer:
        there = os.path.lexists(real)
        visible = seen.action is not Action.DENY or (seen.visible_dir and os.path.isdir(real))  # noqa: PTH112
        may = self._image.decide(real, "write")
        if access is Access.CREATE and there:
            access = Access.WRITE
        if may.action is not Action.DENY:
            return Answer("ok", real, _physical(may, real))
        if self._audit:
            return Answer("ok", real, real, may, str(access))
        if there and not visible and access not in (Access.CREATE, Access.WRITE):
            return Answer("ENOENT", real, real, may, str(access))
        if not there and access in (Access.DELETE, Access.RENAME, Access.ATTRIBUTES):
            return Answer("ENOENT", real, real)
        return Answer("EACCES", real, real, may, None if may.silent else str(access))

    def _walk(self, path: bytes, nofollow: bool) -> bytes | Answer:
        """The real path, or the answer where the walk ends early (a hidden link, a loop)."""
        todo = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
        real, links = b"", 0
        while todo:
            part = todo.pop()
            if part == b"..":
                real = real.rpartition(b"/")[0]
                continue
            here = real + b"/" + part
            if nofollow and not todo:
                return here
            decision = self._image.decide(here, "read")
            try:
                target = os.readlink(_physical(decision, here))  # noqa: PTH115 - bytes
            except OSError:
                real = here
                continue
            if decision.action is Action.DENY and not self._audit:
                finding = None if decision.silent else "readlink"
                return Answer("ENOENT", here, here, decision, finding)
            links += 1
            if links > _LINKS:
                return Answer("ELOOP", here, here)
            if target.startswith(b"/"):
                real = b""
            todo.extend(part for part in reversed(target.split(b"/")) if part not in (b"", b"."))
        return real or b"/"


def _physical(decision: Decision, real: bytes) -> bytes:
    """Where a redirect leads; the real path where there is none, or the target lacks it and the rule falls back."""
    if decision.action is not Action.REDIRECT or decision.physical is None:
        return real
    if decision.fallback and not os.path.lexists(decision.physical):
        return real
    return decision.physical


def _is_file(path: bytes) -> bool:
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
