"""The policy's verdict on paths that the port process itself uses.

The injected library judges a program's calls; Tcl commands of the port process are judged here, on the same image,
through the same resolver and by the same rules: a hidden link does not exist, the real path decides.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from porttrace.filemap import Access, Action, Filemap
from porttrace.policy import Decision, Image
from porttrace.records import record
from porttrace.resolve import resolve

__all__ = ["Answer", "hidden_below", "judge", "open_places"]

_OBJECT_IS_LINK: Final = frozenset({"lstat", "entry", "readlink", "delete", "rename", "link"})
#: What Tcl's side may ask that is no access of the reports.
_ASKS: Final = {"lstat": Access.STAT, "entry": Access.STAT, "may-write": Access.WRITE}
#: Questions, not attempts: they are answered and never reported.
_QUIET: Final = frozenset({"entry", "may-write"})


@record(frozen=True)
class Answer:
    """What becomes of one path.

    `verdict` is ``ok`` or the name of an errno; `real` the path that counts, `physical` the one to use where a
    redirect leads elsewhere (else None); `finding` the access to report, None where there is nothing to say.
    """

    verdict: str
    real: bytes
    physical: bytes | None = None
    decision: Decision | None = None
    finding: str | None = None


def judge(image: Image, ask: str, path: bytes, audit: bool = False) -> Answer:
    """The verdict on an absolute path; `ask` is an access of the reports, ``lstat``, ``entry`` or ``may-write``.

    The files are looked at as they are now; nothing is kept. Raises ValueError for another word or a relative path.
    """
    if not path.startswith(b"/"):
        raise ValueError(f"not an absolute path: {os.fsdecode(path)!r}")
    access = _ASKS.get(ask) or Access(ask)
    follow = ask not in _OBJECT_IS_LINK
    found = resolve(image, path, follow=follow, create=True, entry=access is Access.DELETE or access is Access.RENAME)
    seen = image.decide(found.real, "read")
    if found.error and not found.hidden and found.error not in (errno.ENOENT, errno.ENOTDIR):
        # A loop or a name that is too long: the kernel says so by itself.
        return Answer(errno.errorcode.get(found.error, "ENOENT"), found.real)
    physical = found.physical if found.physical != found.real else None
    if access.writes:
        answer = _writing(image, access, found.real, physical, seen, audit)
    else:
        answer = _reading(access, found.real, physical, seen, audit)
    if ask in _QUIET or (answer.decision is not None and answer.decision.silent):
        return Answer(answer.verdict, answer.real, answer.physical)
    return answer


def _reading(access: Access, real: bytes, physical: bytes | None, seen: Decision, audit: bool) -> Answer:
    if seen.action is not Action.DENY:
        return Answer("ok", real, physical, seen, str(access) if seen.unowned and _is_file(real) else None)
    if seen.visible_dir and os.path.isdir(real):  # noqa: PTH112 - bytes
        return Answer("ok", real)
    return Answer("ok" if audit else "ENOENT", real, None, seen, str(access))


def _writing(image: Image, access: Access, real: bytes, physical: bytes | None, seen: Decision, audit: bool) -> Answer:
    there = os.path.lexists(real)
    if access is Access.CREATE and there:
        access = Access.WRITE
        creates = True
    else:
        creates = access is Access.CREATE
    may = image.decide(real, "write")
    if may.action is not Action.DENY:
        return Answer("ok", real, physical)
    if not there and not creates:
        return Answer("ENOENT", real)
    visible = seen.action is not Action.DENY or (seen.visible_dir and os.path.isdir(real))  # noqa: PTH112
    verdict = "ok" if audit else "EACCES" if visible or creates else "ENOENT"
    return Answer(verdict, real, None, may, str(access))


def hidden_below(image: Image, path: bytes) -> bytes | None:
    """The first entry of the tree at `path` that the policy hides, or None: what may be copied as a whole."""
    top = resolve(image, path)
    if top.error or not os.path.isdir(top.real):  # noqa: PTH112 - bytes
        return None
    for directory, names, files in os.walk(top.real):
        for name in (*names, *files):
            each = directory + b"/" + name
            decision = image.decide(each, "read")
            if decision.action is Action.DENY and not (decision.visible_dir and name in names):
                return each
    return None


def open_places(filemap: Filemap, closed: bytes) -> list[tuple[bytes, list[bytes]]]:
    """Directories below which the map allows everything but what begins with one of the exceptions.

    Without regard to letters' case: that is for real paths of which one need not ask the map. `closed` is a directory
    that is not allowed, whatever the map says.
    """
    places: list[tuple[bytes, list[bytes]]] = []
    exceptions: tuple[bytes, ...] = (closed.lower(),)
    for rule in filemap:
        path = rule.path.lower()
        if rule.action is not Action.ALLOW:
            exceptions = (*exceptions, path)
        elif not rule.literal and not path.startswith(exceptions):
            below = path.rstrip(b"/") + b"/"
            places.append((rule.path, [each for each in exceptions if each.startswith(below)]))
    return places


def _is_file(path: bytes) -> bool:
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
