"""Tcl lists as text: what Tcl's own ``list`` makes and ``split`` takes apart.

The co-process has no Tcl interpreter, and importing tkinter for it would cost more than its whole start; so the two
functions of Tcl(n) that the wire needs are here, and a test compares them with ``tclsh`` itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: What a command may return: text, bytes (a Tcl byte array), numbers, truth, or a list or dict of these.
TclValue = str | bytes | int | bool | None | Iterable["TclValue"] | Mapping[str, "TclValue"]

_SPACE = " \t\n\r\v\f"
_SPECIAL = set(_SPACE + '{}[]$";\\')
_PLAIN = re.compile(r'[^ \t\n\r\v\f{}\[\]$";\\#][^ \t\n\r\v\f{}\[\]$";\\]*')
_BRACES = re.compile(r"[{}]")
_BRACED = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"[^ \t\n\r\v\f\\]*")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\n": " "}
_QUOTED = {" ": "\\ ", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\v": "\\v", "\f": "\\f"}


def quote(word: str) -> str:
    """One list element as text. Braces where they nest, backslashes where they do not."""
    if not word:
        return "{}"
    if _PLAIN.fullmatch(word):
        return word
    if "\\" not in word and _nests(word):
        return "{" + word + "}"
    out = "".join(_QUOTED.get(c, "\\" + c if c in _SPECIAL else c) for c in word)
    return "\\" + out if word[0] == "#" else out


def _nests(word: str) -> bool:
    depth = 0
    for c in _BRACES.findall(word):
        depth += 1 if c == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def text(value: TclValue) -> str:
    """A value as Tcl shows it: bytes as characters 0 to 255, ``None`` as the empty string, lists and dicts quoted."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return join(part for pair in value.items() for part in pair)
    return join(value)


def join(values: Iterable[TclValue]) -> str:
    """A Tcl list of the values, each in its text form."""
    return " ".join(quote(text(value)) for value in values)


def split(source: str) -> list[str]:
    """The elements of a Tcl list.

    Raises ValueError where the text is not a list: a brace or quote that is not closed, or something glued to one.
    """
    out: list[str] = []
    i, end = 0, len(source)
    while True:
        while i < end and source[i] in _SPACE:
            i += 1
        if i == end:
            return out
        if source[i] == "{":
            word, i = _braced(source, i)
        elif source[i] == '"':
            word, i = _bare(source, i + 1, '"')
            if i == end:
                raise ValueError("unmatched open quote in list")
            i += 1
        else:
            found = _BARE.match(source, i)
            assert found is not None  # it matches nothing, too
            word, after = found[0], found.end()
            word, i = _bare(source, i, _SPACE) if source[after : after + 1] == "\\" else (word, after)
        if i < end and source[i] not in _SPACE:
            raise ValueError(f"list element followed by {source[i : i + 10]!r} instead of space")
        out.append(word)


def _braced(source: str, i: int) -> tuple[str, int]:
    depth, start = 0, i + 1
    for found in _BRACED.finditer(source, i):
        c = found[0]
        if c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                return source[start : found.start()], found.end()
    raise ValueError("unmatched open brace in list")


def _bare(source: str, i: int, stop: str) -> tuple[str, int]:
    word: list[str] = []
    while i < len(source) and source[i] not in stop:
        if source[i] == "\\" and i + 1 < len(source):
            char, i = _escape(source, i + 1)
            word.append(char)
        else:
            word.append(source[i])
            i += 1
    return "".join(word), i


def _escape(source: str, i: int) -> tuple[str, int]:
    """The character that a backslash sequence means; ``i`` is the place after the backslash."""
    c = source[i]
    digits, base, width = "", 16, {"x": 2, "u": 4, "U": 8}.get(c, 0)
    if c in "01234567":
        base, width, start = 8, 3, i
    else:
        start = i + 1
    allowed = "01234567" if base == 8 else "0123456789abcdefABCDEF"
    while len(digits) < width and start + len(digits) < len(source) and source[start + len(digits)] in allowed:
        digits += source[start + len(digits)]
    if digits:
        return chr(int(digits, base)), start + len(digits)
    return _ESCAPES.get(c, c), i + 1
