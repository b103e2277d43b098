"""Runs that take turns: each round does every peer once, in an order drawn anew; compared is within a round."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """How long a measurement may take: `seconds` of wall time, and between `least` and `most` rounds."""

    seconds: float
    least: int = 3
    most: int = 25
    few: int = 2
    """Rounds of those who are measured only for comparison."""


Rounds = dict[str, list[float | None]]
"""One figure a round for each name; None where it was not asked."""


def interleave(
    names: Sequence[str], run: Callable[[str], float], effort: Effort, label: str, guests: Sequence[str] = ()
) -> Rounds:
    """Figures of `run(name)`, taken in turns; `guests` join only the first rounds, as some of them are very slow."""
    rng = random.Random(0)
    end = time.monotonic() + effort.seconds
    hosts = [name for name in names if name not in guests]
    taken: dict[str, float] = {}

    def timed(name: str, what: str) -> float:
        say(f"{label}: {what}, {name}")
        start = time.monotonic()
        value = run(name)
        taken[name] = time.monotonic() - start
        return value

    for name in hosts:  # warms the caches
        timed(name, "before the first round")
    out: Rounds = {name: [] for name in names}
    n = 0
    while n < effort.most:
        order = [*hosts, *(guests if n < effort.few else ())]
        if n >= max(effort.least, effort.few) and time.monotonic() + sum(taken[name] for name in order) > end:
            break
        rng.shuffle(order)
        for name in names:
            out[name].append(None)
        for name in order:
            out[name][-1] = timed(name, f"round {n + 1}")
        n += 1
    say("")
    return out


def say(text: str) -> None:
    """What is being done, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def middle(values: Sequence[float | None]) -> float:
    """The median of the figures that there are."""
    return statistics.median(v for v in values if v is not None)


def compared(
    values: Rounds, name: str, against: str, how: Callable[[float, float], float]
) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of `how(name's, against's)` over the rounds in which both ran."""
    pairs = sorted(
        how(a, b)
        for a, b in zip(values[name], values[against], strict=True)
        if a is not None and b is not None
    )  # fmt: skip
    if len(pairs) < 2:
        return pairs[0], pairs[0], pairs[0]
    low, _, high = statistics.quantiles(pairs, n=4, method="inclusive")
    return low, statistics.median(pairs), high


def ratio(values: Rounds, name: str, against: str) -> tuple[float, float, float]:
    """How many times the time of `against`: quartiles and median."""
    return compared(values, name, against, lambda a, b: a / b)


def added(values: Rounds, name: str, against: str) -> tuple[float, float, float]:
    """What it takes more than `against`: quartiles and median."""
    return compared(values, name, against, lambda a, b: a - b)
