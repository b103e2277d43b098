"""The figures of a run, and how they are told."""

from __future__ import annotations

from dataclasses import dataclass

from interleave import Rounds, added, middle, ratio
from scaling import Series

PLAIN, EMPTY, FENCE, BOTH = "untraced", "empty library", "landlock launcher", "launcher and empty library"
OURS, LOGGED, FENCED = "porttrace: tracelib", "porttrace: tracelib, full log", "porttrace: tracelib and fence"
FENCE_ALONE = "porttrace: fence alone"
#: At most so many times the empty library's time (the fence: the Landlock launcher's; the log: the empty library's).
BOUNDS = {
    "W1 configure": 1.05,
    "W2 make": 1.02,
    "tar": 1.10,
    "cp": 1.10,
    "find": 1.10,
    "grep -r": 1.10,
    "fork+exec": 1.06,
}
LOG_BOUNDS = {"W1 configure": 1.10} | dict.fromkeys(("W2 make", "tar", "cp", "find", "grep -r"), 1.25)
#: At most so many times the untraced run's time.
FENCE_BOUNDS = {"W1 configure": 1.02, "W2 make": 1.02}
#: At most so many nanoseconds more than with the empty library.
ADDED = {"stat": 250, "stat, absent": 250, "access": 250, "open+close": 350, "stat, ask": 350}


@dataclass
class Results:
    """A run. `commands`: seconds, [workload][peer][round]; `calls`: nanoseconds, [call][peer][round]."""

    machine: str
    loads: list[float]
    commands: dict[str, Rounds]
    calls: dict[str, Rounds]
    scaling: list[Series]
    seconds: float = 0

    def ratios(self, against: str) -> dict[str, dict[str, tuple[float, float, float]]]:
        """[workload][peer]: quartiles and median of the ratio to `against`."""
        return {
            work: {name: ratio(values, name, against) for name in values if name != against and any(values[name])}
            for work, values in self.commands.items()
        }


def _grid(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)) + "\n"


def _commands(results: Results) -> str:
    ratios = results.ratios(PLAIN)
    names = list(dict.fromkeys(name for values in results.commands.values() for name in values))
    rows = []
    for name in names:
        cells = []
        for values in ratios.values():
            low, mid, high = values.get(name, (0.0, 0.0, 0.0))
            cells.append(f"{mid:.2f} ({low:.2f}-{high:.2f})" if mid else "" if name != PLAIN else "1")
        rows.append([name, *cells])
    last = ["*untraced, median*"]
    for values in results.commands.values():
        rounds = sum(value is not None for value in values[OURS])
        last.append(f"{middle(values[PLAIN]) * 1000:.4g} ms, {rounds} round{'s' * (rounds != 1)}")
    rows.append(last)
    return _grid(["", *results.commands], rows)


def _calls(results: Results) -> str:
    rows = []
    for name in next(iter(results.calls.values())):
        if name == PLAIN:
            continue
        cells = []
        for values in results.calls.values():
            low, mid, high = added(values, name, PLAIN)
            cells.append(f"{mid:+,.0f} ({low:+,.0f} to {high:+,.0f})")
        rows.append([name, *cells])
    rows.append(["*untraced, median*", *(f"{middle(values[PLAIN]):,.0f}" for values in results.calls.values())])
    return _grid(["nanoseconds added", *results.calls], rows)


def _promise(what: str, figure: str, bound: str, holds: bool) -> list[str]:
    return [what, figure, bound, "holds" if holds else "**does not hold**"]


def _least(values: Rounds, name: str, bound: float) -> list[list[str]]:
    """To start a process with any library preloaded costs more than the launcher: by how much, and what ours adds."""
    low, value, high = ratio(values, BOTH, FENCE)
    floor = [f"{BOTH} / {FENCE}, fork+exec", f"{value:.3f} ({low:.3f}-{high:.3f})", "", "no library can do better"]
    low, value, high = ratio(values, name, BOTH)
    figure = f"{value:.3f} ({low:.3f}-{high:.3f})"
    return [floor, _promise(f"{name} / {BOTH}, fork+exec", figure, f"{bound:.2f}", value <= bound)]


def _promises(results: Results) -> str:
    rows = []
    for name, against, bounds in (
        (OURS, EMPTY, BOUNDS),
        (FENCED, FENCE, BOUNDS),
        (FENCE_ALONE, PLAIN, FENCE_BOUNDS),
        (LOGGED, EMPTY, LOG_BOUNDS),
    ):
        for work, bound in bounds.items():
            if work in results.commands:
                low, value, high = ratio(results.commands[work], name, against)
                figure = f"{value:.3f} ({low:.3f}-{high:.3f})"
                rows.append(_promise(f"{name} / {against}, {work}", figure, f"{bound:.2f}", value <= bound))
                if (against, work) == (FENCE, "fork+exec"):
                    rows += _least(results.commands[work], name, bound)
    for call, most in ADDED.items():
        low, value, high = added(results.calls[call], OURS, EMPTY)
        figure = f"{value:+.0f} ns ({low:+.0f} to {high:+.0f})"
        rows.append(_promise(f"{call}: added to the empty library", figure, f"+{most} ns", value <= most))
    _, value, _ = ratio(results.calls["readdir of 1,000"], OURS, EMPTY)
    rows.append(_promise("readdir of 1,000 / empty library", f"{value:.3f}", "1.10", value <= 1.1))
    for series in results.scaling:
        first, last = series.labels[0], series.labels[-1]
        value = series.whole(last) / series.empty(last) * series.empty(first) / series.whole(first)
        if series.bound:
            what = f"{last} {series.unit} / {first}: a stat, as a ratio to the empty library"
            rows.append(_promise(what, f"{value:.3f}", f"{series.bound:.2f}", value <= series.bound))
    return _grid(["", "median (quartiles)", "bound", ""], rows)


def _scaling(series: Series) -> str:
    rows = []
    for label in series.labels:
        figures = f"{series.whole(label):,.0f}", f"{series.empty(label):,.0f}", f"{series.nanoseconds(label):+,.0f}"
        rows.append([label, *figures])
    return _grid([series.unit, "ns a stat, tracelib", "ns, empty library", "added"], rows)


def markdown(results: Results, quick: bool) -> str:
    """All of it, as a document."""
    loads = " and ".join(f"{load:.1f}" for load in results.loads)
    parts = [
        "# What tracing costs",
        f"Made by `bench/run.py{' --quick' * quick}` in {results.seconds / 60:.0f} minutes: {results.machine}. "
        f"The machine's load was {loads} at the beginning and at the end.",
        "Medians, with quartiles, of figures that were taken in turns and are compared within a round.",
        f"![ratios]({'bench-quick' if quick else 'bench'}.svg)",
        "## What must hold\n\n" + _promises(results),
        "## Whole commands: times the wall time of the untraced run\n\n" + _commands(results),
        "## Single calls, wall time\n\n" + _calls(results),
    ]
    if results.scaling:
        parts.append(
            "## Growth, processor time of one stat\n\n" + "\n".join(_scaling(s) for s in results.scaling).rstrip()
        )
    return "\n\n".join(part.rstrip() for part in parts) + "\n"
