"""What the drop-in costs a whole `port install` of an unmodified MacPorts: ``python bench/dropin.py PREFIX [PORT]``.

The same install with and without ``-t``, in turn, in a scratch prefix beside the MacPorts (as the tests make it). Told
are the medians of the ratios of neighbours: of wall-clock time until port has ended, and of processor time (user and
system, of port and all that it started, the core included, which ends after port), which other work on the machine
hardly changes. The start of the core is told apart: wall-clock time until it answers, and the processor's for one that
nobody asks.

PORT is one of the tree's (foo), or with ``--debian`` a real one: Debian's source package of that name, which must have
a configure script. ``--record`` adds the runs to those in bench/results/dropin.json, and writes dropin.md from all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from macports_host import Macports, scratch_macports  # noqa: E402
from sources import apt_source  # noqa: E402

from porttrace.endings import become_subreaper  # noqa: E402

RESULTS = HERE / "results" / "dropin.json"
PORTFILE = """\
PortSystem 1.0
name {name}
version 1.0
categories devel
license unknown
maintainers nomaintainer
description Debian's source package {package}, for a measurement
long_description ${{description}}
homepage https://porttrace.invalid/
distfiles
extract {{
    system "cp -pR [shellescape {{{tree}}}] [shellescape ${{worksrcpath}}]"
}}
configure.args {args}
use_parallel_build no
"""


def timed(argv: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Seconds until a command ends, and of the processor with what it leaves to us. SystemExit where it fails."""
    with tempfile.TemporaryFile() as errors:  # a pipe would end with the core only
        began = time.perf_counter()
        process = subprocess.Popen(argv, env=env, cwd="/", stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(argv)}: status {process.returncode}\n{said}")
    used = usage.ru_utime + usage.ru_stime
    with contextlib.suppress(ChildProcessError):
        while True:  # orphans, which come to us: the core
            usage = os.wait4(-1, 0)[2]
            used += usage.ru_utime + usage.ru_stime
    return took, used


def core_start(host: Macports) -> tuple[float, float]:
    """Seconds until a core answers that is asked at once; processor time of one that gets ready, and ends unasked."""
    script = "import sys; sys.path += sys.argv[1:]; from porttrace.tclbridge.coprocess import serve; serve()"
    site = next((host.path.parent / "venv/lib").glob("python3*")) / "site-packages"
    argv = [str(host.python), "-I", "-S", "-c", script, str(site)]
    began = time.perf_counter()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"6\n{} pid")
        process.stdin.flush()
        process.stdout.readline()
        took = time.perf_counter() - began
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        time.sleep(0.5)
        assert process.stdin is not None
        process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return took, usage.ru_utime + usage.ru_stime


def install(host: Macports, port: str, *options: str) -> tuple[float, float]:
    """One install from source, from nothing to active."""
    host.forget(port)
    return timed([str(host.home / "bin/port"), *options, "-s", "install", port], host.env)


def add_debian(host: Macports, package: str, cache: Path, args: str) -> str:
    """Make a port of Debian's source package; its name."""
    tree = host.path / "sources" / package
    tree.parent.mkdir(mode=0o755, exist_ok=True)
    subprocess.run(["cp", "-pR", apt_source(package, cache), tree], check=True)
    subprocess.run(["chmod", "-R", "a+rX", tree], check=True)
    name = f"debian-{package}"
    directory = host.prefix.tree / "devel" / name
    directory.mkdir()
    allowed = f"PortGroup porttrace 1.0\nextract.trace_read-append {tree}\n"
    text = PORTFILE.format(name=name, package=package, tree=tree, args=args)
    (directory / "Portfile").write_text(text.replace("distfiles\n", f"distfiles\n{allowed}"))
    host.index()
    return name


def table(records: dict[str, Any]) -> str:
    """All records for people."""
    lines = [
        "# What the drop-in costs a whole install",
        "",
        "Made by `bench/dropin.py`: `port -s install` with and without `-t` by an unmodified MacPorts, in turn.",
        "Seconds are medians of all runs, a ratio is the median of those of neighbours (smallest and largest). The",
        "start of the core, which is part of it, is told apart: it runs beside port's own start. The processor's time",
        "is that of all processes, the core included, which ends after port.",
        "",
        "| MacPorts | port | runs | | without `-t` | with `-t` | ratio | core's start |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in records.values():
        for number, what in ((0, "wall"), (1, "processor")):
            plain = statistics.median(pair[0][number] for pair in record["pairs"])
            traced = statistics.median(pair[1][number] for pair in record["pairs"])
            ratios = sorted(pair[1][number] / pair[0][number] for pair in record["pairs"])
            start = statistics.median(each[number] for each in record["starts"])
            lines.append(
                f"| {record['macports']} | {record['port']} | {len(ratios)} | {what} | {plain:.2f} | {traced:.2f} | "
                f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) | {start:.3f} |"
            )
    lines += ["", f"{os.cpu_count()} processors, {platform.system()} {platform.release()}.", ""]
    return "\n".join(lines)


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description="Overhead of the drop-in on a whole install.")
    parser.add_argument("prefix", type=Path, metavar="PREFIX")
    parser.add_argument("port", nargs="?", default="foo")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--debian", action="store_true", help="PORT is the name of one of Debian's source packages")
    parser.add_argument("--args", default="", help="words for its configure script")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "build" / "bench", help="where sources are kept")
    parser.add_argument("--record", action="store_true", help="add the runs to bench/results/dropin.json")
    parser.add_argument("--unwarmed", action="store_true", help="no pair of runs before those that count")
    given = parser.parse_args()
    become_subreaper()
    if given.debian:
        apt_source(given.port, given.cache)
    with scratch_macports(given.prefix) as host:
        done = host.porttrace("integrate", host.home)
        if done.status:
            raise SystemExit(done.text)
        version = done.text.split()[1]
        port = add_debian(host, given.port, given.cache, given.args) if given.debian else given.port
        if not given.unwarmed:
            install(host, port)
            install(host, port, "-t")
        pairs = [(install(host, port), install(host, port, "-t")) for _ in range(given.runs)]
        starts = [core_start(host) for _ in range(min(given.runs, 10))]
    records = json.loads(RESULTS.read_text()) if given.record and RESULTS.exists() else {}
    fresh = {"macports": version, "port": given.port, "pairs": [], "starts": []}
    record = records.setdefault(f"{version} {given.port}", fresh)
    record["pairs"] += [[[round(each, 3) for each in run] for run in pair] for pair in pairs]
    record["starts"] += [[round(each, 4) for each in start] for start in starts]
    if given.record:
        RESULTS.write_text(json.dumps(records, indent=1) + "\n")
        RESULTS.with_suffix(".md").write_text(table(records))
    print(table({"now": record}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
