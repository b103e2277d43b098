"""`porttrace explain`: why a path is hidden, visible, redirected or refused."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any

from porttrace.cli.parser import Parser
from porttrace.cli.run import add_policy_options, build_policy, named_ports
from porttrace.context import PhaseContext, chains_of, read_context
from porttrace.errors import PorttraceError, UsageError
from porttrace.explain import Explanation, PhaseView, Verdict, explain
from porttrace.messages import printable, times
from porttrace.report import read_report

__all__ = ["main", "text"]

_EPILOG = r"""
With a REPORT the policies are those that were in force when it was written, phase by phase, and each program that
asked for the path is named. Without one, the policy is described by the same options as for `porttrace run`.

exit status: 0; 1 where the question cannot be answered (no such report, no such registry); 2 for a wrong option.

examples:
  porttrace explain /usr/local/lib/libz.so               would `porttrace run` show it?
  porttrace explain --prefix /opt/local --deps foo /opt/local/include/stray.h
  porttrace explain --map '/usr/include=>/sdk/usr/include' /usr/include/stdio.h
  port -t --report out.json install foo; porttrace explain /opt/local/include/stray.h out.json
  porttrace explain --phase build --json /opt/local/bin/m4 out.json
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="porttrace explain",
        usage="porttrace explain [options] PATH [REPORT]",
        description="Say why a path is hidden, visible, redirected or refused: its real path and the links on the way, "
        "the rule that decides and where it was written, the port that owns it and the dependencies that lead to that "
        "port, who asked for it, and what would change the verdict.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("path", metavar="PATH", help="the path; it need not exist")
    parser.add_argument("report", metavar="REPORT", nargs="?", help="what --report FILE wrote; - is standard input")
    add_policy_options(parser)
    parser.add_argument("--strict", action="store_true", help="as for run: files that no port owns are hidden, too")
    parser.add_argument("--phase", metavar="NAME", help="only this phase of the report")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser


def _of_options(options: argparse.Namespace) -> list[PhaseContext]:
    options.audit, options.log = False, None
    policy, registry = build_policy(options)
    names = named_ports(options)
    chains = chains_of(registry, names) if registry else {}
    return [PhaseContext(policy, registry=str(registry or ""), deps=tuple(names), chains=chains)]


def _of_report(options: argparse.Namespace, report: dict[str, Any]) -> list[PhaseContext]:
    if options.rules or options.prefix or options.registry or options.deps or options.no_defaults or options.strict:
        raise UsageError("a report brings its own policy: leave out the options that describe one, or the report")
    phases = read_context(report, options.report)
    if not phases:
        raise PorttraceError(
            f"{options.report} does not say which policy was in force (an older version wrote it): write it again"
        )
    if options.phase is not None:
        known = list(dict.fromkeys(phase.policy.phase for phase in phases))
        phases = [phase for phase in phases if phase.policy.phase == options.phase]
        if not phases:
            names = ", ".join(name or "(none)" for name in known)
            raise PorttraceError(f"--phase {options.phase}: the report has no such phase; it has {names}")
    return phases


def _verdict(what: str, verdict: Verdict) -> list[str]:
    head = f"  {what}: {verdict.word}" + (f" to {verdict.target}" if verdict.target else "")
    lines = [head]
    if verdict.rule:
        lines.append(
            f"    rule: {printable(verdict.rule)}" + (f"  ({printable(verdict.origin)})" if verdict.origin else "")
        )
    if verdict.why:
        lines.append(f"    {printable(verdict.why)}")
    return lines


def _heading(view: PhaseView) -> str:
    phases = [phase for phase in dict.fromkeys(view.phases) if phase]
    if not view.port and not phases:
        return "under this policy:"
    named = f"phase{'s' * (len(phases) > 1)} {', '.join(phases)}" if phases else ""
    return f"{view.port}{', ' if view.port and named else ''}{named}:"


def text(found: Explanation) -> str:
    """The explanation for people."""
    lines = [printable(found.asked)]
    if found.real != found.asked:
        lines.append(f"  real path: {printable(found.real)}")
    lines += [f"  through the link {printable(link)} -> {printable(to)}" for link, to in found.links]
    lines.append("  nothing is there now" if found.kind == "nothing" else f"  it is a {found.kind}")
    lines.append(f"  belongs to port {found.owner}" if found.owner else "  belongs to no port that is known here")
    asking = [view for view in found.views if view.asked]
    for view in asking or found.views:
        lines += ["", _heading(view), *_verdict("reading", view.read), *_verdict("changing", view.write)]
        if found.owner and not view.chain and view.sees:
            lines.append(f"  ports whose files are seen: {', '.join(view.sees)}")
        for phase, accesses in view.used.items():
            during = f" in phase {phase}" if phase else ""
            lines.append(f"  used{during}: {', '.join(accesses)}")
        for asked in view.asked:
            via = f" ({' > '.join(asked['chain'])})" if len(asked["chain"]) > 1 else ""
            phase = f" in phase {asked['phase']}" if asked["phase"] else ""
            name = printable(f"{asked['chain'][-1]}{via}")
            lines.append(f"  asked for by {name}{phase}: {asked['access']}, {times(asked['count'])} ({asked['code']})")
        # Nobody asked, and several phases are alike: each has its own line, one of them shows how it is written.
        changes = view.changes if view.asked or len(view.phases) == 1 else view.changes[-2:]
        lines += [f"  {printable(change)}" for change in changes]
    quiet = [_heading(view).rstrip(":") for view in found.views if not view.asked] if asking else []
    if quiet:
        lines += ["", f"not asked for in: {'; '.join(quiet)} (--phase NAME explains one of them)"]
    return "".join(f"{printable(line)}\n" for line in lines)


def main(argv: Sequence[str]) -> int:
    """See `porttrace explain --help`. Raises PorttraceError where the question cannot be answered."""
    options = _parser().parse_args(list(argv))
    if options.path.startswith("~"):
        raise UsageError(
            f'{options.path}: only a shell knows ~, and not in quotes; write "$HOME" (or ./{options.path}, the name)'
        )
    findings: list[dict[str, Any]] = []
    if options.report is None:
        if options.phase is not None:
            raise UsageError("--phase needs a report")
        phases = _of_options(options)
    else:
        report = read_report(options.report)
        phases, findings = _of_report(options, report), report["findings"]
    found = explain(os.fspath(options.path), phases, findings)
    print(json.dumps(found.to_json(), indent=1) if options.json else text(found), end="\n" if options.json else "")
    return 0
