"""Known harmless probes: which findings say nothing about a port.

The knowledge is in ``porttrace/data/noise.toml``. A finding is classed only when that is safe: a file of another port,
a write or an untraced process never is noise, and some paths are only as long as nothing is there.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Sequence
from functools import cache
from glob import escape, iglob
from typing import Protocol

from porttrace.records import record
from porttrace.tables import table

__all__ = ["NoiseClass", "classes", "classify", "classify_finding", "files_in_searched"]

_HOMES = ("/root", "/home/*", "/Users/*", "/var/root", "/private/var/root", "/var/empty", "/nonexistent")
_SPECIAL = re.compile(r"[*?]|\[[^\]]+\]")
_NOT_PLAIN = frozenset("?[")
_KINDS = frozenset({"hidden", "absent", "unowned"})


class _Program(Protocol):
    @property
    def exe(self) -> str: ...


class _Finding(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def programs(self) -> Sequence[_Program]: ...


class _Globs:
    """Patterns of paths. One is compiled when a path with its literal parts is looked at: few ever are."""

    def __init__(self, globs: Iterable[str]) -> None:
        self._globs: list[tuple[str, str, str, str]] = []
        for glob in globs:
            for full in [home + glob[1:] for home in _HOMES] if glob.startswith("~/") else [glob]:
                parts = _SPECIAL.split(full)
                self._globs.append((max(parts, key=len), parts[0], parts[-1], full))
        self.starts = tuple({start for _, start, _, _ in self._globs})
        """What a path begins with that one of them matches."""

    def fullmatch(self, path: str) -> bool:
        """Does one of them match all of ``path``?"""
        if not path.startswith(self.starts):
            return False
        for part, start, end, glob in self._globs:  # no generator: port waits for a few hundred of these
            if part in path and path.startswith(start) and path.endswith(end) and _matches_path(glob, path):
                return True
        return False


def _matches_path(glob: str, path: str) -> bool:
    """``*`` stands for anything but a slash, ``**`` for that too."""
    if not _NOT_PLAIN.isdisjoint(glob):
        return _regex(glob).fullmatch(path) is not None
    if "**" in glob:
        anything = glob.replace("**", "\0")
        if "*" not in anything:
            return _stars(anything.replace("\0", "*"), path)
        return _regex(glob).fullmatch(path) is not None
    parts, names = glob.split("/"), path.split("/")
    return len(parts) == len(names) and all(map(_stars, parts, names))


def _matches_name(glob: str, name: str) -> bool:
    return _stars(glob, name) if _NOT_PLAIN.isdisjoint(glob) else fnmatch.fnmatchcase(name, glob)


def _stars(glob: str, text: str) -> bool:
    """Does a pattern match in which only ``*`` is special? Nearly all are such, and no expression is compiled then."""
    first, *middle = glob.split("*")
    if not middle:
        return text == glob
    last = middle.pop()
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


@cache
def _regex(glob: str) -> re.Pattern[str]:
    return re.compile(".*".join(_translate(part) for part in glob.split("**")), re.DOTALL)


def _translate(glob: str) -> str:
    out = []
    for token in re.findall(r"\[[^\]]+\]|.", glob, re.DOTALL):
        if token == "*":
            out.append("[^/]*")
        elif token == "?":
            out.append("[^/]")
        elif len(token) > 1:
            out.append("[^" + token[2:] if token[1] == "!" else token)
        else:
            out.append(re.escape(token))
    return "".join(out)


@record(frozen=True)
class NoiseClass:
    """One class of ``noise.toml``."""

    name: str
    why: str
    paths: _Globs
    absent: _Globs
    programs: tuple[str, ...] = ()

    def has_path(self, path: str, absent: bool) -> bool:
        """Is ``path`` one that programs of this class ask for? ``absent``: nothing is there."""
        return self.paths.fullmatch(path) or (absent and self.absent.fullmatch(path))

    def has_program(self, program: str) -> bool:
        """Is the executable ``program`` one of this class?"""
        name = program.rpartition("/")[2]
        return not self.programs or any(_matches_name(glob, name) for glob in self.programs)


@cache
def classes() -> tuple[NoiseClass, ...]:
    """All classes, in the order of the data."""
    return tuple(
        NoiseClass(
            c["name"], c["why"], _Globs(c.get("paths", ())), _Globs(c.get("absent", ())), tuple(c.get("programs", ()))
        )
        for c in table("noise.toml")["class"]
    )


_SEARCHED = re.compile(r"/(include|lib|lib64|pkgconfig|aclocal|cmake|Frameworks)(/[^/]+-linux-[^/]+)?")
_MOST_FILES = 1000


def files_in_searched(finding: _Finding) -> int:
    """How many files (at most 1000) lie in the hidden directory that a finding says was searched; else 0.

    A compiler that is told that ``/usr/local/include`` does not exist never asks for the headers in it: where there
    are any, this is all that tells of them. Directories of headers are counted two levels deep.
    """
    found = _SEARCHED.search(finding.path)
    if str(finding.kind) != "hidden" or found is None or found.end() != len(finding.path):
        return 0
    count = 0
    for level in ("*", "*/*") if found[1] == "include" else ("*",):
        for path in iglob(f"{escape(finding.path)}/{level}"):  # noqa: PTH207
            count += not os.path.isdir(path)  # noqa: PTH112 - as iglob gives it
            if count == _MOST_FILES:
                return count
    return count


def classify(path: str, program: str, absent: bool = False) -> str | None:
    """Name of the class to which a probe of ``path`` by ``program`` belongs; ``None``: it is to be shown.

    ``absent``: nothing exists at the path.
    """
    return next((c.name for c in classes() if c.has_path(path, absent) and c.has_program(program)), None)


def classify_finding(finding: _Finding) -> str | None:
    """Name of the class of a whole finding: every program that asked must have been a known one."""
    if str(finding.kind) not in _KINDS:
        return None
    absent = str(finding.kind) == "absent"
    # One program often asked in many places of a build, and one path is of few classes.
    programs = {program.exe for program in finding.programs} or {""}
    for c in classes():
        if c.has_path(finding.path, absent) and all(map(c.has_program, programs)):
            return c.name
    return None
