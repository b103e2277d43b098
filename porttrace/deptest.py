"""What a traced build says about a port's declared dependencies: missing, superfluous, of the wrong type.

A verdict that takes something away is given only where it is sure: all phases that make the destroot were traced, no
program escaped, nothing was lost, and what remains declared still brings in every port of which a file was used, in
each phase that used it, and every port that the destroot needs.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from porttrace.closure import DEPTYPES_FOR_TARGET, closure, provider
from porttrace.context import PhaseContext
from porttrace.findings import Finding, FindingKind
from porttrace.formats.place import declared_in
from porttrace.learn import learn
from porttrace.linkage import Need
from porttrace.portfile_edit import Change
from porttrace.realpath import both_names
from porttrace.registry import Registry
from porttrace.report import incomplete
from porttrace.usage import BUILD_PHASES

__all__ = ["DepTest", "Ports", "RegistryPorts", "deptest"]

_TOOLS = ("bin", "sbin", "libexec")
_JUDGED = ("fetch", "extract", "patch", "build", "lib")
_BUILDING = frozenset({"configure", "build", "destroot"})


class Ports(Protocol):
    """What has to be known of the installed ports."""

    def provider(self, spec: str) -> str | None:
        """The port that a depspec means now; None where it is no port's file."""

    def owner(self, path: str) -> str | None:
        """The port to which a file belongs."""

    def closure(self, names: Sequence[str]) -> frozenset[str]:
        """The ports and all that they need to run; lower-cased."""

    def has_files(self, port: str) -> bool:
        """Whether the port installs anything."""


class RegistryPorts:
    """What `deptest` asks of the installed ports. The registry must stay open."""

    def __init__(self, registry: Registry, prefix: Path) -> None:
        self._registry, self._prefix = registry, prefix

    def provider(self, spec: str) -> str | None:
        """See `porttrace.deptest.Ports`."""
        try:
            return provider(self._registry, spec, self._prefix)
        except ValueError:
            return None  # a word with a variable in it: not judged

    def owner(self, path: str) -> str | None:
        """By the path as it is, and by the real one (a library's name is often a link)."""
        for name in both_names(os.fsencode(path)):
            port = self._registry.owner(name)
            if port is not None:
                return port.name
        return None

    def closure(self, names: Sequence[str]) -> frozenset[str]:
        """See `porttrace.deptest.Ports`."""
        return closure(self._registry, names)

    def has_files(self, port: str) -> bool:
        """See `porttrace.deptest.Ports`."""
        entry = self._registry.active(port)
        return entry is not None and bool(self._registry.files(entry))


@dataclass
class DepTest:
    """The verdict on one port. Each list of findings holds some whose `fix` says what to write."""

    port: str
    missing: list[Finding] = field(default_factory=list)
    superfluous: list[Finding] = field(default_factory=list)
    wrong_type: list[Finding] = field(default_factory=list)
    linkage: list[Finding] = field(default_factory=list)
    indirect: dict[str, str] = field(default_factory=dict)
    """Ports that were used or asked for and need no line of their own: what brings each in, and how it was met."""
    absent: list[Finding] = field(default_factory=list)
    """What was looked for in vain, each with a port that would install it; nothing is changed for it."""
    hints: list[str] = field(default_factory=list)
    """What a person should look at; nothing is changed for it."""
    changes: list[Change] = field(default_factory=list)
    unsure: str = ""
    """Why nothing was judged superfluous or of the wrong type; empty where it was."""
    variants: str = ""
    """The variants with which the port was built, as ``+a+b``."""

    @property
    def findings(self) -> list[Finding]:
        """All, the grave ones first."""
        return [*self.missing, *self.linkage, *self.wrong_type, *self.superfluous]


Key = tuple[str, str]
"""Type and depspec of a declared dependency."""


@dataclass
class _Case:
    """All that is known of the port that is judged. Names of ports are lower-cased where they are looked up."""

    result: DepTest
    ports: Ports
    declared: dict[Key, str | None]
    """What is in force -> the port that it means."""
    written: tuple[str, ...]
    """The depspecs that the Portfile writes out, with their variables."""
    used: dict[str, dict[str, set[str]]]
    """Port -> path -> phases in which it was used."""
    needs: dict[str, list[Need]]
    """Port (as the registry writes it) -> what the destroot needs of it."""
    tested: bool

    def note(self, kind: FindingKind, port: str, reason: str, changes: Iterable[Change], path: str = "") -> None:
        """Add a finding whose fix is these changes, and make them part of the patch."""
        wanted = list(changes)
        fix = "\n".join(f"depends_{c.type}-{'append' if c.add else 'delete'} {c.spec}" for c in wanted)
        finding = Finding(kind, path, "read", port, "", 1, [], "", fix, self.result.port, reason)
        lists = {
            FindingKind.UNDECLARED: self.result.missing,
            FindingKind.LINKAGE: self.result.linkage,
            FindingKind.WRONG_TYPE: self.result.wrong_type,
        }
        lists.get(kind, self.result.superfluous).append(finding)
        self.result.changes += [change for change in wanted if change not in self.result.changes]

    def meaning(self, port: str, *types: str) -> list[Key]:
        """The declared dependencies of these types that mean a port."""
        return [
            key
            for key, name in self.declared.items()
            if name is not None and name.lower() == port.lower() and key[0] in types
        ]

    def can_be_edited(self, spec: str) -> bool:
        """Whether the Portfile itself says so, and no portgroup."""
        return any(fnmatch.fnmatchcase(spec, re.sub(r"\$\{?[\w.:]+\}?", "*", text)) for text in self.written)

    def closure(self, declared: Mapping[Key, str | None], types: Iterable[str]) -> frozenset[str]:
        """What dependencies of these types bring in."""
        wanted = set(types)
        return self.ports.closure([name for (kind, _), name in declared.items() if name and kind in wanted])

    def holds(self, after: Mapping[Key, str | None]) -> bool:
        """Whether with `after` declared each phase would still see all that it used, and the destroot what it needs."""
        phases = {phase for paths in self.used.values() for each in paths.values() for phase in each}
        for phase in phases:
            types = [each.removeprefix("depends_") for each in DEPTYPES_FOR_TARGET.get(phase, ())]
            visible = self.closure(after, types)
            if any(
                name not in visible
                for name, paths in self.used.items()
                if any(phase in each for each in paths.values())
            ):
                return False
        needed = {name.lower() for name in self.needs}
        return needed & self.closure(self.declared, ("lib", "run")) <= self.closure(after, ("lib", "run"))


def _unsure(
    phases: Sequence[PhaseContext], findings: Sequence[Mapping[str, Any]], lacks: Sequence[str], needs: object
) -> str:
    seen = {phase.policy.phase for phase in phases}
    lacking = [phase for phase in BUILD_PHASES if phase not in seen]
    if lacking:
        return f"the report lacks the phases {', '.join(lacking)}: build from scratch (port clean)"
    untraced = [f["path"] for f in findings if f["kind"] == FindingKind.UNTRACED]
    if untraced:
        return f"{untraced[0]} ran untraced"
    if lacks:
        return f"the report is not complete: {'; '.join(lacks)}"
    if any(phase.policy.audit for phase in phases):
        return "it was an audit"
    return "" if needs is not None else "the destroot is not there any more: what it needs at run time is not known"


def deptest(
    port: str,
    report: Mapping[str, Any],
    phases: Sequence[PhaseContext],
    ports: Ports,
    needs: Sequence[Need] | None,
    *,
    tested: bool = False,
) -> DepTest:
    """Judge `port` by a report. `needs`: what its destroot needs; `tested`: its tests were run to their end.

    Judged is what was in force, by the report's context; by the Portfile's text where the context does not tell.
    """
    own = [phase for phase in phases if phase.policy.port.lower() == port.lower()]
    findings = [f for f in report["findings"] if (f.get("built") or port).lower() == port.lower()]
    portfile = next((phase.portfile for phase in own if phase.portfile), "")
    written = [(kind, spec) for _, kind, spec in declared_in(portfile) if spec]
    told = next((phase.declared for phase in reversed(own) if phase.declared is not None), None)
    result = DepTest(port, variants=next((phase.variants for phase in own if phase.variants), ""))
    used: dict[str, dict[str, set[str]]] = {}
    for phase in own:
        for name, paths in phase.used.items():
            for path in paths:
                used.setdefault(name.lower(), {}).setdefault(path, set()).add(phase.policy.phase)
    used.pop(port.lower(), None)
    run_needs: dict[str, list[Need]] = {}
    for need in needs or ():
        owner = ports.owner(need.path)
        if owner is not None and owner.lower() != port.lower():
            run_needs.setdefault(owner, []).append(need)
    case = _Case(
        result,
        ports,
        {key: ports.provider(key[1]) for key in (told if told is not None else written)},
        tuple(dict.fromkeys(spec for _, spec in (written if portfile else told or ()))),
        used,
        run_needs,
        tested and any(phase.policy.phase == "test" for phase in own),
    )
    _missing(case, findings)
    _linkage(case)
    result.unsure = _unsure(own, findings, incomplete(report), needs)
    if not result.unsure:
        _wrong_type(case)
        _superfluous(case)
    _through_others(case)
    return result


def _missing(case: _Case, findings: Sequence[Mapping[str, Any]]) -> None:
    """What was asked for and hidden, with the type of dependency that shows it to the phases that asked."""
    wanted: dict[str, str] = {}
    for types in learn(findings, noise=True, is_directory=lambda _: False).ports.values():
        wanted |= types
    ports = case.ports
    for name, kind in sorted(wanted.items()):
        others = [other for other in wanted if other != name and name.lower() in ports.closure([other])]
        through = next((other for other in others if other.lower() not in ports.closure([name])), None)
        if through is not None:
            case.result.indirect[name] = f"{through}, which is missing, too"
            continue
        asked = [f for f in findings if f["kind"] == FindingKind.UNDECLARED and f.get("port") == name]
        where = ", ".join(sorted({f.get("phase") or "" for f in asked}))
        paths = sorted({f["path"] for f in asked})
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        # What the new line covers is not said twice: a library serves the run, anything the tests.
        covered = {"lib": ("build", "run", "test"), "build": ("test",)}.get(kind, ())
        replaced = [key for key in case.meaning(name, *covered) if case.can_be_edited(key[1])]
        spec = replaced[0][1] if replaced else f"port:{name}"
        changes = [*(Change(*key, False) for key in replaced), Change(kind, spec, True)]
        reason = f"{paths[0]}{more} asked for in {where}"
        case.note(FindingKind.UNDECLARED, name, reason, changes, paths[0])


def _linkage(case: _Case) -> None:
    """What the destroot needs of ports that nothing declared for run time brings in."""
    visible = case.closure(case.declared, ("lib", "run"))
    coming = {f.port.lower() for f in case.result.missing if (f.fix or "").startswith(("depends_lib", "depends_run"))}
    known = case.ports.closure(sorted(coming)) if coming else frozenset()
    for owner, needs in sorted(case.needs.items()):
        hard = [need for need in needs if need.how != "imported"]
        if owner.lower() in visible or owner.lower() in known:
            continue
        if not hard:
            first = needs[0]
            case.result.hints.append(
                f"{first.file} seems to import {first.path}, which belongs to {owner}: if that is so, "
                f"depends_run-append port:{owner}"
            )
            continue
        linked = [need for need in hard if need.how != "interpreter"]
        first = (linked or hard)[0]
        kind = "lib" if linked else "run"
        # To build with and to run with is what depends_lib says; an interpreter that also builds is declared twice.
        used = any(phases & _BUILDING for phases in case.used.get(owner.lower(), {}).values())
        covered = ("build", "test", "run") if linked else ("test",) if used else ("build", "test")
        replaced = [key for key in case.meaning(owner, *covered) if case.can_be_edited(key[1])]
        spec = replaced[0][1] if replaced else f"port:{owner}"
        changes = [*(Change(*key, False) for key in replaced), Change(kind, spec, True)]
        asked = next((f for f in case.result.missing if f.port.lower() == owner.lower()), None)
        if asked is not None and linked:  # the line that was proposed for the build is not enough
            case.result.missing.remove(asked)
            case.result.changes = [c for c in case.result.changes if not (c.add and c.spec == spec)]
        case.note(FindingKind.LINKAGE, owner, f"{first.file} needs {first.path} ({first.how})", changes, first.path)


def _wrong_type(case: _Case) -> None:
    """Dependencies of a type that is wider than their use, or that comes too early."""
    needed = {name.lower(): needs for name, needs in case.needs.items()}
    changed = {change.spec for change in case.result.changes}
    for key, name in list(case.declared.items()):
        kind, spec = key
        if kind not in ("lib", "build") or name is None or spec in changed or not case.can_be_edited(spec):
            continue
        paths, needs = case.used.get(name.lower(), {}), needed.get(name.lower(), [])
        phases = {phase for each in paths.values() for phase in each}
        first = min(paths, default="")
        if phases == {"test"} and not needs and case.tested:
            wanted, reason = "test", f"only the tests used it, as {first}"
        elif kind == "lib" and phases and not needs and all(map(_tool, paths)) and phases <= _BUILDING:
            wanted, reason = "build", f"only its programs were run, as {first}, and nothing installed needs it"
        elif kind == "lib" and not phases and needs and all(need.how != "linked" for need in needs):
            if any(need.how == "pkg-config" for need in needs):
                continue
            wanted, reason = "run", f"only what is installed needs it: {needs[0].file} ({needs[0].how})"
        else:
            continue
        after = {other: port for other, port in case.declared.items() if other != key} | {(wanted, spec): name}
        if not case.holds(after):
            continue
        changes = [Change(kind, spec, False)]
        if not case.meaning(name, wanted):
            changes.append(Change(wanted, spec, True))
        case.declared = after
        case.note(FindingKind.WRONG_TYPE, name, reason, changes)


def _superfluous(case: _Case) -> None:
    """Declared dependencies of which nothing was used or is needed, and that bring in nothing that was or is."""
    needed = {name.lower() for name in case.needs}
    judged = (*_JUDGED, "test") if case.tested else _JUDGED
    later = {name.lower() for (kind, _), name in case.declared.items() if name and kind not in judged}
    for key, name in list(case.declared.items()):
        kind, spec = key
        if kind not in judged or name is None or name.lower() in case.used or name.lower() in needed | later:
            continue
        if not case.ports.has_files(name) or not case.can_be_edited(spec):
            continue
        after = {other: port for other, port in case.declared.items() if other != key}
        if not case.holds(after):
            continue
        case.declared = after
        case.note(FindingKind.UNUSED, name, "no phase used a file of it", [Change(kind, spec, False)])


def _through_others(case: _Case) -> None:
    """Ports that were used, or are linked to, and that only another dependency brings in."""
    direct = {name.lower() for name in case.declared.values() if name}
    new = {f.port.lower() for f in case.result.findings}
    needed = {name.lower(): name for name in case.needs}
    for name in sorted({*case.used, *needed}):
        if name in direct or name in new:
            continue
        for (_, spec), brings in case.declared.items():
            if brings and name in case.ports.closure([brings]):
                how = (
                    "linked to" if any(n.how == "linked" for n in case.needs.get(needed.get(name, ""), ())) else "used"
                )
                case.result.indirect.setdefault(name, f"{spec}; {how}")
                break


def _tool(path: str) -> bool:
    return any(part in _TOOLS for part in path.split("/")[:-1])
