"""`porttrace run`: any command inside a fence."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from porttrace.baseline import fresh
from porttrace.cli.logfile import LogFile
from porttrace.cli.parser import Parser
from porttrace.cli.rules import missing_relative, parse_rule
from porttrace.closure import closure
from porttrace.context import phase_context
from porttrace.defaults import run_defaults
from porttrace.endings import told
from porttrace.errors import NotStartedError, PorttraceError, UsageError
from porttrace.filemap import Action, Filemap, Rule
from porttrace.findings import VIOLATIONS, Finding, FindingKind
from porttrace.identity import Identity
from porttrace.listings import left_out
from porttrace.messages import plain, printable, render
from porttrace.owners import ownership
from porttrace.policy import Policy, PolicyError
from porttrace.records import replace
from porttrace.registry import Registry
from porttrace.registry.errors import RegistryError
from porttrace.report import check_writable, make_report, read_report, write_report
from porttrace.sdk import find_sdk
from porttrace.session import Session
from porttrace.streams import complain
from porttrace.tiers import TIERS, available_tiers, tiers_line
from porttrace.trace import Trace, TraceResult
from porttrace.waiting import end_of

__all__ = ["main"]

_EPILOG = r"""
Rules are tried in the order given, the first that matches wins; after them come the defaults: the base system may be
read; the current directory, $TMPDIR, /tmp, /var/tmp and devices like /dev/null may be written; nothing else.
A path stands for itself and all below it; a relative one is taken from the current directory. A '=' or ':' in a path
is written '\=' or '\:', a backslash '\\'.

exit status: the command's own, 128+N where signal N ended it; with --strict 3 where there were violations, or
the report is not complete; 126 where it cannot be executed, 127 where there is no such command; 125 for a wrong
command line, and where porttrace itself fails: it cannot trace, or not write the log or the report.

examples:
  porttrace run -- ./configure              what does it read that is not of the base system, what does it write?
  porttrace run --map '/usr/local=-' -- make       make must not see /usr/local
  porttrace run --map '/usr/include=>/sdk/usr/include' -- cc -c foo.c
  porttrace run --sdk /srv/sysroot -- make  headers and libraries of another system, compilers of this one
  porttrace run --read "$HOME/.gitconfig" --write "$HOME/.ccache" -- make
  porttrace run --prefix /opt/local --deps zlib,openssl3 --report out.json -- make
  porttrace run --strict --baseline known.json -- make       fail on what is new
  porttrace run --audit --log accesses.jsonl -- make check        refuse nothing, write down everything
"""


class _Ordered(argparse.Action):
    """Keep the order of --map, --read and --write among each other."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        namespace.rules.append((option_string, values))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="porttrace run",
        usage="porttrace run [options] -- COMMAND [ARG...]",
        description="Run a command inside a fence: what it may not see looks as if it did not exist, and each attempt "
        "is remembered and explained.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_policy_options(parser)
    what = parser.add_argument_group("what becomes of it")
    what.add_argument("--audit", action="store_true", help="refuse nothing, record everything")
    what.add_argument(
        "--strict",
        action="store_true",
        help="hide files that no port owns, too; exit 3 where there were violations, or the report is not complete",
    )
    what.add_argument("--log", metavar="FILE", help="write every access as a line of JSON; - is standard output")
    what.add_argument(
        "--report", metavar="FILE", help="write the findings as JSON; - is standard output, after the command's own"
    )
    what.add_argument("--baseline", metavar="FILE", help="a report whose findings are known: neither told nor counted")
    what.add_argument("--tiers", metavar="LIST", help=f"of {','.join(TIERS)} (default: all that the machine has)")
    what.add_argument("--user", metavar="NAME", help="run the command as this user (root only)")
    what.add_argument("-v", "--verbose", action="store_true", help="tell everything, absent files and noise too")
    what.add_argument("-q", "--quiet", action="store_true", help="tell nothing")
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """The options that `build_policy` reads, for other commands to understand them as well."""
    parser.set_defaults(rules=[])
    rules = parser.add_argument_group("rules")
    rules.add_argument(
        "--map", action=_Ordered, metavar="PATH=A", help="A is + (allow), - (hide), ? (ask), >TARGET (redirect)"
    )
    rules.add_argument("--read", action=_Ordered, metavar="PATH[=A]", help="for reading only; A is + where not given")
    rules.add_argument("--write", action=_Ordered, metavar="PATH[=A]", help="for writing only; A is + where not given")
    rules.add_argument(
        "--sdk", metavar="NAME|DIR", help="an SDK or sysroot in the place of / (programs stay this machine's)"
    )
    rules.add_argument("--no-defaults", action="store_true", help="leave the default rules out")
    ports = parser.add_argument_group("ports")
    ports.add_argument("--prefix", metavar="DIR", help="files below it are visible as their ports are in --deps")
    ports.add_argument("--registry", metavar="DB", help="registry of installed ports (default: the prefix's own)")
    ports.add_argument("--deps", metavar="A,B,...", default="", help="ports that may be seen, with all that they need")
    ports.add_argument(
        "--ask",
        choices=("image", "socket"),
        default="image",
        help="answer from the compiled image, or live (default: image)",
    )


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    options = _parser().parse_args(list(argv))
    if options.command[:1] == ["--"]:  # a later one is the command's own: git checkout -- FILE
        del options.command[0]
    if not options.command:
        raise UsageError("no command given: porttrace run [options] -- COMMAND [ARG...]")
    return options


def _ports(options: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """Prefix and registry file; one is found from the other by MacPorts' layout."""
    layout = Path("var/macports/registry/registry.db")
    prefix = Path(os.path.realpath(options.prefix)) if options.prefix else None
    registry = Path(options.registry).absolute() if options.registry else None
    if prefix is None and registry is not None:
        if registry.parts[-len(layout.parts) :] != layout.parts:
            raise UsageError(f"--registry {registry}: say with --prefix DIR which prefix it belongs to")
        prefix = Path(os.path.realpath(registry.parents[len(layout.parts) - 1]))
    if prefix is not None and registry is None:
        registry = prefix / layout
        if not registry.exists():
            raise PorttraceError(f"--prefix {prefix}: it has no registry ({registry}); name one with --registry DB")
    if prefix is not None and not prefix.is_dir():
        raise PorttraceError(f"--prefix {prefix}: there is no such directory")
    if prefix is None and options.deps:
        raise UsageError("--deps needs --prefix DIR, --registry DB or both")
    return prefix, registry


def named_ports(options: argparse.Namespace) -> list[str]:
    """The ports of --deps."""
    return [name.removeprefix("port:") for name in options.deps.replace(",", " ").split()]


def _warn(text: str) -> None:
    complain(f"Warning: {text}")


def build_policy(options: argparse.Namespace) -> tuple[Policy, Path | None]:
    """The policy that the options describe, and the registry file. Raises PorttraceError."""
    prefix, registry = _ports(options)
    read: list[Rule] = []
    write: list[Rule] = []
    for option, text in options.rules:
        if option == "--map":
            rules = parse_rule(text, option)
            read += rules
            write += rules
        else:
            (read if option == "--read" else write).extend(parse_rule(text, option, default=Action.ALLOW))
        for path in missing_relative(text) if option != "--write" else ():
            _warn(f"{option} {text}: there is no {printable(str(path))} (relative paths begin in this directory)")
    sdk = None
    if options.sdk is not None:
        if options.no_defaults:
            raise UsageError("--sdk redirects the default rules, and --no-defaults leaves them out: use --map '/=>DIR'")
        sdk = find_sdk(options.sdk, prefix / "var/macports" if prefix is not None else None)
    if not options.no_defaults:
        defaults = run_defaults(Path.cwd(), os.environ.get("TMPDIR") or None, prefix, sdk=sdk)
        read += defaults[0]
        write += defaults[1]
    elif prefix is not None:
        read.append(Rule(os.fsencode(prefix), Action.ASK, origin="--prefix"))
    if options.ask == "socket":
        read = [replace(rule, live=True) if rule.action is Action.ASK else rule for rule in read]
        write = [replace(rule, live=True) if rule.action is Action.ASK else rule for rule in write]
    owners, visible = None, frozenset[str]()
    if registry is not None:
        names = named_ports(options)
        try:
            with Registry.open(registry) as ports:
                _, owners = ownership(registry, ports.owners, ports.dependency_graph)
                visible = closure(ports, names)
                for name in names:
                    if ports.active(name) is None:
                        _warn(f"--deps: no active port {name} in {registry}")
        except (RegistryError, PolicyError) as error:
            raise PorttraceError(str(error)) from None
    policy = Policy(
        Filemap(read),
        Filemap(write),
        prefix=prefix,
        owners=owners,
        closure=visible,
        strict=options.strict,
        audit=options.audit,
        log=options.log is not None,
    )
    return policy, registry


def _live_owner(registry: Path, by_image: Callable[[bytes], str | None]) -> Callable[[bytes], str | None]:
    """Ask the registry itself. The connection belongs to the thread that asks first: the ask server's."""
    local = threading.local()

    def owner(path: bytes) -> str | None:
        if not hasattr(local, "ports"):
            local.ports = Registry.open(registry)
        found = local.ports.owner(path)
        if found is not None:
            return str(found.name)
        # The registry may know the file by another name of its directory; the image has both.
        name = by_image(path)
        return name if name is not None and local.ports.active(name) is not None else None

    return owner


class _Runner:
    """Runs the command, passes signals on, and waits."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early = 0
        self._signals = 0
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> _Runner:
        # Before the session, so that there is no moment in which a signal leaves something behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def pid(self) -> int:
        """Process id of the command once it was started, else 0."""
        return self._process.pid if self._process is not None else 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        process = self._process
        self._signals += 1
        if process is None:
            self._early = self._early or number
        elif self._signals > 2:
            process.kill()
        elif number not in (signal.SIGINT, signal.SIGQUIT) or not _from_terminal():
            with contextlib.suppress(OSError):
                process.send_signal(number)

    def run(self, argv: Sequence[str], env: dict[str, str]) -> int:
        """Exit status of the command, 128+N where signal N ended it. Raises PorttraceError where it cannot start."""
        if self._early:
            return 128 + self._early
        try:
            self._process = process = subprocess.Popen(argv, env=env, close_fds=False)
        except OSError as error:
            raise PorttraceError(f"cannot start {argv[0]}: {error.strerror}") from None
        if self._early:
            process.send_signal(self._early)
        status = end_of(process)
        return 128 - status if status < 0 else status


def _from_terminal() -> bool:
    """Whether Ctrl-C reaches the command by itself: this process is in the foreground of a terminal."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _given() -> Mapping[str, str]:
    """The environment with which this process was started, where the system tells it."""
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return os.environ
    return dict(os.fsdecode(entry).split("=", 1) for entry in entries if b"=" in entry)


def _environment() -> dict[str, str]:
    """As this process was given it; without a PWD that names another directory: shells would look in vain after it."""
    environment, given = dict(os.environ), _given()
    environment.pop("LC_CTYPE", None)  # in the locale C it is Python's own: with it groff, say, reads other fonts
    if "LC_CTYPE" in given:
        environment["LC_CTYPE"] = given["LC_CTYPE"]
    try:
        stale = not Path(environment.get("PWD", "/nowhere")).samefile(Path.cwd())
    except OSError:
        stale = True
    if stale:
        environment.pop("PWD", None)
    return environment


def _find_command(name: str) -> None:
    if shutil.which(name) is None:
        exists = "/" in name and Path(name).exists()
        what, status = ("cannot be executed", 126) if exists else ("there is no such command", 127)
        raise NotStartedError(f"{name or repr(name)}: {what}", status)


def _tell(options: argparse.Namespace, trace: Trace, result: TraceResult, findings: list[Finding]) -> None:
    if options.quiet:
        return
    color = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    # Absent files, which may be very many, only -v shows.
    shown = findings if options.verbose else [f for f in findings if f.kind is not FindingKind.ABSENT]
    text = plain(render(shown, options.verbose, color), options.verbose)
    text += "".join(f"Warning: {printable(line)}\n" for line in told(result.processes))
    for notice in (*trace.session.notices, *result.notices):
        text += f"Warning: {notice}\n"
    if options.verbose:
        text += "".join(f"fence: {printable(remark)}\n" for remark in result.remarks)
        text += f"{tiers_line(trace.tiers)}\n"
    if text:
        complain(text.removesuffix("\n"))


def _tiers(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [name for name in text.replace(",", " ").split() if name]
    for name in names:
        if name not in TIERS:
            raise UsageError(f"--tiers: there is no tier {name!r}; they are {', '.join(TIERS)}")
        if name not in available_tiers():
            raise PorttraceError(f"--tiers: this machine does not have the tier {name}")
    if not names:
        raise UsageError(f"--tiers: name at least one of {', '.join(TIERS)}")
    return names


def main(argv: Sequence[str]) -> int:
    """See `porttrace run --help`. Raises PorttraceError (exit status 125, unless it is a NotStartedError)."""
    options = _parse(argv)
    identity = Identity.named(options.user) if options.user else Identity.current()
    tiers = _tiers(options.tiers)
    policy, registry = build_policy(options)
    _find_command(options.command[0])
    if options.report is not None:
        check_writable(options.report)
    baseline = read_report(options.baseline) if options.baseline is not None else None
    log = LogFile(options.log) if options.log is not None else None
    with _Runner() as runner, Session(identity, tiers, owns_children=True) as session:
        session.stamped = options.report is not None
        trace = session.start(policy, Path.cwd())
        if registry is not None and options.ask == "socket":
            trace.answer_with(_live_owner(registry, lambda path: trace.image.decide(path).port))
        status = runner.run([*trace.launch_argv, *options.command], _environment())
        trace.started[runner.pid] = options.command[0]
        result = trace.stop()
        if registry is not None and policy.prefix is not None and result.listed:
            found = left_out(result.listed, registry, policy.prefix, policy.closure, audit=policy.audit)
            result = replace(result, findings=[*result.findings, *found])
        return _finish(options, trace, result, status, log, registry, baseline)


def _finish(
    options: argparse.Namespace,
    trace: Trace,
    result: TraceResult,
    status: int,
    log: LogFile | None,
    registry: Path | None,
    baseline: dict[str, Any] | None,
) -> int:
    stats = dict(result.stats)
    failed = None
    if log is not None:
        try:
            stats["accesses"] = log.write(trace.write_log)
        except PorttraceError as error:
            failed = error
    stats["exit_status"] = status
    stats["ended_processes"] = len(result.processes)
    findings = result.findings
    if options.report is not None or baseline is not None:
        phase = phase_context(trace, result, registry=registry or "", deps=named_ports(options))
        report = make_report(options.command, trace.tiers, findings, stats, [phase])
        if baseline is not None:
            new = {id(row) for row in fresh(report, baseline)}
            findings = [f for f, row in zip(findings, report["findings"], strict=True) if id(row) in new]
        if options.report is not None:
            try:
                write_report(options.report, report)
            except PorttraceError as error:
                failed = failed or error
    _tell(options, trace, result, findings)
    if failed is not None:
        raise failed
    if options.strict and (result.incomplete or any(finding.kind in VIOLATIONS for finding in findings)):
        return 3
    return status
