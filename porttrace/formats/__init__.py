"""A report in the forms that people and machines read: text, SARIF, GitHub annotations, one HTML page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from porttrace.formats.github import as_github
from porttrace.formats.page import as_html
from porttrace.formats.sarif import as_sarif
from porttrace.formats.text import as_text
from porttrace.report import json_text

__all__ = ["FORMATS", "as_github", "as_html", "as_sarif", "as_text"]


def _text(report: Mapping[str, Any], root: Path, verbose: bool) -> str:
    return as_text(report, verbose=verbose)


def _json(report: Mapping[str, Any], root: Path, verbose: bool) -> str:
    return json_text(report)


def _sarif(report: Mapping[str, Any], root: Path, verbose: bool) -> str:
    return json.dumps(as_sarif(report, root), indent=1) + "\n"


def _github(report: Mapping[str, Any], root: Path, verbose: bool) -> str:
    return as_github(report, root)


def _html(report: Mapping[str, Any], root: Path, verbose: bool) -> str:
    return as_html(report)


FORMATS: dict[str, Callable[[Mapping[str, Any], Path, bool], str]] = {
    "text": _text,
    "json": _json,
    "sarif": _sarif,
    "github": _github,
    "html": _html,
}
"""Name: report, directory that the Portfiles' paths are relative to, verbose -> the text."""
