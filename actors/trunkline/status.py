"""A server at a glance: what it counts and what there is, as one JSON object.

`trunkline/status` answers with it, `AppServer.status` returns it, and the metrics are made of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from trunkline.admission import Slots
from trunkline.messages import Ref
from trunkline.metrics import Counts, Metrics, Sizes
from trunkline.protocol.methods import METHODS
from trunkline.types import JsonObject
from trunkline.version import VERSION

__all__ = ["STATUS_METHOD", "status_json"]

STATUS_METHOD = "trunkline/status"

_SHOWN = range(5, 27)
"""Powers of two at which a histogram is cut: 32 bytes to 64 MiB, 32 µs to a minute."""


def status_json(
    metrics: Metrics, slots: Slots, store: Ref | None, *, uptime_s: float, is_ready: bool
) -> JsonObject:
    """Return the status. Any thread; it waits for nobody and holds nobody up.

    Args:
        metrics: the server's.
        slots: of the requests under way.
        store: the actor that keeps threads; None if there is none.
        uptime_s: seconds since the start.
        is_ready: whether connections are taken.

    """
    survey = None if metrics.survey is None else metrics.survey()
    counts = metrics.sum()
    connections = () if survey is None else survey.connections
    threads = () if survey is None else survey.threads
    return {
        "version": VERSION,
        "uptimeS": round(uptime_s, 3),
        "isReady": is_ready,
        "connections": {
            "open": len(connections),
            "initialized": 0 if survey is None else survey.initialized,
            "opened": counts.opened,
            "closed": {str(code): count for code, count in sorted(counts.closes.items())},
        },
        "subscriptions": counts.subscriptions,
        "threads": {"loaded": len(threads)},
        "turns": {
            "running": 0 if survey is None else survey.running,
            "ended": dict(sorted(counts.turns.items())),
        },
        "requests": {"inFlight": slots.taken, "answered": _answered_json(counts)},
        "deliveries": counts.deliveries,
        "flushedBytes": _sizes_json(counts.flushes),
        "mailboxes": {
            "router": _depths(() if survey is None else (survey.router,)),
            "connection": _depths(connections),
            "thread": _depths(threads),
            "store": _depths(() if store is None else (store,)),
        },
        "slowConsumers": dict(sorted(counts.slow.items())),
        "refusals": dict(sorted(counts.refusals.items())),
        "storeCommitsUs": _sizes_json(counts.commits_us),
    }


def _answered_json(counts: Counts) -> JsonObject:
    """Return by method how often each result came: `ok`, or the code of an error."""
    answered: dict[str, dict[str, int]] = {}
    for method, count in counts.answered.items():
        results = answered.setdefault(method if method in METHODS else "other", {"ok": 0})
        results["ok"] += count
    for (method, code), count in sorted(counts.errors.items()):
        answered.setdefault(method, {})[str(code)] = count
    return dict(sorted(answered.items()))


def _depths(refs: Iterable[Ref]) -> JsonObject:
    depths = [_depth(ref) for ref in refs]
    return {"messages": sum(depths), "deepest": max(depths, default=0)}


def _depth(ref: Ref) -> int:
    inbox = ref.actor_inbox
    # A pooled actor's, or the queue of one with an OS thread of its own.
    messages = getattr(inbox, "messages", None)
    return len(messages) if messages is not None else int(inbox.qsize())  # type: ignore[attr-defined]


def _sizes_json(sizes: Sizes) -> JsonObject:
    """Return a histogram: how many there are below each power of two. The same powers at every look."""
    below: dict[str, int] = {}
    count = 0
    for exponent, at in enumerate(sizes.buckets):
        count += at
        if exponent in _SHOWN:
            below[str(2**exponent)] = count
    return {"count": count, "sum": sizes.total, "below": below}
