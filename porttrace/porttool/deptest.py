"""`port deptest NAME…`: build under trace from a clean state, test included, and judge the dependencies."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porttrace.cli import deps
from porttrace.cli.parser import Parser
from porttrace.context import read_context
from porttrace.deptest import DepTest
from porttrace.errors import PorttraceError, UsageError
from porttrace.findings import FindingKind
from porttrace.report import check_writable, read_report, write_report

__all__ = ["main"]

_EPILOG = """
The work directory of NAME is cleaned first. The port itself is not installed; its dependencies are. With one variant
(NAME +gui) what is to be added goes into that variant's body.

Of a build that fails it is told what was missing until then; --apply --verify goes on until it builds.

exit status: 0 where the dependencies of all ports are right (with --verify: after the change); 3 where something is
to be changed; 1 where a build failed; 2 for a wrong command line.

examples:
  port deptest foo                    what is missing, superfluous, of the wrong type?
  port deptest foo +gui               the same of a variant (port deptest -- foo -gui: without a default one)
  port deptest --patch foo >foo.diff  the change as a patch
  port deptest --apply --verify foo   write it into the Portfile, build again, and show that nothing is left
  port deptest --report foo.json foo; porttrace report --format html -o foo.html foo.json
"""


def _port(own: Sequence[str], *words: str, tell: bool = True) -> str:
    """Run port; why it failed, in a line, or nothing. Its errors are shown where `tell`, the rest of what it says with
    -v and -d only: the verdict says it better."""
    argv = [sys.executable, "-P", "-m", "porttrace.porttool.main", *own, *words]
    if {"-v", "-d"} & set(own):
        return (
            "see the messages above"
            if subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
            else ""
        )
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if not done.returncode:
        return ""
    rows = done.stderr.decode("utf-8", "replace").splitlines()
    if tell:
        sys.stderr.write("".join(f"{row}\n" for row in rows if row.startswith("Error: ")))
    errors = [row.removeprefix("Error: ") for row in rows if row.startswith("Error: ")]
    return next(iter(errors or rows[-1:]), f"status {done.returncode}")


def _say(own: Sequence[str], text: str) -> None:
    """What is being done; `own` are port's own options."""
    if "-q" not in own:
        print(f"--->  {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Named:
    """A port as it was named on the command line."""

    name: str
    variants: tuple[str, ...] = ()

    @property
    def only_variant(self) -> str:
        """The variant for whose sake the port is tested, where it is just one."""
        return self.variants[0][1:] if len(self.variants) == 1 and self.variants[0].startswith("+") else ""


def _named(words: Sequence[str]) -> list[_Named]:
    """NAME, with the variants that follow it: +a-b +c. Raises UsageError."""
    found: list[_Named] = []
    for word in words:
        if not word:
            raise UsageError("the name of a port is empty")
        if not word.startswith(("+", "-")):
            if "=" in word:
                raise UsageError(f"{word}: deptest takes ports and their variants, no options of Portfiles")
            found.append(_Named(word))
            continue
        if not found or not re.fullmatch(r"([+-]\w+)+", word):
            raise UsageError(f"{word}: variants are written behind a port's name, as in foo +gui-doc")
        former = found[-1]
        found[-1] = _Named(former.name, (*former.variants, *re.findall(r"[+-]\w+", word)))
    return found


@dataclass
class _Built:
    """`failed`: why the build failed, or nothing; `tested`: there were tests, and they passed."""

    report: dict[str, Any]
    failed: str = ""
    tested: bool = False


def _build(own: Sequence[str], port: _Named, how: str = "-t") -> _Built:
    """Build the port from a clean state and run its tests. Raises PorttraceError where nothing was traced."""
    words = [port.name, *port.variants]
    with tempfile.TemporaryDirectory(prefix="porttrace-deptest-") as directory:
        file = str(Path(directory) / "report.json")
        if failed := _port(own, "clean", *words, tell=False):
            raise PorttraceError(f"nothing was built: {failed}")
        _say(own, f"Building {' '.join(words)} {'with nothing hidden' if how == '--audit' else 'under trace mode'}")
        failed = _port(own, how, "--report", file, "destroot", *words)
        try:
            built = _Built(read_report(file), failed)
        except PorttraceError as error:
            why = "" if failed else f": {error}"
            raise PorttraceError(f"{port.name} does not build under trace mode{why}") from None
        built.report["command"] = ["port", "deptest", *words]
        own_phases = [p for p in built.report["context"]["phases"] if (p["port"] or "").lower() == port.name.lower()]
        if failed and not own_phases:
            raise PorttraceError(f"{port.name} does not build under trace mode")
        if failed or not any(p["tests"] for p in own_phases):
            return built
        _say(own, f"Testing {' '.join(words)}")
        failed = _port(own, how, "--report", file, "test", *words)
        built.tested = not failed
        if failed:
            print(f"Warning: the tests of {port.name} fail under trace mode", file=sys.stderr)
        _join(built.report, read_report(file))
    return built


def _join(report: dict[str, Any], tests: dict[str, Any]) -> None:
    """Add the phase test of a second run, as if it had followed the first."""
    phases = report["context"]["phases"]
    end = max((phase["start"] + phase["seconds"] for phase in phases), default=0)
    report["findings"] += tests["findings"]
    phases += [{**p, "start": p["start"] + end} for p in tests["context"]["phases"] if p["phase"] == "test"]
    for key, value in tests["stats"].items():
        if key != "exit_status" and isinstance(value, int | float):
            report["stats"][key] = round(report["stats"].get(key, 0) + value, 3)


def _decide(own: Sequence[str], port: _Named, report: dict[str, Any], left_open: dict[str, list[str]]) -> None:
    """Add to the report which ports of those whose files were left out of listings the build would have used.

    Only a build that sees them can tell: an audit, whose listings are whole.
    """
    if not left_open:
        return
    names = ", ".join(sorted(left_open))
    _say(own, f"Listings left out files of {names}: one more build tells whether they are wanted")
    try:
        audit = _build(own, port, "--audit").report
    finally:
        _port(own, "clean", port.name, *port.variants)  # not for another phase to go on from
    report["findings"] += [
        finding
        for finding in audit["findings"]
        if finding["kind"] == FindingKind.UNDECLARED
        and finding["port"] in left_open
        and (finding["built"] or "").lower() == port.name.lower()
    ]


@dataclass
class _Judged:
    result: DepTest
    portfile: str
    report: dict[str, Any]
    failed: str

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {**deps.verdict_json(self.result), "failed": self.failed or None}


def _judge(own: Sequence[str], port: _Named, options: argparse.Namespace) -> _Judged:
    """The verdict; of a build that failed what was missing until then. PorttraceError where that says nothing."""
    made = _build(own, port, "--absent" if options.absent else "-t")
    report = made.report
    phases = read_context(report)
    built = [phase for phase in phases if phase.policy.port]
    name = next((p.policy.port for p in built if p.policy.port.lower() == port.name.lower()), None)
    if name is None:
        raise PorttraceError(f"nothing of {port.name} was traced")
    needs = deps.read_needs(name, phases) if not made.failed else None
    _decide(own, port, report, deps.left_open(name, report, phases))
    result = deps.judge(name, report, phases, needs, tested=made.tested)
    if options.absent:
        deps.add_absent(result, phases, options.archives)
    if made.failed:
        result.unsure = "the build failed"
        if not result.findings:
            raise PorttraceError(f"{port.name} does not build under trace mode, and no missing dependency explains it")
    portfile = next(p.portfile for p in built if p.policy.port == name)
    return _Judged(result, portfile, deps.with_verdict(report, result), made.failed)


_MOST_ROUNDS = 10


def _apply(own: Sequence[str], port: _Named, options: argparse.Namespace, first: _Judged) -> _Judged | None:
    """Write the change, with --verify build with it: again and again where each build comes to the next missing
    dependency. Returns the last verdict, None where nothing was changed or built. Where it comes to nothing the
    Portfile is put back as it was, and PorttraceError raised."""
    former = None
    judged, last = first, None
    for _ in range(_MOST_ROUNDS):
        before = deps.apply(judged.result, judged.portfile, port.only_variant)
        if before is None:
            break
        former = former or before
        print(f"{judged.portfile} was changed", file=sys.stderr)
        if not options.verify:
            return None
        try:
            judged = last = _judge(own, port, options)
        except PorttraceError as error:
            deps.write(judged.portfile, former)
            raise PorttraceError(f"with the change: {error}; {judged.portfile} is as it was before") from None
        if not judged.result.missing:
            break
    return last


def main(own: Sequence[str], argv: Sequence[str]) -> int:
    """`own`: options of port that hold for its runs. Raises PorttraceError where a build fails."""
    parser = Parser(
        prog="port deptest",
        usage="port deptest [options] NAME [+VARIANT...]...",
        description="Build ports under trace mode from a clean state, run their tests, and say which dependencies are "
        "missing, superfluous or of the wrong type.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", metavar="NAME", nargs="+", help="a port of the tree, and variants of it")
    parser.add_argument("--patch", action="store_true", help="print a unified diff of the Portfile")
    parser.add_argument("--apply", action="store_true", help="write the change into the Portfile")
    parser.add_argument("--verify", action="store_true", help="build again with the change (needs --apply)")
    parser.add_argument("--json", action="store_true", help="one JSON object a port instead of text")
    deps.add_absent_options(parser)
    parser.add_argument("--report", metavar="FILE", help="write the (last) report, with the verdict in it")
    options = parser.parse_args(list(argv))
    ports = _named(options.names)
    if options.verify and not options.apply:
        raise UsageError("--verify builds with the change: add --apply")
    if options.report is not None and len(ports) > 1:
        raise UsageError("--report takes the report of one port: name one")
    deps.check_absent_options(options)
    if options.report is not None:
        check_writable(options.report)
    status, failed = 0, False
    for port in ports:
        judged = _judge(own, port, options)
        _show(options, judged, port)
        value = judged.to_json()
        after = _apply(own, port, options, judged) if options.apply else None
        if after is not None:
            judged = after
            if not options.json:
                print("after the change:")
            _show(options, judged, port)
            value["after"] = judged.to_json()
        if options.json:
            print(json.dumps(value, indent=1), flush=True)
        if options.report is not None:
            write_report(options.report, judged.report)
        status = max(status, 3 if judged.result.findings else 0)
        failed = failed or bool(judged.failed)
    return 1 if failed else status


def _show(options: argparse.Namespace, judged: _Judged, port: _Named) -> None:
    if options.json:
        return  # all in one object, at the end
    if options.patch:
        sys.stdout.write(deps.patch(judged.result, judged.portfile, port.only_variant))
    else:
        sys.stdout.write(deps.text(judged.result))
    sys.stdout.flush()
