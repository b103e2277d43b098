"""`port deptest NAME…`: build under trace from a clean state, test included, and judge the dependencies."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from porttrace.cli import deps
from porttrace.context import read_context
from porttrace.deptest import DepTest
from porttrace.errors import PorttraceError
from porttrace.report import read_report

__all__ = ["main"]

_EPILOG = """
The work directory of NAME is cleaned first. The port itself is not installed; its dependencies are.

exit status: 0 where the dependencies of all ports are right (with --verify: after the change); 3 where something is
to be changed; 1 where a build failed.

examples:
  port deptest foo                    what is missing, superfluous, of the wrong type?
  port deptest --patch foo >foo.diff  the change as a patch
  port deptest --apply --verify foo   write it into the Portfile, build again, and show that nothing is left
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise PorttraceError(f"{message}; port deptest --help tells more")


def _port(own: Sequence[str], *words: str) -> int:
    argv = [sys.executable, "-P", "-m", "porttrace.porttool.main", *own, *words]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode


def _has_tests(portfile: str) -> bool:
    """Whether the Portfile turns tests on (they are off by default, and then the phase is an error)."""
    text = Path(portfile).read_text(encoding="utf-8", errors="replace")
    return re.search(r"^\s*test\.run\s+(yes|true|on|1)\b", text, re.MULTILINE) is not None


def _build(own: Sequence[str], name: str) -> dict[str, Any]:
    """The joined report of the build and of the tests."""
    with tempfile.TemporaryDirectory(prefix="porttrace-deptest-") as directory:
        file = str(Path(directory) / "report.json")
        if _port(own, "clean", name):
            raise PorttraceError(f"{name} could not be cleaned")
        if _port(own, "-t", "--report", file, "destroot", name):
            raise PorttraceError(f"{name} does not build under trace mode: see the messages above")
        report = read_report(file)
        portfile = next((p["portfile"] for p in reversed(report["context"]["phases"]) if p["portfile"]), None)
        if portfile is None or not _has_tests(portfile):
            return report
        if _port(own, "-t", "--report", file, "test", name):
            print(f"Warning: the tests of {name} fail under trace mode", file=sys.stderr)
        tests = read_report(file)
    report["findings"] += tests["findings"]
    report["context"]["phases"] += [p for p in tests["context"]["phases"] if p["phase"] == "test"]
    report["stats"]["events_lost"] = report["stats"].get("events_lost", 0) + tests["stats"].get("events_lost", 0)
    return report


def _judge(own: Sequence[str], name: str) -> tuple[DepTest, str]:
    report = _build(own, name)
    phases = read_context(report)
    built = [phase for phase in phases if phase.policy.port]
    port = next((p.policy.port for p in built if p.policy.port.lower() == name.lower()), None)
    if port is None:
        raise PorttraceError(f"nothing of {name} was traced")
    return deps.judge(port, report, phases), next(p.portfile for p in built if p.policy.port == port)


def main(own: Sequence[str], argv: Sequence[str]) -> int:
    """`own`: options of port that hold for its runs. Raises PorttraceError where a build fails."""
    parser = _Parser(
        prog="port deptest",
        description="Build ports under trace mode from a clean state, run their tests, and say which dependencies are "
        "missing, superfluous or of the wrong type.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", metavar="NAME", nargs="+", help="a port of the tree")
    parser.add_argument("--patch", action="store_true", help="print a unified diff of the Portfile")
    parser.add_argument("--apply", action="store_true", help="write the change into the Portfile")
    parser.add_argument("--verify", action="store_true", help="build again with the change (needs --apply)")
    parser.add_argument("--json", action="store_true", help="one JSON object a port instead of text")
    options = parser.parse_args(list(argv))
    if options.verify and not options.apply:
        raise PorttraceError("--verify builds with the change: add --apply")
    status = 0
    for name in options.names:
        result, portfile = _judge(own, name)
        _show(options, result, portfile)
        if options.apply and deps.apply(result, portfile):
            print(f"{portfile} was changed", file=sys.stderr)
            if options.verify:
                result, portfile = _judge(own, name)
                print("after the change:")
                _show(options, result, portfile)
        status = max(status, 3 if result.findings else 0)
    return status


def _show(options: argparse.Namespace, result: DepTest, portfile: str) -> None:
    if options.json:
        print(json.dumps({"port": result.port, "findings": [deps.finding_json(f) for f in result.findings]}, indent=1))
    elif options.patch:
        sys.stdout.write(deps.patch(result, portfile))
    else:
        sys.stdout.write(deps.text(result))
    sys.stdout.flush()
