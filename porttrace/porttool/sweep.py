"""`port sweep PORT…|all`: dependency-test many ports, each in a prefix of its own."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any

from porttrace.cli.parser import Parser
from porttrace.errors import PorttraceError, UsageError
from porttrace.porttool.commands import HostCommands
from porttrace.porttool.host import Host
from porttrace.porttool.registry_commands import RegistryCommands
from porttrace.porttool.settings import Settings
from porttrace.porttool.ui import Ui
from porttrace.report import write_text
from porttrace.sweep import engine as engines
from porttrace.sweep.job import Job
from porttrace.sweep.page import as_html
from porttrace.sweep.place import mounts, sweep_out
from porttrace.sweep.plan import TEST, Node, Plan, make_nodes, tree_digest
from porttrace.sweep.results import Results
from porttrace.sweep.run import sweep
from porttrace.tclbridge import tcllist

__all__ = ["main", "make_parser"]

_EPILOG = """
Each port is tested as by `port deptest` in a prefix that is made for it: its dependencies are installed from archives,
which are made once, and so is every port that stands before it in the order of dependencies, so that a use of one is
seen. Nothing of the prefix that is in use is changed.

A sweep that was stopped goes on where it was when the same is started again; a port whose files have changed, and
what depends on it, is done again. The work can be spread over machines: dask scheduler; dask worker ADDRESS on each;
port sweep --scheduler ADDRESS --directory SHARED all.

exit status: 0 where all dependencies are right; 3 where something is to be changed; 1 where a port failed;
2 for a wrong command line.

examples:
  port -t sweep all                           every port of the trees, as many at a time as there are processors
  port -t sweep --jobs 4 --results r.db foo   foo, and what it needs is built
  port -t sweep --json all >result.json
"""
_WORDS = {"right": "right", "change": "to be changed", "built": "built"}
_CARRIED = (
    *("macportsuser", "build_arch", "buildnicevalue", "configureccache", "configurepipe", "extra_env"),
    *("trace_sdk", "sandbox_enable", "variants_conf"),
)
"""Settings of the user's prefix that the prefixes of a sweep have too."""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(
        prog="port sweep",
        description="Dependency-test many ports under trace mode, in dependency order, each in a prefix of its own.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", metavar="PORT", nargs="+", help="a port of the tree; all: every one")
    parser.add_argument("--jobs", type=int, metavar="N", help="ports at a time (default: one a processor)")
    parser.add_argument("--results", metavar="FILE", help="the results, an SQLite file (default: in the directory)")
    parser.add_argument("--page", metavar="FILE", help="the summary (default: beside the results, with .html)")
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="where archives, prefixes and logs lie (default: ${portdbpath}/porttrace/sweep); with --scheduler under "
        "the same path on all machines",
    )
    parser.add_argument("--alone", action="store_true", help="prefixes with nothing but the port's dependencies")
    parser.add_argument("--retry", action="store_true", help="do the ports that failed again")
    parser.add_argument("--restart", action="store_true", help="forget the results that are there")
    parser.add_argument("--timeout", type=float, default=0, metavar="SECONDS", help="give a port up after that long")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="work on the workers of this Dask scheduler")
    parser.add_argument("--json", action="store_true", help="the results as one JSON object on standard output")
    return parser


def main(ui: Ui, prefix: Path | None, argv: Sequence[str]) -> int:
    """The exit status. PorttraceError where it cannot be begun, or not gone on with."""
    options = make_parser().parse_args(list(argv))
    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}: at least one port has to be worked on at a time")
    if not options.timeout >= 0:  # nan is none
        raise UsageError(f"--timeout {options.timeout:g}: it must be a number of seconds")
    for name in ("results", "page", "directory", "scheduler"):
        if getattr(options, name) == "":
            raise UsageError(f"--{name} is empty: leave it out, or give it a value")
    settings = Settings(prefix, lambda text: ui.say("warn", text))
    directory = Path(options.directory or settings.portdbpath / "porttrace" / "sweep").absolute()
    file = Path(options.results or directory / "results.sqlite").absolute()
    page = Path(options.page).absolute() if options.page else file.with_suffix(".html")
    try:
        for needed in (directory / "logs", directory / "prefix" / "etc" / "macports"):
            needed.mkdir(mode=0o755, parents=True, exist_ok=True)
        with _alone(directory):
            return _sweep(ui, settings, directory, file, page, options)
    except OSError as error:
        raise PorttraceError(f"{error.filename or directory}: {error.strerror}") from None


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PorttraceError(f"another sweep works in {directory}: wait for it, or use --directory") from None
        yield


def _sweep(ui: Ui, settings: Settings, directory: Path, file: Path, page: Path, options: argparse.Namespace) -> int:
    token = secrets.token_hex(16)
    write_text(directory / "token", token, "sweep")
    (directory / "token").chmod(0o644)
    sweep_out(directory)
    if options.restart:
        with Results(file):  # that it is one
            pass
        file.unlink()
    with Results(file) as results:
        plan = _plan(settings, directory, options, ui.progress)
        ui.progress("")
        own_jobs = options.jobs or _processors()
        scheduler = options.scheduler
        ui.say("debug", f"order: {' '.join(plan.nodes[name].name for name in plan.order)}")
        if not scheduler and own_jobs > 1 and not mounts():
            _note(options, "this user may not make mounts: each of the jobs builds the dependencies for its own prefix")
        opened = (
            engines.connect(scheduler, options.jobs or 0, str(directory), token)
            if scheduler
            else engines.local(own_jobs)
        )
        started = time.monotonic()
        with opened as engine, _signals() as stop:
            try:
                status = sweep(
                    plan,
                    results,
                    engine,
                    _maker(settings, plan, directory, token, own_jobs, options.timeout),
                    _teller(ui, plan, options),
                    options.retry,
                )
            except (KeyboardInterrupt, engines.EngineLost):
                ui.progress("")
                engine.stop(token)
                write_text(page, as_html(results.rows(), f"stopped; {_about(settings)}"), "page")
                if not stop:
                    raise
                print("port: stopped; start the same again to go on", file=sys.stderr)
                sys.stderr.flush()
                results.__exit__(None, None, None)
                signal.signal(stop[0], signal.SIG_DFL)
                os.kill(os.getpid(), stop[0])
        ui.progress("")
        rows = results.rows()
    write_text(page, as_html(rows, _about(settings)), "page")
    page.chmod(0o644)
    asked = {node.name for node in plan.nodes.values() if node.kind == TEST}
    if options.json:
        _print_json(rows, asked, file, page)
    else:
        _print_summary(ui, rows, asked, set(status), time.monotonic() - started)
        _print_places(ui, rows, directory, file, page)
    words = {status[name.lower()] for name in asked} | ({"failed"} if "failed" in status.values() else set())
    return 1 if words & {"failed", "crashed", "blocked"} else 3 if "change" in words else 0


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _about(settings: Settings) -> str:
    return f"{', '.join(str(tree.path) for tree in settings.trees)} · {time.strftime('%Y-%m-%d %H:%M:%S %z')}"


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The first signal that asks to end becomes KeyboardInterrupt; the list holds it. Others do not disturb that."""
    stopped: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        if len(stopped) == 1:
            raise KeyboardInterrupt

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stopped
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _sources(settings: Settings) -> str:
    return "".join(f"file://{tree.path}{' [default]' if tree.default else ''}\n" for tree in settings.trees)


def _plan(settings: Settings, directory: Path, options: argparse.Namespace, progress: Callable[[str], None]) -> Plan:
    """What is to be done; in a large tree this takes its time. Portfiles are read as where nothing is installed."""
    if not settings.trees:
        raise PorttraceError(f"there is no ports tree; name one in {settings['sources_conf']}")
    empty = directory / "prefix"
    text = f"prefix {empty}\nportdbpath {empty}/var/macports\n" + _carried(settings)
    (empty / "etc/macports/macports.conf").write_text(text, encoding="utf-8")
    (empty / "etc/macports/sources.conf").write_text(_sources(settings), encoding="utf-8")
    ui = Ui(0)
    with _host(ui, Settings(empty, lambda _: None), progress) as host:
        names = list(options.names)
        if "all" in names:
            names = tcllist.split(host.interp.eval("::port::all_names"))
        for name in names:
            if not name or name[0] in "+-@" or any(sign in name for sign in "=/@ "):
                raise UsageError(f"{name!r} is no name of a port: a sweep takes names only, or all")
        rows = [_dict(row) for row in tcllist.split(host.interp.eval(tcllist.join(["::port::graph", names])))]
    nodes = make_nodes(rows, [tcllist.split(row["needs"]) for row in rows])
    wanted = {name.lower() for name in names}
    for node in nodes:
        if not node.portdir and node.name.lower() in wanted:
            raise PorttraceError(node.error)
    salt = b"".join(tree_digest(tree.path / "_resources" / "port1.0" / "group") for tree in settings.trees)
    return Plan(nodes, names, options.alone, salt + _carried(settings).encode())


def _dict(text: str) -> dict[str, str]:
    words = tcllist.split(text)
    return dict(zip(words[::2], words[1::2], strict=True))


@contextmanager
def _host(ui: Ui, settings: Settings, progress: Callable[[str], None]) -> Iterator[Host]:
    host = Host(lambda _: None)
    try:
        host.register({**HostCommands(ui, settings, None).table(), "ui_progress": progress})
        host.register(RegistryCommands(settings.portdbpath, settings.prefix, ui.say, None).table())
        tcl = files("porttrace") / "tcl"
        for script in ("port.tcl", "actions/graph.tcl"):
            host.run("source", str(tcl / script))
        yield host
    finally:
        host.close()


def _carried(settings: Settings) -> str:
    return "".join(f"{key} {settings[key]}\n" for key in _CARRIED if settings[key])


def _maker(
    settings: Settings, plan: Plan, directory: Path, token: str, most: int, seconds: float
) -> Callable[[Node, Collection[str]], Job]:
    makejobs = int(settings["buildmakejobs"]) if settings["buildmakejobs"].isdigit() else 0
    makejobs = makejobs or max(1, _processors() // most)
    # Quick to pack and to unpack; nobody sees these archives.
    own = f"buildmakejobs {makejobs}\nportarchivetype tar.zst\n"
    distfiles = settings.portdbpath / "distfiles"
    distfiles.mkdir(mode=0o755, parents=True, exist_ok=True)

    def make(node: Node, usable: Collection[str]) -> Job:
        name = node.name.lower()

        def pairs(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
            return tuple((plan.nodes[n].name, plan.nodes[n].key) for n in names)

        return Job(
            node.name,
            node.key,
            node.kind,
            str(directory),
            token,
            own + _carried(settings),
            _sources(settings),
            str(distfiles),
            pairs(plan.closure(name)),
            pairs([other for other in plan.others(name) if other in usable]),
            seconds,
        )

    return make


def _note(options: argparse.Namespace, text: str) -> None:
    print(text, file=sys.stderr if options.json else sys.stdout, flush=True)


def _line(node_name: str, status: str, error: str, findings: Sequence[Any]) -> str:
    named = {"undeclared-dependency": "missing", "linkage": "missing at run time", "unused-dependency": "superfluous"}
    parts = [f"{named.get(f['kind'], f['kind'].replace('-', ' '))} {f['port']}" for f in findings]
    more = f": {', '.join(parts)}" if parts else f": {error}" if error else ""
    return f"{node_name}: {_WORDS.get(status, status)}{more}"


def _teller(ui: Ui, plan: Plan, options: argparse.Namespace) -> Any:
    count: Counter[str] = Counter()

    def tell(node: Node | None, outcome: dict[str, Any], running: list[str]) -> None:
        if node is not None:
            count[outcome["status"]] += 1
            if ui.level > 0 and (node.kind == TEST or (node.portdir and outcome["status"] not in _WORDS)):
                ui.progress("")
                _note(
                    options, _line(node.name, outcome["status"], outcome.get("error", ""), outcome.get("findings", []))
                )
        bad = sum(count[word] for word in ("failed", "crashed", "blocked"))
        ui.progress(
            f"[{sum(count.values())}/{len(plan.nodes)}] {count['change']} to be changed, {bad} failed; "
            f"now: {', '.join(running) or '-'}"[: shutil.get_terminal_size().columns - 1]
        )

    return tell


def _print_json(rows: Sequence[dict[str, Any]], asked: set[str], file: Path, page: Path) -> None:
    ports = [{key: value for key, value in row.items() if key != "log"} for row in rows if row["name"] in asked]
    counts = Counter(row["status"] for row in ports)
    print(
        json.dumps({"version": 1, "results": str(file), "page": str(page), "counts": counts, "ports": ports}, indent=1)
    )


def _print_summary(ui: Ui, rows: Sequence[dict[str, Any]], asked: set[str], planned: set[str], seconds: float) -> None:
    mine = [row for row in rows if row["name"] in asked]
    counts = Counter(row["status"] for row in mine)
    said = [f"{counts[word]} {_WORDS.get(word, word)}" for word in ("right", "change", "failed", "crashed", "blocked")]
    built = sum(row["status"] == "built" and row["name"].lower() in planned for row in rows)
    more = f", {built} built for them" if built else ""
    ui.say("msg", f"{len(mine)} port{'s' if len(mine) != 1 else ''}{more}, {seconds:.1f} s: {', '.join(said)}")
    for row in mine:
        if row["status"] not in ("right",):
            ui.say("msg", "  " + _line(row["name"], row["status"], row["error"], row["findings"]))


def _print_places(ui: Ui, rows: Sequence[dict[str, Any]], directory: Path, file: Path, page: Path) -> None:
    if any(row["status"] in ("failed", "crashed") and row["seconds"] for row in rows):
        ui.say("msg", f"what failed is done again with --retry; logs: {directory / 'logs'}")
    ui.say("msg", f"results: {file}\npage:    {page}")
