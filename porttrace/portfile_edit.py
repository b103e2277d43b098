"""Changing the dependencies in a Portfile's text, with all else as it was: formatting, comments, order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Change", "PortfileEditError", "change_dependencies"]

_HEAD = re.compile(r"(\s*)depends_(\w+?)(-append|-prepend|-replace)?(\s+|$)")


class PortfileEditError(ValueError):
    """The text has no place where this change can be made safely; the message says what to do by hand."""


@dataclass(frozen=True)
class Change:
    """`add` a depspec to a type, or (`add` false) take it away from there."""

    type: str
    spec: str
    add: bool


@dataclass
class _Statement:
    first: int
    last: int
    type: str
    option: str
    depth: int


def _statements(rows: list[str]) -> list[_Statement]:
    """The statements that declare dependencies, by lines, with the depth of braces in which each stands."""
    found = []
    depth = at = 0
    while at < len(rows):
        head = _HEAD.match(rows[at])
        last = at
        while rows[last].rstrip().endswith("\\") and last + 1 < len(rows):
            last += 1
        if head:
            found.append(_Statement(at, last, head[2], head[3] or "", depth))
        for row in rows[at : last + 1]:
            if not row.lstrip().startswith("#"):
                text = re.sub(r"\\.", "", row)
                depth += text.count("{") - text.count("}")
        at = last + 1
    return found


def _remove(rows: list[str], change: Change) -> None:
    word = re.compile(r"(?<!\S)" + re.escape(change.spec) + r"(?!\S)")
    for statement in _statements(rows):
        if statement.type != change.type or statement.option == "-replace":
            continue
        for at in range(statement.first, statement.last + 1):
            match = word.search(rows[at])
            if match is None or rows[at].lstrip().startswith("#"):
                continue
            if statement.depth:
                raise PortfileEditError(
                    f"line {at + 1}: {change.spec} is declared under a condition: change it by hand"
                )
            _take_out(rows, statement, at, match)
            return
    raise PortfileEditError(
        f"depends_{change.type} {change.spec} is not written out in the Portfile: change it by hand"
    )


def _take_out(rows: list[str], statement: _Statement, at: int, match: re.Match[str]) -> None:
    continued = rows[at].rstrip().endswith("\\")
    before, after = rows[at][: match.start()], rows[at][match.end() :]
    after_words = after.rstrip().removesuffix("\\").strip()
    head = _HEAD.match(before)
    rest_before = before[head.end() :] if head else before
    if after_words or rest_before.strip():  # other words stay in this line
        rows[at] = before + after.lstrip() if after_words else before.rstrip() + (" \\" if continued else "")
        return
    if head is None:  # a line of its own
        del rows[at]
        if at > statement.last - 1 and not continued:
            rows[at - 1] = rows[at - 1].rstrip().removesuffix("\\").rstrip()
        return
    if statement.first == statement.last:  # all that the statement said
        del rows[at]
        if 0 < at < len(rows) and not rows[at].strip() and not rows[at - 1].strip():
            del rows[at]
        return
    rows[at] = before + rows[at + 1].lstrip()  # the next line moves up beside the name
    del rows[at + 1]


def _column(rows: list[str]) -> int:
    """Where values stand in this Portfile."""
    for row in rows:
        match = re.match(r"(?:depends_\w+|name|version|categories|checksums)\s+(?=\S)", row)
        if match:
            return match.end()
    return 20


def _insert_into_variant(rows: list[str], change: Change, variant: str) -> None:
    """As the first line of the variant's body, indented like the next one."""
    for at, row in enumerate(rows):
        head = re.match(rf"(\s*)variant\s+{re.escape(variant)}\b.*\{{\s*(\}}?)\s*$", row)
        if head is None:
            continue
        following = re.match(r"\s*", rows[at + 1])[0] if at + 1 < len(rows) else ""  # type: ignore[index]
        indent = following if len(following) > len(head[1]) else head[1] + "    "
        line = f"{indent}depends_{change.type}-append {change.spec}"
        if head[2]:  # an empty body
            rows[at : at + 1] = [row[: head.start(2)].rstrip(), line, head[1] + "}"]
        else:
            rows.insert(at + 1, line)
        return
    raise PortfileEditError(
        f"the Portfile has no variant {variant} with a body: add depends_{change.type}-append {change.spec} by hand"
    )


def _insert(rows: list[str], change: Change) -> None:
    top = [s for s in _statements(rows) if s.depth == 0]
    same = [s for s in top if s.type == change.type and s.option in ("", "-append")]
    if same:
        statement = same[0]
        head = _HEAD.match(rows[statement.first])
        assert head is not None
        tail = rows[statement.last]
        if tail.rstrip() == tail.rstrip()[: head.end()].rstrip() and statement.first == statement.last:
            rows[statement.last] = tail.rstrip() + " " + change.spec
            return
        rows[statement.last] = tail.rstrip() + " \\"
        rows.insert(statement.last + 1, " " * head.end() + change.spec)
        return
    name = f"depends_{change.type}"
    line = name.ljust(max(len(name) + 1, _column(rows))) + change.spec
    if top:
        rows.insert(top[-1].last + 1, line)
        return
    depth, at = 0, None
    for number, row in enumerate(rows):
        if depth == 0 and re.match(r"(checksums|master_sites|distname|homepage|long_description|version|name)\s", row):
            at = number
        depth += row.count("{") - row.count("}")
    if at is None:
        raise PortfileEditError(f"no place for {line.strip()} was found in the Portfile: add it by hand")
    while rows[at].rstrip().endswith("\\") and at + 1 < len(rows):
        at += 1
    rows[at + 1 : at + 1] = ["", line]


def change_dependencies(text: str, changes: Iterable[Change], variant: str = "") -> str:
    """The text with the changes made, removals first; what is added goes into the body of `variant` where one is
    named. Raises PortfileEditError."""
    rows = text.split("\n")
    ordered = sorted(changes, key=lambda change: (change.add, change.type, change.spec))
    for change in ordered:
        if change.add and variant:
            _insert_into_variant(rows, change, variant)
        else:
            (_insert if change.add else _remove)(rows, change)
    return "\n".join(rows)
