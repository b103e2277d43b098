"""`porttrace report`: a report as text, JSON, SARIF, GitHub annotations or one HTML page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from porttrace.baseline import fresh
from porttrace.cli.parser import Parser
from porttrace.findings import VIOLATIONS
from porttrace.formats import FORMATS, as_text
from porttrace.report import read_report, write_text

__all__ = ["main"]

_EPILOG = """
With --baseline only findings are told that the baseline (an earlier report) does not hold: what is known is accepted.

exit status: 0; 3 with --strict where there are violations (PT001, PT002, PT003, PT008); 1 for what is no report;
2 for a wrong command line.

examples:
  port -t --report foo.json install foo
  porttrace report foo.json                               what was found, as text
  porttrace report --format html -o foo.html foo.json     one page to look at, with everything in it
  porttrace report --format sarif -o foo.sarif foo.json   for code scanning
  porttrace report --format github --strict --baseline known.json foo.json     in a GitHub workflow: fail on what is new
"""


def main(argv: Sequence[str]) -> int:
    """See `porttrace report --help`. Raises PorttraceError for what is no report."""
    parser = Parser(
        prog="porttrace report",
        description="Tell what a report holds, in the form that is asked for. docs/findings.md explains the codes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("report", metavar="FILE", help="what --report FILE wrote; - is standard input")
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="default: text")
    parser.add_argument("--json", action="store_const", dest="format", const="json", help="the same as --format json")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there instead of standard output")
    parser.add_argument("--baseline", metavar="FILE", help="leave out what this earlier report holds, too")
    parser.add_argument("--strict", action="store_true", help="exit status 3 where there are violations")
    parser.add_argument("--root", metavar="DIR", default=".", help="Portfiles are named relative to it (default: .)")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="text: tell everything, absent files and noise too"
    )
    options = parser.parse_args(list(argv))
    report = read_report(options.report)
    if options.baseline is not None:
        report["findings"] = fresh(report, read_report(options.baseline))
    root = Path(os.path.realpath(options.root))
    if options.format == "text":
        color = options.output is None and sys.stdout.isatty() and "NO_COLOR" not in os.environ
        text = as_text(report, verbose=options.verbose, color=color)
    else:
        text = FORMATS[options.format](report, root, options.verbose)
    if options.output is not None:
        write_text(options.output, text, "output")
    else:
        sys.stdout.write(text)
    if options.strict and any(finding["kind"] in VIOLATIONS for finding in report["findings"]):
        return 3
    return 0
