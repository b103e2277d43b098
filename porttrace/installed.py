"""The files of this installation that are no modules: programs, libraries, data."""

from __future__ import annotations

from pathlib import Path

__all__ = ["installed"]

_HERE = Path(__file__).parent


def installed(name: str) -> Path:
    """Where a file of the package lies; it need not exist.

    `importlib.resources` would say the same, for what it costs to load the archive modules that it may need: a tenth of
    the whole start of the core.
    """
    return _HERE / name
