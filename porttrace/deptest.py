"""What a traced build says about a port's declared dependencies: missing, superfluous, of the wrong type.

A verdict that takes something away is given only where it is sure: all phases that make the destroot were traced, no
program escaped, nothing was lost, and what remains declared still brings in every port of which a file was used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from porttrace.closure import DEPTYPES_FOR_TARGET
from porttrace.context import PhaseContext
from porttrace.findings import Finding, FindingKind
from porttrace.formats.place import declared_in
from porttrace.learn import learn
from porttrace.linkage import Need
from porttrace.portfile_edit import Change
from porttrace.usage import BUILD_PHASES

__all__ = ["DepTest", "Ports", "deptest"]

_TOOLS = ("bin", "sbin", "libexec")
_BUILD_TIME = frozenset({"fetch", "extract", "patch", "build", "lib"})


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


@dataclass
class DepTest:
    """The verdict on one port. Each list holds findings whose `fix` says what to write."""

    port: str
    missing: list[Finding] = field(default_factory=list)
    superfluous: list[Finding] = field(default_factory=list)
    wrong_type: list[Finding] = field(default_factory=list)
    linkage: list[Finding] = field(default_factory=list)
    indirect: dict[str, str] = field(default_factory=dict)
    """Ports that come with another missing one."""
    changes: list[Change] = field(default_factory=list)
    unsure: str = ""
    """Why nothing was judged superfluous or of the wrong type; empty where it was."""

    @property
    def findings(self) -> list[Finding]:
        """All, the grave ones first."""
        return [*self.missing, *self.linkage, *self.wrong_type, *self.superfluous]


def _finding(kind: FindingKind, port: str, built: str, fix: str, reason: str, path: str = "") -> Finding:
    return Finding(kind, path, "read", port, "", 1, [], "", fix, built, reason)


def _tool(path: str) -> bool:
    return any(part in _TOOLS for part in path.split("/")[:-1])


def _unsure(phases: Sequence[PhaseContext], findings: Sequence[Mapping[str, Any]], lost: int, needs: object) -> str:
    seen = {phase.policy.phase for phase in phases}
    lacking = [phase for phase in BUILD_PHASES if phase not in seen]
    if lacking:
        return f"the report lacks the phases {', '.join(lacking)}: build from scratch (port clean)"
    untraced = [f["path"] for f in findings if f["kind"] == FindingKind.UNTRACED]
    if untraced:
        return f"{untraced[0]} ran untraced"
    if lost:
        return f"{lost} events were lost"
    if any(phase.policy.audit for phase in phases):
        return "it was an audit"
    return "" if needs is not None else "the destroot is not there any more: what it needs at run time is not known"


def deptest(
    port: str,
    report: Mapping[str, Any],
    phases: Sequence[PhaseContext],
    ports: Ports,
    needs: Sequence[Need] | None,
    declared: Sequence[tuple[str, str]] | None = None,
) -> DepTest:
    """Judge `port` by a report. `needs`: what its destroot needs; `declared`: (type, depspec) of what is in force (by
    default what the Portfile writes out)."""
    own = [phase for phase in phases if phase.policy.port.lower() == port.lower()]
    findings = [f for f in report["findings"] if (f.get("built") or port).lower() == port.lower()]
    if declared is None:
        portfile = next((phase.portfile for phase in own if phase.portfile), "")
        declared = [(kind, spec) for _, kind, spec in declared_in(portfile) if spec]
    result = DepTest(port)
    providers = {(kind, spec): ports.provider(spec) for kind, spec in declared}
    used: dict[str, dict[str, set[str]]] = {}
    for phase in own:
        for name, paths in phase.used.items():
            for path in paths:
                used.setdefault(name.lower(), {}).setdefault(path, set()).add(phase.policy.phase)
    used.pop(port.lower(), None)
    _missing(result, findings, ports)
    run_needs = _run_needs(port, needs or (), ports)
    _linkage(result, run_needs, providers, ports)
    lost = int(report.get("stats", {}).get("events_lost", 0) or 0)
    result.unsure = _unsure(own, findings, lost, needs)
    if not result.unsure:
        _superfluous(result, providers, used, run_needs, ports)
        _wrong_type(result, providers, used, run_needs)
    return result


def _missing(result: DepTest, findings: Sequence[Mapping[str, Any]], ports: Ports) -> None:
    wanted: dict[str, str] = {}
    for types in learn(findings, noise=True, is_directory=lambda _: False).ports.values():
        wanted |= types
    for name, kind in sorted(wanted.items()):
        through = next(
            (
                o
                for o in wanted
                if o != name and name.lower() in ports.closure([o]) and o.lower() not in ports.closure([name])
            ),
            None,
        )
        if through is not None:
            result.indirect[name] = through
            continue
        asked = [f for f in findings if f["kind"] == FindingKind.UNDECLARED and f.get("port") == name]
        where = ", ".join(sorted({f.get("phase") or "" for f in asked}))
        paths = sorted({f["path"] for f in asked})
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        fix = f"depends_{kind}-append port:{name}"
        reason = f"{paths[0]}{more} asked for in {where}"
        result.missing.append(_finding(FindingKind.UNDECLARED, name, result.port, fix, reason, paths[0]))
        result.changes.append(Change(kind, f"port:{name}", True))


def _run_needs(port: str, needs: Sequence[Need], ports: Ports) -> dict[str, list[Need]]:
    found: dict[str, list[Need]] = {}
    for need in needs:
        owner = ports.owner(need.path)
        if owner is not None and owner.lower() != port.lower():
            found.setdefault(owner, []).append(need)
    return found


Providers = Mapping[tuple[str, str], str | None]


def _linkage(result: DepTest, run_needs: Mapping[str, list[Need]], providers: Providers, ports: Ports) -> None:
    names = [name for (kind, _), name in providers.items() if name and kind in ("lib", "run")]
    visible = ports.closure(names)
    direct = {name.lower() for name in names}
    known = {change.spec.removeprefix("port:").lower() for change in result.changes if change.type in ("lib", "run")}
    for owner, needs in sorted(run_needs.items()):
        linked = any(need.how != "interpreter" for need in needs)
        if owner.lower() in direct or owner.lower() in known or (owner.lower() in visible and not linked):
            continue
        kind = "lib" if linked else "run"
        first = needs[0]
        reason = f"{first.file} needs {first.path} ({first.how})"
        if owner.lower() in visible:
            continue  # it is there at run time, through another dependency
        fix = f"depends_{kind}-append port:{owner}"
        result.linkage.append(_finding(FindingKind.LINKAGE, owner, result.port, fix, reason, first.path))
        for (old, spec), name in providers.items():
            if name and name.lower() == owner.lower() and old == "build":
                result.changes.append(Change(old, spec, False))
        result.changes = [c for c in result.changes if not (c.add and c.spec.lower() == f"port:{owner.lower()}")]
        result.changes.append(Change(kind, f"port:{owner}", True))


def _superfluous(
    result: DepTest,
    providers: Providers,
    used: Mapping[str, Mapping[str, set[str]]],
    run_needs: Mapping[str, list[Need]],
    ports: Ports,
) -> None:
    needed_later = {name.lower() for (kind, _), name in providers.items() if name and kind not in _BUILD_TIME}
    needed = {name.lower() for name in run_needs}
    kept = dict(providers)
    for (kind, spec), name in providers.items():
        if kind not in _BUILD_TIME or name is None or name.lower() in used or name.lower() in needed | needed_later:
            continue
        if not ports.has_files(name):
            continue
        rest = {key: value for key, value in kept.items() if key != (kind, spec)}
        if not _still_seen(rest, used, ports) or not needed <= _closure(rest, ("lib", "run"), ports) | (
            needed - _closure(kept, ("lib", "run"), ports)
        ):
            result.indirect[name] = f"{spec}, which brings in what is used"
            continue
        kept = rest
        fix = f"depends_{kind}-delete {spec}"
        result.superfluous.append(_finding(FindingKind.UNUSED, name, result.port, fix, "no phase used a file of it"))
        result.changes.append(Change(kind, spec, False))


def _closure(providers: Providers, types: Sequence[str], ports: Ports) -> frozenset[str]:
    return ports.closure([name for (kind, _), name in providers.items() if name and kind in types])


def _still_seen(rest: Providers, used: Mapping[str, Mapping[str, set[str]]], ports: Ports) -> bool:
    """Whether each phase would still see every port of which it used a file."""
    phases = {phase for paths in used.values() for each in paths.values() for phase in each}
    for phase in phases:
        types = [each.removeprefix("depends_") for each in DEPTYPES_FOR_TARGET.get(phase, ())]
        visible = _closure(rest, types, ports)
        if any(name not in visible for name, paths in used.items() if any(phase in each for each in paths.values())):
            return False
    return True


def _wrong_type(
    result: DepTest,
    providers: Providers,
    used: Mapping[str, Mapping[str, set[str]]],
    run_needs: Mapping[str, list[Need]],
) -> None:
    """A library dependency of which only programs were run, and only to build, is one to build."""
    needed = {name.lower() for name in run_needs}
    build = {"configure", "build", "destroot"}
    for (kind, spec), name in providers.items():
        if kind != "lib" or name is None or name.lower() in needed or name.lower() not in used:
            continue
        paths = used[name.lower()]
        if all(_tool(path) for path in paths) and all(phases <= build for phases in paths.values()):
            first = min(paths)
            reason = f"only its programs were run, as {first}, and nothing installed needs it"
            fix = f"depends_lib-delete {spec}\ndepends_build-append {spec}"
            result.wrong_type.append(_finding(FindingKind.WRONG_TYPE, name, result.port, fix, reason))
            result.changes += [Change("lib", spec, False), Change("build", spec, True)]
