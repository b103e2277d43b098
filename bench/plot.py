"""A bar for each peer and workload, on a logarithmic scale, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#9aa0a6", "#5f6368", "#b8860b", "#7b5ea7", "#a05195", "#2a9d8f", "#c05a3c", "#8d6e63", "#4c6a92")
OURS = ("#1a73e8", "#174ea6", "#669df6")
BAR, GAP, LEFT, WIDTH = 11, 12, 190, 900


def svg(title: str, groups: Mapping[str, Mapping[str, tuple[float, float, float]]], peers: Sequence[str]) -> str:
    """`groups[workload][peer]` is (lower quartile, median, upper quartile) of the ratio to the untraced run."""
    most = max(high for group in groups.values() for _, _, high in group.values())
    least = min(0.8, *(low for group in groups.values() for low, _, _ in group.values()))
    span = math.log(most / least)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - 70) * math.log(value / least) / span

    colours: dict[str, str] = {}
    for name in peers:
        mine = name.startswith("porttrace")
        used = sum(1 for other in colours if other.startswith("porttrace") == mine)
        colours[name] = (OURS if mine else COLOURS)[used % len(OURS if mine else COLOURS)]
    rows: list[str] = []
    y = 60
    for n, name in enumerate(peers):
        at = LEFT + 220 * (n % 3)
        rows.append(f'<rect x="{at}" y="{y - 9}" width="9" height="9" fill="{colours[name]}"/>')
        rows.append(f'<text x="{at + 14}" y="{y}">{escape(name)}</text>')
        if n % 3 == 2 or name == peers[-1]:
            y += 16
    top = y
    y += GAP
    for work, group in groups.items():
        rows.append(f'<text x="{LEFT - 10}" y="{y + 9}" text-anchor="end" font-weight="bold">{escape(work)}</text>')
        for name in peers:
            if name not in group:
                continue
            low, value, high = group[name]
            start, end = sorted((x(1.0), x(value)))
            tip = f"<title>{escape(work)}, {escape(name)}: {value:.2f}</title>"
            shape = f'x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="{BAR - 2}"'
            rows.append(f'<rect {shape} fill="{colours[name]}">{tip}</rect>')
            rows.append(f'<path d="M{x(low):.1f} {y + 4}H{x(high):.1f}" stroke="#000" stroke-width="1"/>')
            rows.append(f'<text x="{max(end, x(high)) + 4:.1f}" y="{y + 8}" font-size="9">{value:.2f}</text>')
            y += BAR
        y += GAP
    lines = []
    for mark in (1, 1.05, 1.25, 2, 5, 10, 20, 50, 100, 200):
        if least <= mark <= most:
            lines.append(f'<path d="M{x(mark):.1f} {top}V{y}" stroke="#ddd"/>')
            lines.append(f'<text x="{x(mark):.1f}" y="{y + 12}" text-anchor="middle" fill="#666">{mark}</text>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 24}" viewBox="0 0 {WIDTH} {y + 24}" '
        'font-family="sans-serif" font-size="11">'
    )
    paper = f'<rect width="{WIDTH}" height="{y + 24}" fill="#fff"/>'
    heading = f'<text x="16" y="28" font-size="15">{escape(title)}</text>'
    return "\n".join([head, paper, heading, *lines, *rows, "</svg>"]) + "\n"
