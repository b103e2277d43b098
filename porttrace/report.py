"""The report: one JSON object with what was found, and with what the machine could do about it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from porttrace import _version
from porttrace.codes import code_of
from porttrace.context import PhaseContext, make_context
from porttrace.errors import PorttraceError
from porttrace.findings import Finding, FindingKind, Program
from porttrace.messages import printable
from porttrace.noise import classify_finding
from porttrace.report_shape import differs
from porttrace.streams import STANDARD_OUTPUT
from porttrace.wholefile import whole

__all__ = [
    "check_writable",
    "finding_json",
    "findings_of",
    "incomplete",
    "json_text",
    "make_report",
    "noise_of",
    "read_report",
    "write_report",
    "write_text",
]


_MADE_BY = "one is written by port -t --report FILE and porttrace run --report FILE"


def make_report(
    command: Sequence[str],
    tiers: Sequence[str],
    findings: Sequence[Finding],
    stats: Mapping[str, Any],
    phases: Sequence[PhaseContext] = (),
) -> dict[str, Any]:
    """The report as JSON values; its fields are an interface that stays put. `phases` become its ``context``."""
    return {
        "version": _version.version(),
        "command": list(command),
        "tiers": list(tiers),
        "findings": [finding_json(finding) for finding in findings],
        "stats": dict(stats),
        "context": make_context(phases),
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding with its stable code and the port whose phase asked; a known harmless probe without a fix."""
    fix = None if finding.fix is None or classify_finding(finding) else finding.fix
    return finding.to_json() | {"fix": fix, "code": code_of(finding.kind).code, "built": finding.built or None}


def findings_of(report: Mapping[str, Any]) -> list[Finding]:
    """The findings of a report that was read; of the kinds that this version knows."""
    known = {str(kind) for kind in FindingKind}
    return [
        Finding(
            FindingKind(row["kind"]),
            row["path"],
            row["access"],
            row.get("port") or "",
            row.get("phase") or "",
            row.get("count", 1),
            [
                Program(p["exe"], tuple(p.get("parents", ())), tuple(p.get("chain", ())), p.get("count", 1))
                for p in row.get("programs", ())
            ],
            row.get("rule") or "",
            row.get("fix"),
            row.get("built") or "",
            row.get("reason") or "",
        )
        for row in report["findings"]
        if row["kind"] in known
    ]


def incomplete(report: Mapping[str, Any]) -> list[str]:
    """Why there may be more than the report says; empty where it is complete."""
    return [str(reason) for reason in (report.get("stats") or {}).get("incomplete") or ()]


def noise_of(finding: Mapping[str, Any]) -> str:
    """Name of the class of known harmless probes that a finding belongs to; "" for none."""
    found = findings_of({"findings": [finding]})
    return (classify_finding(found[0]) if found else None) or ""


def read_report(path: Path | str) -> dict[str, Any]:
    """A report from a file, "-" for standard input. Raises PorttraceError, one line, where it is none."""
    name = "standard input" if str(path) == "-" else str(path)
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
    except OSError as error:
        raise PorttraceError(f"cannot read the report {name}: {error.strerror}") from None
    try:
        report = json.loads(data)
    except RecursionError:
        raise PorttraceError(f"{name} is not a report: it is nested too deeply; {_MADE_BY}") from None
    except ValueError as error:
        what = "it is empty" if not data.strip() else f"it is not JSON ({error})"
        raise PorttraceError(f"{name} is not a report: {what}; {_MADE_BY}") from None
    wrong = differs(report)
    if wrong is not None:
        raise PorttraceError(f"{name} is not a report: {printable(wrong)}; {_MADE_BY}")
    return dict(report)


def check_writable(name: str) -> None:
    """PorttraceError where it can be told already that no report can be written to the file `name` ("-": standard
    output)."""
    if name == STANDARD_OUTPUT:
        return
    path = Path(name).absolute()
    if path.is_dir():
        raise PorttraceError(f"cannot write the report {name}: it is a directory")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise PorttraceError(f"cannot write the report {name}: its directory does not exist or cannot be written")


def json_text(report: Mapping[str, Any]) -> str:
    """The report as a file has it: indented, with a line for each finding. There may be very many, and Python takes
    ten times as long to indent one."""
    key = '\n "findings": ['
    rows = ",".join(f"\n  {json.dumps(finding)}" for finding in report["findings"])
    before, found, after = json.dumps({**report, "findings": []}, indent=1).partition(key)
    return before + found + rows + ("\n " if rows else "") + after + "\n"


def write_report(path: Path | str, report: Mapping[str, Any]) -> None:
    """Write `report` to `path` ("-": standard output), a file whole or not at all. Raises PorttraceError where that is
    impossible.

    Bytes of paths that are not UTF-8 appear as lone surrogates (Python's surrogateescape).
    """
    write_text(path, json_text(report), "report")


def write_text(path: Path | str, text: str, what: str) -> None:
    """Write `text` to `path` ("-": standard output), a file whole or not at all. Raises PorttraceError where that is
    impossible."""
    if str(path) == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe
            path.write_text(text, encoding="utf-8")
            return
        with whole(path) as descriptor, open(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)
    except OSError as error:
        raise PorttraceError(f"cannot write the {what} {path}: {error.strerror}") from None
