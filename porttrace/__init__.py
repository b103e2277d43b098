"""porttrace: trace mode for the ``port`` tool."""

from __future__ import annotations

__all__: list[str] = []
