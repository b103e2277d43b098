"""From records to findings: what was refused or remarked, by which rule, asked for by whom, and what would fix it.

A finding's kinds and fields are an interface that other tools read (the report); they are added to, never renamed.
"""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Protocol

from porttrace.eventlog import Event, Kind, Outcome
from porttrace.filemap import WRITES
from porttrace.processes import REASONS, Image, ProcessTree, untraced_reason
from porttrace.records import field, record

__all__ = [
    "FELL_BACK",
    "VIOLATIONS",
    "Finding",
    "FindingKind",
    "Names",
    "Program",
    "collect",
    "fix_line",
    "hidden_on_purpose",
    "merge",
    "quoted",
    "unused",
]


class FindingKind(StrEnum):
    """What kind of thing was found; stable names."""

    UNDECLARED = "undeclared-dependency"
    HIDDEN = "hidden"
    WRITE_OUTSIDE = "write-outside"
    UNOWNED = "unowned"
    ABSENT = "absent"
    REDIRECTED_MISSING = "redirected-missing"
    UNUSED = "unused-dependency"
    UNUSED_ALLOWANCE = "unused-allowance"
    UNTRACED = "untraced-process"
    WRONG_TYPE = "wrong-type"
    LINKAGE = "undeclared-linkage"


VIOLATIONS = frozenset({FindingKind.UNDECLARED, FindingKind.HIDDEN, FindingKind.WRITE_OUTSIDE, FindingKind.UNTRACED})
"""Kinds for which `porttrace run --strict` exits with 3."""


class Names(Protocol):
    """What the numbers in events mean: answered by the image that the processes had."""

    def rule_text(self, rule: int | None) -> str:
        """The rule and where it was written, or that no rule lists the path."""

    def rule_silent(self, rule: int | None) -> bool:
        """Whether the rule refuses without a finding."""

    def port_name(self, port: int | None) -> str:
        """The port of this index, "" where there is none."""


@record
class Program:
    """An executable, its parents up to the phase (outermost first), and the names by which they were started."""

    exe: str
    parents: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    count: int = 1

    @classmethod
    def of(cls, image: Image | None, count: int) -> Program:
        """The program of a process image; "?" where it is not known."""
        if image is None:
            return cls("?", (), ("?",), count)
        chain = image.chain()
        return cls(
            os.fsdecode(image.exe),
            tuple(os.fsdecode(parent.exe) for parent in chain[:-1]),
            tuple(each.name for each in chain),
            count,
        )

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {"exe": self.exe, "parents": list(self.parents), "chain": list(self.chain), "count": self.count}


@record
class Finding:
    """One thing found. `port` owns the path ("" where none does); `built` is the port whose phase asked."""

    kind: FindingKind
    path: str
    access: str
    port: str = ""
    phase: str = ""
    count: int = 1
    programs: list[Program] = field(default_factory=list)
    rule: str = ""
    fix: str | None = None
    built: str = ""
    reason: str = ""
    audit: bool = False
    asked: str = ""
    """The path as the first program gave it, where that is not the real one."""

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two findings the same."""
        return (self.kind, self.path, self.access, self.port, self.phase, self.built)

    def add(self, program: Program) -> None:
        """Count a program that asked; the same chain is counted, not repeated."""
        for known in self.programs:
            if (known.exe, known.parents, known.chain) == (program.exe, program.parents, program.chain):
                known.count += program.count
                return
        self.programs.append(program)

    def to_json(self) -> dict[str, Any]:
        """For the report: the fields that stay put, then `reason` where there is one."""
        return {
            "kind": str(self.kind),
            "path": self.path,
            "access": self.access,
            "port": self.port or None,
            "phase": self.phase or None,
            "count": self.count,
            "programs": [program.to_json() for program in self.programs],
            "rule": self.rule,
            "fix": self.fix,
        } | ({"reason": self.reason} if self.reason else {})


FELL_BACK = "the redirect's target lacks it: this system's own was used"
"""`reason` of a `redirected-missing` that did no harm: its rule has a fallback."""

_TOOLS = ("bin", "sbin", "libexec")
_PLAIN_PHASES = {"fetch": "fetch", "checksum": "fetch", "mirror": "fetch", "extract": "extract", "patch": "patch"}


def _dependency_type(phase: str, path: str) -> str:
    if phase in _PLAIN_PHASES:
        return _PLAIN_PHASES[phase]
    if phase == "test":
        return "test"
    tool = any(part in _TOOLS for part in path.split("/")[:-1])
    if phase in ("install", "activate"):
        return "run"
    if phase in ("destroot", "archive", "pkg", "mpkg", "dmg", "mdmg"):
        return "build" if tool else "run"
    return "build" if tool else "lib"


def quoted(text: str) -> str:
    """`text` as one word for a shell to read."""
    return shlex.quote(text)


def tcl_word(text: str) -> str:
    """`text` as one word of Tcl source."""
    if text and not any(char in ' ;"$[]{}\\#' or _is_control(char) for char in text):
        return text
    if not any(char in "{}\\" or _is_control(char) for char in text):
        return "{" + text + "}"
    return "".join(
        f"\\u{ord(char):04x}" if _is_control(char) else "\\" + char if char in ' ;"$[]{}\\#' else char for char in text
    )


def _is_control(char: str) -> bool:
    return unicodedata.category(char) == "Cc"


_ON_PURPOSE = re.compile(r"=- \((?:--(?:map|read|write) |trace\.|\w+\.trace_|filemap )")


def hidden_on_purpose(rule: str) -> bool:
    """Whether `rule` (text and origin, as findings have it) hides because a person wrote so in a Portfile, an option or
    a command: it decides before every allowance, and only taking it away changes that."""
    return _ON_PURPOSE.search(rule) is not None


def fix_line(kind: FindingKind, path: str, access: str, port: str, phase: str, rule: str = "") -> str | None:
    """The line to paste into the Portfile, or None where no line would change it. `rule`: which one decided."""
    prefix = f"{phase}.trace_" if phase else "trace."
    if hidden_on_purpose(rule):
        return None
    if kind is FindingKind.UNDECLARED:
        return f"depends_{_dependency_type(phase, path)}-append port:{port}"
    if kind is FindingKind.WRITE_OUTSIDE:
        return f"{prefix}write-append {tcl_word(path)}"
    if kind is FindingKind.HIDDEN:
        return f"{prefix}read-append {tcl_word(path)}"
    return None


def _kind(event: Event, port: str) -> FindingKind | None:
    if event.kind is Kind.UNTRACED:
        return FindingKind.UNTRACED
    match event.outcome:
        case Outcome.UNOWNED:
            return FindingKind.UNOWNED
        case Outcome.ABSENT:
            return FindingKind.ABSENT
        case Outcome.REDIRECTED_MISSING:
            return FindingKind.REDIRECTED_MISSING
        case Outcome.HIDE | Outcome.DENY:
            if event.access in WRITES:
                return FindingKind.WRITE_OUTSIDE
            return FindingKind.UNDECLARED if port else FindingKind.HIDDEN
    return None


def _reason(event: Event, kind: FindingKind) -> str:
    if kind is FindingKind.UNTRACED:
        word = os.fsdecode(event.asked)
        return REASONS.get(word, word)
    return FELL_BACK if kind is FindingKind.REDIRECTED_MISSING and event.error == 0 else ""


def collect(
    events: Iterable[Event],
    tree: ProcessTree,
    names: Names,
    *,
    phase: str = "",
    built: str = "",
    audit: bool = False,
) -> list[Finding]:
    """Findings from the FINDING and UNTRACED records and from exec calls that nothing answered, equal ones merged."""
    found: dict[tuple[str, ...], Finding] = {}

    def add(finding: Finding, program: Program) -> None:
        known = found.setdefault(finding.key, finding)
        if known is not finding:
            known.count += finding.count
        known.add(program)

    for event in events:
        if event.kind not in (Kind.FINDING, Kind.UNTRACED) or names.rule_silent(event.rule):
            continue
        port = names.port_name(event.port)
        kind = _kind(event, port)
        if kind is None:
            continue
        path = os.fsdecode(event.path)
        untraced = kind is FindingKind.UNTRACED
        rule = "" if untraced else names.rule_text(event.rule)
        add(
            Finding(
                kind,
                path,
                "exec" if untraced else event.access,
                port,
                phase,
                event.count,
                [],
                rule,
                fix_line(kind, path, event.access, port, phase, rule),
                built,
                _reason(event, kind),
                audit,
                "" if untraced else os.fsdecode(event.asked),
            ),
            Program.of(tree.images.get(event.image), event.count),
        )
    for event, image in tree.unanswered:
        reason = untraced_reason(event.path)
        if reason is None:
            continue  # what cannot be executed was not started
        path = os.fsdecode(event.path)
        if any(f.kind is FindingKind.UNTRACED and f.path == path for f in found.values()):
            continue  # the library said so itself
        add(
            Finding(FindingKind.UNTRACED, path, "exec", "", phase, 1, [], "", None, built, reason, audit),
            Program.of(image, 1),
        )
    return list(found.values())


def merge(runs: Iterable[Sequence[Finding]]) -> list[Finding]:
    """Findings of several traces as one list, equal ones counted together. The given ones are not changed."""
    found: dict[tuple[str, ...], Finding] = {}
    for finding in (each for run in runs for each in run):
        known = found.get(finding.key)
        if known is None:
            known = found[finding.key] = Finding(**{**vars(finding), "count": 0, "programs": []})
        known.count += finding.count
        for program in finding.programs:
            known.add(Program(program.exe, program.parents, program.chain, program.count))
    return list(found.values())


def unused(declared: Iterable[str], used: Iterable[str], *, phase: str = "", built: str = "") -> list[Finding]:
    """A finding for each declared dependency (port name) of which no file was used; names compare without case."""
    names = {name.lower() for name in used}
    return [
        Finding(FindingKind.UNUSED, "", "read", name, phase, 1, [], "", None, built)
        for name in declared
        if name.lower() not in names
    ]
