"""SARIF 2.1.0 (OASIS): a run of porttrace with its rules, and a result for each finding."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from porttrace.baseline import fingerprint
from porttrace.codes import CODES, code_of
from porttrace.formats.place import Place, one_line, place_of
from porttrace.messages import printable
from porttrace.report import incomplete, noise_of

__all__ = ["as_sarif"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def _uri(place: Place) -> dict[str, Any]:
    path = quote(os.fsencode(place.path))
    return {"uri": path, "uriBaseId": "SRCROOT"} if place.relative else {"uri": "file://" + path}


def _result(finding: Mapping[str, Any], report: Mapping[str, Any], root: Path, rules: list[str]) -> dict[str, Any]:
    code, noise = code_of(finding["kind"]), noise_of(finding)
    mark = hashlib.sha256("\0".join(fingerprint(finding)).encode("utf-8", "surrogateescape")).hexdigest()
    result: dict[str, Any] = {
        "ruleId": code.code,
        "level": "note" if noise else code.level,
        "message": {"text": "\n".join(printable(part) for part in one_line(finding).split("\n"))},
        "occurrenceCount": max(1, int(finding.get("count", 1))),
        "partialFingerprints": {"porttraceFinding/v1": mark},
        "properties": {
            key: printable(finding[key]) if isinstance(finding[key], str) else finding[key]
            for key in ("path", "access", "port", "phase", "rule", "fix")
            if finding.get(key)
        }
        | ({"noise": noise} if noise else {}),
    }
    if code.code in rules:
        result["ruleIndex"] = rules.index(code.code)
    place = place_of(finding, report, root)
    if place is not None:
        region = {"startLine": place.line}
        result["locations"] = [{"physicalLocation": {"artifactLocation": _uri(place), "region": region}}]
    return result


def as_sarif(report: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The log as JSON values. Files below `root` are named relative to it (``SRCROOT``)."""
    rules = [code.code for code in CODES.values()]
    results = [_result(finding, report, root, rules) for finding in report["findings"]]
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "porttrace",
                "version": str(report.get("version", "")),
                "rules": [
                    {
                        "id": code.code,
                        "name": code.kind.title().replace("-", ""),
                        "shortDescription": {"text": code.title},
                        "fullDescription": {"text": code.meaning},
                        "help": {"text": f"{code.fix}\n\nExample:\n{code.example}"},
                        "defaultConfiguration": {"level": code.level},
                    }
                    for code in CODES.values()
                ],
            }
        },
        "originalUriBaseIds": {"SRCROOT": {"uri": "file://" + quote(os.fsencode(root)).rstrip("/") + "/"}},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "commandLine": " ".join(printable(str(word)) for word in report.get("command", ())),
                "executionSuccessful": not incomplete(report),
            }
        ],
        "results": results,
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
