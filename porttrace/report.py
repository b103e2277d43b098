"""The report: one JSON object with what was found, and with what the machine could do about it."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from porttrace import _version
from porttrace.errors import PorttraceError
from porttrace.findings import Finding

__all__ = ["make_report", "write_report"]


def make_report(
    command: Sequence[str], tiers: Sequence[str], findings: Sequence[Finding], stats: Mapping[str, Any]
) -> dict[str, Any]:
    """The report as JSON values; its fields are an interface that stays put."""
    return {
        "version": _version.version(),
        "command": list(command),
        "tiers": list(tiers),
        "findings": [finding.to_json() for finding in findings],
        "stats": dict(stats),
    }


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write `report` to `path` whole or not at all. Raises PorttraceError where that is impossible.

    Bytes of paths that are not UTF-8 appear as lone surrogates (Python's surrogateescape).
    """
    text = json.dumps(report, indent=1) + "\n"
    try:
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe
            path.write_text(text, encoding="ascii")
            return
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise PorttraceError(f"cannot write the report {path}: {error.strerror}") from None
