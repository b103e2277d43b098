"""Where in a Portfile a finding belongs: the line of the dependency, of the allowance, or the first one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from porttrace.listings import LEFT_OUT

__all__ = ["Place", "declared_in", "one_line", "place_of"]


@dataclass(frozen=True)
class Place:
    """A line of a file; `relative`: the path is relative to the root that was named."""

    path: str
    line: int
    relative: bool


@cache
def declared_in(portfile: str) -> tuple[tuple[int, str, str], ...]:
    """(line, type, depspec) of each dependency that is written out in a Portfile; nothing where it cannot be read.

    ``type`` is like ``lib``; a dependency type without words counts with an empty depspec.
    """
    try:
        rows = Path(portfile).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ()
    found: list[tuple[int, str, str]] = []
    kind = ""
    for number, row in enumerate(rows, 1):
        text = row
        head = re.match(r"\s*depends_(\w+?)(?:-append|-prepend|-replace)?(?=\s|$)(.*)", row)
        if head:
            kind, text = head[1], head[2]
            found.append((number, kind, ""))
        if kind and not text.lstrip().startswith("#"):
            found += [(number, kind, word) for word in text.split() if re.match(r"(port|bin|lib|path):", word)]
        if not row.rstrip().endswith("\\"):
            kind = ""
    return tuple(found)


def _line(finding: Mapping[str, Any], portfile: str) -> int:
    written = re.search(r"\bline (\d+) of (\S*Portfile)\b", finding.get("rule") or "")
    if written:
        return int(written[1])
    rows = declared_in(portfile)
    port = (finding.get("port") or "").lower()
    for line, _, spec in rows:
        if port and spec.rpartition(":")[2].lower() == port:
            return line
    wanted = re.match(r"depends_(\w+)-", finding.get("fix") or "")
    for kinds in ({wanted[1]} if wanted else set(), {kind for _, kind, _ in rows}):
        of_kind = [line for line, kind, _ in rows if kind in kinds]
        if of_kind:
            return of_kind[-1]
    return 1


def place_of(finding: Mapping[str, Any], report: Mapping[str, Any], root: Path) -> Place | None:
    """The place for a finding; None where no Portfile is known (a plain command was run)."""
    context = report.get("context") or {}
    phases = context.get("phases", ())
    built = finding.get("built")
    portfile = next(
        (p["portfile"] for p in phases if p.get("portfile") and (not built or p.get("port") == built)), None
    ) or context.get("portfile")
    if not portfile:
        return None
    line = _line(finding, portfile)
    relative = os.path.relpath(portfile, root)
    if relative.startswith("../"):
        return Place(portfile, line, False)
    return Place(relative, line, True)


def one_line(finding: Mapping[str, Any]) -> str:
    """What was found, in one sentence, with owner, program, phase and the line to add."""
    kind, path, port, phase = finding["kind"], finding["path"], finding.get("port"), finding.get("phase")
    built = finding.get("built") or "this port"
    during = f" in phase {phase}" if phase else ""
    programs = finding.get("programs") or []
    names = list(dict.fromkeys((p.get("chain") or [p["exe"]])[-1].rpartition("/")[2] for p in programs))
    asked = "left out of a listing" if finding.get("reason") == LEFT_OUT else "asked for"
    by = f" by {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}" if names else ""
    text = {
        "undeclared-dependency": f"{path} belongs to port {port}, undeclared by {built}; {asked}{by}{during}",
        "hidden": f"{path} is outside of what a build may see; asked for{by}{during}",
        "write-outside": f"{path}: a change outside of the workpath was attempted ({finding['access']}){by}{during}",
        "unowned": f"{path} lies in the prefix and belongs to no port; used{by}{during}",
        "absent": f"{path} was looked for{by}{during} and is not there; port {port} would install it"
        if port
        else f"{path} would have been hidden if it existed; looked for{by}{during}",
        "redirected-missing": f"{path} is missing from the place redirected to; asked for{by}{during}",
        "unused-dependency": f"the declared dependency {port} was not used",
        "unused-allowance": f"the allowance for {path} decided nothing",
        "untraced-process": f"{path} ran without being traced; started{by}{during}",
        "wrong-type": f"the dependency {port} is declared with another type than its use",
        "undeclared-linkage": f"{path} needs port {port} at run time, which {built} does not declare",
    }.get(kind, f"{kind}: {path}")
    fix = finding.get("fix")
    return text + (f". To allow it: {fix}" if fix and kind not in ("unused-dependency",) else f". {fix}" if fix else "")
