"""Does a decision cost the same with more rules, more files in the registry, more processes, deeper and longer paths?

Each series is one kind of growth; its points take turns, and a point's figure is what tracelib adds to one call against
the empty library at the same point (processor time, so that other work on the machine matters little).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from interleave import Effort, Rounds, added, interleave, middle
from ours import generated_ownership
from tracelib_session import Session

from porttrace.policy import Ownership

COUNT = 20_000


@dataclass(frozen=True)
class Point:
    """One point of a series: what is asked, with which library, in how many processes at once."""

    label: str
    library: Path
    path: Path
    call: str = "stat"
    processes: int = 1


@dataclass(frozen=True)
class Series:
    """Figures of one kind of growth. `bound`: times the first point's cost, None: only told."""

    name: str
    unit: str
    values: Rounds
    labels: tuple[str, ...]
    bound: float | None

    def nanoseconds(self, label: str) -> float:
        """What tracelib adds to one call at a point."""
        return added(self.values, label, f"{label} empty")[1]

    def empty(self, label: str) -> float:
        """What one call costs at a point, with the empty library."""
        return middle(self.values[f"{label} empty"])

    def whole(self, label: str) -> float:
        """What one call costs at a point, with tracelib."""
        return middle(self.values[label])


def cost(micro: Path, point: Point, library: Path) -> float:
    """Nanoseconds of processor time of one call, the mean over the processes that run at once."""
    env = {**os.environ, "LD_PRELOAD": str(library)}
    argv = [str(micro), point.call, str(max(COUNT // point.processes, 2000)), str(point.path)]
    running = [subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) for _ in range(point.processes)]
    figures = [float(process.communicate()[0].split()[0]) for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"scaling: {' '.join(argv)} failed")
    return sum(figures) / len(figures)


@contextmanager
def _session(*rules: str, owners: Ownership | None = None, prefix: Path | None = None) -> Iterator[Path]:
    with Session(*rules, owners=owners, closure=["port0"], prefix=prefix) as session:
        yield session.library


def _rules(base: Path, stack: ExitStack, sizes: tuple[int, ...]) -> list[Point]:
    target = base / "rules" / "seen"
    target.parent.mkdir()
    target.touch()
    out = []
    for size in sizes:
        rules = [f"rw:{base}/rules/other{i:05}/x=-" for i in range(size - 2)]
        library = stack.enter_context(_session(*rules, f"rw:{base}=+", "r:/=+"))
        out.append(Point(f"{size:,}", library, target))
    return out


def _registry(base: Path, stack: ExitStack, sizes: tuple[int, ...]) -> list[Point]:
    prefix = base / "registry"
    target = prefix / "include" / "port0" / "h0.h"
    target.parent.mkdir(parents=True)
    target.touch()
    out = []
    for size in sizes:
        owners = generated_ownership(prefix, size)
        library = stack.enter_context(_session(f"rw:{prefix}=?", "r:/=+", owners=owners, prefix=prefix))
        out.append(Point(f"{size:,}", library, target))
    return out


def _processes(base: Path, stack: ExitStack, sizes: tuple[int, ...]) -> list[Point]:
    library = stack.enter_context(_session(f"rw:{base}=+", "r:/=+"))
    return [Point(str(size), library, Path("/usr/include/stdio.h"), processes=size) for size in sizes]


def _depth(base: Path, stack: ExitStack, sizes: tuple[int, ...]) -> list[Point]:
    library = stack.enter_context(_session(f"rw:{base}=+", "r:/=+"))
    out = []
    for size in sizes:
        target = base.joinpath("depth", *["d"] * size, "file")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        out.append(Point(str(size), library, target))
    return out


def _length(base: Path, stack: ExitStack, sizes: tuple[int, ...]) -> list[Point]:
    library = stack.enter_context(_session(f"rw:{base}=+", "r:/=+"))
    out = []
    for size in sizes:
        # one directory for each 200 bytes
        left, target = size - len(str(base)) - len("/length/f"), base / "length"
        while left > 1:
            part = min(200, left - 1)
            target /= "n" * part
            left -= part + 1
        target.mkdir(parents=True, exist_ok=True)
        (target / "f").touch()
        out.append(Point(str(size), library, target / "f"))
    return out


# name, unit, points (quick: points), how many times dearer the last may be than the first
_KINDS = (
    ("rules", "rules", _rules, (10, 100, 1000, 10_000), (10, 10_000), 1.10),
    ("registry", "files in the registry", _registry, (1000, 10_000, 100_000, 1_000_000), (1000, 100_000), 1.10),
    ("processes", "processes at once", _processes, (1, 4, 16, 64), (1, 16), 1.10),
    ("depth", "directories above the file", _depth, (1, 4, 16, 64), (1, 16), None),
    ("length", "bytes of the path", _length, (60, 200, 800, 2400), (60, 800), None),
)


def measure(micro: Path, empty: Path, effort: Effort, quick: bool) -> list[Series]:
    """All series."""
    out = []
    for name, unit, make, all_sizes, few, bound in _KINDS:
        sizes = few if quick else all_sizes
        with tempfile.TemporaryDirectory(prefix="porttrace-scaling.", dir="/dev/shm") as top, ExitStack() as stack:
            Path(top).chmod(0o755)
            points = {point.label: point for point in make(Path(top), stack, sizes)}

            def run(label: str, points: dict[str, Point] = points) -> float:
                point = points[label.removesuffix(" empty")]
                return cost(micro, point, empty if label.endswith(" empty") else point.library)

            names = [f"{label}{which}" for label in points for which in (" empty", "")]
            values = interleave(names, run, effort, f"scaling, {name}")
        out.append(Series(name, unit, values, tuple(points), bound))
    return out
