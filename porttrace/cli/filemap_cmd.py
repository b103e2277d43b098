"""`porttrace filemap dump|check FILE`: filemaps as the bytes of 2007."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from porttrace.cli.parser import Parser
from porttrace.errors import PorttraceError
from porttrace.filemap import Action, Filemap, FilemapError, display

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Exit status 0, or 1 with one line on stderr where the file is no filemap."""
    parser = Parser(
        prog="porttrace filemap",
        description="Read a filemap: path, NUL, action (0 allow, 1 redirect, 2 ask, 3 deny), redirect target, NUL, "
        "and so on, with an empty path at the end. Paths are literal prefixes; the first that matches wins.",
        epilog="examples:\n  porttrace filemap dump map.bin     one line an entry: action, path, target\n"
        "  porttrace filemap check map.bin    say how many entries it has, or where it is broken",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("dump", "check"))
    parser.add_argument("file", help="the file; - is standard input")
    options = parser.parse_args(argv)
    try:
        data = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
    except OSError as error:
        raise PorttraceError(f"cannot read {options.file}: {error.strerror}") from None
    try:
        filemap = Filemap.from_bytes(data, options.file)
    except FilemapError as error:
        raise PorttraceError(f"{options.file} is not a filemap: {error}") from None
    if options.what == "check":
        print(f"{options.file}: {len(filemap)} entr{'y' if len(filemap) == 1 else 'ies'}, sound")
        return 0
    for rule in filemap:
        target = f"\t{display(rule.target)}" if rule.action is Action.REDIRECT and rule.target is not None else ""
        print(f"{int(rule.action)} {rule.action.name.lower()}\t{display(rule.path)}{target}")
    return 0
