"""Draws the curves of docs/performance.md: costs over sizes, as one SVG for light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

__all__ = ["draw"]

WIDTH, HEIGHT, COLUMNS = 430, 210, 2
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 40, 32

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #667080; }
.title { font-size: 13px; font-weight: 600; fill: #16191f; }
.line { fill: none; stroke: #2563eb; stroke-width: 2; }
.dot { fill: #2563eb; }
.axis { stroke: #c3c9d3; }
.value { font-size: 11px; fill: #16191f; }
.back { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
  .title, .value { fill: #e8eaee; } text { fill: #97a1b0; }
  .line { stroke: #6ea0ff; } .dot { fill: #6ea0ff; } .axis { stroke: #2a303a; } .back { fill: #181c23; }
}
"""


def draw(curves: Mapping[str, Mapping[int, float]]) -> str:
    """Return a plot for each curve: sizes by their logarithm, costs from 0."""
    rows = -(-len(curves) // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT
    body = "".join(
        f'<g transform="translate({index % COLUMNS * WIDTH} {index // COLUMNS * HEIGHT})">{_plot(*curve)}</g>'
        for index, curve in enumerate(curves.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="costs over sizes"><style>{STYLE}</style>'
        f'<rect class="back" width="{width}" height="{height}"/>{body}</svg>\n'
    )


def _plot(title: str, curve: Mapping[int, float]) -> str:
    sizes = list(curve)
    low, high = math.log10(sizes[0]), math.log10(sizes[-1])
    top = max(curve.values()) * 1.3
    bottom = HEIGHT - BOTTOM

    def place(size: int, cost: float) -> tuple[float, float]:
        x = LEFT + (math.log10(size) - low) / (high - low) * (WIDTH - LEFT - RIGHT - 20)
        return x, bottom - cost / top * (bottom - TOP)

    points = [place(size, cost) for size, cost in curve.items()]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    parts = [
        f'<text class="title" x="{LEFT - 36}" y="22">{escape(title)}</text>',
        f'<path class="axis" d="M{LEFT - 12} {bottom}H{WIDTH - RIGHT}"/>',
        f'<path class="line" d="M{path}"/>',
    ]
    for (x, y), (size, cost) in zip(points, curve.items(), strict=True):
        parts += [
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>',
            f'<text class="value" x="{x:.1f}" y="{y - 9:.1f}" text-anchor="middle">{_cost(cost)}</text>',
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{size:,}</text>',
        ]
    return "".join(parts)


def _cost(cost: float) -> str:
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.3g}"
