"""`porttrace learn`: from a recorded run to the allowances that it needs."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from porttrace.cli.parser import Parser
from porttrace.learn import learn
from porttrace.messages import printable
from porttrace.report import read_report

__all__ = ["main"]

_EPILOG = """
The lines are a proposal for a person to review: an allowance makes a build depend on the machine. Most of what is
hidden is better left hidden; a dependency on a port is better than a path. What a person hides (trace.hide, --map
'PATH=-') is named and left out.

exit status: 0; 1 for what is no report; 2 for a wrong command line.

examples:
  porttrace run --audit --report audit.json -- make check
  porttrace learn audit.json                  lines for the Portfile
  porttrace learn --options audit.json        the same as options of porttrace run
"""


def main(argv: Sequence[str]) -> int:
    """See `porttrace learn --help`. Raises PorttraceError for what is no report."""
    parser = Parser(
        prog="porttrace learn",
        description="From the report of a run (best of an audit, which refuses nothing and so sees all) the smallest "
        "allowances, phase by phase, with which it would pass.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("report", metavar="REPORT", help="what --report FILE wrote; - is standard input")
    parser.add_argument("--options", action="store_true", help="options of porttrace run instead of Portfile lines")
    parser.add_argument("--noise", action="store_true", help="allow known harmless probes, too")
    options = parser.parse_args(list(argv))
    report = read_report(options.report)
    lesson = learn(report["findings"], noise=options.noise)
    phases = (report.get("context") or {}).get("phases", ())
    if lesson.phases and not (phases and all(phase.get("audit") for phase in phases)):
        print("Note: this was no audit: what would have come after a refusal is not in the report", file=sys.stderr)
    if lesson.noise:
        print(
            f"Note: {lesson.noise} known harmless probe{'s' * (lesson.noise > 1)} left out (--noise)", file=sys.stderr
        )
    if lesson.on_purpose:
        rules = printable("; ".join(lesson.on_purpose))
        print(f"Note: left out what is hidden on purpose: {rules}", file=sys.stderr)
    if options.options:
        print(shlex.join(lesson.options()))
    else:
        sys.stdout.write(lesson.portfile() or "# nothing is needed\n")
    return 0
