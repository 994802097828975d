"""The status of a server in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from trunkline.types import JsonObject

__all__ = ["CONTENT_TYPE_LATEST", "exposition"]


def exposition(status: JsonObject) -> bytes:
    """Return the metrics that are made of a status. No registry is shared with anybody."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(status))
    return generate_latest(registry)


class _Collector:
    def __init__(self, status: JsonObject) -> None:
        self._status = status

    def describe(self) -> Iterator[Metric]:
        """Name nothing in advance."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        status = self._status
        connections, turns, requests = status["connections"], status["turns"], status["requests"]
        yield _gauge("ready", "Whether connections are taken.", int(status["isReady"]))
        yield _gauge("uptime_seconds", "Seconds since the start.", status["uptimeS"])
        yield _gauge("connections", "Connections that are open.", connections["open"])
        yield _gauge("connections_initialized", "Those that are initialized.", connections["initialized"])
        yield _counter("connections_opened", "Connections that ever came in.", connections["opened"])
        yield _counters("connections_closed", "Those that are gone.", "code", connections["closed"])
        yield _gauge("subscriptions", "Subscriptions of connections to threads.", status["subscriptions"])
        yield _gauge("threads", "Threads that are loaded.", status["threads"]["loaded"])
        yield _gauge("turns", "Turns that are running.", turns["running"])
        yield _counters("turns_ended", "Turns that have ended.", "status", turns["ended"])
        yield _gauge("requests_in_flight", "Requests under way.", requests["inFlight"])
        yield _requests(requests["answered"])
        yield _counter("deliveries", "Events sent, once for each subscriber.", status["deliveries"])
        yield _histogram("flush_bytes", "Bytes handed to a connection at once.", status["flushedBytes"])
        yield from _mailboxes(status["mailboxes"])
        yield _counters(
            "slow_consumer_disconnects", "Connections closed as too slow.", "at", status["slowConsumers"]
        )
        yield _counters("refusals", "What was not let in or not begun.", "reason", status["refusals"])
        yield _histogram(
            "store_commit_seconds", "From asking for a commit to its answer.", status["storeCommitsUs"], 1e-6
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"trunkline_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"trunkline_{name}", text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"trunkline_{name}", text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _requests(answered: Mapping[str, Mapping[str, int]]) -> Metric:
    family = CounterMetricFamily("trunkline_requests", "Requests answered.", labels=["method", "result"])
    for method, results in answered.items():
        for result, count in results.items():
            family.add_metric([method, result], count)
    return family


def _mailboxes(mailboxes: Mapping[str, JsonObject]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("trunkline_mailbox_messages", "Messages that wait.", labels=["actor"])
    deepest = GaugeMetricFamily("trunkline_mailbox_deepest", "Those of the fullest one.", labels=["actor"])
    for actor, depths in mailboxes.items():
        waiting.add_metric([actor], depths["messages"])
        deepest.add_metric([actor], depths["deepest"])
    yield waiting
    yield deepest


def _histogram(name: str, text: str, sizes: JsonObject, unit: float = 1) -> Metric:
    # A bucket of Prometheus has what is up to its end, that included; ours end before a power of two.
    buckets = [(repr((int(end) - 1) * unit), count) for end, count in sizes["below"].items()]
    return HistogramMetricFamily(
        f"trunkline_{name}", text, buckets=[*buckets, ("+Inf", sizes["count"])], sum_value=sizes["sum"] * unit
    )
