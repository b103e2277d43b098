"""What tracing costs: porttrace, its limits and comparable tools, on whole commands and single calls; and how it grows.

usage: bench/run.py [--quick] [--minutes N] [--only WORKLOAD,…] [--peers NAME,… | --no-peers]
                    [--peer NAME='COMMAND PREFIX'] [--no-scaling] [--registry-files N] [--base DIR] [--out DIR]

Run by the Python of .venv/. It takes 24 minutes on a machine that does nothing else (--minutes), 4 with --quick, and
writes bench.md, bench.json and bench.svg to bench/results. Packaged peers that are not there are named and left out:
apt-get install fakeroot fakechroot strace proot bubblewrap.

Each round runs every peer once on a workload, in an order drawn anew; a figure is the median over the rounds of its
ratio to another peer's time in the same round. Peers of others join only the first two rounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import scaling
import spawning
from compiled import build_native
from interleave import Effort, Rounds, interleave
from ours import porttrace_peers
from peers import PACKAGED, Peer, given, packaged, yardsticks
from plot import svg
from results import PLAIN, Results, markdown
from workloads import Workload, prepare

HERE = Path(__file__).resolve().parent
#: Part of the time for each workload; what is left is for the preparation.
SHARES = {
    "W1 configure": 0.22,
    "W2 make": 0.16,
    "W3 libtool": 0.08,
    "tar": 0.08,  # a run takes one and a half of the time of another, by where its pages come from: many are needed
    "cp": 0.08,
    "find": 0.03,
    "grep -r": 0.04,
    "fork+exec": 0.06,
}
CALLS_SHARE, SCALING_SHARE = 0.08, 0.12
LONG = ("W1 configure", "W2 make", "W3 libtool")
# name, call of micro.c, how often, path
CALLS = (
    ("stat", "stat", 4000, "/usr/include/stdio.h"),
    ("stat, absent", "stat", 4000, "/usr/include/absent.h"),
    ("access", "access", 4000, "/usr/include/stdio.h"),
    ("open+close", "open", 4000, "/usr/include/stdio.h"),
    ("stat, ask", "stat", 4000, "{base}/prefix/include/port0/h0.h"),
    ("open+close, ask", "open", 4000, "{base}/prefix/include/port0/h0.h"),
    ("readdir of 1,000", "readdir", 40, "{base}/many"),
)


def started(peer: Peer, argv: list[str], cwd: Path, ok: tuple[int, ...] = (0,)) -> str:
    """Run a command under a peer; its output. Raises SystemExit where it fails: a wrong result has no speed."""
    done = subprocess.run([*peer.prefix, *argv], cwd=cwd, env=peer.environment(), capture_output=True)
    if done.returncode not in ok:
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise SystemExit(f"{peer.name}: {' '.join(argv[:3])}: exit {done.returncode}: {' / '.join(tail)}")
    return done.stdout.decode()


def commands(
    peers: list[Peer], guests: list[str], works: list[Workload], seconds: float, quick: bool
) -> dict[str, Rounds]:
    """Seconds of wall time: [workload][peer][round]."""
    by_name = {peer.name: peer for peer in peers}
    out = {}
    for work in works:

        def run(name: str, work: Workload = work) -> float:
            work.reset()
            start = time.perf_counter()
            started(by_name[name], work.argv, work.cwd, (0, 1) if work.name == "grep -r" else (0,))
            return time.perf_counter() - start

        names = [name for name in by_name if not (quick and work.name in LONG and name in guests)]
        for name in [name for name in names if name in guests]:
            try:
                run(name)
            except SystemExit as error:  # what others' tools cannot do is said, and ends nothing
                print(f"not measured: {error}", file=sys.stderr)
                names.remove(name)
        effort = Effort(seconds * SHARES[work.name], least=1 if quick else 3, few=1 if quick else 2)
        out[work.name] = interleave(names, run, effort, work.name, [name for name in guests if name in names])
    return out


def calls(
    peers: list[Peer], guests: list[str], base: Path, native: Path, seconds: float, quick: bool
) -> dict[str, Rounds]:
    """Nanoseconds of wall time of one call: [call][peer][round]."""
    by_name = {peer.name: peer for peer in peers}
    (base / "many").mkdir()
    for i in range(1000):
        (base / "many" / f"file{i:03}").touch()
    asked = base / "prefix" / "include" / "port0" / "h0.h"
    asked.parent.mkdir(parents=True)
    asked.touch()
    out = {}
    for label, call, count, path in CALLS:
        argv = [str(native / "micro"), call, str(count), path.format(base=base)]

        def run(name: str, argv: list[str] = argv) -> float:
            return float(started(by_name[name], argv, base).split()[1])

        effort = Effort(seconds * CALLS_SHARE / len(CALLS), least=2 if quick else 5, few=1 if quick else 2, most=40)
        out[label] = interleave(list(by_name), run, effort, label, guests)
    return out


class Parser(argparse.ArgumentParser):
    """One line for what it does not understand."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a first look: few rounds, others' tools not on W1 to W3")
    parser.add_argument("--minutes", type=float, help="about how long all of it may take (default: 23, quick: 3.5)")
    parser.add_argument("--base", type=Path, default=Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None)
    parser.add_argument("--only", default="", help="workloads by their first words, comma separated")
    parser.add_argument("--peers", default=None, help="packaged peers to take, comma separated (default: all)")
    parser.add_argument("--no-peers", action="store_true", help="only the yardsticks and porttrace")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME='COMMAND PREFIX'",
        help="one more, by what is put before a command; may be given again",
    )
    parser.add_argument("--no-scaling", action="store_true")
    parser.add_argument("--registry-files", type=int, default=100_000)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "porttrace-bench-sources")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    known = {name.split()[0] for name in SHARES}
    for name in filter(None, args.only.split(",")):
        if name not in known:
            parser.error(f"--only knows {', '.join(sorted(known))}, not {name!r}")
    if args.minutes is not None and args.minutes <= 0:
        parser.error("--minutes wants more than 0")
    if args.registry_files < 1:
        parser.error("--registry-files wants at least 1")
    args.wanted = PACKAGED if args.peers is None else set(filter(None, args.peers.split(",")))
    for name in args.wanted - PACKAGED:
        parser.error(f"--peers knows {', '.join(sorted(PACKAGED))}, not {name!r}; others are given by --peer")
    try:
        args.given = given(args.peer)
        args.out.mkdir(parents=True, exist_ok=True)  # known now, not after the measurements
        args.base = Path(tempfile.mkdtemp(prefix="porttrace-bench.", dir=args.base))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return args


def main() -> int:
    """The command line; 0 whatever the figures are."""
    args = arguments()
    began = time.monotonic()
    seconds = 60 * (args.minutes or (3.5 if args.quick else 23))
    args.cache.mkdir(parents=True, exist_ok=True)
    base = args.base
    base.chmod(0o755)
    peers: list[Peer] = []
    try:
        # Not below what a phase can write: a program that the build can have made is supervised besides.
        native = build_native(HERE.parent / "build" / "bench")
        only = set(filter(None, args.only.split(",")))
        works = prepare(base, args.cache, only)
        peers = yardsticks(native, base)
        guests = list(args.given)
        if not args.no_peers:
            found, missing = packaged(base, args.wanted)
            guests = [*found, *guests]
            for name in missing:
                print(f"not measured, because it is not installed: {name}", file=sys.stderr)
        peers += guests
        ours = porttrace_peers(base, native, args.registry_files)
        peers += ours
        names = [peer.name for peer in guests]
        timed = commands(peers, names, works, seconds, args.quick)
        if not only or spawning.WORK in only:
            effort = Effort(seconds * SHARES[spawning.WORK], least=2 if args.quick else 20, most=200, few=20)
            timed[spawning.WORK] = spawning.spawning(peers, names, native, base, effort)
        results = Results(
            machine=f"{os.cpu_count()} cores, Linux {platform.release()}, registry of {args.registry_files:,} files, "
            f"files on {'tmpfs' if str(base).startswith('/dev/shm') else base.parent}",
            loads=[os.getloadavg()[0]],
            commands=timed,
            calls=calls(peers, names, base, native, seconds, args.quick),
            scaling=[],
        )
        if not args.no_scaling:
            effort = Effort(seconds * SCALING_SHARE / 5, least=2 if args.quick else 5, most=40)
            results.scaling += scaling.measure(native / "micro", native / "empty.so", effort, args.quick)
        results.loads.append(os.getloadavg()[0])
    finally:
        for peer in peers:
            peer.close()
        shutil.rmtree(base, ignore_errors=True)
    results.seconds = time.monotonic() - began
    text = markdown(results, args.quick)
    print(text)
    stem = "bench-quick" if args.quick else "bench"
    (args.out / f"{stem}.md").write_text(text, encoding="utf-8")
    (args.out / f"{stem}.json").write_text(json.dumps(dataclasses.asdict(results), indent=1) + "\n", encoding="utf-8")
    picture = svg("Wall time under each tool", results.machine, results.ratios(PLAIN), [p.name for p in peers[1:]])
    (args.out / f"{stem}.svg").write_text(picture, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
