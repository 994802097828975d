"""How far behind somebody is in a thread's log."""

from __future__ import annotations

from trunkline.log import Chunk, Event, EventLog
from trunkline.protocol.deltas import DeltaHead, Deltas


def chunk(seq: int, size: int) -> Chunk:
    return Chunk([Event(seq, "m", b"x" * size, size)])


def test_who_has_read_nothing_of_a_young_log_is_not_far_behind() -> None:
    log = EventLog(max_events=100, max_bytes=1000)

    log.append(chunk(1, 10))

    assert not log.is_half_full_after(0)
    assert not log.is_half_full_after(1)


def test_half_of_the_bytes_or_of_the_events_is_far() -> None:
    by_bytes = EventLog(max_events=100, max_bytes=1000)
    by_events = EventLog(max_events=10, max_bytes=1000)
    for seq in range(1, 7):
        by_bytes.append(chunk(seq, 100))
        by_events.append(chunk(seq, 1))

    for log in (by_bytes, by_events):
        assert log.is_half_full_after(0)
        assert not log.is_half_full_after(3)


def test_one_long_event_counts_with_an_eighth_also_among_deltas_told_at_once() -> None:
    log = EventLog(max_events=1000, max_bytes=100_000)
    short = Deltas(DeltaHead("m", {"itemId": "i"}), ["x"] * 10, 1, 1)

    log.append(Chunk([Deltas(DeltaHead("m", {"itemId": "i"}), ["x"] * 10 + ["y" * 1_000_000], 1, 1)]))

    assert log.size == short.size + 100_000 // 8


def test_what_has_fallen_out_is_as_far_as_can_be() -> None:
    log = EventLog(max_events=2, max_bytes=1000)
    for seq in range(1, 5):
        log.append(chunk(seq, 1))

    assert log.first_seq == 3
    assert log.is_half_full_after(1)
