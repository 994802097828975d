"""A histogram with a fixed relative precision (HDR): every count is kept, no value is off by more than 0.1 %.

The layout is the one of HdrHistogram with three significant digits: 2048 buckets of one unit each,
then 1024 buckets for every further power of two. The counts are sparse, so that a histogram costs
what was recorded in it and can be sent between processes and merged.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Histogram"]

_PRECISION_BITS = 11
"""Values below 2**11 have a bucket each; above that a bucket spans 1/1024 of its power of two."""
_HALF = 1 << (_PRECISION_BITS - 1)


def _bucket(value: int) -> int:
    """Return the number of the bucket that `value` falls into."""
    shift = value.bit_length() - _PRECISION_BITS
    return value if shift <= 0 else (shift << (_PRECISION_BITS - 1)) + (value >> shift)


def _bounds(bucket: int) -> tuple[int, int]:
    """Return the smallest value of a bucket, and the smallest value beyond it."""
    if bucket < 2 * _HALF:
        return bucket, bucket + 1
    shift = (bucket >> (_PRECISION_BITS - 1)) - 1
    low = (bucket - (shift << (_PRECISION_BITS - 1))) << shift
    return low, low + (1 << shift)


class Histogram:
    """Counts of non-negative integers; in this package microseconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        # Bucket -> how many values fell into it; a bucket without values has no entry.
        self.counts: dict[int, int] = {}
        self.total = 0
        """How many values were recorded."""

    def __len__(self) -> int:
        return self.total

    def record(self, value: int, count: int = 1) -> None:
        """Count `value`, as often as `count` says. A negative value (two clocks that differ) counts as 0."""
        if value < 0:
            value = 0
        # _bucket(), written out: this runs for every request and for every read.
        shift = value.bit_length() - _PRECISION_BITS
        bucket = value if shift <= 0 else (shift << (_PRECISION_BITS - 1)) + (value >> shift)
        counts = self.counts
        counts[bucket] = counts.get(bucket, 0) + count
        self.total += count

    def merge(self, other: Histogram) -> None:
        """Add everything that `other` counted."""
        counts = self.counts
        for bucket, count in other.counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
        self.total += other.total

    def percentile(self, percent: float) -> int:
        """Return the value that `percent` of all values do not exceed; 0 if nothing was recorded.

        Like HdrHistogram it answers with the highest value of the bucket, so never too low.
        """
        wanted = max(1, -(-self.total * percent // 100))
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return _bounds(bucket)[1] - 1
        return 0

    @property
    def max(self) -> int:
        """The highest value, to the precision of the histogram; 0 if nothing was recorded."""
        return _bounds(max(self.counts))[1] - 1 if self.counts else 0

    @property
    def mean(self) -> float:
        """The mean of all values; 0 if nothing was recorded."""
        if not self.total:
            return 0.0
        return (
            sum((sum(_bounds(bucket)) - 1) / 2 * count for bucket, count in self.counts.items()) / self.total
        )

    def buckets(self) -> Iterator[tuple[int, int, int]]:
        """Go through the buckets that are not empty: smallest value, smallest value beyond, count."""
        for bucket in sorted(self.counts):
            low, high = _bounds(bucket)
            yield low, high, self.counts[bucket]
