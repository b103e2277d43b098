"""The summary of a sweep as one HTML page with everything in it; the page is ``porttrace/data/sweep.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from porttrace.codes import CODES
from porttrace.formats.page import script_data

__all__ = ["as_html"]


def as_html(rows: Sequence[Mapping[str, Any]], about: str) -> str:
    """The page of the rows of a results file. What came from builds is data for the script, never markup."""
    data = files("porttrace") / "data"
    style = (data / "report.html").read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    page = (data / "sweep.html").read_text(encoding="utf-8")
    codes = {code.code: code.title for code in CODES.values()}
    keep = ("name", "version", "kind", "level", "status", "error", "worker", "seconds", "prefix_seconds", "log")
    ports = [
        {key: row[key] for key in keep}
        | {"findings": row["findings"], "needs": row["needs"], "unsure": row["verdict"].get("unsure") or ""}
        for row in rows
    ]
    return page.replace("@STYLE@", style).replace(
        "@DATA@", script_data({"about": about, "codes": codes, "ports": ports})
    )
