"""Entry point of `porttrace`: finds the subcommand and turns what went wrong into one line.

A subcommand is a module with a function `main(argv: list[str]) -> int`, imported when it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from porttrace.errors import NotStartedError, PorttraceError, UsageError
from porttrace.streams import complain, guarded, what_failed

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("porttrace.cli.run", "run a command inside a fence, and tell what it touched"),
    "explain": ("porttrace.cli.explain", "say why a path is hidden, visible, redirected or refused"),
    "report": ("porttrace.cli.report", "tell what a report holds: text, JSON, SARIF, GitHub annotations, an HTML page"),
    "deps": ("porttrace.cli.deps", "from the report of a build to the change of the Portfile's dependencies"),
    "diff": ("porttrace.cli.diff", "compare the reports of two runs"),
    "learn": ("porttrace.cli.learn", "from a recorded run to the allowances that it needs"),
    "filemap": ("porttrace.cli.filemap_cmd", "read and check filemaps (the bytes of 2007)"),
    "doctor": ("porttrace.cli.doctor", "say which tiers this machine has, and how to get what is missing"),
    "agents": ("porttrace.cli.agents", "explain every process of the build user"),
    "integrate": ("porttrace.cli.integrate", "give a MacPorts that is installed this trace mode"),
}
"""Name of a subcommand: module, and what it does in a few words."""

_EXIT = """\
porttrace COMMAND --help tells more.

exit status: 2 for a wrong command line, 1 for what cannot be done; what else a command tells by it, its --help says.
porttrace run ends as its command does, with 125 for either of the two, and with 126 or 127 where the command cannot be
started."""


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(["usage: porttrace COMMAND [ARG...]", "", "commands:", *lines, "", _EXIT])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status: 2 for a wrong command line, 1 for what cannot be done, else the
    subcommand's. `run` has 125 for both, and 126 or 127 for a command that cannot be started, as env(1) and timeout(1):
    1 and 2 are its command's."""
    return guarded("porttrace", lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _run_command(name: str, args: list[str]) -> int:
    """The exit status of a subcommand. Raises what that raises; PorttraceError where it was for want of a directory to
    be in, of which the system's own words name no path."""
    try:
        status: int = importlib.import_module(COMMANDS[name][0]).main(args)
        return status
    except FileNotFoundError as error:
        if error.filename is None:
            try:
                Path.cwd()
            except FileNotFoundError:
                raise PorttraceError("the current directory has been removed: change to one that exists") from error
        raise


def _main(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_usage(), file=sys.stdout if args else sys.stderr)
        return 0 if args else 2
    if args[0] in ("-V", "--version"):
        from porttrace._version import version

        print(f"porttrace {version()}")
        return 0
    if args[0] not in COMMANDS:
        complain(f"porttrace: there is no command {args[0]!r}; porttrace --help lists them")
        return 2
    wrong, failed = (125, 125) if args[0] == "run" else (2, 1)
    try:
        return _run_command(args[0], args[1:])
    except PorttraceError as error:
        complain(f"porttrace: {error}")
        if isinstance(error, NotStartedError):
            return error.status
        if isinstance(error, UsageError):
            return wrong
    except BrokenPipeError:
        raise
    except OSError as error:
        complain(f"porttrace: {what_failed(error)}")
    except KeyboardInterrupt:
        return 130
    return failed
