"""The fence: what the kernel itself keeps a session from writing, derived from the policy's write map.

Linux: a list of places for Landlock, written as ``fence`` into the session's directory; the launcher (or the
injected library in the first child) raises it.  macOS: a Seatbelt profile of the same map.

Landlock binds to what exists and unions rights.  Two things follow, and both are told, never silent:
a place that does not exist yet is opened through its parent directory (``Fence.widened``), and something denied
below an allowed directory is held by the other tiers only (``Fence.gaps``).
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from porttrace.errors import PorttraceError
from porttrace.realpath import both_names
from porttrace.records import field, record

HEADER = b"porttrace-fence 1\n"
#: Name of the list in a session directory, and of the directory in which a refusal proves that the fence stands.
LIST_NAME = "fence"
PROBE_NAME = "unfenced"

ALLOW, REDIRECT, ASK, DENY = range(4)


class RuleLike(Protocol):
    """What the fence reads of a filemap's rule."""

    @property
    def path(self) -> bytes: ...
    @property
    def action(self) -> int: ...
    @property
    def target(self) -> bytes | None: ...
    @property
    def literal(self) -> bool: ...


class FenceError(PorttraceError):
    """The write map cannot be expressed as a fence."""


@record(frozen=True)
class Place:
    """A place that may be written: a directory with all below it, or one file."""

    path: bytes
    directory: bool


@record
class Fence:
    """Writable places, and where the kernel's fence differs from the write map."""

    places: list[Place] = field(default_factory=list)
    #: (path of the rule, directory that was opened for it): the path does not exist yet.
    widened: list[tuple[bytes, bytes]] = field(default_factory=list)
    #: allowed paths that do not exist, nor their parents: the fence keeps them from being made.
    missing: list[bytes] = field(default_factory=list)
    #: (denied path, allowed directory above it): Landlock cannot refuse below what it allows.
    gaps: list[tuple[bytes, bytes]] = field(default_factory=list)

    def remarks(self) -> list[str]:
        """Where the kernel does not hold what the policy says: one line each, the other tiers hold it."""
        lines = [
            f"the kernel cannot refuse writing {_shown(path)} below {_shown(above)}, which is allowed: the library does"
            for path, above in self.gaps
        ]
        lines += [
            f"{_shown(path)} does not exist yet: the kernel lets all of {_shown(parent)} be written for it"
            for path, parent in self.widened
        ]
        lines += [
            f"{_shown(path)} may be written but does not exist, nor its directory: the kernel keeps it from being made"
            for path in self.missing
        ]
        return lines

    def to_bytes(self) -> bytes:
        """The list as ``csrc/fence_linux.h`` reads it."""
        return HEADER + b"".join((b"d" if place.directory else b"f") + place.path + b"\0" for place in self.places)


def _shown(path: bytes) -> str:
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _clean(path: bytes) -> bytes:
    if not path.startswith(b"/") or b"\0" in path:
        raise FenceError(f"a writable place must be an absolute path, not {os.fsdecode(path)!r}")
    return os.path.normpath(path).replace(b"//", b"/", 1) if path.startswith(b"//") else os.path.normpath(path)


class _Builder:
    def __init__(self) -> None:
        self.fence = Fence()
        self._seen: set[bytes] = set()

    def add(self, path: bytes, *, literal: bool) -> None:
        path = _clean(path)
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116 (bytes, not text)
        except OSError:
            self._missing(path)
        else:
            self._place(path, stat.S_ISDIR(mode))
        if literal:
            self._siblings(path)

    def _place(self, path: bytes, directory: bool) -> None:
        if path not in self._seen:
            self._seen.add(path)
            self.fence.places.append(Place(path, directory))

    def _missing(self, path: bytes) -> None:
        parent = os.path.dirname(path)  # noqa: PTH120 (bytes)
        # The root is never opened for the sake of one missing name in it.
        if parent != b"/" and os.path.isdir(parent):  # noqa: PTH112 (bytes)
            self._place(parent, True)
            self.fence.widened.append((path, parent))
        else:
            self.fence.missing.append(path)

    def _siblings(self, path: bytes) -> None:
        parent, name = os.path.split(path)
        try:
            entries = sorted(os.listdir(parent))  # noqa: PTH208 (bytes)
        except OSError:
            return
        for entry in entries:
            if entry != name and entry.startswith(name):
                full = os.path.join(parent, entry)  # noqa: PTH118 (bytes)
                self._place(full, os.path.isdir(full))  # noqa: PTH112 (bytes)


def build(rules: Iterable[RuleLike], extra: Sequence[str | Path] = ()) -> Fence:
    """The fence of an ordered write map (first match wins).

    `extra` are places of the session's own (its ``events`` file).  Rules that ask count as writable: whether
    they are is decided in the process, and the fence must never refuse what the map allows.
    """
    builder = _Builder()
    ordered = list(rules)
    whole: set[bytes] = set()  # what earlier rules match, by paths and by the beginnings of such
    beginnings: tuple[bytes, ...] = ()
    for rule in ordered:
        covered = rule.path in whole or rule.path.startswith(beginnings)
        if rule.literal:
            beginnings = (*beginnings, rule.path)
        else:
            base = rule.path.rstrip(b"/")
            whole.add(base)
            beginnings = (*beginnings, base + b"/")
        if covered or rule.action == DENY:
            continue
        builder.add(rule.path, literal=rule.literal)
        if rule.action == REDIRECT and rule.target:
            builder.add(rule.target, literal=False)
    for path in extra:
        builder.add(os.fsencode(path), literal=False)
    fence = builder.fence
    for rule in ordered:
        if rule.action == DENY:
            above = [place.path for place in fence.places if place.directory and _is_below(rule.path, place.path)]
            if above:
                fence.gaps.append((rule.path, max(above, key=len)))
    return fence


def _is_below(path: bytes, directory: bytes) -> bool:
    return path.startswith(directory.rstrip(b"/") + b"/")


def make_probe(directory: Path) -> None:
    """Make the probe's directory below `directory`, where it is not there yet. Raises `OSError`."""
    probe = directory / PROBE_NAME
    with contextlib.suppress(FileExistsError):
        probe.mkdir()
        probe.chmod(0o1777)  # a device node in it: everybody gets as far as being refused that; a fence answers first


def write(directory: Path, rules: Iterable[RuleLike]) -> Fence:
    """Write the fence of `rules` into the session directory `directory` (``N/``), with its probe file.

    The session's ``events`` file, if it is there, is writable.  Raises `OSError` where the directory cannot be written.
    """
    rules = list(rules)
    events = directory / "events"
    extra = [events] if events.exists() else []
    fence = build(rules, extra)
    make_probe(directory)
    path = directory / LIST_NAME
    path.unlink(missing_ok=True)
    if sys.platform == "darwin":
        profile = seatbelt_profile(rules, extra).encode("utf-8", "surrogateescape")
        # The library reads it through a mapping, where a zero must follow.
        path.write_bytes(profile if len(profile) % 4096 else profile + b"\n")
    else:
        path.write_bytes(fence.to_bytes())
    path.chmod(0o444)
    return fence


def _quoted(path: bytes) -> str:
    text = path.decode("utf-8", "surrogateescape")
    if any(ord(c) < 0x20 or ord(c) == 0x7F or 0xDC80 <= ord(c) <= 0xDCFF for c in text):
        raise FenceError(f"the path {text!r} cannot be written in a Seatbelt profile")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _regex(path: bytes) -> str:
    text = path.decode("utf-8", "surrogateescape")
    quoted = "".join(f"\\{c}" if c in r"\.^$|?*+()[]{}" else c for c in text)
    _quoted(path)
    if '"' in text:
        raise FenceError(f"the literal path {text!r} cannot be written in a Seatbelt profile")
    return f'#"^{quoted}"'


def _filters(path: bytes, *, literal: bool) -> list[str]:
    """Seatbelt sees the real path, too (``/private/tmp``)."""
    if literal:
        return [f"(regex {_regex(p)})" for p in both_names(path)]
    return [f"(subpath {_quoted(p)})" for p in both_names(_clean(path))]


def seatbelt_profile(rules: Iterable[RuleLike], extra: Sequence[str | Path] = ()) -> str:
    """The Seatbelt profile of an ordered write map, for ``sandbox-exec -p`` and MacPorts' ``portsandbox_profile``.

    The last matching rule of a profile wins and the first one of a filemap does, so the order is turned round; unlike
    Landlock it refuses below an allowed directory.  Raises `FenceError` for a path that a profile cannot carry.
    """
    places: list[tuple[str, str]] = []
    for rule in reversed(list(rules)):
        filters = _filters(rule.path, literal=rule.literal)
        if rule.action == REDIRECT and rule.target:
            filters += _filters(rule.target, literal=False)
        places.append(("deny" if rule.action == DENY else "allow", " ".join(filters)))
    places += [("allow", " ".join(_filters(os.fsencode(path), literal=False))) for path in extra]
    lines = ["(version 1)", "(allow default)", "(deny file-write*)"]
    lines += [f"({verb} file-write* {where})" for verb, where in places]
    # Through a hard link in a place that may be written a file elsewhere could be. Systems before 10.11 do not have the
    # word, and refuse a profile with one that they do not know (Mozilla's profiles ask in this way, too).
    lines += ["(if (defined? 'file-link) (begin", "(deny file-link)"]
    lines += [f"({verb} file-link {where})" for verb, where in places]
    return "\n".join([*lines, "))"]) + "\n"
