"""Filemaps: ordered lists of rules that say what becomes of a path.

The bytes of 2007 (see ``csrc/filemap.h`` for their grammar) and everything that Python edits are the same list;
matching is done by the C code that the injected library uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum, StrEnum
from typing import Any, overload

from porttrace._core import ffi, lib
from porttrace.records import record

__all__ = ["WRITES", "Access", "Action", "Filemap", "FilemapError", "Rule", "display"]


class Action(IntEnum):
    """What a rule says; the numbers are the action bytes of 2007, ``DENY`` is a later addition."""

    ALLOW = 0
    REDIRECT = 1
    ASK = 2
    DENY = 3


class Access(StrEnum):
    """What a call intends to do with a path, as written in reports and logs; in the order of ``enum pt_access``."""

    READ = "read"
    STAT = "stat"
    EXEC = "exec"
    LIST = "list"
    READLINK = "readlink"
    WRITE = "write"
    CREATE = "create"
    DELETE = "delete"
    RENAME = "rename"
    LINK = "link"
    ATTRIBUTES = "attributes"

    @property
    def writes(self) -> bool:
        """Judged by the write map; the others by the read map."""
        return self not in (Access.READ, Access.STAT, Access.EXEC, Access.LIST, Access.READLINK)


WRITES = frozenset(str(access) for access in Access if access.writes)
"""The names of those that the write map judges."""


class FilemapError(ValueError):
    """A filemap's bytes are broken, or a filemap cannot be expressed in them.

    ``offset`` is the byte where reading went wrong; when writing, where the entry would have begun.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} (at byte {offset})")
        self.offset = offset


def display(path: bytes) -> str:
    """Text for people: UTF-8 where it is, and ``\\xNN`` for all other bytes and for control characters."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _components(path: bytes) -> bytes:
    """A path as whole components: no ``//``, no ``/./``, no slash at the end."""
    if path[:1] == b"/" and path[-1:] != b"/" and b"//" not in path and b"/." not in path:
        return path  # as nearly all are
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ValueError(f"{display(path)}: a rule's path must not contain '..'")
    return b"/" + b"/".join(parts)


@record(frozen=True)
class Rule:
    """One line of a filemap.

    ``path`` is absolute; it matches whole components (and is tidied up: doubled slashes go), or as a plain string
    prefix of bytes with ``literal``. ``target`` belongs to redirects. ``live``: an ask that wants its answer from the
    session's socket. ``silent``: refuse without a finding ("predict"). ``fallback``: a redirect that gives the original
    file where the target has none. ``origin`` tells people where the rule was written.

    Raises ``ValueError`` where a component rule's path is relative or has ``..``, or target and action disagree.
    """

    path: bytes
    action: Action
    target: bytes | None = None
    origin: str = ""
    literal: bool = False
    live: bool = False
    silent: bool = False
    fallback: bool = False

    def __post_init__(self) -> None:
        if type(self.action) is not Action:
            object.__setattr__(self, "action", Action(self.action))
        if (self.action is Action.REDIRECT) != (self.target is not None):
            need = "needs a target" if self.target is None else "cannot have a target"
            raise ValueError(f"{display(self.path)}: a rule of action {self.action.name.lower()} {need}")
        if not self.path:
            raise ValueError("a rule needs a path")
        if self.target == b"":
            raise ValueError(f"{display(self.path)}: the target of a redirect is empty")
        if not self.literal:
            if not self.path.startswith(b"/"):
                raise ValueError(f"{display(self.path)}: a rule's path must be absolute")
            object.__setattr__(self, "path", _components(self.path))

    def matches(self, path: bytes) -> bool:
        """Does this rule speak of ``path`` (absolute, normalized)?"""
        return bool(lib.pt_path_matches(self.path, len(self.path), self.literal, path, len(path)))

    def __str__(self) -> str:
        sign = {Action.ALLOW: "+", Action.REDIRECT: ">", Action.ASK: "?", Action.DENY: "-"}[self.action]
        return display(self.path) + "=" + sign + (display(self.target) if self.target is not None else "")


class Filemap(Sequence[Rule]):
    """Rules in the order in which they are tried: the first that matches wins."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = list(rules)

    @overload
    def __getitem__(self, index: int) -> Rule: ...
    @overload
    def __getitem__(self, index: slice) -> list[Rule]: ...
    def __getitem__(self, index: int | slice) -> Rule | list[Rule]:
        return self._rules[index]

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def __eq__(self, other: object) -> bool:
        return self._rules == other._rules if isinstance(other, Filemap) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Filemap({self._rules!r})"

    def copy(self) -> Filemap:
        """An independent list of the same rules."""
        return Filemap(self._rules)

    def append(self, rule: Rule) -> None:
        """Add ``rule`` behind all others: it decides what no other does."""
        self._rules.append(rule)

    def prepend(self, rule: Rule) -> None:
        """Add ``rule`` before all others: it wins."""
        self._rules.insert(0, rule)

    def insert(self, index: int, rule: Rule) -> None:
        """Add ``rule`` before the one at ``index``."""
        self._rules.insert(index, rule)

    def extend(self, rules: Iterable[Rule]) -> None:
        """Append several rules in their order."""
        self._rules.extend(rules)

    def remove(self, path: bytes) -> int:
        """Take out every rule whose path is ``path``; returns how many there were."""
        paths = self._names(path)
        kept = [rule for rule in self._rules if rule.path not in paths]
        removed = len(self._rules) - len(kept)
        self._rules = kept
        return removed

    def replace(self, rule: Rule) -> None:
        """Put ``rule`` where the first rule for the same path stands; further ones for that path go.

        Raises ``LookupError`` when no rule has that path.
        """
        paths = self._names(rule.path)
        at = [i for i, old in enumerate(self._rules) if old.path in paths]
        if not at:
            raise LookupError(f"no rule for {display(rule.path)}")
        self._rules[at[0]] = rule
        for i in reversed(at[1:]):
            del self._rules[i]

    def clear(self) -> None:
        """Take out all rules: everything is denied."""
        self._rules.clear()

    @staticmethod
    def _names(path: bytes) -> set[bytes]:
        """The spellings by which a rule for ``path`` may be stored (component rules are tidied up)."""
        names = {path}
        if path.startswith(b"/") and b".." not in path.split(b"/"):
            names.add(_components(path))
        return names

    def match(self, path: bytes) -> Rule | None:
        """The rule that decides ``path`` (absolute, normalized), or ``None``: not listed."""
        return next((rule for rule in self._rules if rule.matches(path)), None)

    @classmethod
    def from_bytes(cls, data: bytes, origin: str = "") -> Filemap:
        """Read the bytes of 2007; all rules are literal. Raises ``FilemapError`` with the offset."""
        buffer = ffi.from_buffer(data)
        offset = ffi.new("size_t *")
        why = ffi.new("const char **")
        if lib.pt_filemap_check(buffer, len(data), offset, why) < 0:
            raise FilemapError(_text(why[0]), offset[0])
        rules: list[Rule] = []
        entry = ffi.new("struct pt_filemap_entry *")
        offset[0] = 0
        while lib.pt_filemap_next(buffer, len(data), offset, entry, why) == 1:
            target = bytes(ffi.buffer(entry.target, entry.target_len)) if entry.target else None
            path = bytes(ffi.buffer(entry.path, entry.path_len))
            rules.append(Rule(path, Action(entry.action), target, origin, literal=True))
        return cls(rules)

    def to_bytes(self) -> bytes:
        """Write the bytes of 2007.

        Raises ``FilemapError`` for what they cannot express: rules of whole components, live, silent or fallback
        rules, NUL bytes. The rules' origins are not part of them.
        """
        why = ffi.new("const char **")
        room = sum(len(rule.path) + len(rule.target or b"") + 3 for rule in self._rules) + 2
        buffer = ffi.new("char[]", room)
        at = 0
        for rule in self._rules:
            for name, held in (
                ("matches whole components", not rule.literal),
                ("wants a live answer", rule.live),
                ("is silent", rule.silent),
                ("has a fallback", rule.fallback),
            ):
                if held:
                    raise FilemapError(f"the rule {rule} {name}, which a filemap's bytes cannot express", at)
            target = rule.target or b""
            end = lib.pt_filemap_put(
                buffer, room, at, ffi.from_buffer(rule.path), len(rule.path), rule.action, target, len(target), why
            )
            if not end:
                raise FilemapError(f"the rule {rule} cannot be written: {_text(why[0])}", at)
            at = end
        end = lib.pt_filemap_put(buffer, room, at, ffi.NULL, 0, 0, ffi.NULL, 0, why)
        return bytes(ffi.buffer(buffer, end))


def _text(pointer: Any) -> str:
    return bytes(ffi.string(pointer)).decode("ascii", "replace")
