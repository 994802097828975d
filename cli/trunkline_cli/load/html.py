"""A result as one self-contained page: tiles, plots, tables. Nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources
from string import Template

from trunkline_cli.load import plots
from trunkline_cli.load.coordinator import POINT_S
from trunkline_cli.load.histogram import Histogram
from trunkline_cli.load.plots import Band, Series
from trunkline_cli.load.result import NOT_REQUESTS, Point, Result
from trunkline_cli.load.table import count, duration_us, size

__all__ = ["page"]


def page(result: Result) -> str:
    """Return the page of a run."""
    template = Template((resources.files("trunkline_cli.load") / "page.html").read_text(encoding="utf-8"))
    began = datetime.fromtimestamp(result.began_at, UTC)
    verdict = "passed" if result.passed else "failed"
    return template.substitute(
        title=escape(result.scenario.name),
        description=escape(result.scenario.description),
        verdict=verdict,
        verdict_text="passed" if result.passed else "FAILED",
        about=escape(
            f"{result.url} · {began:%Y-%m-%d %H:%M} UTC · {result.window_s:.1f} s measured · "
            f"{result.workers} worker{'s' * (result.workers != 1)} · seed {result.scenario.seed}"
            + (" · ended early" if result.interrupted else "")
        ),
        tiles="".join(_tiles(result)),
        plots="".join(_plots(result)),
        distributions="".join(_distributions(result)),
        tables="".join(_tables(result)),
    )


# Tiles


def _tiles(result: Result) -> Iterable[str]:
    measured, window = result.measured, result.window_s
    yield _tile("connections", count(result.peak_connections), f"{count(result.connections)} opened")
    if measured.requests:
        histogram = result.requests_histogram()
        note = f"p50 {duration_us(histogram.percentile(50))}, p99 {duration_us(histogram.percentile(99))}"
        yield _tile("requests/s", count(measured.requests / window), note)
    if measured.deliveries:
        latency = measured.latencies.get("delivery", Histogram())
        note = f"p50 {duration_us(latency.percentile(50))}, p99 {duration_us(latency.percentile(99))}"
        yield _tile("deliveries/s", count(measured.deliveries / window), note)
    yield _tile("received", f"{size(measured.bytes_in / window)}/s", f"{size(measured.bytes_in)} in all")
    bad = result.errors.total() + sum(breach.count for breach in result.breaches.values())
    yield _tile("errors, breaches", count(bad), "in all phases", bad=bad > 0)
    if result.server is not None:
        server = result.server
        busy = f"{server.cpu_s / server.seconds:.0%}"
        if measured.deliveries > measured.requests:
            each = f"{(server.cpu_us_per_delivery or 0):.2f} µs per delivery"
        else:
            each = f"{(server.cpu_us_per_request or 0):.2f} µs per request"
        yield _tile("server CPU", busy, each)
        per = server.bytes_per_connection
        note = "" if per is None else f"{size(per)} per connection"
        yield _tile("server memory", size(server.rss_peak), note)


def _tile(label: str, value: str, note: str, *, bad: bool = False) -> str:
    return (
        f'<div class="tile{" bad" if bad else ""}"><div class="label">{escape(label)}</div>'
        f'<div class="value">{escape(value)}</div><div class="note">{escape(note)}</div></div>'
    )


# Plots


def _plots(result: Result) -> Iterable[str]:
    points, bands = result.points, _bands(result.points)
    shown = _shown_latencies(result)
    yield _figure(
        "Latency by percentile",
        plots.percentiles("latency by percentile", shown, duration_us),
        [(name, color) for name, _, color in shown],
    )
    yield _over_time("Requests a second", points, bands, 1, lambda p: p.requests_per_s, count)
    yield _over_time("Deliveries a second", points, bands, 2, lambda p: p.deliveries_per_s, count)
    for what, color in (("request", 1), ("delivery", 2)):
        series = [
            Series(f"p{percent}", [(p.at_s, getattr(p, f"{what}_p{percent}_us")) for p in points], each)
            for percent, each in ((50, color), (99, color + 2))
        ]
        title = f"{what.capitalize()} latency"
        plot = plots.lines(title, series, duration_us, bands, logarithmic=True)
        yield _figure(title, plot, [(each.name, each.color) for each in series])
    yield _over_time("Open connections", points, bands, 3, lambda p: p.open_connections, count)
    watched = [point for point in points if point.server_cpu is not None]
    yield _over_time("Server CPU", watched, bands, 4, lambda p: p.server_cpu, "{:.0%}".format)
    yield _over_time("Server memory", watched, bands, 3, lambda p: p.server_rss_bytes, size)


def _distributions(result: Result) -> Iterable[str]:
    for name, histogram, color in _shown_latencies(result):
        caption = f"Latency distribution: {name}"
        yield _figure(caption, plots.distribution(caption, histogram, color, duration_us), ())


def _shown_latencies(result: Result) -> list[tuple[str, Histogram, int]]:
    """Return what is plotted: never more than four lines, as more cannot be told apart."""
    found = [("request", result.requests_histogram(), 1)]
    found += [
        (name, histogram, color)
        for name, color in (("delivery", 2), ("turn", 3), ("prompt", 4), ("connect", 4))
        for histogram in [result.measured.latencies.get(name, Histogram())]
    ]
    return [entry for entry in found if entry[1].total][:4]


def _over_time(
    title: str,
    points: Sequence[Point],
    bands: Sequence[Band],
    color: int,
    value: Callable[[Point], float | None],
    format_y: plots.Format,
) -> str:
    """Draw one figure of each point; nothing, if it is 0 throughout."""
    values = [(point.at_s, value(point) or 0.0) for point in points]
    if not any(figure for _, figure in values):
        return ""
    return _figure(title, plots.lines(title, [Series(title.lower(), values, color)], format_y, bands), ())


def _figure(title: str, plot: str, legend: Iterable[tuple[str, int]]) -> str:
    if not plot:
        return ""
    keys = "".join(
        f'<span class="key"><i class="c{color}"></i>{escape(name)}</span>' for name, color in legend
    )
    return f"<figure><figcaption>{escape(title)}{keys}</figcaption>{plot}</figure>"


def _bands(points: Sequence[Point]) -> list[Band]:
    """Return the times that are not measured."""
    bands: list[Band] = []
    for point in points:
        if point.phase == "measured":
            continue
        begin = point.at_s - POINT_S
        if bands and bands[-1].label == point.phase and abs(bands[-1].end - begin) < POINT_S / 2:
            begin = bands.pop().begin
        bands.append(Band(begin, point.at_s, point.phase))
    return bands


# Tables


def _tables(result: Result) -> Iterable[str]:
    if result.verdicts:
        rows = [
            (
                verdict.threshold.text,
                "no such figure" if verdict.value is None else f"{verdict.value:.6g}",
                "pass" if verdict.passed else "FAIL",
            )
            for verdict in result.verdicts
        ]
        yield _table("Thresholds", ("condition", "measured", ""), rows)
    yield _table(
        "Latencies", ("", "count", "mean", "p50", "p90", "p99", "p99.9", "max"), list(_latency_rows(result))
    )
    if result.breaches:
        rows = [(check, count(b.count), b.example) for check, b in sorted(result.breaches.items())]
        yield _table("Broken promises", ("check", "count", "first"), rows)
    for title, kinds in (("Errors", result.errors), ("As the scenario has it", result.expected)):
        if kinds:
            yield _table(title, ("kind", "count"), [(kind, count(n)) for kind, n in kinds.most_common(50)])
    for title, entries in (("Left over", result.left_over), ("Incomplete", result.missing)):
        if entries:
            yield _table(title, ("",), [(entry,) for entry in entries])
    groups = [(group.name, count(group.connections)) for group in result.scenario.groups]
    yield _table("Groups", ("group", "connections"), groups)


def _latency_rows(result: Result) -> Iterable[tuple[str, ...]]:
    found = result.latencies()
    requests = result.requests_histogram()
    methods = sorted(name for name in found if name not in NOT_REQUESTS)
    named = [(name, *found[name]) for name in [*methods, *sorted(NOT_REQUESTS & found.keys())]]
    if requests.total and len(methods) > 1:
        named.insert(0, ("request (all)", requests, "measured"))
    for name, histogram, phase in named:
        label = name if phase == "measured" else f"{name} ({phase})"
        times = [duration_us(histogram.percentile(percent)) for percent in (50, 90, 99, 99.9)]
        yield label, count(histogram.total), duration_us(histogram.mean), *times, duration_us(histogram.max)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<section><h2>{escape(title)}</h2><div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )
