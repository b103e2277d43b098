"""What a report needs beside its findings so that it can be explained later, also on another machine.

The object ``context`` of a report: ``prefix``, ``registry``, ``portfile`` and ``phases``, a list with one object for
each policy that was in force: ``port`` ``phase`` ``workpath`` ``prefix`` ``registry`` ``portfile``; ``deps`` (the ports
that were asked for) and ``chains`` (for each port of the closure, in lower case, the ports that bring it in, itself
last); ``strict`` ``audit``; the rules in order as ``read`` and ``write`` (path, action, target, origin, flags);
``declared`` (type and depspec of each dependency in force; null where it is not known), ``variants`` (as ``+a+b``),
``tests`` (whether the Portfile has any turned on); ``used`` (port, then path, then accesses); ``listed`` (directories
whose listing left out files of undeclared ports, and the program that listed them); ``probed`` (with --absent: what
was looked for and is nowhere, with path and program); ``start`` and ``seconds`` (seconds since the first phase began);
``programs`` (the tree of processes, equal ones of one parent as one: parent's place in the list or null, name,
executable, count, seconds from the phase's start to the first and to the last start).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from porttrace.absent import Probe
from porttrace.closure import closure_chains
from porttrace.errors import PorttraceError
from porttrace.filemap import Action, Filemap, Rule
from porttrace.identity import privileged
from porttrace.policy import Policy
from porttrace.processes import Image, ProcessTree
from porttrace.records import field, record
from porttrace.registry import Registry
from porttrace.registry.errors import RegistryError
from porttrace.trace import Trace, TraceResult

__all__ = ["PhaseContext", "ProgramNode", "chains_of", "make_context", "phase_context", "read_context"]

_FLAGS = ("literal", "live", "silent", "fallback")
_MOST_PROGRAMS = 5000


@record(frozen=True)
class ProgramNode:
    """Equal programs that one program started. `first` and `last`: seconds after the phase's start."""

    parent: int | None
    name: str
    exe: str
    count: int
    first: float
    last: float


@record
class PhaseContext:
    """One policy that was in force, as the report carries it; the module's text names the fields."""

    policy: Policy
    workpath: str = ""
    registry: str = ""
    portfile: str = ""
    deps: tuple[str, ...] = ()
    declared: tuple[tuple[str, str], ...] | None = None
    variants: str = ""
    tests: bool = False
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    used: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    listed: Mapping[str, str] = field(default_factory=dict)
    probed: Mapping[str, Probe] = field(default_factory=dict)
    start: float = 0.0
    seconds: float = 0.0
    programs: Sequence[ProgramNode] = ()
    programs_left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        policy = self.policy
        return {
            "port": policy.port or None,
            "phase": policy.phase or None,
            "workpath": self.workpath or None,
            "prefix": os.fspath(policy.prefix) if policy.prefix else None,
            "registry": self.registry or None,
            "portfile": self.portfile or None,
            "deps": list(self.deps),
            "declared": [list(entry) for entry in self.declared] if self.declared is not None else None,
            "variants": self.variants,
            "tests": self.tests,
            "chains": {name: list(chain) for name, chain in sorted(self.chains.items())},
            "strict": policy.strict,
            "audit": policy.audit,
            "read": [_rule_json(rule) for rule in policy.read],
            "write": [_rule_json(rule) for rule in policy.write],
            "used": {
                port: {path: sorted(accesses) for path, accesses in sorted(paths.items())}
                for port, paths in sorted(self.used.items())
            },
            "listed": dict(sorted(self.listed.items())),
            "probed": {name: [probe.path, probe.exe] for name, probe in sorted(self.probed.items())},
            "start": round(self.start, 3),
            "seconds": round(self.seconds, 3),
            "programs": [
                [n.parent, n.name, n.exe, n.count, round(n.first, 3), round(n.last, 3)] for n in self.programs
            ],
            "programs_left_out": self.programs_left_out,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PhaseContext:
        """The reverse of `to_json`. Raises KeyError, TypeError or ValueError for what is none."""
        policy = Policy(
            Filemap(_rule(entry) for entry in data["read"]),
            Filemap(_rule(entry) for entry in data["write"]),
            prefix=Path(data["prefix"]) if data.get("prefix") else None,
            closure=frozenset(data.get("chains", {})),
            port=data.get("port") or "",
            phase=data.get("phase") or "",
            strict=bool(data.get("strict")),
            audit=bool(data.get("audit")),
        )
        return cls(
            policy,
            data.get("workpath") or "",
            data.get("registry") or "",
            data.get("portfile") or "",
            tuple(data.get("deps", ())),
            _declared(data.get("declared")),
            str(data.get("variants") or ""),
            bool(data.get("tests")),
            {name: tuple(chain) for name, chain in data.get("chains", {}).items()},
            data.get("used", {}),
            dict(data.get("listed", {})),
            {name: Probe(*probe) for name, probe in data.get("probed", {}).items()},
            float(data.get("start", 0)),
            float(data.get("seconds", 0)),
            [ProgramNode(*entry) for entry in data.get("programs", ())],
            int(data.get("programs_left_out", 0)),
        )


def _declared(value: Any) -> tuple[tuple[str, str], ...] | None:
    return None if value is None else tuple((str(kind), str(spec)) for kind, spec in value)


def _rule_json(rule: Rule) -> list[Any]:
    target = os.fsdecode(rule.target) if rule.target is not None else None
    flags = [flag for flag in _FLAGS if getattr(rule, flag)]
    return [os.fsdecode(rule.path), rule.action.name.lower(), target, rule.origin, flags]


def _rule(entry: Sequence[Any]) -> Rule:
    path, action, target, origin, flags = entry
    return Rule(
        os.fsencode(path),
        Action[action.upper()],
        os.fsencode(target) if target is not None else None,
        origin,
        **{flag: flag in flags for flag in _FLAGS},
    )


def chains_of(registry: Path | str, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`closure_chains` of a registry file; only the names themselves where there is no registry (any more)."""
    wanted = list(names)
    try:
        with privileged(), Registry.open(registry) as ports:
            return closure_chains(ports, wanted)
    except (RegistryError, OSError):
        return {name.lower(): (name.lower(),) for name in wanted}


def _nodes(trace: Trace, began: float) -> tuple[list[ProgramNode], int]:
    """The tree with equal siblings as one, parents before children; and how many nodes found no room."""
    grouped: dict[tuple[int | None, str, bytes], list[Any]] = {}
    numbers: dict[int, int] = {}
    left_out = 0
    for image in _parents_first(trace.tree):
        parent = numbers.get(image.parent.index) if image.parent is not None else None
        at = trace.when(image.started) - began
        key = (parent, image.name, image.exe)
        known = grouped.get(key)
        if known is None:
            if len(grouped) >= _MOST_PROGRAMS:
                left_out += 1
                continue
            known = grouped[key] = [len(grouped), 0, at, at]
        known[1] += 1
        known[2], known[3] = min(known[2], at), max(known[3], at)
        numbers[image.index] = known[0]
    nodes = [
        ProgramNode(parent, name, os.fsdecode(exe), count, max(first, 0.0), max(last, 0.0))
        for (parent, name, exe), (_, count, first, last) in grouped.items()
    ]
    return nodes, left_out


def _parents_first(tree: ProcessTree) -> Iterable[Image]:
    done: set[int] = set()
    for image in sorted(tree.images.values(), key=lambda each: each.started):
        for each in image.chain():
            if each.index not in done:
                done.add(each.index)
                yield each


def phase_context(
    trace: Trace,
    result: TraceResult,
    *,
    registry: Path | str = "",
    deps: Iterable[str] = (),
    portfile: str = "",
    declared: Iterable[tuple[str, str]] | None = None,
    variants: str = "",
    tests: bool = False,
) -> PhaseContext:
    """What the report keeps of a trace that has been stopped. `deps`: the ports whose closure the policy shows."""
    names = tuple(deps)
    first = trace
    while first.former is not None:
        first = first.former
    nodes, left_out = _nodes(trace, first.began)
    return PhaseContext(
        trace.policy,
        os.fspath(trace.workpath),
        os.fspath(registry),
        portfile,
        names,
        tuple(declared) if declared is not None else None,
        variants,
        tests,
        chains_of(registry, names) if registry else {name.lower(): (name.lower(),) for name in names},
        {port: {path: sorted(a) for path, a in paths.items()} for port, paths in result.used.items()},
        {directory: program.exe for directory, program in result.listed.items()},
        result.probed,
        first.began,
        float(result.stats.get("seconds", 0)),
        nodes,
        left_out,
    )


def make_context(phases: Sequence[PhaseContext]) -> dict[str, Any]:
    """The object ``context`` of a report; the phases' starts become relative to the first one's."""
    began = min((phase.start for phase in phases), default=0.0)
    rows = [phase.to_json() | {"start": round(phase.start - began, 3)} for phase in phases]

    def common(key: str) -> str | None:
        return next((row[key] for row in reversed(rows) if row[key]), None)

    return {key: common(key) for key in ("prefix", "registry", "portfile")} | {"phases": rows}


def read_context(report: Mapping[str, Any], name: str = "the report") -> list[PhaseContext]:
    """The phases of a report; none where it was written without them. Raises PorttraceError where they are broken."""
    context = report.get("context")
    if context is None:
        return []
    try:
        return [PhaseContext.from_json(phase) for phase in context["phases"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PorttraceError(f"{name}: its context is broken ({type(error).__name__}: {error})") from None
