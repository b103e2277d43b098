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

from porttrace.cli.parser import Parser
from porttrace.closure import closure, provider
from porttrace.context import PhaseContext, read_context
from porttrace.deptest import DepTest, deptest
from porttrace.errors import PorttraceError
from porttrace.findings import VIOLATIONS, FindingKind
from porttrace.formats.place import declared_in
from porttrace.linkage import needs_of, needs_of_tree
from porttrace.messages import printable
from porttrace.portfile_edit import PortfileEditError, change_dependencies
from porttrace.registry import Registry
from porttrace.registry.errors import RegistryError
from porttrace.report import finding_json, read_report, write_text

__all__ = ["apply", "finding_json", "judge", "main", "patch", "text"]

_EPILOG = """
Nothing is called superfluous or of the wrong type unless all phases up to destroot were traced from scratch and the
destroot (or the installed port) is there to be looked at. Programs and libraries are read with the package lief.

exit status: 0 where the dependencies are right; 3 where something is to be changed; 1 where that cannot be told.

examples:
  port -t -k --report foo.json destroot foo; porttrace deps foo.json
  porttrace deps --patch foo.json            a unified diff of the Portfile
  porttrace deps --apply foo.json            write it into the Portfile
  porttrace deps --port libbar --json foo.json
  port deptest foo                           all of it in one: build, test, judge
"""


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
        for name in dict.fromkeys([os.fsencode(path), os.fsencode(os.path.realpath(path))]):
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


def judge(port: str, report: Mapping[str, Any], phases: Sequence[PhaseContext]) -> DepTest:
    """The verdict on one port of a report. Raises PorttraceError."""
    own = [phase for phase in phases if phase.policy.port == port]
    registry = next((phase.registry for phase in own if phase.registry), "")
    prefix = next((phase.policy.prefix for phase in own if phase.policy.prefix), None)
    if not registry or prefix is None:
        raise PorttraceError(f"the report of {port} names no registry: judge it on the machine that made it")
    destroot = next((Path(phase.workpath) / "destroot" for phase in own if phase.workpath), None)
    try:
        with Registry.open(registry) as ports:
            needs = None
            if destroot is not None and destroot.is_dir():
                needs = needs_of_tree(destroot, str(prefix))
            elif (entry := ports.active(port)) is not None:
                files = [os.fsdecode(name) for name in ports.files(entry)]
                needs = [need for file in files for need in needs_of(Path(file), file, str(prefix))]
            return deptest(port, report, phases, RegistryPorts(ports, prefix), needs)
    except RegistryError as error:
        raise PorttraceError(str(error)) from None


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
    lines += [f"  comes with {other}: {name}" for name, other in sorted(result.indirect.items())]
    if result.unsure:
        lines.append(f"  what is superfluous was not judged: {printable(result.unsure)}")
    head = f"{result.port}: " + ("the dependencies are right" if not result.findings else "to be changed")
    return "\n".join([head, *lines]) + "\n"


def _changed(result: DepTest, portfile: str) -> tuple[str, str]:
    try:
        before = Path(portfile).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PorttraceError(f"cannot read {portfile or 'the Portfile'}: {error}") from None
    try:
        return before, change_dependencies(before, result.changes)
    except PortfileEditError as error:
        raise PorttraceError(f"{portfile}: {error}") from None


def patch(result: DepTest, portfile: str) -> str:
    """The change as a unified diff; empty where there is none."""
    before, after = _changed(result, portfile)
    name = "/".join(Path(portfile).parts[-3:])
    rows = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{name}", f"b/{name}")
    return "".join(rows)


def apply(result: DepTest, portfile: str) -> bool:
    """Write the change; returns whether there was one."""
    before, after = _changed(result, portfile)
    if before == after:
        return False
    mode = Path(portfile).stat()
    write_text(Path(portfile), after, "Portfile")
    declared_in.cache_clear()
    Path(portfile).chmod(mode.st_mode & 0o7777)
    if os.geteuid() == 0:
        os.chown(portfile, mode.st_uid, mode.st_gid)
    return True


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
    options = parser.parse_args(list(argv))
    report = read_report(options.report)
    phases = read_context(report, options.report)
    names = list(dict.fromkeys(phase.policy.port for phase in phases if phase.policy.port))
    if not names:
        raise PorttraceError(f"{options.report} is not of a port's build: write one with port -t --report FILE")
    port = options.port or names[-1]
    if port not in names:
        raise PorttraceError(f"--port {port}: the report has only {', '.join(names)}")
    result = judge(port, report, phases)
    portfile = next((p.portfile for p in phases if p.policy.port == port and p.portfile), "")
    if options.json:
        value = {
            "port": port,
            "findings": [finding_json(finding) for finding in result.findings],
            "indirect": result.indirect,
            "unsure": result.unsure or None,
        }
        print(json.dumps(value, indent=1))
    elif options.patch:
        sys.stdout.write(patch(result, portfile))
    else:
        sys.stdout.write(text(result))
    if options.apply and apply(result, portfile):
        print(f"{portfile} was changed", file=sys.stderr)
    changes = [f for f in result.findings if f.kind in VIOLATIONS or f.kind in _LABELS]
    return 3 if changes else 0
