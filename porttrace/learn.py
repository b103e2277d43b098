"""From a run that was recorded to the smallest allowances that would let it pass, for a person to review."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from porttrace.findings import FindingKind, fix_line, hidden_on_purpose, tcl_word
from porttrace.report import noise_of

__all__ = ["Lesson", "PhaseLesson", "learn"]

_LOOKS = frozenset({"stat", "list"})
Json = Mapping[str, Any]


@dataclass
class PhaseLesson:
    """What one phase of one port needs: paths to read, paths to change, and ports with the dependency's type."""

    port: str
    phase: str
    read: list[str] = field(default_factory=list)
    write: list[str] = field(default_factory=list)
    ports: dict[str, str] = field(default_factory=dict)
    wide: set[str] = field(default_factory=set)
    """Directories among the paths: allowing one allows all that lies below it."""
    untraced: list[str] = field(default_factory=list)


@dataclass
class Lesson:
    """All phases that need something.

    `noise`: how many findings are known harmless probes and were left out; `on_purpose`: the rules, with the place
    where somebody wrote them, that hide what else was left out: no allowance comes before them.
    """

    phases: list[PhaseLesson]
    noise: int
    on_purpose: list[str] = field(default_factory=list)

    @property
    def ports(self) -> dict[str, dict[str, str]]:
        """For each port that was built: the missing ones with the type that fits all phases."""
        found: dict[str, dict[str, str]] = {}
        for phase in self.phases:
            for name, kind in phase.ports.items():
                known = found.setdefault(phase.port, {})
                known[name] = _wider(known.get(name), kind)
        return found

    def portfile(self) -> str:
        """Lines for a Portfile, with what a reviewer should know as comments."""
        lines: list[str] = []
        for built, ports in self.ports.items():
            if built:
                lines.append(f"# {built}")
            by_type: dict[str, list[str]] = {}
            for name, kind in sorted(ports.items()):
                by_type.setdefault(kind, []).append(f"port:{name}")
            lines += [f"depends_{kind}-append {' '.join(specs)}" for kind, specs in sorted(by_type.items())]
        for phase in self.phases:
            if phase.port and (phase.read or phase.write or phase.untraced):
                lines.append(f"# {phase.port}, {phase.phase}")
            prefix = f"{phase.phase}.trace_" if phase.phase else "trace."
            for path in [*phase.write, *phase.read]:
                kind = "write" if path in phase.write else "read"
                note = "# a directory: this opens all that lies below it\n" if path in phase.wide else ""
                lines.append(f"{note}{prefix}{kind}-append {tcl_word(path)}")
            lines += [f"# cannot be allowed, what it reads is not known: {path!r}" for path in phase.untraced]
        return "".join(f"{line}\n" for line in lines)

    def options(self) -> list[str]:
        """The same as words for `porttrace run`."""
        words: list[str] = []
        ports = sorted({name for each in self.ports.values() for name in each})
        if ports:
            words += ["--deps", ",".join(ports)]
        for phase in self.phases:
            for path in phase.write:
                words += ["--read", _rule(path), "--write", _rule(path)]
            for path in phase.read:
                words += ["--read", _rule(path)]
        return words


def _rule(path: str) -> str:
    return path.replace("\\", "\\\\").replace("=", "\\=")


def _wider(first: str | None, second: str) -> str:
    """One type for uses of two: a library also serves the build; what is built with and run with is a library too.

    The tests see what is declared for anything else.
    """
    if first in (None, "test", second):
        return second
    if second == "test":
        return str(first)
    return "lib" if {first, second} & {"lib", "run"} else "build"


_REMOVES = frozenset({"delete", "rename"})


def _emptied(findings: Sequence[Json], lesson: PhaseLesson) -> list[str]:
    """Directories of what a phase takes away and has not made itself: the kernel's fence can let a file be removed only
    where it opens the directory."""
    own = [
        finding
        for finding in findings
        if finding["kind"] == FindingKind.WRITE_OUTSIDE
        and ((finding.get("built") or ""), (finding.get("phase") or "")) == (lesson.port, lesson.phase)
    ]
    made = [finding["path"] for finding in own if finding["access"] == "create"]
    removed = [finding["path"] for finding in own if finding["access"] in _REMOVES]
    return [
        os.path.dirname(path)  # noqa: PTH120 - text of the report
        for path in removed
        if not any(path == each or _below(path, each) for each in made)
    ]


def _below(path: str, top: str) -> bool:
    return path != top and path.startswith(top.rstrip("/") + "/")


def _smallest(paths: Iterable[str]) -> list[str]:
    """Without those that lie below another."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(_below(path, top) for top in kept):
            kept.append(path)
    return kept


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(Path(path).stat().st_mode)
    except OSError:
        return False


def learn(
    findings: Sequence[Json], *, noise: bool = False, is_directory: Callable[[str], bool] = _is_directory
) -> Lesson:
    """The lesson of a report's findings; known harmless probes only with `noise`.

    A directory that was only looked at gets no rule of its own where something below it has one: it is visible then.
    """
    phases: dict[tuple[str, str], tuple[PhaseLesson, dict[str, set[str]]]] = {}
    left_out = 0
    on_purpose = list(dict.fromkeys(rule for f in findings if hidden_on_purpose(rule := f.get("rule") or "")))
    findings = [finding for finding in findings if finding.get("rule") not in on_purpose]
    for finding in findings:
        kind, path = finding["kind"], finding["path"]
        if kind not in (FindingKind.UNDECLARED, FindingKind.HIDDEN, FindingKind.WRITE_OUTSIDE, FindingKind.UNTRACED):
            continue
        if not noise and noise_of(finding):
            left_out += 1
            continue
        built, name = finding.get("built") or "", finding.get("phase") or ""
        lesson, reads = phases.setdefault((built, name), (PhaseLesson(built, name), {}))
        if kind == FindingKind.UNDECLARED:
            line = fix_line(FindingKind.UNDECLARED, path, finding["access"], finding["port"], name) or ""
            wanted = line.removeprefix("depends_").partition("-")[0]
            lesson.ports[finding["port"]] = _wider(lesson.ports.get(finding["port"]), wanted)
        elif kind == FindingKind.UNTRACED:
            lesson.untraced.append(path)
        elif kind == FindingKind.WRITE_OUTSIDE:
            lesson.write.append(path)
        else:
            reads.setdefault(path, set()).add(finding["access"])
    for lesson, reads in phases.values():
        lesson.write = _smallest([*lesson.write, *_emptied(findings, lesson)])
        # A Portfile's trace_write allows reading, too.
        open_already = [path for path in reads if any(path == w or _below(path, w) for w in lesson.write)]
        needed = {path: accesses for path, accesses in reads.items() if path not in open_already}
        seen_through = [
            path
            for path, accesses in needed.items()
            if accesses <= _LOOKS and any(_below(other, path) for other in [*needed, *lesson.write])
        ]
        lesson.read = _smallest(path for path in needed if path not in seen_through)
        lesson.wide = {path for path in [*lesson.read, *lesson.write] if is_directory(path)}
    useful = [lesson for lesson, _ in phases.values() if lesson.read or lesson.write or lesson.ports or lesson.untraced]
    return Lesson(useful, left_out, on_purpose)
