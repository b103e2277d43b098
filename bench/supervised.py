"""What the supervisor adds to one call of a static program: ``python bench/supervised.py [--rounds N] [--record]``.

Three take turns: nobody, a process that is told of each file call and judges nothing (``native/notify.c``: what the
kernel's notification costs on this machine), and porttrace's session with the phase policy of a port and a registry of
100,000 files. Told are medians, with quartiles, of the wall time added within a round.

``--record`` adds a line to those in bench/results/supervised.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from compiled import build_native  # noqa: E402
from interleave import Effort, added, interleave, middle  # noqa: E402
from ours import policy  # noqa: E402

from porttrace.session import Session  # noqa: E402

PLAIN, NOTIFY, OURS = "untraced", "notification alone", "porttrace"
RESULTS = HERE / "results/supervised.md"
REGISTRY_FILES = 100_000
CALLS = {
    "stat": ("stat", "20000", "/usr/include/stdio.h"),
    "stat, absent": ("stat", "20000", "/usr/include/absent.h"),
    "access": ("access", "20000", "/usr/include/stdio.h"),
    "open+close": ("open", "20000", "/usr/include/stdio.h"),
}
HEAD = f"""\
# What a supervised call costs

Made by `bench/supervised.py`: microseconds of wall time that a call of a static program takes longer (medians of
rounds that were taken in turns, with quartiles): where a process is told of it and judges nothing (what the kernel's
notification costs), and where porttrace answers.

| day | machine | | {" | ".join(CALLS)} |
|---|---|---|{"---|" * len(CALLS)}
"""


def measure(rounds: int) -> dict[str, list[str]]:
    """For the notification alone and for porttrace: a cell for each call."""
    cells: dict[str, list[str]] = {NOTIFY: [], OURS: []}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "prefix").mkdir()
        native = build_native(base / "native")
        with Session() as session:
            trace = session.start(policy(base, native, REGISTRY_FILES, fence=True), base)
            words: dict[str, list[str]] = {PLAIN: [], NOTIFY: [str(native / "notify")], OURS: trace.launch_argv}
            for label, call in CALLS.items():

                def once(peer: str, call: tuple[str, str, str] = call) -> float:
                    argv = [*words[peer], str(native / "micro-static"), *call]
                    return float(subprocess.run(argv, capture_output=True, check=True).stdout.split()[1]) / 1000

                values = interleave(list(words), once, Effort(1e9, rounds, rounds), label)
                for peer, row in cells.items():
                    low, median, high = added(values, peer, PLAIN)
                    row.append(f"+{median:.1f} ({low:.1f} to {high:.1f})")
                told = (f"{peer} {row[-1]}" for peer, row in cells.items())
                print(f"{label}: {middle(values[PLAIN]):.2f} µs untraced,", ", ".join(told))
    return cells


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    cells = measure(options.rounds)
    if options.record:
        machine = f"{os.cpu_count()} processors, Linux {platform.release().split('-')[0]}"
        text = RESULTS.read_text() if RESULTS.exists() else HEAD
        for peer, row in cells.items():
            text += f"| {date.today()} | {machine} | {peer} | {' | '.join(row)} |\n"
        RESULTS.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
