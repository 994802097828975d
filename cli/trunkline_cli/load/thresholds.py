"""Conditions on a run's result: `request p99 < 50ms`, `errors == 0`, `deliveries/s > 100000`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Literal, cast

from trunkline_cli.load.histogram import Histogram
from trunkline_cli.load.model import Threshold
from trunkline_cli.load.result import Result, ServerUse, Verdict

__all__ = ["judge", "metric", "parse_threshold"]

_THRESHOLD = re.compile(
    r"\s*(?P<metric>\S+(?:\s+[A-Za-z][\w.]*)*)\s*(?P<operator><=|>=|==|<|>)\s*"
    r"(?P<limit>\d+(?:\.\d+)?)\s*(?P<unit>[a-zA-Z%µ]*)\s*"
)
_UNITS = {
    "": 1.0,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "B": 1.0,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "%": 0.01,
}


def parse_threshold(text: str) -> Threshold:
    """Read a threshold.

    Raises:
        ValueError: it does not have the form `METRIC OPERATOR NUMBER[UNIT]`.

    """
    match = _THRESHOLD.fullmatch(text)
    if match is None or match["unit"] not in _UNITS:
        raise ValueError(
            f"expected METRIC <|<=|>|>=|== NUMBER with no unit or one of {', '.join(filter(None, _UNITS))}, "
            f"such as 'request p99 < 50ms' or 'errors == 0'; got {text!r}"
        )
    return Threshold(
        text=text.strip(),
        metric=" ".join(match["metric"].split()),
        operator=cast("Literal['<', '<=', '>', '>=', '==']", match["operator"]),
        # 2501 µs is 0.002501 s and not 0.0025009999999999998 s.
        limit=round(float(match["limit"]) * _UNITS[match["unit"]], 12),
    )


def judge(threshold: Threshold, result: Result) -> Verdict:
    """Compare a threshold with a result."""
    value = metric(threshold.metric, result)
    compare = _OPERATORS[threshold.operator]
    return Verdict(threshold, value, value is not None and compare(value, threshold.limit))


def metric(name: str, result: Result) -> float | None:
    """Return a figure of a result by its name, in seconds, bytes, or counts; None if there is none."""
    plain = _PLAIN.get(name)
    if plain is not None:
        return plain(result)
    subject, _, statistic = name.rpartition(" ")
    if subject == "request":
        histogram = result.requests_histogram()
    else:
        histogram = result.latencies().get(subject, (Histogram(), "measured"))[0]
    if not histogram.total:
        return None
    if statistic == "max":
        return histogram.max / 1e6
    if statistic == "mean":
        return histogram.mean / 1e6
    if statistic == "count":
        return float(histogram.total)
    percent = re.fullmatch(r"p(\d+(?:\.\d+)?)", statistic)
    return histogram.percentile(float(percent[1])) / 1e6 if percent is not None else None


_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}

_PLAIN: dict[str, Callable[[Result], float | None]] = {
    "errors": lambda result: result.errors.total(),
    "breaches": lambda result: sum(breach.count for breach in result.breaches.values()),
    "connections": lambda result: result.connections,
    "requests": lambda result: result.measured.requests,
    "deliveries": lambda result: result.measured.deliveries,
    "requests/s": lambda result: result.measured.requests / result.window_s,
    "deliveries/s": lambda result: result.measured.deliveries / result.window_s,
    "bytes/s": lambda result: result.measured.bytes_in / result.window_s,
    "late sends": lambda result: result.measured.late_sends,
    "server cpu per delivery": lambda result: _of_server(result, lambda use: use.cpu_us_per_delivery, 1e-6),
    "server cpu per request": lambda result: _of_server(result, lambda use: use.cpu_us_per_request, 1e-6),
    "server memory": lambda result: _of_server(result, lambda use: use.rss_peak),
    "server memory per connection": lambda result: _of_server(result, lambda use: use.bytes_per_connection),
}


def _of_server(
    result: Result, figure: Callable[[ServerUse], float | None], scale: float = 1.0
) -> float | None:
    """Return a figure of the watched server; None if none was watched."""
    value = None if result.server is None else figure(result.server)
    return None if value is None else value * scale
