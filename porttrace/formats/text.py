"""The text that a run prints, from a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from porttrace.codes import code_of
from porttrace.findings import FindingKind
from porttrace.messages import plain, printable, render
from porttrace.report import findings_of, incomplete

__all__ = ["as_text"]

_MAX_UNKNOWN = 20


def as_text(report: Mapping[str, Any], *, verbose: bool = False, color: bool = False) -> str:
    """MacPorts' sentences with owner, program, phase and the line to add, then what it comes to."""
    known = [finding for finding in report["findings"] if finding["kind"] in set(FindingKind)]
    others = [finding for finding in report["findings"] if finding["kind"] not in set(FindingKind)]
    text = plain(render(findings_of({"findings": known}), verbose, color), verbose)
    for finding in others[:_MAX_UNKNOWN]:
        text += f"Warning: {printable(finding['kind'])}: {printable(finding['path'])}\n"
    for reason in incomplete(report):
        text += f"Warning: the report is not complete: {printable(reason)}\n"
    counts: dict[str, int] = {}
    for finding in report["findings"]:
        code = code_of(finding["kind"])
        counts[f"{code.code} {finding['kind']}"] = counts.get(f"{code.code} {finding['kind']}", 0) + 1
    if not counts:
        return text + "nothing was found\n"
    total = sum(counts.values())
    summary = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return text + f"{total} finding{'s' * (total != 1)}: {summary}\n"
