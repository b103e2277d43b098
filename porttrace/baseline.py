"""Findings that are known: comparing two reports, and accepting what an earlier one already told.

Two findings are the same where kind, path, access, port, phase and the port that was built are. A path is compared
with the places that differ between two runs written as what they are: the workpath, the prefix, a process id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Difference", "compare", "fingerprint", "fresh"]

Json = Mapping[str, Any]
Key = tuple[str, ...]


def _places(report: Json) -> list[tuple[str, str]]:
    """(directory, name for it), longest first."""
    places: dict[str, str] = {}
    for phase in (report.get("context") or {}).get("phases", ()):
        for key, name in (("workpath", "${workpath}"), ("prefix", "${prefix}")):
            place = phase.get(key)
            if place and place != "/":
                places.setdefault(place, name)
    return sorted(places.items(), key=lambda row: -len(row[0]))


def _neutral(path: str, places: Iterable[tuple[str, str]]) -> str:
    for place, name in places:
        if path == place or path.startswith(place + "/"):
            path = name + path[len(place) :]
            break
    return re.sub(r"^/proc/\d+(?=/|$)", "/proc/PID", path)


def fingerprint(finding: Json, places: Sequence[tuple[str, str]] = ()) -> Key:
    """What makes two findings of different runs the same."""
    path = _neutral(finding["path"], places)
    return (finding["kind"], path, finding["access"], *(finding.get(key) or "" for key in ("port", "phase", "built")))


def _keys(report: Json) -> list[tuple[Key, Json]]:
    places = _places(report)
    return [(fingerprint(finding, places), finding) for finding in report["findings"]]


def fresh(report: Json, baseline: Json) -> list[Json]:
    """The findings of `report` that `baseline` does not hold."""
    known = {key for key, _ in _keys(baseline)}
    return [finding for key, finding in _keys(report) if key not in known]


@dataclass(frozen=True)
class Difference:
    """`gone` are of the first report, `new` and `same` of the second."""

    gone: list[Json]
    new: list[Json]
    same: list[Json]


def compare(before: Json, after: Json) -> Difference:
    """What changed from one report to another; counts and programs do not matter."""
    old, now = _keys(before), _keys(after)
    known, seen = {key for key, _ in old}, {key for key, _ in now}
    return Difference(
        [finding for key, finding in old if key not in seen],
        [finding for key, finding in now if key not in known],
        [finding for key, finding in now if key in known],
    )
