"""Instructions that tracelib adds to one call, counted by callgrind: the same on a busy machine.

usage: instructions.py [--write | --check]     (the installed package's Python; needs valgrind)

``--check`` compares with bench/instructions.json and fails where a call has become more than 10 % dearer; ``--write``
makes that file anew. Counts depend on the compiler: the file says which made it, and another one is only warned about.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from micro import CASES, Setting, setting

FIGURES = Path(__file__).resolve().parent / "instructions.json"
TOLERANCE = 1.10
FEW = 4  # instructions that rounding may make of one


def count(micro: Path, library: Path, call: str, rounds: int, path: str) -> int:
    """Instructions of a whole run. Raises SystemExit where valgrind fails."""
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}/out", micro, call, str(rounds), path],
            env={**os.environ, "LD_PRELOAD": str(library)},
            capture_output=True,
            text=True,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"valgrind could not count {call} {path}: {done.stderr.strip()[-300:]}")
    return int(found[1])


def added(at: Setting, call: str, path: str) -> int:
    """Instructions that one more call costs with tracelib, less those with the empty library."""
    few, many = (2, 12) if call == "readdir" else (20, 220)
    per_call = [
        (count(at.micro, library, call, many, path) - count(at.micro, library, call, few, path)) / (many - few)
        for library in (at.empty, at.library)
    ]
    return round(per_call[1] - per_call[0])


def compiler() -> str:
    return subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def measure() -> dict[str, int]:
    with setting() as at:
        return {
            label: added(at, call, path.format(prefix=at.prefix)) for label, call, _, path in CASES if call != "exec"
        }


def dearer(figures: dict[str, int], known: dict[str, int]) -> list[str]:
    """What has become dearer than the tolerance allows, one line each; a call without a figure counts."""
    return [
        f"{label}: {value} instructions, was {known.get(label, 'not counted')}"
        for label, value in figures.items()
        if label not in known or value > max(known[label] * TOLERANCE, known[label] + FEW)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--write", action="store_true")
    which.add_argument("--check", action="store_true")
    args = parser.parse_args()
    figures = measure()
    for label, value in figures.items():
        print(f"{label}: {value:+}")
    if args.write:
        FIGURES.write_text(json.dumps({"compiler": compiler(), "added": figures}, indent=1) + "\n", encoding="utf-8")
    if args.check:
        committed = json.loads(FIGURES.read_text(encoding="utf-8"))
        if committed["compiler"] != compiler():
            print(f"not compared: the figures were made with {committed['compiler']}", file=sys.stderr)
            return 0
        worse = dearer(figures, committed["added"])
        for line in worse:
            print(f"dearer: {line}", file=sys.stderr)
        return 1 if worse else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
