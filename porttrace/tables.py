"""What ``data/*.toml`` says, compiled (``csrc/gen_tables.py``)."""

from __future__ import annotations

from typing import Any

from porttrace._tables import TABLES

__all__ = ["table"]


def table(name: str) -> dict[str, Any]:
    """The contents of ``data/NAME``; not to be changed."""
    found: dict[str, Any] = TABLES[name]
    return found
