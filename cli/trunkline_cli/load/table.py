"""The table at the end of a run, as plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from trunkline_cli.load.histogram import Histogram
from trunkline_cli.load.result import NOT_REQUESTS, Result, ServerUse

__all__ = ["count", "duration_us", "render", "size"]


def count(value: float) -> str:
    """Write a number with its thousands apart: 1,234 or 0.25."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2f}"


def size(value: float) -> str:
    """Write a number of bytes: 512 B, 1.5 KB, 12.3 MB."""
    for unit in ("B", "KB", "MB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def duration_us(value: float) -> str:
    """Write a time given in microseconds: 283 µs, 1.24 ms, 2.1 s."""
    if value < 1000:
        return f"{value:.0f} µs"
    if value < 1_000_000:
        return f"{value / 1000:.3g} ms" if value < 100_000 else f"{value / 1000:.0f} ms"
    return f"{value / 1_000_000:.3g} s"


def render(result: Result) -> str:
    """Return the table of a run."""
    lines = [f"{result.scenario.name}: {result.scenario.description}".rstrip(": "), ""]
    lines += _summary(result)
    lines += ["", *_latencies(result)]
    if result.server is not None:
        lines += ["", *_server(result.server)]
    lines += _problems(result)
    lines += ["", *_verdict(result)]
    return "\n".join(lines) + "\n"


def _summary(result: Result) -> list[str]:
    measured, window = result.measured, result.window_s
    rate = result.opened_per_s
    speed = "" if rate is None else f", {count(round(rate))}/s while connecting"
    refused = f", {count(measured.refused)} of them refused" if measured.refused else ""
    closed_early = " (ended early)" if result.interrupted else ""
    lines = [
        f"  {'against':<13} {result.url}, {result.workers} worker{'s' * (result.workers != 1)}",
        f"  {'measured':<13} {window:.1f} s{closed_early}",
        f"  {'connections':<13} {count(result.connections)} opened, "
        f"{count(result.peak_connections)} at a time{speed}",
        f"  {'requests':<13} {count(measured.requests)}, {count(measured.requests / window)}/s{refused}",
        f"  {'deliveries':<13} {count(measured.deliveries)}, {count(measured.deliveries / window)}/s",
        f"  {'bytes':<13} {size(measured.bytes_in)} in, {size(measured.bytes_out)} out, "
        f"{size(measured.bytes_in / window)}/s in",
        f"  {'load side':<13} {measured.cpu_s / window / result.workers:.0%} of a core per worker",
    ]
    if not result.load_side_kept_up:
        lines.append(
            f"  {'':<13} the load side itself could not keep up: these are not the server's figures alone"
        )
    if measured.planned_sends:
        lines.append(
            f"  {'open loop':<13} {count(measured.planned_sends)} rounds planned, "
            f"{count(measured.late_sends)} begun more than 10 ms late by the load side itself"
        )
    return lines


def _latencies(result: Result) -> list[str]:
    head = ("latency", "count", "p50", "p90", "p99", "p99.9", "max")
    rows: list[tuple[str, ...]] = [head]
    requests = result.requests_histogram()
    found = result.latencies()
    methods = sorted(name for name in found if name not in NOT_REQUESTS)
    if len([name for name in methods if found[name][1] == "measured"]) > 1:
        rows.append(_row("request (all)", requests))
    for name in [*methods, *sorted(NOT_REQUESTS & found.keys())]:
        histogram, phase = found[name]
        label = name if phase == "measured" else f"{name} ({phase})"
        rows.append(_row(label, histogram))
    return _columns(rows)


def _row(name: str, histogram: Histogram) -> tuple[str, ...]:
    times = [duration_us(histogram.percentile(percent)) for percent in (50, 90, 99, 99.9)]
    return (name, count(histogram.total), *times, duration_us(histogram.max))


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Align the first column to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + row[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]


def _server(server: ServerUse) -> list[str]:
    lines = [
        f"  {'server CPU':<13} {server.cpu_s:.2f} s in {server.seconds:.1f} s, "
        f"{server.cpu_s / server.seconds:.0%} of a core"
    ]
    if server.cpu_us_per_delivery is not None:
        lines.append(f"  {'':<13} {server.cpu_us_per_delivery:.2f} µs per delivery")
    if server.cpu_us_per_request is not None:
        lines.append(f"  {'':<13} {server.cpu_us_per_request:.2f} µs per request")
    lines.append(
        f"  {'server memory':<13} {size(server.rss_before)} before, {size(server.rss_connected)} connected, "
        f"{size(server.rss_peak)} at most"
    )
    if server.bytes_per_connection is not None:
        lines.append(f"  {'':<13} {size(server.bytes_per_connection)} per connection")
    return lines


def _problems(result: Result) -> list[str]:
    lines: list[str] = []
    if result.errors:
        lines += ["", "  errors", *_counted(result.errors)]
    if result.expected:
        lines += ["", "  as the scenario has it", *_counted(result.expected)]
    if result.breaches:
        lines += ["", "  broken promises"]
        for check, breach in sorted(result.breaches.items()):
            lines += [f"    {count(breach.count):>9}  {check}: first {breach.example}"]
    lines += _listed("left over", result.left_over)
    lines += _listed("incomplete", result.missing)
    if result.unfinished:
        lines += [
            "",
            f"  {count(result.unfinished)} connections were still waiting at the end and were cut off",
        ]
    return lines


def _counted(kinds: Counter[str]) -> list[str]:
    return [f"    {count(number):>9}  {kind}" for kind, number in kinds.most_common(20)]


def _listed(title: str, entries: Iterable[str]) -> list[str]:
    entries = list(entries)
    return ["", f"  {title}", *(f"    {entry}" for entry in entries)] if entries else []


def _verdict(result: Result) -> list[str]:
    lines = []
    for verdict in result.verdicts:
        value = "no such figure" if verdict.value is None else f"{verdict.value:.6g}"
        mark = "pass" if verdict.passed else "FAIL"
        lines.append(f"  {mark}  {verdict.threshold.text}  ({value})")
    lines.append("passed" if result.passed else "FAILED")
    return lines
