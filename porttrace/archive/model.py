"""What an archive is and says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from porttrace.errors import PorttraceError

TYPES: Final = ("tbz2", "tar.zst")
"""Types that we write. MacPorts reads the first; its bytes do not depend on the compressor's release either."""

_READABLE: Final = (*TYPES, "tbz", "tgz", "txz", "tar")


class ArchiveError(PorttraceError):
    """An archive cannot be written or read; one line."""


@dataclass(frozen=True)
class Metadata:
    """What an archive says about its port. ``depends`` are ``name-version_revision`` of what it needs at run time;
    ``extra`` are further ``@key value`` lines of +CONTENTS;
    ``trace`` says what a traced build read of which ports (+TRACE, left out where it is empty)."""

    name: str
    version: str
    revision: int = 0
    variants: str = ""
    epoch: int = 0
    archs: tuple[str, ...] = ("noarch",)
    depends: tuple[str, ...] = ()
    description: str = ""
    long_description: str = ""
    homepage: str = ""
    portfile: bytes = b""
    state: bytes = b""
    trace: bytes = b""
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """The installed files (absolute paths, sorted) and which of them are programs or libraries."""

    files: tuple[bytes, ...]
    binary: Mapping[bytes, bool]
    keys: Mapping[str, str] = field(default_factory=dict)


def archive_type(path: Path) -> str:
    """The type that a file name says. Raises ArchiveError, naming the known ones."""
    for known in sorted(_READABLE, key=len, reverse=True):
        if path.name.endswith(f".{known}"):
            return known
    raise ArchiveError(f"{path.name} is no known type of archive; known are {', '.join(_READABLE)}")
