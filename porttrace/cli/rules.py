r"""Rules as people write them on a command line.

`PATH=+` allow, `PATH=-` hide, `PATH=?` ask the registry, `PATH=>TARGET` redirect. A `=` or `:` that belongs to the
path or the target is written `\=` or `\:`, a backslash `\\`. A path stands for itself and all
below it; a relative one is taken from the current directory.
"""

from __future__ import annotations

import os
from pathlib import Path

from porttrace.errors import UsageError
from porttrace.filemap import Action, Rule
from porttrace.realpath import both_names

__all__ = ["missing_relative", "parse_rule"]

_SIGNS = {"+": Action.ALLOW, "-": Action.DENY, "?": Action.ASK}


def _split(text: str) -> tuple[str, str | None]:
    """Path and what follows the first `=` that is not escaped (None: there is none), escapes resolved in the path."""
    path = []
    at = 0
    while at < len(text):
        if text[at] == "\\" and at + 1 < len(text) and text[at + 1] in "\\:=":
            path.append(text[at + 1])
            at += 2
        elif text[at] == "=":
            return "".join(path), text[at + 1 :]
        else:
            path.append(text[at])
            at += 1
    return "".join(path), None


def _absolute(path: str, option: str) -> bytes:
    if not path:
        raise UsageError(f"{option}: the path is empty")
    if "\0" in path:
        raise UsageError(f"{option}: a path cannot hold a NUL byte")
    if path.split("/")[0].startswith("~"):
        raise UsageError(f'{option} {path}: only a shell knows ~, and not in quotes; write "$HOME" (or ./~, the name)')
    # Lexically: what lies behind links is added by parse_rule.
    return os.fsencode(os.path.normpath(Path.cwd() / path)).replace(b"//", b"/")


def missing_relative(text: str) -> list[Path]:
    """The paths of a rule that were given relative to the current directory, absolute, where nothing is there.

    Such a rule is in force, and mostly a mistake: of the name, or of the directory.
    """
    name, action = _split(text)
    target = _split(action[1:])[0] if action is not None and action.startswith(">") else ""
    places = [Path.cwd() / path for path in (name, target) if path and not path.startswith("/")]
    return [place for place in places if "\0" not in str(place) and not os.path.lexists(place)]


def parse_rule(text: str, option: str, *, default: Action | None = None) -> list[Rule]:
    """The rules that `text` (the value of `option`) stands for; `default` is the action where it names none.

    Verdicts are made on real paths: a path that leads through symlinks gives two rules, as written and the real one.
    Raises UsageError where the text is no rule.
    """
    name, action_text = _split(text)
    target: bytes | None = None
    if action_text is None:
        if default is None:
            raise UsageError(
                f"{option} {text}: an action is missing; write 'PATH=+' (allow), 'PATH=-' (hide), 'PATH=?' (ask) or "
                "'PATH=>TARGET' (redirect)"
            )
        action = default
    elif action_text.startswith(">"):
        action = Action.REDIRECT
        target_text, rest = _split(action_text[1:])
        if rest is not None:
            raise UsageError(f"{option} {text}: a '=' in a path is written '\\='")
        if not target_text:
            raise UsageError(f"{option} {text}: the redirect has no target; write 'PATH=>TARGET'")
        target = os.fsencode(os.path.realpath(_absolute(target_text, option)))
    elif action_text in _SIGNS:
        action = _SIGNS[action_text]
    else:
        raise UsageError(
            f"{option} {text}: unknown action {action_text!r}; it is one of + (allow), - (hide), ? (ask), >TARGET "
            "(redirect); a '=' in a path is written '\\='"
        )
    path = _absolute(name, option)
    origin = f"{option} {text}"
    return [Rule(each, action, target, origin) for each in both_names(path)]
