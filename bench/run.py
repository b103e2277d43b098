"""Time porttrace against comparable tools: whole commands, interleaved, median ratios.

usage: bench/run.py [--runs N] [--base DIR] [--only WORKLOAD,…] [--peers NAME,… | --no-peers]
                    [--peer NAME='COMMAND PREFIX'] [--registry-files N] [--out DIR]

Timings on shared machines are noisy. Each round runs every peer once on a workload, in an order that is drawn anew, and
the figure is the median over the rounds of (this peer's wall time / the untraced time of the same round).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from ours import porttrace_peers
from peers import Peer, given, packaged, yardsticks
from workloads import Workload, prepare

HERE = Path(__file__).resolve().parent


def build_native(out: Path) -> Path:
    """Compile the yardsticks (an empty library, a Landlock launcher, a spawner) into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    cc = ["cc", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*cc, "-shared", "-fPIC", "-o", out / "empty.so", HERE / "native/empty.c"], check=True)
    for name in ("landlock", "spawn"):
        subprocess.run([*cc, "-o", out / name, HERE / f"native/{name}.c"], check=True)
    return out


def once(peer: Peer, work: Workload) -> float:
    """Seconds of wall time of one run. Raises SystemExit where the command fails: a wrong result has no speed."""
    work.reset()
    env = {**os.environ, "LC_ALL": "C", **peer.env}
    start = time.perf_counter()
    done = subprocess.run(
        [*peer.prefix, *work.argv], cwd=work.cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    seconds = time.perf_counter() - start
    if done.returncode not in ((0, 1) if work.name == "grep -r" else (0,)):
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise SystemExit(f"{peer.name}: {work.name}: exit {done.returncode}: {' / '.join(tail)}")
    return seconds


def measure(peers: list[Peer], works: list[Workload], runs: int) -> dict[str, dict[str, list[float]]]:
    """seconds[workload][peer] = one entry a round."""
    rng = random.Random(0)
    seconds: dict[str, dict[str, list[float]]] = {w.name: {p.name: [] for p in peers} for w in works}
    for work in works:
        for peer in peers:  # warm the caches, and find a peer that cannot do it before the long part
            once(peer, work)
        for round_ in range(runs):
            order = peers[:]
            rng.shuffle(order)
            for peer in order:
                if sys.stderr.isatty():
                    print(f"\r\033[K{work.name}: round {round_ + 1}/{runs}, {peer.name}", end="", file=sys.stderr)
                seconds[work.name][peer.name].append(once(peer, work) / work.repeat)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return seconds


def ratios(
    seconds: dict[str, dict[str, list[float]]], against: str
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """(lower quartile, median, upper quartile) of the ratio to `against`, pair by pair within a round."""
    out: dict[str, dict[str, tuple[float, float, float]]] = {}
    for work, by_peer in seconds.items():
        out[work] = {}
        for peer, values in by_peer.items():
            pairs = sorted(a / b for a, b in zip(values, by_peer[against], strict=True))
            q = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else [pairs[0]] * 3
            out[work][peer] = (q[0], statistics.median(pairs), q[2])
    return out


def table(seconds: dict[str, dict[str, list[float]]], peers: list[Peer]) -> str:
    """Markdown: one row a peer, one column a workload, median ratio to the untraced run."""
    ratio = ratios(seconds, "untraced")
    works = list(seconds)
    lines = ["| | " + " | ".join(works) + " |", "|---|" + "---|" * len(works)]
    for peer in peers:
        cells = [
            f"{ratio[w][peer.name][1]:.2f} ({ratio[w][peer.name][0]:.2f}-{ratio[w][peer.name][2]:.2f})" for w in works
        ]
        lines.append(f"| {peer.name} | " + " | ".join(cells) + " |")
    base = [f"{statistics.median(seconds[w]['untraced']):.4g} s" for w in works]
    lines.append("| *untraced, median* | " + " | ".join(base) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--base", type=Path, default=Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None)
    parser.add_argument("--only", default="")
    parser.add_argument("--peers", default=None, help="packaged peers to take, comma separated (default: all)")
    parser.add_argument("--no-peers", action="store_true", help="only the yardsticks and porttrace")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME='COMMAND PREFIX'")
    parser.add_argument("--registry-files", type=int, default=100_000)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "porttrace-bench-sources")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()

    args.cache.mkdir(parents=True, exist_ok=True)
    base = Path(tempfile.mkdtemp(prefix="porttrace-bench.", dir=args.base))
    base.chmod(0o755)
    peers: list[Peer] = []
    try:
        native = build_native(base / "native")
        works = [
            w for w in prepare(base, native, args.cache) if not args.only or w.name.split()[0] in args.only.split(",")
        ]
        peers = yardsticks(native, base)
        if not args.no_peers:
            found, missing = packaged(base, None if args.peers is None else set(args.peers.split(",")))
            peers += found
            for name in missing:
                print(f"not measured, because it is not installed: {name}", file=sys.stderr)
        peers += given(args.peer)
        peers += porttrace_peers(base, args.registry_files)
        seconds = measure(peers, works, args.runs)
    finally:
        for peer in peers:
            peer.close()
        shutil.rmtree(base, ignore_errors=True)

    text = table(seconds, peers)
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release()}, {args.runs} rounds, "
        f"registry of {args.registry_files} files"
    )
    (args.out / "macro.md").write_text(
        f"# Whole commands\n\nMedian ratio of wall time to the untraced run (quartiles); {machine}.\n\n{text}",
        encoding="utf-8",
    )
    (args.out / "macro.json").write_text(
        json.dumps({"machine": machine, "seconds": seconds}, indent=1), encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
