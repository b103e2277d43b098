"""What a full log and a report cost: traced builds with both against the same builds traced without them.

usage: bench/logcost.py [--cache DIR] [--runs N] [--only NAME,…]

Real builds under ``porttrace run``, by turns without anything, with ``--log`` and ``--report``, and without anything
again (the second against the first tells how much of a difference is chance). The figure of a build is the median of
the ratios of neighbouring runs; time is that of the whole command, the writing of the log at its end included.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from builds import BUILDS, Build

PORTTRACE = Path(sys.executable).with_name("porttrace")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HELD = 1.05
"""The ratio that the median of all builds has to stay below."""


def once(build: Build, tree: Path, out: Path, log: bool) -> tuple[float, float, int]:
    """Wall and processor seconds of one run, and the lines of its log. Raises RuntimeError where it fails."""
    with tempfile.TemporaryDirectory(prefix="porttrace-logcost-", dir=out) as name:
        work = Path(name) / "tree"
        shutil.copytree(tree, work, symlinks=True)
        files = ["--log", f"{name}/log", "--report", f"{name}/report"] if log else []
        argv = [str(PORTTRACE), "run", "-q", *files, "--", "sh", "-c", f"({build.script}) >build.out 2>&1"]
        env = {"PATH": PATH, "HOME": "/", "LANG": "C"}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(argv, cwd=work, env=env, capture_output=True, text=True)
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise RuntimeError(f"{build.name}: status {done.returncode}: {done.stderr[-300:]}")
        lines = (Path(name) / "log").read_bytes().count(b"\n") if log else 0
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used, lines


def main() -> int:
    """The command line; 1 where the median over the builds is above what is to be held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "porttrace-sources")
    parser.add_argument("--out", type=Path, default=Path("/srv"), help="where the builds are done (default: /srv)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    options.cache.mkdir(exist_ok=True)
    only = [name for name in options.only.split(",") if name]
    print("| build | s | lines of log | with log and report: time | processor time | without, again: time | the same |")
    print("|---|---|---|---|---|---|---|")
    ratios: list[float] = []
    for build in BUILDS:
        if (only and build.name not in only) or not shutil.which(build.needs, path=PATH):
            continue
        tree = build.tree(options.cache)
        once(build, tree, options.out, False)  # the caches are warm from here on
        rows = []
        for _ in range(options.runs):
            plain = once(build, tree, options.out, False)
            rows.append((plain, once(build, tree, options.out, True), once(build, tree, options.out, False)))
        wall = statistics.median(log[0] / ((a[0] + b[0]) / 2) for a, log, b in rows)
        used = statistics.median(log[1] / ((a[1] + b[1]) / 2) for a, log, b in rows)
        again = [statistics.median(b[at] / a[at] for a, _, b in rows) for at in (0, 1)]
        seconds = statistics.median(a[0] for a, _, _ in rows)
        lines = rows[0][1][2]
        figures = [f"{seconds:.2f}", lines, f"{wall:.3f}", f"{used:.3f}", f"{again[0]:.3f}", f"{again[1]:.3f}"]
        print("|", build.name, "|", " | ".join(map(str, figures)), "|", flush=True)
        ratios.append(used)
    middle = statistics.median(ratios)
    print(f"\nmedian of the builds' processor time: {middle:.3f} (held: {HELD})")
    return 1 if middle > HELD else 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
