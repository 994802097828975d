from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from trunkline_cli.load.histogram import Histogram

VALUES = st.lists(st.integers(0, 10**10), min_size=1, max_size=200)


@given(VALUES, st.floats(0.001, 100))
def test_a_percentile_is_never_too_low_and_at_most_a_thousandth_too_high(
    values: list[int], percent: float
) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)

    found = histogram.percentile(percent)

    # As many values as asked for do not exceed it, and one step lower they would not be enough.
    values.sort()
    wanted = max(1, -(-len(values) * percent // 100))
    exact = values[int(wanted) - 1]
    assert exact <= found <= exact * (1 + 1 / 1024)


@given(VALUES, VALUES)
def test_merging_is_recording_both(ones: list[int], others: list[int]) -> None:
    left, right, both = Histogram(), Histogram(), Histogram()
    for value in ones:
        left.record(value)
        both.record(value)
    for value in others:
        right.record(value)
        both.record(value)

    left.merge(right)

    assert left.counts == both.counts
    assert left.total == both.total == len(ones) + len(others)


@given(VALUES)
def test_buckets_are_in_order_apart_and_hold_every_value(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)

    buckets = list(histogram.buckets())

    values.sort()
    for (_, high, _), (low, _, _) in pairwise(buckets):
        assert high <= low
    for low, high, count in buckets:
        assert count == bisect_left(values, high) - bisect_left(values, low)


@given(VALUES)
def test_mean_and_maximum_are_right_to_the_precision(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)

    assert max(values) <= histogram.max <= max(values) * (1 + 1 / 1024)
    assert abs(histogram.mean - sum(values) / len(values)) <= sum(values) / len(values) / 1024 + 1


def test_a_value_recorded_many_times_counts_as_often() -> None:
    histogram = Histogram()
    histogram.record(5, 99)
    histogram.record(1000)

    assert (histogram.percentile(99), histogram.percentile(99.9), len(histogram)) == (5, 1000, 100)


def test_two_clocks_that_differ_make_no_negative_latency() -> None:
    histogram = Histogram()
    histogram.record(-3)

    assert (histogram.total, histogram.max) == (1, 0)


def test_an_empty_histogram_is_zero_throughout() -> None:
    histogram = Histogram()

    assert (histogram.percentile(50), histogram.max, histogram.mean, list(histogram.buckets())) == (
        0,
        0,
        0.0,
        [],
    )
