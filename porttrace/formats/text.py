"""The text that a run prints, from a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from porttrace.codes import code_of
from porttrace.findings import FindingKind
from porttrace.messages import plain, printable, render
from porttrace.noise import classify_finding
from porttrace.report import findings_of, incomplete

__all__ = ["as_text"]

_MAX_UNKNOWN = 20


def _of_these(kind: str, count: int, harmless: int, verbose: bool) -> str:
    if verbose:
        return ""
    if kind == FindingKind.ABSENT:
        return " (-v shows them)"
    if harmless:
        return f" ({'' if harmless == count else f'{harmless} '}known harmless, -v shows them)"
    return ""


def as_text(report: Mapping[str, Any], *, verbose: bool = False, color: bool = False) -> str:
    """MacPorts' sentences with owner, program, phase and the line to add, then what it comes to."""
    known = [finding for finding in report["findings"] if finding["kind"] in set(FindingKind)]
    others = [finding for finding in report["findings"] if finding["kind"] not in set(FindingKind)]
    found = findings_of({"findings": known})
    noise = {id(finding): classify_finding(finding) for finding in found}
    text = plain(render(found, verbose, color, lambda finding: noise[id(finding)]), verbose)
    for finding in others[:_MAX_UNKNOWN]:
        text += f"Warning: {printable(finding['kind'])}: {printable(finding['path'])}\n"
    for reason in incomplete(report):
        text += f"Warning: the report is not complete: {printable(reason)}\n"
    counts = Counter(finding["kind"] for finding in report["findings"])
    if not counts:
        return text + "nothing was found\n"
    # What is counted and not shown above would be looked for in vain.
    harmless = Counter(str(finding.kind) for finding in found if noise[id(finding)])
    total = sum(counts.values())
    summary = ", ".join(
        f"{count} {code_of(kind).code} {kind}{_of_these(kind, count, harmless[kind], verbose)}"
        for kind, count in sorted(counts.items(), key=lambda each: code_of(each[0]).code)
    )
    return text + f"{total} finding{'s' * (total != 1)}: {summary}\n"
