"""What the drop-in costs a whole `port install` of an unmodified MacPorts: ``python bench/dropin.py PREFIX [PORT]``.

The same install with and without ``-t``, in turn, in a scratch prefix beside the MacPorts (as the tests make it). Told
are the medians of the ratios of neighbours: of wall-clock time, and of processor time (user and system, of port and
all that it started), which other work on the machine hardly changes. The start of the core is told apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from macports_host import Macports, scratch_macports


def timed(argv: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Wall-clock and processor time of a command in seconds. SystemExit where it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(argv, env=env, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)}: status {process.returncode}\n{said.decode(errors='replace')}")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def core_start(host: Macports) -> tuple[float, float]:
    """Wall-clock and processor time of a core that starts, reads its data and ends."""
    argv = [str(host.python), "-I", "-m", "porttrace.tclbridge.coprocess"]
    began = time.perf_counter()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def install(host: Macports, port: str, *options: str) -> tuple[float, float]:
    """One install from source, from nothing to active."""
    host.forget(port)
    return timed([str(host.home / "bin/port"), *options, "-s", "install", port], host.env)


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description="Overhead of the drop-in on a whole install.")
    parser.add_argument("prefix", type=Path, metavar="PREFIX")
    parser.add_argument("port", nargs="?", default="foo")
    parser.add_argument("--runs", type=int, default=10)
    given = parser.parse_args()
    with scratch_macports(given.prefix) as host:
        done = host.porttrace("integrate", host.home)
        if done.status:
            raise SystemExit(done.text)
        install(host, given.port)
        install(host, given.port, "-t")
        pairs = [(install(host, given.port), install(host, given.port, "-t")) for _ in range(given.runs)]
        starts = [core_start(host) for _ in range(given.runs)]
    for number, what in ((0, "wall"), (1, "cpu")):
        plain = statistics.median(pair[0][number] for pair in pairs)
        traced = statistics.median(pair[1][number] for pair in pairs)
        ratios = sorted(pair[1][number] / pair[0][number] for pair in pairs)
        start = statistics.median(each[number] for each in starts)
        print(
            f"{what:5} without -t {plain:.3f} s, with -t {traced:.3f} s, ratio {statistics.median(ratios):.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f}); core's start {start:.3f} s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
