"""What stands in a line of the full log (``porttrace run --log``); csrc/eventlog.c writes it.

A test holds the two together; the page of the documentation is made from this table.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIELDS", "Field"]


@dataclass(frozen=True)
class Field:
    """A field; `values` are all that it can have, each with its meaning, where they are few."""

    name: str
    type: str
    meaning: str
    values: tuple[tuple[str, str], ...] = ()


_ACCESSES = (
    ("read", "the content is read"),
    ("stat", "whether it is there, and its attributes"),
    ("exec", "it is executed"),
    ("list", "the names in a directory"),
    ("readlink", "where a link leads"),
    ("write", "the content is changed"),
    ("create", "a file, directory or link is made"),
    ("delete", "it is removed"),
    ("rename", "it gets another name, or something gets its name"),
    ("link", "it gets one more name"),
    ("attributes", "mode, owner, times, extended attributes"),
)
_VERDICTS = (
    ("allow", "the policy allows it; errno says whether it went well"),
    ("hide", "it exists and looks absent"),
    ("deny", "it is refused with EACCES"),
    ("redirect", "another file was shown in its place"),
    ("unowned", "it is in the prefix and no port's; allowed"),
    ("absent", "it does not exist; it would have been hidden"),
)

FIELDS = (
    Field("pid", "number", "the process that asked"),
    Field("ppid", "number", "its parent, when it was started"),
    Field("exe", "text or null", "the executable of the process"),
    Field("op", "text or null", "the call: a row of csrc/calls.table, which the table of intercepted calls lists"),
    Field("access", "text", "what the call does with the path", _ACCESSES),
    Field("path", "text", "the real path, on which the decision was made"),
    Field("asked", "text", "the path as the program gave it; only where it is another one"),
    Field("verdict", "text", "what was decided", _VERDICTS),
    Field("port", "text or null", "the port that owns the file, where it is known"),
    Field("errno", "number", "the error that the program saw; 0: none"),
)
