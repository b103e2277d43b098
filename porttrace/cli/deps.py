"""`porttrace deps`: from the report of a traced build to the change of the Portfile's dependencies."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from porttrace.absent import PortIndex
from porttrace.cli.parser import Parser
from porttrace.context import PhaseContext, read_context
from porttrace.deptest import DepTest, RegistryPorts, deptest
from porttrace.errors import PorttraceError, UsageError
from porttrace.findings import VIOLATIONS, Finding, FindingKind, Program
from porttrace.formats.place import declared_in
from porttrace.linkage import Need, needs_of, needs_of_tree
from porttrace.listings import undecided
from porttrace.messages import printable
from porttrace.portfile_edit import PortfileEditError, change_dependencies
from porttrace.registry import Registry
from porttrace.registry.errors import RegistryError
from porttrace.report import finding_json, read_report, write_report, write_text
from porttrace.streams import complain

__all__ = [
    "add_absent",
    "add_absent_options",
    "apply",
    "check_absent_options",
    "judge",
    "left_open",
    "main",
    "patch",
    "read_needs",
    "text",
    "verdict_json",
    "with_verdict",
    "write",
]

_EPILOG = """
Nothing is called superfluous or of the wrong type unless all phases up to destroot were traced from scratch and the
destroot (or the installed port) is there to be looked at. Programs and libraries are read with the package lief.

exit status: 0 where the dependencies are right; 3 where something is to be changed; 1 where that cannot be told; 2
for a wrong command line.

examples:
  port -t -k --report foo.json destroot foo; porttrace deps foo.json
  porttrace deps --patch foo.json            a unified diff of the Portfile
  porttrace deps --apply foo.json            write it into the Portfile
  porttrace deps --port libbar --json foo.json
  porttrace deps --out judged.json foo.json; porttrace report --format html -o foo.html judged.json
  port deptest foo                           all of it in one: build, test, judge
"""


def _at_hand(port: str, phases: Sequence[PhaseContext]) -> tuple[str, Path, list[PhaseContext]]:
    """Registry, prefix and the port's phases. Raises PorttraceError where the report names no registry."""
    own = [phase for phase in phases if phase.policy.port == port]
    registry = next((phase.registry for phase in own if phase.registry), "")
    prefix = next((phase.policy.prefix for phase in own if phase.policy.prefix), None)
    if not registry or prefix is None:
        raise PorttraceError(f"the report of {port} names no registry: judge it on the machine that made it")
    return registry, prefix, own


def read_needs(port: str, phases: Sequence[PhaseContext]) -> list[Need] | None:
    """What the port's destroot needs at run time, or the installed port where there is no destroot any more; None where
    neither is there. Raises PorttraceError."""
    registry, prefix, own = _at_hand(port, phases)
    destroot = next((Path(phase.workpath) / "destroot" for phase in own if phase.workpath), None)
    if destroot is not None and destroot.is_dir():
        return needs_of_tree(destroot, str(prefix))
    try:
        with Registry.open(registry) as ports:
            entry = ports.active(port)
            if entry is None:
                return None
            files = [os.fsdecode(name) for name in ports.files(entry)]
    except RegistryError as error:
        raise PorttraceError(str(error)) from None
    return [need for file in files for need in needs_of(Path(file), file, str(prefix))]


def judge(
    port: str,
    report: Mapping[str, Any],
    phases: Sequence[PhaseContext],
    needs: Sequence[Need] | None,
    *,
    tested: bool | None = None,
) -> DepTest:
    """The verdict on one port of a report; `needs` as from `read_needs`; `tested`: its tests ran to their end (default:
    where all of the report went well). Raises PorttraceError."""
    if tested is None:
        tested = report.get("stats", {}).get("exit_status") == 0
    registry, prefix, _ = _at_hand(port, phases)
    try:
        with Registry.open(registry) as ports:
            return deptest(port, report, phases, RegistryPorts(ports, prefix), needs, tested=tested)
    except RegistryError as error:
        raise PorttraceError(str(error)) from None


def left_open(port: str, report: Mapping[str, Any], phases: Sequence[PhaseContext]) -> dict[str, list[str]]:
    """Undeclared port -> files of it that were left out of listings, where nothing tells whether they were wanted; the
    first is the program that listed. Raises PorttraceError."""
    registry, prefix, own = _at_hand(port, phases)
    known = {f.get("port") for f in report["findings"] if f["kind"] == FindingKind.UNDECLARED}
    found: dict[str, list[str]] = {}
    try:
        with Registry.open(registry) as ports:
            for phase in own:
                for directory, owners in undecided(phase.listed, ports, prefix, phase.policy.closure).items():
                    for name, files in owners.items():
                        if name not in known:
                            found.setdefault(name, [phase.listed[directory]]).extend(files)
    except RegistryError as error:
        raise PorttraceError(str(error)) from None
    return found


def would_be_found(
    port: str, phases: Sequence[PhaseContext], archives: Sequence[Path] = ()
) -> tuple[list[Finding], int]:
    """What phases looked for in vain, and which ports that are not active would install it; then how many archives
    told. Archives are those of the prefix and below `archives`. Raises PorttraceError."""
    registry, _, own = _at_hand(port, phases)
    known = [Path(registry).parents[1] / "packages"]
    index = PortIndex.of(registry, dict.fromkeys([*(each for each in known if each.is_dir()), *archives]))
    found: dict[tuple[str, str], Finding] = {}
    for phase in own:
        for name, ports in index.answers(phase.probed, [port]).items():
            probe = phase.probed[name]
            finding = Finding(
                FindingKind.ABSENT, probe.path, "stat", ", ".join(ports), phase.policy.phase, 1, [], "", None, port
            )
            finding.add(Program(probe.exe, (), (os.path.basename(probe.exe),)))  # noqa: PTH119
            finding.reason = f"{name}, which {' or '.join(ports)} installs"
            where = found.setdefault((name, probe.path), finding)
            if where is not finding:
                where.phase = f"{where.phase}, {phase.policy.phase}"
    return list(found.values()), index.archives


_LABELS = {
    FindingKind.UNDECLARED: "missing",
    FindingKind.LINKAGE: "missing at run time",
    FindingKind.WRONG_TYPE: "wrong type",
    FindingKind.UNUSED: "superfluous",
}


def text(result: DepTest) -> str:
    """The verdict for people."""
    lines = []
    for finding in result.findings:
        lines.append(f"  {_LABELS[finding.kind]}: {finding.port}: {printable(finding.reason)}")
        lines += [f"      {line}" for line in (finding.fix or "").split("\n")]
    lines += [f"  through another: {name} (comes with {other})" for name, other in sorted(result.indirect.items())]
    lines += [
        f"  would be found: {f.phase} looked for {printable(f.reason)} ({f.programs[0].chain[-1]}: {printable(f.path)})"
        for f in result.absent
    ]
    lines += [f"  hint: {printable(hint)}" for hint in result.hints]
    if result.unsure:
        lines.append(f"  what is superfluous or of the wrong type was not judged: {printable(result.unsure)}")
    name = f"{result.port} {result.variants}".rstrip()
    head = f"{name}: {'to be changed' if result.findings else 'the dependencies are right'}"
    return "\n".join([head, *lines]) + "\n"


def _changed(result: DepTest, portfile: str, variant: str) -> tuple[str, str, list[str]]:
    """The Portfile's text before and after, and what has to be done by hand. What belongs together (from one type to
    another) is done together or not at all."""
    try:
        before = Path(portfile).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PorttraceError(f"cannot read {portfile or 'the Portfile'}: {error}") from None
    after, by_hand = before, []
    for spec in sorted({change.spec for change in result.changes}):
        changes = [change for change in result.changes if change.spec == spec]
        try:
            after = change_dependencies(after, changes, variant)
        except PortfileEditError as error:
            by_hand.append(f"{portfile}: {error}")
    return before, after, by_hand


def patch(result: DepTest, portfile: str, variant: str = "") -> str:
    """The change as a unified diff; empty where there is none. What has to be done by hand is said on standard error.

    `variant`: the one for whose sake this is; what is added goes into its body.
    """
    before, after, by_hand = _changed(result, portfile, variant)
    for text in by_hand:
        complain(f"Warning: {text}")
    name = "/".join(Path(portfile).parts[-3:])
    rows = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{name}", f"b/{name}")
    return "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows)


def apply(result: DepTest, portfile: str, variant: str = "") -> str | None:
    """Write the change; returns the Portfile's former text, or None where nothing was changed. As `patch` otherwise."""
    before, after, by_hand = _changed(result, portfile, variant)
    for text in by_hand:
        complain(f"Warning: {text}")
    if before == after:
        return None
    write(portfile, after)
    return before


def write(portfile: str, text: str) -> None:
    """Replace a Portfile's text; mode and owner stay. Raises PorttraceError."""
    mode = Path(portfile).stat()
    write_text(Path(portfile), text, "Portfile")
    declared_in.cache_clear()
    Path(portfile).chmod(mode.st_mode & 0o7777)
    if os.geteuid() == 0:
        os.chown(portfile, mode.st_uid, mode.st_gid)


def verdict_json(result: DepTest) -> dict[str, Any]:
    """The verdict for machines."""
    return {
        "port": result.port,
        "variants": result.variants,
        "findings": [finding_json(finding) for finding in result.findings],
        "indirect": result.indirect,
        "absent": [finding_json(finding) for finding in result.absent],
        "hints": result.hints,
        "unsure": result.unsure or None,
    }


def with_verdict(report: dict[str, Any], result: DepTest) -> dict[str, Any]:
    """The report with the verdict's own findings (what was asked for and hidden is in it already)."""
    own = [finding_json(f) for f in [*result.findings, *result.absent] if f.kind is not FindingKind.UNDECLARED]
    return {**report, "findings": [*report["findings"], *own]}


def add_absent_options(parser: argparse.ArgumentParser) -> None:
    """The options of `would_be_found`."""
    parser.add_argument(
        "--absent", action="store_true", help="also tell what was looked for in vain and which port would install it"
    )
    parser.add_argument(
        "--archives", metavar="DIR", type=Path, action="append", default=[], help="look for such ports in these, too"
    )


def check_absent_options(options: argparse.Namespace) -> None:
    """Before anything is built for them. Raises UsageError or PorttraceError."""
    if options.archives and not options.absent:
        raise UsageError("--archives says where --absent looks: add that")
    for directory in options.archives:
        if not directory.is_dir():
            raise PorttraceError(f"--archives {directory}: there is no such directory")


def add_absent(result: DepTest, phases: Sequence[PhaseContext], archives: Sequence[Path]) -> None:
    """Put into the verdict what would have been found; says on standard error where nothing could be known."""
    result.absent, read = would_be_found(result.port, phases, archives)
    if not read and not result.absent:
        print(
            "Note: --absent knows the ports that are installed and not active, and archives; there are none "
            "(--archives DIR names some)",
            file=sys.stderr,
        )


def main(argv: Sequence[str]) -> int:
    """See `porttrace deps --help`. Raises PorttraceError where it cannot be told."""
    parser = Parser(
        prog="porttrace deps",
        description="Set what a port declares against what its traced build used and what its files need at run time: "
        "missing, superfluous and wrongly typed dependencies, as lines, as a patch, or written into the Portfile.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("report", metavar="REPORT", help="what port -t --report FILE wrote; - is standard input")
    parser.add_argument("--port", metavar="NAME", help="the port to judge (default: the last one that was built)")
    parser.add_argument("--patch", action="store_true", help="print a unified diff of the Portfile")
    parser.add_argument("--apply", action="store_true", help="write the change into the Portfile")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    add_absent_options(parser)
    parser.add_argument("--out", metavar="FILE", help="write the report with the verdict in it, for porttrace report")
    options = parser.parse_args(list(argv))
    check_absent_options(options)
    report = read_report(options.report)
    phases = read_context(report, options.report)
    names = list(dict.fromkeys(phase.policy.port for phase in phases if phase.policy.port))
    if not names:
        raise PorttraceError(f"{options.report} is not of a port's build: write one with port -t --report FILE")
    port = options.port or names[-1]
    if port not in names:
        raise PorttraceError(f"--port {port}: the report has only {', '.join(names)}")
    result = judge(port, report, phases, read_needs(port, phases))
    if options.absent:
        if not any(phase.probed for phase in phases):
            raise PorttraceError(f"{options.report} does not tell what was looked for: write it with port --absent")
        add_absent(result, phases, options.archives)
    for name, (program, *files) in sorted(left_open(port, report, phases).items()):
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        result.hints.append(
            f"{program} listed a directory from which {files[0]}{more} of {name} was left out: whether it was wanted, "
            "port deptest finds out"
        )
    portfile = next((p.portfile for p in phases if p.policy.port == port and p.portfile), "")
    if options.json:
        print(json.dumps(verdict_json(result), indent=1))
    elif options.patch:
        sys.stdout.write(patch(result, portfile))
    else:
        sys.stdout.write(text(result))
    if options.out is not None:
        write_report(options.out, with_verdict(report, result))
    if options.apply and apply(result, portfile) is not None:
        print(f"{portfile} was changed", file=sys.stderr)
    changes = [f for f in result.findings if f.kind in VIOLATIONS or f.kind in _LABELS]
    return 3 if changes else 0
