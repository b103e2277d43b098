"""Which installed ports a phase may see: its declared dependencies and, recursively, what those need to run."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from porttrace.records import record

if TYPE_CHECKING:
    from porttrace.registry import Registry

_FETCH = ("depends_fetch",)
_EXTRACT = (*_FETCH, "depends_extract")
_PATCH = (*_EXTRACT, "depends_patch")
_BUILD = (*_PATCH, "depends_lib", "depends_build")
_RUNTIME = ("depends_lib", "depends_run")
_PACKAGE = (*_BUILD, "depends_run")

DEPTYPES_FOR_TARGET: Final[dict[str, tuple[str, ...]]] = {
    "fetch": _FETCH,
    "checksum": _FETCH,
    "mirror": _FETCH,
    "extract": _EXTRACT,
    "patch": _PATCH,
    "configure": _BUILD,
    "build": _BUILD,
    "test": (*_PACKAGE, "depends_test"),
    "destroot": _PACKAGE,
    "archive": _PACKAGE,
    "dmg": _PACKAGE,
    "mdmg": _PACKAGE,
    "pkg": _PACKAGE,
    "mpkg": _PACKAGE,
    # These may run from an archive alone: what it took to build is then not there.
    "install": _RUNTIME,
    "activate": _RUNTIME,
}
"""Types of dependencies that a target may see (read in MacPorts' portutil.tcl, the same in 2.10 to 2.12)."""


@record(frozen=True)
class Depspec:
    """``port:NAME``, ``bin:FILE:NAME``, ``lib:FILE:NAME`` or ``path:FILE:NAME`` (``file`` is empty for ``port``)."""

    kind: str
    file: str
    port: str

    @classmethod
    def parse(cls, text: str) -> Depspec:
        """Raises ValueError, one line, where ``text`` is none of the four forms."""
        parts = text.split(":")
        if parts[0] == "port" and len(parts) >= 2 and parts[-1]:
            return cls("port", "", parts[-1])
        if parts[0] in ("bin", "lib", "path") and len(parts) == 3 and parts[1] and parts[2]:
            return cls(*parts)
        raise ValueError(f"invalid depspec: {text}; write port:NAME, bin:FILE:NAME, lib:FILE:NAME or path:FILE:NAME")


def closure_chains(registry: Registry, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Each port of the closure (lower-cased) with the shortest chain that brings it in, itself last.

    A name that is not installed stays in (with no further dependencies): it may be about to be.
    """
    return chains_in(registry.dependency_graph(), names)


def chains_in(graph: Mapping[str, Collection[str]], names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The same by what `Registry.dependency_graph` has given."""
    chains: dict[str, tuple[str, ...]] = {}
    waiting: deque[tuple[str, ...]] = deque((name.lower(),) for name in names)
    while waiting:
        chain = waiting.popleft()
        if chain[-1] in chains:
            continue
        chains[chain[-1]] = chain
        waiting.extend((*chain, needed) for needed in sorted(graph.get(chain[-1], ())))
    return chains


def closure(registry: Registry, names: Iterable[str]) -> frozenset[str]:
    """``names`` and, recursively, the recorded run-time dependencies of the installed ports; lower-cased."""
    return frozenset(closure_chains(registry, names))


def library_file(name: str, darwin: bool) -> str:
    """The file that ``lib:NAME:port`` asks for: ``libfoo.1`` is libfoo.1.dylib on macOS, libfoo.so.1 elsewhere."""
    stem, dot, version = name.partition(".")
    return f"{stem}{dot}{version}.dylib" if darwin else f"{stem}.so{dot}{version}"


def satisfying_file(
    spec: Depspec,
    prefix: Path,
    path: Sequence[str] | None = None,
    libraries: Sequence[str] | None = None,
    darwin: bool = os.uname().sysname == "Darwin",
) -> Path | None:
    """The file that satisfies a ``bin:``, ``lib:`` or ``path:`` dependency, or None.

    ``path`` are the directories searched for programs (default: those of the prefix and the system's),
    ``libraries`` those searched for libraries.
    """
    if spec.kind == "bin":
        directories = path if path is not None else (f"{prefix}/bin", f"{prefix}/sbin", *os.defpath.split(":"), "/sbin")
        candidates = [Path(directory) / spec.file for directory in directories if directory]
        return next((file for file in candidates if file.is_file() and os.access(file, os.X_OK)), None)
    if spec.kind == "lib":
        directories = libraries if libraries is not None else ("/lib", "/usr/lib", *_multiarch(), f"{prefix}/lib")
        file_name = library_file(spec.file, darwin)
        return next((file for file in (Path(d) / file_name for d in directories) if file.exists()), None)
    if spec.kind == "path":
        file = prefix / spec.file
        return file if os.path.lexists(file) else None
    return None


def _multiarch() -> list[str]:
    """Debian keeps the system's libraries one directory deeper."""
    return sorted(str(directory) for directory in Path("/usr/lib").glob("*-linux-gnu*") if directory.is_dir())


def provider(registry: Registry, depspec: str, prefix: Path, path: Sequence[str] | None = None) -> str | None:
    """The port that satisfies ``depspec``: the named one if it is active, else the one whose file does it.

    None where a file does it that no port installed (the system's own); the named port where nothing does it yet.
    Raises ValueError for what is no depspec.
    """
    spec = Depspec.parse(depspec)
    active = registry.active(spec.port)
    if active is not None:
        return active.name
    file = satisfying_file(spec, prefix, path)
    if file is None:
        return spec.port
    owner = registry.owner(os.fsencode(file))
    return owner.name if owner else None
