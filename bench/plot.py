"""A bar for each peer and workload, on a logarithmic scale, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

COLOURS = ("#9aa0a6", "#5f6368", "#b8860b", "#7b5ea7", "#a05195", "#2a9d8f", "#c05a3c", "#8d6e63", "#4c6a92")
OURS = ("#1a73e8", "#174ea6", "#669df6")
BAR, GAP, HEAD, WIDTH = 13, 10, 16, 900
CHARACTER = 5.6  # the width of one at 10 pixels, and a little more
MARKS = (1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 0.9, 0.8, 0.5, 0.2, 0.1)
APART = 52  # pixels between two marks


def _colours(peers: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in peers:
        mine = name.startswith("porttrace")
        used = sum(1 for other in found if other.startswith("porttrace") == mine)
        found[name] = (OURS if mine else COLOURS)[used % len(OURS if mine else COLOURS)]
    return found


def svg(
    title: str, below: str, groups: Mapping[str, Mapping[str, tuple[float, float, float]]], peers: Sequence[str]
) -> str:
    """`groups[workload][peer]` is (lower quartile, median, upper quartile) of the ratio to the untraced run."""
    values = [v for group in groups.values() for quartiles in group.values() for v in quartiles]
    least, most = min(0.95, *values), max(1.25, *values)
    left = 24 + CHARACTER * max(len(name) for name in peers)
    colours = _colours(peers)

    def x(value: float) -> float:
        return left + (WIDTH - left - 60) * math.log(value / least) / math.log(most / least)

    def bars(y: int) -> Iterator[str]:
        for work, group in groups.items():
            yield f'<text x="{left - 10}" y="{y + 11}" text-anchor="end" font-weight="bold">{escape(work)}</text>'
            y += HEAD
            for name in (name for name in peers if name in group):
                low, value, high = group[name]
                start, end = sorted((x(1.0), x(value)))
                tip = f"<title>{escape(work)}, {escape(name)}: {value:.2f}</title>"
                shape = f'x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="{BAR - 3}"'
                yield f'<text x="{left - 10}" y="{y + 9}" text-anchor="end" font-size="10">{escape(name)}</text>'
                yield f'<rect {shape} fill="{colours[name]}">{tip}</rect>'
                yield f'<path d="M{x(low):.1f} {y + 5}H{x(high):.1f}" stroke="#000"/>'
                yield f'<text x="{max(end, x(high)) + 4:.1f}" y="{y + 9}" font-size="10">{value:.2f}</text>'
                y += BAR
            y += GAP

    top = 76
    bottom = top + sum(HEAD + GAP + BAR * sum(name in group for name in peers) for group in groups.values())
    lines: list[str] = []
    marked: list[float] = []
    for mark in MARKS:
        at = x(mark)
        if not least <= mark <= most or any(abs(at - other) < APART for other in marked):
            continue
        marked.append(at)
        lines.append(f'<path d="M{at:.1f} {top - 4}V{bottom}" stroke="{"#888" if mark == 1 else "#ddd"}"/>')
        for y in (top - 8, bottom + 14):
            lines.append(f'<text x="{at:.1f}" y="{y}" text-anchor="middle" fill="#555">{mark:g} times</text>')
    note = (
        "Times the untraced run, on a logarithmic scale: the median of the rounds; the line is the middle half of them"
    )
    height = bottom + 46
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="16" y="26" font-size="15">{escape(title)}</text>',
            f'<text x="16" y="44" fill="#555">{escape(below)}</text>',
            *lines,
            *bars(top),
            f'<text x="16" y="{bottom + 36}" fill="#555">{note}.</text>',
            "</svg>\n",
        ]
    )
