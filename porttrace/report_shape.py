"""What a report must look like, for its readers not to be surprised: a table, and where a value differs from it.

A report may come from anywhere and from another version. Fields that are not named here are left alone, and of those
that are each may be missing but `kind`, `path` and `access` of a finding. Names (kinds, accesses, actions) are not
judged here: later versions have more of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["differs"]

Shape = Callable[[Any, str], Iterator[str]]
"""Yields what is wrong with a value at a place (``findings[0].count``), nothing where it is as it should be."""


def _is(what: str, holds: Callable[[Any], bool]) -> Shape:
    def shape(value: Any, place: str) -> Iterator[str]:
        if not holds(value):
            yield f"{place or 'it'} is not {what}"

    return shape


def _or_null(inner: Shape) -> Shape:
    return lambda value, place: iter(()) if value is None else inner(value, place)


def _list(inner: Shape) -> Shape:
    def shape(value: Any, place: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{place} is not a list"
            return
        for number, each in enumerate(value):
            yield from inner(each, f"{place}[{number}]")

    return shape


def _row(*inner: Shape) -> Shape:
    def shape(value: Any, place: str) -> Iterator[str]:
        if not isinstance(value, list) or len(value) != len(inner):
            yield f"{place} is not a list of {len(inner)}"
            return
        for number, (each, wanted) in enumerate(zip(value, inner, strict=True)):
            yield from wanted(each, f"{place}[{number}]")

    return shape


def _map(inner: Shape, name: Shape | None = None) -> Shape:
    def shape(value: Any, place: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{place} is not an object"
            return
        for key, each in value.items():
            yield from (name or _text)(key, f"a name in {place}")
            yield from inner(each, f"{place}.{key}")

    return shape


def _object(fields: Mapping[str, Shape], needed: tuple[str, ...] = ()) -> Shape:
    def shape(value: Any, place: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{place or 'it'} is not an object"
            return
        for name in needed:
            if name not in value:
                yield f"{place or 'it'} has no {name}"
        for name, inner in fields.items():
            if name in value:
                yield from inner(value[name], f"{place}.{name}" if place else name)

    return shape


def _is_text(value: Any) -> bool:
    """Whether it can be a path: other surrogates than those of `os.fsdecode` stand for no byte."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


_text = _is("text (without NUL)", _is_text)
_name = _or_null(_text)
# Ports and phases are written into Portfiles: what would be a command or the end of a comment there is no name of one.
_WORD = re.compile(r"[^\s\x00-\x1f\x7f;\"$[\]{}\\#]*")
_word = _is("a word", lambda value: _is_text(value) and _WORD.fullmatch(value) is not None)
_word_or_null = _or_null(_word)
_integer = _is("an integer", lambda value: isinstance(value, int))
_number = _is("a number", lambda value: isinstance(value, int | float))
_truth = _is("true or false", lambda value: isinstance(value, bool))
_texts = _list(_text)
_rule = _row(_text, _text, _name, _text, _texts)

_FINDING = _object(
    {
        "kind": _text,
        "path": _text,
        "access": _text,
        **dict.fromkeys(("port", "phase", "built"), _word_or_null),
        **dict.fromkeys(("rule", "fix", "reason", "code"), _name),
        "count": _integer,
        "programs": _list(
            _object({"exe": _text, "parents": _texts, "chain": _texts, "count": _integer}, needed=("exe",))
        ),
    },
    needed=("kind", "path", "access"),
)
_PHASE = _object(
    {
        **dict.fromkeys(("port", "phase"), _word_or_null),
        **dict.fromkeys(("workpath", "prefix", "registry", "portfile"), _name),
        "deps": _list(_word),
        "declared": _or_null(_list(_row(_text, _text))),
        "variants": _text,
        "tests": _truth,
        "chains": _map(_list(_word), _word),
        "strict": _truth,
        "audit": _truth,
        "read": _list(_rule),
        "write": _list(_rule),
        "used": _map(_map(_texts), _word),
        "listed": _map(_text),
        "probed": _map(_row(_text, _text)),
        "start": _number,
        "seconds": _number,
        "programs": _list(_row(_or_null(_integer), _text, _text, _integer, _number, _number)),
        "programs_left_out": _integer,
    }
)
_REPORT = _object(
    {
        "version": _text,
        "command": _texts,
        "tiers": _texts,
        "findings": _list(_FINDING),
        "stats": _or_null(_object({"exit_status": _integer, "incomplete": _or_null(_texts)})),
        "context": _or_null(
            _object({**dict.fromkeys(("prefix", "registry", "portfile"), _name), "phases": _list(_PHASE)})
        ),
    },
    needed=("findings",),
)


def differs(report: object) -> str | None:
    """What is first wrong with `report` (JSON values), and at which place; None where it can be read."""
    return next(_REPORT(report, ""), None)
