"""`porttrace agents`: what runs as the build user, and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from porttrace.agents import explain
from porttrace.cli.parser import Parser

__all__ = ["main"]

_EPILOG = """
exit status: 0, or 1 where something of a port that has ended still runs; 2 for a wrong command line.

examples:
  porttrace agents                 why does something still run as macports?
  porttrace agents --user $USER    where ports are built as oneself
"""

_HEADS = {
    "build": "Part of a running port",
    "leftover": "Left over from a port that has ended",
    "agent": "Started by the operating system for this user",
    "unknown": "Of unknown origin",
}


def _one_line(command: str, width: int = 160) -> str:
    """A command line may hold whole scripts and anything that a terminal would take for an order."""
    text = " ".join("".join(c if c.isprintable() else " " for c in command).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def main(argv: Sequence[str]) -> int:
    """Exit status 0, or 1 where something of an ended port still runs."""
    parser = Parser(
        prog="porttrace agents",
        description="List every process of the build user: what belongs to a running port, what was left over, and\n"
        "what the operating system started for that user, with what it is and what it may connect to.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--user", default="macports", help="whose processes (default: macports)")
    parser.add_argument("--json", action="store_true", help="a JSON array instead of text")
    options = parser.parse_args(argv)
    found = explain(options.user)
    if options.json:
        print(json.dumps([item.to_json() for item in found], indent=2))
    elif not found:
        print(f"Nothing runs as {options.user}.")
    else:
        for relation, head in _HEADS.items():
            items = [item for item in found if item.relation == relation]
            if items:
                print(f"{head}:")
            for item in items:
                print(f"  {item.process.pid}  {_one_line(item.process.command)}")
                for line in item.text:
                    print(f"      {line}")
    return 1 if any(item.relation == "leftover" for item in found) else 0
