"""``porttrace integrate PREFIX``: give the MacPorts at PREFIX this trace mode."""

from __future__ import annotations

import argparse
from pathlib import Path

from porttrace.cli.parser import Parser
from porttrace.integrate import integrate, undo

__all__ = ["main"]

_EPILOG = """
exit status: 0; 1 where it cannot be done, with the reason; 2 for a wrong command line.

examples:
  porttrace integrate --dry-run /opt/local    what would be added, to which MacPorts
  porttrace integrate /opt/local              again at any time: after an update of either
  porttrace integrate --undo /opt/local       leaves no trace of it
"""


def main(argv: list[str]) -> int:
    """Run the subcommand; returns 0. Raises PorttraceError where it cannot be done."""
    parser = Parser(
        prog="porttrace integrate",
        description="Give the MacPorts installed at PREFIX this trace mode: afterwards `port -t` uses it.\n"
        "One directory is added to it, nothing of it is changed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prefix", metavar="PREFIX", type=Path, help="where MacPorts is installed (/opt/local)")
    parser.add_argument("--undo", action="store_true", help="take the directory away again")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    args = parser.parse_args(argv)
    prefix = args.prefix.absolute()
    plan = (undo if args.undo else integrate)(prefix, dry_run=args.dry_run)
    known = plan.macports
    print(f"MacPorts {known.version} with Tcl {known.tcl} at {known.prefix}")
    for line in plan.lines:
        print(("would " if args.dry_run and plan.changes else "") + line)
    return 0
