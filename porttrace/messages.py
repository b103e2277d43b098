"""The texts that users read: MacPorts' own sentences, then owner, program, phase and the line to add.

Levels are those of MacPorts' ui_ commands: "warn" (shown always; the reader's side writes the word "Warning: " before
the first line) and "info" (shown with -v).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from porttrace.findings import FELL_BACK, Finding, FindingKind, Program, hidden_on_purpose, quoted
from porttrace.listings import LEFT_OUT
from porttrace.noise import classify_finding, files_in_searched
from porttrace.records import field, record

__all__ = ["plain", "render", "times"]

Message = tuple[str, str]
NoiseClass = Callable[[Finding], str | None]

_DEEDS = {
    "read": "A read",
    "stat": "A read",
    "exec": "An execution",
    "list": "A listing",
    "readlink": "A read",
    "write": "A modification",
    "create": "A creation",
    "delete": "A deletion",
    "rename": "A renaming",
    "link": "A linking",
    "attributes": "A change of attributes",
}
_BOLD, _YELLOW, _PLAIN = "\033[1m", "\033[33m", "\033[0m"
_MOST_PROGRAMS = 3


def times(count: int) -> str:
    """Once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def printable(path: str) -> str:
    """A path that cannot move the cursor or colour the terminal."""
    if path.isprintable():
        return path
    return "".join(
        char
        if char.isprintable()
        else f"\\x{ord(char) - 0xDC00:02x}"
        if 0xDC80 <= ord(char) <= 0xDCFF
        else repr(char)[1:-1]
        for char in path
    )


def _deed(finding: Finding) -> str:
    return _DEEDS.get(finding.access, "An activity")  # a later version may know more of them


@record
class _Entry:
    """All findings of one path, for one line of text and its details."""

    first: Finding
    noise: str | None
    count: int = 0
    programs: list[Program] = field(default_factory=list)

    def add(self, finding: Finding, noise: str | None) -> None:
        self.count += finding.count
        self.noise = self.noise and noise  # harmless only where all of it is
        for program in finding.programs:
            for known in self.programs:
                if known.chain == program.chain and known.exe == program.exe:
                    known.count += program.count
                    break
            else:
                self.programs.append(Program(program.exe, program.parents, program.chain, program.count))


def _entries(
    findings: Iterable[Finding], by_access: bool = False, classed: Mapping[int, str] = MappingProxyType({})
) -> list[_Entry]:
    """`classed`: the class of a harmless probe by the id of its finding."""
    entries: dict[tuple[str, ...], _Entry] = {}
    for finding in findings:
        key = (finding.path, finding.phase, finding.built, finding.access if by_access else "")
        noise = classed.get(id(finding))
        entries.setdefault(key, _Entry(finding, noise)).add(finding, noise)
    return list(entries.values())


def _asked_by(entry: _Entry, verbose: bool) -> list[str]:
    lines = []
    most = len(entry.programs) if verbose else _MOST_PROGRAMS
    phase = f" in phase {entry.first.phase}" if entry.first.phase else ""
    deed = "left out of a listing by" if entry.first.reason == LEFT_OUT else "asked for by"
    for program in entry.programs[:most]:
        name = program.chain[-1] if program.chain else program.exe
        via = f" ({' > '.join(program.chain)})" if len(program.chain) > 1 else ""
        lines.append(f"    {deed} {printable(name + via)}{phase}, {times(program.count)}")
    rest = len(entry.programs) - most
    if rest > 0:
        lines.append(f"    and by {rest} other program{'s' * (rest > 1)}")
    return lines


def _owner(finding: Finding) -> list[str]:
    if finding.kind is FindingKind.UNDECLARED:
        who = f"which {finding.built} does not declare" if finding.built else "which is not a declared dependency"
        return [f"    belongs to port {finding.port}, {who}"]
    if finding.port:
        return [f"    belongs to port {finding.port}"]
    return []


_OPTIONS = {FindingKind.UNDECLARED: "--deps", FindingKind.HIDDEN: "--read", FindingKind.WRITE_OUTSIDE: "--write"}
"""What of `porttrace run` allows a thing, where there is no Portfile to change."""


def _fix(finding: Finding, style: Callable[[str, str], str]) -> list[str]:
    if hidden_on_purpose(finding.rule):
        return ["    to allow it, take this rule away"]
    if not finding.fix:
        return []
    if not finding.built and not finding.phase and finding.kind in _OPTIONS:
        what = finding.port if finding.kind is FindingKind.UNDECLARED else finding.path
        return [f"    to allow it:  {style(printable(f'{_OPTIONS[finding.kind]} {quoted(what)}'), _BOLD)}"]
    return [f"    to allow it, add to the Portfile:  {style(printable(finding.fix), _BOLD)}"]


def _list(heading: str, entries: Sequence[_Entry], verbose: bool, style: Callable[[str, str], str]) -> str:
    lines = [heading]
    for entry in entries:
        lines.append(f"  {style(printable(entry.first.path), _YELLOW)}")
        lines += _owner(entry.first)
        if entry.first.rule and (verbose or entry.first.kind is FindingKind.HIDDEN):
            lines.append(f"    rule: {printable(entry.first.rule)}")
        lines += _asked_by(entry, verbose)
        # To allow what does no harm would make the build depend on this machine.
        lines += [f"    a known harmless probe ({entry.noise})"] if entry.noise else _fix(entry.first, style)
    return "\n".join(lines)


def _number(entries: Sequence[object], one: str, many: str) -> str:
    return one if len(entries) == 1 else many


def _fallen_back(entries: Sequence[_Entry], verbose: bool, style: Callable[[str, str], str]) -> str:
    if verbose:
        files = _number(entries, "file that the SDK lacks was", "files that the SDK lacks were")
        return _list(f"The following {files} taken from the system:", entries, verbose, style)
    first = printable(entries[0].first.path)
    if len(entries) == 1:
        return f"{first}, which the SDK lacks, was taken from the system"
    return f"{len(entries)} files that the SDK lacks were taken from the system ({first} …); -v shows them"


def render(
    findings: Iterable[Finding], verbose: bool = False, color: bool = False, noise: NoiseClass | None = classify_finding
) -> list[Message]:
    """The messages for `findings` as (level, text); `noise` names the class of a known harmless probe
    (None: there is none).

    Noise is folded into one line unless `verbose`.
    """

    def style(text: str, code: str) -> str:
        return f"{code}{text}{_PLAIN}" if color else text

    shown: list[Finding] = []
    folded: dict[str, set[str]] = {}
    filled: dict[str, int] = {}
    classed: dict[int, str] = {}
    for finding in findings:
        name = noise(finding) if noise is not None else None
        if name is None or verbose:
            shown.append(finding)
        elif finding.kind is not FindingKind.ABSENT:
            folded.setdefault(name, set()).add(finding.path)
        if name is not None:
            classed[id(finding)] = name
            if count := files_in_searched(finding):
                filled[finding.path] = count
    kinds = {kind: [f for f in shown if f.kind is kind] for kind in FindingKind}
    messages: list[Message] = []

    for entry in _entries(kinds[FindingKind.UNDECLARED]):
        messages.append(("info", f"trace: access denied to {printable(entry.first.path)} ({entry.first.port})"))
    for entry in _entries(kinds[FindingKind.HIDDEN], by_access=True):
        deed = _deed(entry.first)
        messages.append(("info", f"{deed} was attempted outside sandbox: {printable(entry.first.path)}"))
    for entry in _entries(kinds[FindingKind.WRITE_OUTSIDE], by_access=True):
        lines = [f"{_deed(entry.first)} was attempted outside sandbox: {printable(entry.first.path)}"]
        lines += _owner(entry.first)
        if entry.first.rule:
            lines.append(f"    rule: {printable(entry.first.rule)}")
        lines += _asked_by(entry, verbose) + _fix(entry.first, style)
        messages.append(("warn", "\n".join(lines)))

    hidden = _entries(kinds[FindingKind.UNDECLARED] + kinds[FindingKind.HIDDEN], classed=classed)
    if hidden:
        audit = hidden[0].first.audit
        files = _number(hidden, "file", "files")
        was = "would have been" if audit else _number(hidden, "was", "were")
        heading = f"The following existing {files} {was} hidden from the build system by trace mode:"
        messages.append(("warn", _list(heading, hidden, verbose, style)))
    absent = _entries(kinds[FindingKind.ABSENT])
    if absent:
        heading = (
            f"The following {_number(absent, 'file', 'files')} would have been hidden from the build system by trace "
            f"mode if {_number(absent, 'it', 'they')} existed:"
        )
        messages.append(("info", "\n".join([heading, *(f"  {printable(entry.first.path)}" for entry in absent)])))
    unowned = _entries(kinds[FindingKind.UNOWNED])
    if unowned:
        heading = (
            f"The following {_number(unowned, 'file', 'files')} inside the MacPorts prefix not installed by a port "
            f"{_number(unowned, 'was', 'were')} accessed:"
        )
        messages.append(("warn", _list(heading, unowned, verbose, style)))
    redirected = kinds[FindingKind.REDIRECTED_MISSING]
    missing = _entries(f for f in redirected if f.reason != FELL_BACK)
    if missing:
        heading = f"The following {_number(missing, 'file is', 'files are')} missing from the place redirected to:"
        messages.append(("warn", _list(heading, missing, verbose, style)))
    fallen_back = _entries(f for f in redirected if f.reason == FELL_BACK)
    if fallen_back:
        messages.append(("warn", _fallen_back(fallen_back, verbose, style)))
    untraced = _entries(kinds[FindingKind.UNTRACED])
    if untraced:
        lines = [f"The following {_number(untraced, 'program', 'programs')} ran without being traced:"]
        for entry in untraced:
            lines.append(f"  {style(printable(entry.first.path), _YELLOW)}")
            if entry.first.reason:
                lines.append(f"    {printable(entry.first.reason)}")
            lines += [line.replace("asked for by", "started by", 1) for line in _asked_by(entry, verbose)]
        messages.append(("warn", "\n".join(lines)))
    unused = kinds[FindingKind.UNUSED]
    if unused:
        names = ", ".join(sorted({finding.port for finding in unused}))
        one = len({finding.port for finding in unused}) == 1
        text = f"The following declared {'dependency was' if one else 'dependencies were'} not used: {names}"
        fixes = [f"    {style(printable(line), _BOLD)}" for f in unused if f.fix for line in f.fix.split("\n")]
        if fixes:
            text += "\n  no phase used a file of it; to do without it, take it out of the Portfile, or add:"
        messages.append(("warn", "\n".join([text, *fixes])))
    idle = kinds[FindingKind.UNUSED_ALLOWANCE]
    if idle:
        lines = [f"The following {_number(idle, 'allowance', 'allowances')} of the Portfile allowed nothing:"]
        lines += [f"  {style(printable(f.path), _YELLOW)}: no phase had a use for {printable(f.rule)}" for f in idle]
        messages.append(("warn", "\n".join(lines)))
    if filled:
        places = ", ".join(
            f"{printable(path)} ({count} {'file' if count == 1 else 'files'})" for path, count in sorted(filled.items())
        )
        messages.append(("warn", f"Compilers and build tools searched hidden directories that are not empty: {places}"))
    if folded:
        count = sum(len(paths) for paths in folded.values())
        messages.append(
            (
                "warn" if any(level == "warn" for level, _ in messages) else "info",
                f"{count} known harmless {'probe' if count == 1 else 'probes'} not shown "
                f"({', '.join(sorted(folded))}); -v shows {'it' if count == 1 else 'them'}",
            )
        )
    return messages


def plain(messages: Iterable[Message], verbose: bool = False) -> str:
    """Messages as a command line prints them, each with a newline at its end."""
    return "".join(
        f"Warning: {text}\n" if level == "warn" else f"{text}\n"
        for level, text in messages
        if level == "warn" or verbose
    )
