"""`porttrace doctor`: what this machine has for trace mode."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from porttrace.cli.parser import Parser
from porttrace.doctor import diagnose

__all__ = ["main"]

_EPILOG = """
exit status: 0 only where all tiers work, else 1; 2 for a wrong command line.

examples:
  porttrace doctor            before a bug report, or where a run says that a tier is missing
  porttrace doctor --json     the same for a script
"""


def main(argv: Sequence[str]) -> int:
    """Exit status 0 only where all tiers work, else 1."""
    parser = Parser(
        prog="porttrace doctor",
        description="Say what this machine offers, which tiers a run would use, what each of them stops, and how to\n"
        "get what is missing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    options = parser.parse_args(argv)
    found = diagnose()
    if options.json:
        print(json.dumps(found.to_json(), indent=2))
        return 0 if found.healthy else 1
    for key, value in found.system.items():
        print(f"{key}: {value}")
    print(f"MacPorts prefixes: {', '.join(map(str, found.prefixes)) or 'none'}")
    print(f"\na run would use: {', '.join(found.used) or 'none of the tiers'}")
    for tier in found.tiers:
        print(f"  {tier.name:10} {'works' if tier.works else 'MISSING'}: {tier.detail}")
        print(f"  {'':10} stops {tier.stops}")
        for line in tier.missing:
            print(f"  {'':10} -> {line}")
    print()
    for note in found.notes:
        print(note)
    for problem in found.problems:
        print(f"problem: {problem}")
    print("all tiers work" if found.healthy else "not all tiers work: a run uses those that do, and says so")
    return 0 if found.healthy else 1
