"""A result as JSON: everything in the table, the distributions and the series, for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from trunkline_cli.load.histogram import Histogram
from trunkline_cli.load.result import Point, Result, ServerUse
from trunkline_cli.load.stats import Phase

__all__ = ["FORMAT", "as_json"]

FORMAT = 1
"""Number of the layout. It changes when a member changes its meaning or goes, not when one is added."""

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


def as_json(result: Result) -> dict[str, Any]:
    """Return a result as JSON values. Times are in seconds or, where the name says so, microseconds."""
    measured, window = result.measured, result.window_s
    return {
        "format": FORMAT,
        "passed": result.passed,
        "scenario": {
            "name": result.scenario.name,
            "description": result.scenario.description,
            "seed": result.scenario.seed,
            "groups": [
                {"name": group.name, "connections": group.connections} for group in result.scenario.groups
            ],
        },
        "url": result.url,
        "workers": result.workers,
        "beganAt": datetime.fromtimestamp(result.began_at, UTC).isoformat(timespec="seconds"),
        "measuredSeconds": round(window, 3),
        "interrupted": result.interrupted,
        "connections": {
            "opened": result.connections,
            "peak": result.peak_connections,
            "openedPerSecond": result.opened_per_s,
        },
        "requests": {
            "count": measured.requests,
            "perSecond": round(measured.requests / window, 1),
            "refused": measured.refused,
        },
        "deliveries": {"count": measured.deliveries, "perSecond": round(measured.deliveries / window, 1)},
        "bytes": {"in": measured.bytes_in, "out": measured.bytes_out},
        "loadSide": {
            "cpuPerWorker": round(measured.cpu_s / window / result.workers, 4),
            "plannedRounds": measured.planned_sends,
            "lateRounds": measured.late_sends,
            "keptUp": result.load_side_kept_up,
        },
        "latencies": {
            "request": _distribution(result.requests_histogram(), "measured"),
            **{name: _distribution(*found) for name, found in sorted(result.latencies().items())},
        },
        "errors": dict(result.errors),
        "expected": dict(result.expected),
        "breaches": {
            check: {"count": breach.count, "example": breach.example}
            for check, breach in sorted(result.breaches.items())
        },
        "leftOver": result.left_over,
        "incomplete": result.missing,
        "cutOff": result.unfinished,
        "thresholds": [
            {"threshold": verdict.threshold.text, "value": verdict.value, "passed": verdict.passed}
            for verdict in result.verdicts
        ],
        "server": None if result.server is None else _server(result.server),
        "series": [_point(point) for point in result.points],
    }


def _distribution(histogram: Histogram, phase: Phase) -> dict[str, Any]:
    return {
        "phase": phase,
        "count": histogram.total,
        "meanUs": round(histogram.mean, 1),
        **{f"p{percent:g}Us": histogram.percentile(percent) for percent in PERCENTILES},
        "maxUs": histogram.max,
        "bucketsUs": [list(bucket) for bucket in histogram.buckets()],
    }


def _server(server: ServerUse) -> dict[str, Any]:
    return {
        "cpuSeconds": round(server.cpu_s, 3),
        "seconds": round(server.seconds, 3),
        "cpuUsPerRequest": server.cpu_us_per_request,
        "cpuUsPerDelivery": server.cpu_us_per_delivery,
        "rssBefore": server.rss_before,
        "rssConnected": server.rss_connected,
        "rssPeak": server.rss_peak,
        "bytesPerConnection": server.bytes_per_connection,
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "at": point.at_s,
        "phase": point.phase,
        "openConnections": point.open_connections,
        "requestsPerSecond": point.requests_per_s,
        "deliveriesPerSecond": point.deliveries_per_s,
        "bytesInPerSecond": point.bytes_in_per_s,
        "errors": point.errors,
        "requestP50Us": point.request_p50_us,
        "requestP99Us": point.request_p99_us,
        "deliveryP50Us": point.delivery_p50_us,
        "deliveryP99Us": point.delivery_p99_us,
        "serverCpu": point.server_cpu,
        "serverRss": point.server_rss_bytes,
    }
