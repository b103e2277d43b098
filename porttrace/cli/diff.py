"""`porttrace diff`: what two reports have not in common."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from porttrace.baseline import compare
from porttrace.cli.parser import Parser
from porttrace.codes import code_of
from porttrace.findings import VIOLATIONS
from porttrace.messages import printable
from porttrace.report import read_report

__all__ = ["main"]

_EPILOG = """
Findings are the same where kind, path, access, port, phase and the built port are; how often and by which program
does not matter. Workpath and prefix may differ between the runs: paths in them are compared from there.

exit status: 0; 3 with --strict where B has new violations (PT001, PT002, PT003, PT008); 1 for what is no report;
2 for a wrong command line.

examples:
  porttrace diff before.json after.json             did my change of the Portfile help?
  porttrace diff --strict release.json now.json     fail on what is new
  porttrace diff --json before.json after.json
"""


def _line(sign: str, finding: Mapping[str, Any]) -> str:
    where = ", ".join(part for part in (finding.get("built"), finding.get("phase")) if part)
    owner = f" (port {finding['port']})" if finding.get("port") else ""
    code = code_of(finding["kind"]).code
    text = f"{sign} {code} {finding['kind']}  {finding['access']} {finding['path']}{owner}"
    return printable(f"{text}  [{where}]" if where else text)


def main(argv: Sequence[str]) -> int:
    """See `porttrace diff --help`. Raises PorttraceError for what is no report."""
    parser = Parser(
        prog="porttrace diff",
        description="Compare the reports of two runs: findings that are gone (-) and that are new (+).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("before", metavar="A", help="the earlier report")
    parser.add_argument("after", metavar="B", help="the later report; - is standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object with gone, new and same")
    parser.add_argument("--strict", action="store_true", help="exit status 3 where B has new violations")
    parser.add_argument("-v", "--verbose", action="store_true", help="list absent files, and what is the same, too")
    options = parser.parse_args(list(argv))
    found = compare(read_report(options.before), read_report(options.after))
    if options.json:
        print(json.dumps({"gone": found.gone, "new": found.new, "same": found.same}, indent=1))
    else:
        rows = [*((("-"), f) for f in found.gone), *(("+", f) for f in found.new)]
        rows += [(" ", f) for f in found.same] if options.verbose else []
        for sign, finding in rows:
            if options.verbose or finding["kind"] != "absent":
                sys.stdout.write(_line(sign, finding) + "\n")
        print(f"{len(found.gone)} gone, {len(found.new)} new, {len(found.same)} the same")
    return 3 if options.strict and any(finding["kind"] in VIOLATIONS for finding in found.new) else 0
