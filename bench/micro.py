"""What tracelib adds to one call, against an empty preload library in the same run.

usage: micro.py [ROUNDS]     (the installed package's Python; prints a Markdown table)

The programs take turns, so that a machine that slows down slows all of them; medians over the rounds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from compiled import build_native
from tracelib_session import Session

from porttrace.policy import Ownership

CASES = (
    ("stat", "stat", 20000, "/usr/include/stdio.h"),
    ("stat, absent", "stat", 20000, "/usr/include/absent.h"),
    ("access", "access", 20000, "/usr/include/stdio.h"),
    ("open+close", "open", 20000, "/usr/include/stdio.h"),
    ("fopen+fclose", "fopen", 10000, "/usr/include/stdio.h"),
    ("stat in the ask area", "stat", 20000, "{prefix}/lib/file005"),
    ("readdir of 1000", "readdir", 100, "{prefix}/many"),
    ("fork+exec+wait", "exec", 150, "/bin/true"),
)


@dataclass(frozen=True)
class Setting:
    """The helper, an empty library, ours in a session, and the prefix that is the ask area."""

    micro: Path
    empty: Path
    library: Path
    prefix: Path


@contextmanager
def setting() -> Iterator[Setting]:
    """A phase's policy with a registry of 100,000 files; gone when the context ends."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        prefix = top / "prefix"
        for directory, count in (("lib", 10), ("many", 1000)):
            (prefix / directory).mkdir(parents=True)
            for i in range(count):
                (prefix / directory / f"file{i:03}").touch()
        native = build_native(top / "native")
        files = [(os.fsencode(prefix / "lib" / f"file{i:03}"), "mine") for i in range(10)]
        files += [(f"{prefix}/share/{i}".encode(), f"port{i % 500}") for i in range(100_000)]
        with Session(
            f"rw:{top}/work=+", f"rw:{prefix}=?", "rw:/usr/local=-", "r:/usr=+", "r:/etc=+", "r:/lib=+", "r:/=+",
            owners=Ownership(files), closure=["mine"],
        ) as session:  # fmt: skip
            yield Setting(native / "micro", native / "empty.so", session.library, prefix)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with setting() as at:
        print("| call | empty library | tracelib | added | ratio |\n|---|---|---|---|---|")
        for label, call, count, path in CASES:
            times: dict[Path, list[float]] = {at.empty: [], at.library: []}
            for _ in range(rounds):
                for library, taken in times.items():
                    argv = [at.micro, call, str(count), path.format(prefix=at.prefix)]
                    env = {**os.environ, "LD_PRELOAD": str(library)}
                    taken.append(
                        float(subprocess.run(argv, env=env, capture_output=True, check=True).stdout.split()[0])
                    )
            base, ours = (statistics.median(t) for t in times.values())
            print(f"| {label} | {base:.0f} ns | {ours:.0f} ns | {ours - base:+.0f} ns | {ours / base:.3f} |")


if __name__ == "__main__":
    main()
