"""GitHub's workflow commands (``::error file=…,line=…::message``), one line for each finding.

Escapes as in GitHub's toolkit: ``%``, CR and LF everywhere, ``:`` and ``,`` in properties too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from porttrace.codes import code_of
from porttrace.formats.place import one_line, place_of
from porttrace.messages import printable
from porttrace.report import noise_of

__all__ = ["as_github"]

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def as_github(report: Mapping[str, Any], root: Path) -> str:
    """Annotations, the grave ones first (GitHub shows ten of each kind); absent files and noise are left out."""
    order = list(_COMMANDS)
    lines = []
    findings = [finding for finding in report["findings"] if finding["kind"] != "absent" and not noise_of(finding)]
    for finding in sorted(findings, key=lambda each: order.index(code_of(each["kind"]).level)):
        code = code_of(finding["kind"])
        place = place_of(finding, report, root)
        properties = [f"file={_property(printable(place.path))}", f"line={place.line}"] if place else []
        properties.append(f"title={_property(f'{code.code}: {code.title}')}")
        message = "\n".join(printable(part) for part in one_line(finding).split("\n"))
        lines.append(f"::{_COMMANDS[code.level]} {','.join(properties)}::{_data(message)}\n")
    return "".join(lines)
