"""What a listing did not show: programs that load whatever lies in a directory ask for no file of it by name.

A hidden file is left out of listings, so a loader of plug-ins, or an interpreter that lists its module directory first,
never asks for it. The library tells which directories were listed incompletely. In ``bin`` or ``include`` that says
nothing. A directory that is there for undeclared ports alone is another matter: who lists it wants what they put
there, unless it is a program that walks through everything, or Python, which lists each directory of modules before it
looks for a name. What such a program would have wanted is told by an audit, in which listings are whole.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from porttrace.errors import PorttraceError
from porttrace.findings import Finding, FindingKind, Program, fix_line
from porttrace.identity import privileged

if TYPE_CHECKING:
    from porttrace.registry import Registry

__all__ = ["LEFT_OUT", "left_out", "undecided"]

LEFT_OUT: Final = "left out of the listing of its directory, which only undeclared ports fill"
"""`reason` of a finding that is made here."""

_SHARED: Final = (
    ".", "Applications", "Library", "Library/*", "bin", "etc", "include", "lib", "lib/cmake", "lib/pkgconfig",
    "libexec", "sbin", "share", "share/aclocal", "share/applications", "share/cmake", "share/doc", "share/examples",
    "share/icons", "share/info", "share/locale", "share/man", "share/man/*", "share/nls", "share/pkgconfig", "src",
    "var", "var/*",
)  # fmt: skip
"""Directories of the prefix that are everybody's, as MacPorts' prefix.mtree lays it out; others need a port to be."""

_LISTS_FIRST: Final = "python*"
"""Name of a program that lists directories on its way to one file."""


def left_out(
    listed: Mapping[str, Program],
    registry: str | os.PathLike[str],
    prefix: Path,
    closure: Collection[str],
    *,
    phase: str = "",
    built: str = "",
    audit: bool = False,
) -> list[Finding]:
    """A finding for each undeclared port that has files in a directory which only such ports fill.

    `listed`: directories whose listing left something out, each with the program that listed it; `closure`: the ports
    that were visible, lower-cased. Raises PorttraceError where the registry cannot be read.
    """
    walkers = {program.exe for directory, program in listed.items() if _shared(directory, prefix)}
    own = {
        directory: program
        for directory, program in listed.items()
        if not _shared(directory, prefix)
        and program.exe not in walkers
        and not fnmatch.fnmatchcase(os.path.basename(program.exe), _LISTS_FIRST)  # noqa: PTH119
    }
    if not own:
        return []
    found: list[Finding] = []
    from porttrace.registry import Registry, RegistryError

    try:
        with privileged(), Registry.open(registry) as ports:
            for directory, program in sorted(own.items()):
                files = ports.below(os.fsencode(directory))
                if any(name.lower() in closure for _, name in files):
                    continue
                first: dict[str, str] = {}
                for file, owner in files:
                    if file.rpartition(b"/")[0] == os.fsencode(directory):
                        first.setdefault(owner, os.fsdecode(file))
                for name, path in sorted(first.items()):
                    fix = fix_line(FindingKind.UNDECLARED, path, "list", name, phase)
                    finding = Finding(FindingKind.UNDECLARED, path, "list", name, phase, program.count, [], "", fix)
                    finding.add(Program(program.exe, program.parents, program.chain, program.count))
                    finding.built, finding.reason, finding.audit = built, LEFT_OUT, audit
                    found.append(finding)
    except RegistryError as error:
        raise PorttraceError(str(error)) from None
    return found


def _shared(directory: str, prefix: Path) -> bool:
    return any(fnmatch.fnmatchcase(os.path.relpath(directory, prefix), shared) for shared in _SHARED)


def undecided(
    listed: Mapping[str, str], ports: Registry, prefix: Path, closure: Collection[str]
) -> dict[str, dict[str, list[str]]]:
    """Directory -> undeclared port -> its files that the directory's listing left out; directories that are everybody's
    are not among them. `listed`: directory and the program that listed it."""
    found: dict[str, dict[str, list[str]]] = {}
    for directory in sorted(listed):
        if _shared(directory, prefix):
            continue
        for file, name in ports.below(os.fsencode(directory)):
            if name.lower() not in closure and file.rpartition(b"/")[0] == os.fsencode(directory):
                found.setdefault(directory, {}).setdefault(name, []).append(os.fsdecode(file))
    return found
