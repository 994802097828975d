"""Plots as inline SVG: lines over time, percentiles, distributions. Colours come from the page's style."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from trunkline_cli.load.histogram import Histogram

__all__ = ["Band", "Series", "distribution", "lines", "percentiles"]

WIDTH, HEIGHT = 520, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 10, 28
_TICKS = 5
_MAX_POINTS = 600

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot."""

    name: str
    points: Sequence[tuple[float, float]]
    color: int
    """Which of the page's colours, from 1."""


@dataclass(frozen=True, slots=True)
class Band:
    """A part of the x axis that is set apart."""

    begin: float
    end: float
    label: str


class _Scale:
    """Turns values into positions, linearly or by their logarithm."""

    def __init__(
        self, low: float, high: float, begin: float, end: float, *, logarithmic: bool = False
    ) -> None:
        self._map = math.log10 if logarithmic else float
        self.low, self.high = low, high if high > low else low * 10 if logarithmic and low else low + 1
        self._begin, self._end = begin, end
        self.logarithmic = logarithmic

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        low, high = self._map(self.low), self._map(self.high)
        return self._begin + (self._map(value) - low) / (high - low) * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """Return round values that lie on the scale."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            every = max(1, (last - first) // 5)
            ticks = [10.0**power for power in range(first, last + 1, every)]
        else:
            step = _round_step((self.high - self.low) / _TICKS)
            first = math.ceil(self.low / step)
            ticks = [step * number for number in range(first, int(self.high / step + 1e-9) + 1)]
        return [tick for tick in ticks if self.low <= tick <= self.high * (1 + 1e-9)]


def lines(
    label: str,
    series: Sequence[Series],
    format_y: Format,
    bands: Sequence[Band] = (),
    *,
    logarithmic: bool = False,
) -> str:
    """Draw values over the seconds of a run.

    Args:
        label: what it shows, for those who cannot see it.
        series: the lines.
        format_y: writes a value.
        bands: times that are not measured.
        logarithmic: the y axis is; values of 0 are left out.

    """
    points = [point for each in series for point in each.points if point[1] > 0 or not logarithmic]
    if len({at for at, _ in points}) < 2:
        return ""  # there is no line to draw
    low = min(y for _, y in points) if logarithmic else 0.0
    x = _Scale(0.0, max(x for x, _ in points), _LEFT, WIDTH - _RIGHT)
    y = _Scale(
        10 ** math.floor(math.log10(low)) if logarithmic else 0.0,
        max(y for _, y in points) * (1 if logarithmic else 1.06),
        HEIGHT - _BOTTOM,
        _TOP,
        logarithmic=logarithmic,
    )
    body = [_band(band, x) for band in bands]
    body += _axes(x, y, lambda seconds: f"{seconds:g} s", format_y)
    for each in series:
        body += _line(each, x, y, skip_zero=logarithmic)
    return _svg(label, body, series, x, format_x=lambda seconds: f"{seconds:.1f} s", format_y=format_y)


def percentiles(label: str, found: Sequence[tuple[str, Histogram, int]], format_y: Format) -> str:
    """Draw latencies against the share of values that do not exceed them; the rarer, the wider apart."""
    series = [Series(name, _percentile_points(histogram), color) for name, histogram, color in found]
    points = [point for each in series for point in each.points]
    if not points:
        return ""
    # The few values that are quickest would take up most of the plot: they are drawn at its lower edge.
    low = max(1, min(histogram.percentile(5) for _, histogram, _ in found))
    x = _Scale(0.0, max(1.0, *(x for x, _ in points)), _LEFT, WIDTH - _RIGHT)
    y = _Scale(
        10 ** math.floor(math.log10(low)), max(y for _, y in points), HEIGHT - _BOTTOM, _TOP, logarithmic=True
    )
    body = _axes(x, y, _share, format_y, x_ticks=[math.log10(1 / (1 - share)) for share in _SHARES])
    for each in series:
        body += _line(each, x, y)
    return _svg(label, body, series, x, format_x=_share, format_y=format_y)


def distribution(label: str, histogram: Histogram, color: int, format_x: Format) -> str:
    """Draw how often each latency occurred, with the median and the 99th percentile marked."""
    if not histogram.total:
        return ""
    height, bottom = 140, 28
    buckets = [(max(1, low), max(2, high), count) for low, high, count in histogram.buckets()]
    low, high = buckets[0][0], buckets[-1][1]
    x = _Scale(low, max(high, low * 2), _LEFT, WIDTH - _RIGHT, logarithmic=True)
    bins = _bins(buckets, x)
    y = _Scale(0.0, max(bins) * 1.05, height - bottom, _TOP)
    width, floor = (WIDTH - _RIGHT - _LEFT) / len(bins), height - bottom
    bars = "".join(
        f"M{_LEFT + index * width:.1f} {floor}V{y(count):.1f}h{max(width - 1, 0.5):.1f}V{floor}z"
        for index, count in enumerate(bins)
        if count
    )
    body = _x_axis(x, format_x, height - bottom, None)
    body.append(f'<path class="bars c{color}" d="{bars}"/>')
    for percent in (50, 99):
        at, anchor = x(histogram.percentile(percent)), "start"
        if at > WIDTH - 60:
            anchor = "end"
        shift = 4 if anchor == "start" else -4
        body.append(f'<path class="mark" d="M{at:.1f} {_TOP}V{height - bottom}"/>')
        body.append(f'<text x="{at + shift:.1f}" y="{_TOP + 9}" text-anchor="{anchor}">p{percent}</text>')
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        + "".join(body)
        + "</svg>"
    )


_SHARES = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)


def _share(position: float) -> str:
    """Write a position on the axis of percentiles."""
    percent = 100 * (1 - 10**-position)
    return f"{percent:.5g} %"


def _percentile_points(histogram: Histogram) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    seen = 0
    for low, high, count in histogram.buckets():
        if not points:
            points.append((0.0, float(max(1, low))))
        seen += count
        # The very last value is beyond every percentile: it is drawn where one value in `total` belongs.
        rest = max(1 - seen / histogram.total, 1 / histogram.total / 2)
        points.append((math.log10(1 / rest), float(max(1, high - 1))))
    return points


def _bins(buckets: Sequence[tuple[int, int, int]], x: _Scale, number: int = 80) -> list[float]:
    """Share the counts of buckets out to bins of equal width on the plot."""
    bins = [0.0] * number
    span = WIDTH - _RIGHT - _LEFT
    for low, high, count in buckets:
        begin, end = ((x(edge) - _LEFT) / span * number for edge in (low, high))
        for index in range(int(begin), min(number - 1, int(end)) + 1):
            share = (min(end, index + 1) - max(begin, index)) / max(end - begin, 1e-12)
            if share > 0 and index < number:
                bins[index] += count * share
    return bins


def _line(series: Series, x: _Scale, y: _Scale, *, skip_zero: bool = False) -> list[str]:
    points = [point for point in _thinned(series.points) if not (skip_zero and point[1] <= 0)]
    if not points:
        return []
    path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in points)
    return [f'<path class="line c{series.color}" d="M{path}"/>']


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return at most so many points that they can be told apart."""
    every = -(-len(points) // _MAX_POINTS)
    return points if every <= 1 else [*points[::every], points[-1]]


def _band(band: Band, x: _Scale) -> str:
    begin, end = x(band.begin), x(band.end)
    text = f'<text class="band-label" x="{(begin + end) / 2:.1f}" y="{_TOP + 11}">{escape(band.label)}</text>'
    return (
        f'<rect class="band" x="{begin:.1f}" y="{_TOP}" width="{max(0.0, end - begin):.1f}" '
        f'height="{HEIGHT - _BOTTOM - _TOP}"/>' + (text if end - begin > 46 else "")
    )


def _axes(
    x: _Scale, y: _Scale, format_x: Format, format_y: Format, x_ticks: Sequence[float] | None = None
) -> list[str]:
    body = []
    for tick in y.ticks():
        at = y(tick)
        body.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>')
        body.append(
            f'<text x="{_LEFT - 8}" y="{at + 3.5:.1f}" text-anchor="end">{escape(format_y(tick))}</text>'
        )
    return body + _x_axis(x, format_x, HEIGHT - _BOTTOM, x_ticks)


def _x_axis(x: _Scale, format_x: Format, bottom: float, ticks: Sequence[float] | None) -> list[str]:
    body = [f'<path class="axis" d="M{_LEFT} {bottom}H{WIDTH - _RIGHT}"/>']
    for tick in x.ticks() if ticks is None else ticks:
        if not x.low <= tick <= x.high:
            continue
        at = x(tick)
        anchor = "middle" if at < WIDTH - _RIGHT - 20 else "end"
        body.append(f'<path class="axis" d="M{at:.1f} {bottom}v4"/>')
        body.append(
            f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="{anchor}">{escape(format_x(tick))}</text>'
        )
    return body


def _svg(
    label: str, body: list[str], series: Sequence[Series], x: _Scale, *, format_x: Format, format_y: Format
) -> str:
    """Close a plot, with the values that the page's script shows under the pointer."""
    values = [
        {
            "name": each.name,
            "color": each.color,
            "points": [[round(x(a), 1), format_x(a), format_y(b)] for a, b in _thinned(each.points)],
        }
        for each in series
    ]
    hover = f'<path class="cursor" data-top="{_TOP}" data-bottom="{HEIGHT - _BOTTOM}" d=""/>'
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" '
        f'data-values="{escape(json.dumps(values, separators=(",", ":")))}">'
        + "".join(body)
        + hover
        + "</svg>"
    )


def _round_step(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not below `step`."""
    if step <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))
