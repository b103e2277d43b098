"""Why a path is hidden, visible, redirected or refused: the facts behind a verdict."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from porttrace.codes import code_of
from porttrace.context import PhaseContext
from porttrace.errors import PorttraceError, UsageError
from porttrace.filemap import WRITES, Action, Rule, display
from porttrace.findings import FindingKind, fix_line, hidden_on_purpose, quoted
from porttrace.identity import privileged
from porttrace.policy import Decision, Image, MapName, Ownership, PolicyError
from porttrace.registry import Registry
from porttrace.registry.errors import RegistryError
from porttrace.resolve import resolve

__all__ = ["Explanation", "PhaseView", "Verdict", "explain", "walk"]

Word = Literal["visible", "hidden", "redirected", "visible as a directory", "allowed", "refused"]
_MOST_LINKS = 40


@dataclass(frozen=True)
class Verdict:
    """What becomes of one kind of access, by which rule, and where that rule was written."""

    word: Word
    rule: str
    origin: str
    why: str
    target: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.word,
            "rule": self.rule or None,
            "origin": self.origin or None,
            "why": self.why or None,
            "target": self.target,
        }


@dataclass
class PhaseView:
    """How one policy, or several that agree, looks at the path."""

    port: str
    phases: list[str]
    read: Verdict
    write: Verdict
    chain: tuple[str, ...]
    """The dependencies that make the owner's files visible, the declared one first; empty where there is no chain."""
    sees: tuple[str, ...]
    asked: list[dict[str, Any]] = field(default_factory=list)
    used: dict[str, list[str]] = field(default_factory=dict)
    """Phases that used it, being allowed to, and how."""
    changes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "port": self.port or None,
            "phases": [phase or None for phase in self.phases],
            "read": self.read.to_json(),
            "write": self.write.to_json(),
            "chain": list(self.chain),
            "sees": list(self.sees),
            "asked": self.asked,
            "used": self.used,
            "changes": self.changes,
        }


@dataclass
class Explanation:
    """The path itself, then each policy's view of it."""

    asked: str
    real: str
    kind: str
    """file, directory, device …; "nothing" where there is none."""
    links: list[tuple[str, str]]
    """Symbolic links on the way: where each lies, and its text."""
    owner: str | None
    views: list[PhaseView] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.asked,
            "real": self.real,
            "is": self.kind,
            "links": [{"link": link, "text": text} for link, text in self.links],
            "owner": self.owner,
            "views": [view.to_json() for view in self.views],
        }


def walk(path: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The real path of an absolute one, and each symbolic link that was met: (where it lies, its text).

    What does not exist stays as it is; after 40 links (as in the kernel) the walk ends where it is.
    """
    links: list[tuple[bytes, bytes]] = []
    waiting = [part for part in path.split(b"/")[::-1] if part]
    real = b""
    while waiting:
        part = waiting.pop()
        if part == b".":
            continue
        if part == b"..":
            real = real.rpartition(b"/")[0]
            continue
        here = real + b"/" + part
        try:
            text = os.readlink(here) if len(links) < _MOST_LINKS else None  # noqa: PTH115 - bytes
        except OSError:
            text = None
        if text is None:
            real = here
            continue
        links.append((here, text))
        if text.startswith(b"/"):
            real = b""
        waiting += [piece for piece in text.split(b"/")[::-1] if piece]
    return real or b"/", links


def _kind_of(path: bytes) -> str:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return "nothing"
    for test, name in (
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "directory"),
        (stat.S_ISLNK, "symbolic link that leads in a circle"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISFIFO, "pipe"),
    ):
        if test(mode):
            return name
    return "device"


def _owner(registry: str, names: Iterable[bytes]) -> tuple[str, bytes] | None:
    """Port and the path by which the registry knows it."""
    if not registry or not Path(registry).exists():
        return None
    try:
        with privileged(), Registry.open(registry) as ports:
            for name in names:
                port = ports.owner(name)
                if port is not None:
                    return str(port.name), name
    except RegistryError as error:
        raise PorttraceError(str(error)) from None
    return None


def _built_in(rule: Rule) -> str | None:
    """Place and reason of a rule that comes with porttrace, from its own data."""
    match = re.fullmatch(r"base OS \((baseos-\w+\.toml)\)", rule.origin)
    if match is None:
        return None
    text = (files("porttrace") / "data" / match[1]).read_text(encoding="utf-8")
    path = os.fsdecode(rule.path)
    line = next((n for n, row in enumerate(text.splitlines(), 1) if f'"{path}"' in row), None)
    groups = [group for each in ("read", "write") for group in tomllib.loads(text).get(each, ())]
    action = rule.action.name.lower()
    why = next((g.get("why", "") for g in groups if path in g["paths"] and g["action"] == action), "")
    return f"{match[1]} of porttrace{f', line {line}' if line else ''}" + (f": {why}" if why else "")


def _line_of(text: str, pattern: str) -> str:
    """ ", line N" of the first row that begins with the pattern; nothing where there is none."""
    found = next((n for n, row in enumerate(text.splitlines(), 1) if re.match(pattern, row)), None)
    return f", line {found}" if found else ""


_PLACES = {
    "workpath": "the port's work directory, open in every phase",
    "TMPDIR": "the directory for temporary files, open in every phase",
    "portpath": "the port's directory in the ports tree: to be read, not to be changed",
    "ports tree": "_resources of the ports tree, readable in every phase",
    "compiler cache": "the compiler cache, open in every phase",
}


def _configured(rule: Rule, phase: PhaseContext) -> str | None:
    """Where a place of the phase was said: macports.conf with its line, or porttrace's own data."""
    match = re.fullmatch(r"(\w+) in phase (\w+)", rule.origin)
    if match is not None:
        text = (files("porttrace") / "data" / "phases.toml").read_text(encoding="utf-8")
        return f"phases.toml of porttrace{_line_of(text, re.escape(f'[{match[2]}]'))}: {rule.origin}"
    if rule.origin in _PLACES:
        return f"{rule.origin}: {_PLACES[rule.origin]}"
    if rule.origin not in ("prefix", "portdbpath", "distpath") or phase.policy.prefix is None:
        return None
    file = phase.policy.prefix / "etc/macports/macports.conf"
    try:
        line = _line_of(file.read_text(encoding="utf-8", errors="replace"), rf"\s*{rule.origin}\s")
    except OSError:
        line = ""
    return f"{rule.origin}{line} of {file}" if line else f"{rule.origin}, by default"


def _rule_origin(decision: Decision, phase: PhaseContext) -> tuple[str, str]:
    rule = decision.rule
    if rule is None:
        return "", ""
    return str(rule), _built_in(rule) or _configured(rule, phase) or rule.origin


def _read_verdict(decision: Decision, phase: PhaseContext, chain: tuple[str, ...], kind: str) -> Verdict:
    is_dir, nothing = kind == "directory", kind == "nothing"
    rule, origin = _rule_origin(decision, phase)
    if decision.rule is None:
        why = "no rule lists it: what is not listed is hidden"
    elif decision.rule.action is not Action.ASK:
        why = ""
    elif decision.port is not None and chain:
        why = f"{decision.port} is a dependency: {' > '.join(chain)}"
    elif decision.port is not None:
        why = f"{decision.port} is not declared, and no declared port needs it: there is no chain of dependencies to it"
    elif is_dir:
        why = "directories of the prefix are never refused; what lies in them is asked about one by one"
    elif nothing:
        why = "nothing is there, so nothing is found"
    elif phase.policy.strict:
        why = "no port installed it, and --strict hides such files"
    else:
        why = "no port installed it: allowed, and reported as unowned"
    word: Word = "visible"
    target = None
    if decision.action is Action.REDIRECT:
        word, target = "redirected", display(decision.physical or b"")
    elif decision.action is Action.DENY:
        word = "visible as a directory" if is_dir and decision.visible_dir else "hidden"
    if phase.policy.audit and word == "hidden":
        why = f"{why}{'; ' if why else ''}this was an audit: it was recorded, not hidden"
    return Verdict(word, rule, origin, why, target)


def _write_verdict(decision: Decision, phase: PhaseContext) -> Verdict:
    rule, origin = _rule_origin(decision, phase)
    why = "" if decision.rule is not None else "no rule lists it: what is not listed cannot be changed"
    if decision.action is Action.REDIRECT:
        return Verdict("redirected", rule, origin, why, display(decision.physical or b""))
    return Verdict("allowed" if decision.action is Action.ALLOW else "refused", rule, origin, why)


def _changes(
    read: Verdict, write: Verdict, phase: PhaseContext, path: str, owner: str | None, chain: tuple[str, ...]
) -> list[tuple[str, bool]]:
    """What would change the verdicts: what to write where, and whether it is about changing the file."""
    port, name = phase.policy.port, phase.policy.phase
    out: list[tuple[str, bool]] = []

    def portfile(kind: FindingKind, access: str, who: str = "") -> str:
        return f"to allow it, add to the Portfile:  {fix_line(kind, path, access, who, name)}"

    # Written by a person who can take it away: an option, a line of the Portfile, a command.
    if read.word == "hidden":
        if hidden_on_purpose(f"{read.rule} ({read.origin})"):
            out.append((f"to see it, take the rule {read.rule} away ({read.origin})", False))
        elif owner is not None and read.rule.endswith("=?"):
            if port:
                out.append((portfile(FindingKind.UNDECLARED, "read", owner), False))
            else:
                out.append((f"to see it:  --deps {','.join([*phase.deps, owner])}", False))
        elif port:
            out.append((portfile(FindingKind.HIDDEN, "read"), False))
        else:
            out.append((f"to see it:  --read {quoted(path)}", False))
    elif read.word in ("visible", "visible as a directory"):
        hide = f"{name}.trace_hide-append {path}" if port else f"--map {quoted(path + '=-')}"
        where = "add to the Portfile:  " if port else " "
        if chain and owner is not None:
            out.append((f"it would be hidden without the dependency on {chain[0]}", False))
        out.append((f"to hide it, {where}{hide}" if port else f"to hide it:  {hide}", False))
    elif read.word == "redirected":
        out.append((f"to see the original, take the rule {read.rule} away ({read.origin})", False))
    if write.word == "refused":
        if hidden_on_purpose(f"{write.rule} ({write.origin})"):
            out.append((f"to change it, take the rule {write.rule} away ({write.origin})", True))
        elif port:
            line = fix_line(FindingKind.WRITE_OUTSIDE, path, "write", "", name)
            out.append((f"to change it, add to the Portfile:  {line}", True))
        else:
            out.append((f"to change it:  --write {quoted(path)}", True))
    return out


def _asked(findings: Sequence[Mapping[str, Any]], names: set[str], phase: PhaseContext) -> list[dict[str, Any]]:
    """Who asked for one of `names` in this phase, by the report."""
    out = []
    for finding in findings:
        if finding["path"] not in names or (finding.get("phase") or "") != phase.policy.phase:
            continue
        if finding.get("built") and phase.policy.port and finding["built"] != phase.policy.port:
            continue
        for program in finding.get("programs", ()):
            chain = program.get("chain") or [program["exe"]]
            out.append(
                {
                    "code": code_of(finding["kind"]).code,
                    "kind": finding["kind"],
                    "access": finding["access"],
                    "phase": finding.get("phase"),
                    "program": program["exe"],
                    "chain": list(chain),
                    "count": program.get("count", 1),
                }
            )
    return out


def _used(phase: PhaseContext, names: set[str]) -> dict[str, list[str]]:
    accesses = {a for paths in phase.used.values() for path, each in paths.items() if path in names for a in each}
    return {phase.policy.phase: sorted(accesses)} if accesses else {}


def explain(
    path: str, phases: Sequence[PhaseContext], findings: Sequence[Mapping[str, Any]] = (), *, cwd: Path | None = None
) -> Explanation:
    """Explain `path` (relative to `cwd`) under each policy. Policies that agree are told once.

    Raises PorttraceError for a path that is none, a policy that cannot be compiled, a registry that cannot be read.
    """
    if not path or "\0" in path:
        raise UsageError("the path is empty" if not path else "a path cannot hold a NUL byte")
    asked = os.fsencode(cwd or Path.cwd()) + b"/" + os.fsencode(path) if not path.startswith("/") else os.fsencode(path)
    asked = b"/" + asked.lstrip(b"/")
    real, links = walk(asked)
    names = list(dict.fromkeys([real, asked, *(link for link, _ in links)]))
    owned = None
    for registry in dict.fromkeys(phase.registry for phase in phases):
        owned = owned or _owner(registry, names)
    owner = owned[0] if owned else _from_findings(findings, names)
    found = Explanation(
        display(asked),
        display(real),
        _kind_of(real),
        [(display(link), display(text)) for link, text in links],
        owner,
    )
    table = Ownership([(name, owner) for name in {real, owned[1] if owned else real}]) if owner else None
    for phase in phases:
        view = _view(phase, asked, real, owner, table, found.kind)
        view.used = _used(phase, {os.fsdecode(name) for name in names})
        view.asked = _asked(findings, {os.fsdecode(name) for name in names} | {found.asked, found.real}, phase)
        changes = _changes(view.read, view.write, phase, os.fsdecode(real), owner, view.chain)
        asked_writes = {one["access"] in WRITES for one in view.asked} or {False, True}
        view.changes = [text for text, writes in changes if writes in asked_writes]
        same = next(
            (
                v
                for v in found.views
                if (v.port, v.read, v.write, v.sees) == (view.port, view.read, view.write, view.sees)
            ),
            None,
        )
        if same is None:
            found.views.append(view)
        else:
            # Where somebody asked, only those phases' ways out are of use.
            if view.asked and not same.asked:
                same.changes = []
            if view.asked or not same.asked:
                same.changes += [change for change in view.changes if change not in same.changes]
            same.phases += view.phases
            same.asked += view.asked
            same.used |= view.used
    return found


def _from_findings(findings: Sequence[Mapping[str, Any]], names: Sequence[bytes]) -> str | None:
    """The owner as the report knew it, where the registry is not at hand."""
    paths = {os.fsdecode(name) for name in names}
    return next((str(f["port"]) for f in findings if f.get("port") and f["path"] in paths), None)


def _view(
    phase: PhaseContext, asked: bytes, real: bytes, owner: str | None, table: Ownership | None, kind: str
) -> PhaseView:
    policy = phase.policy
    policy.owners = table
    try:
        image = Image(policy.compile())
    except PolicyError as error:
        raise PorttraceError(str(error)) from None
    finally:
        policy.owners = None
    resolved = resolve(image, asked, create=True)
    # With a redirect on the way, links are followed in the redirect's target: the resolver's view counts.
    judged = resolved.real if resolved.real and not resolved.error else real

    def decide(name: MapName) -> Decision:
        return image.decide(judged, name)

    chain = phase.chains.get(owner.lower(), ()) if owner else ()
    read = _read_verdict(decide("read"), phase, chain, kind)
    if resolved.hidden and read.word not in ("hidden", "visible as a directory"):
        read = Verdict("hidden", read.rule, read.origin, "a link on the way is hidden itself, and so leads nowhere")
    sees = tuple(sorted(phase.chains))
    return PhaseView(policy.port, [policy.phase], read, _write_verdict(decide("write"), phase), chain, sees)
