"""The events of one thread, as one worker has read and checked them, for comparison.

All subscribers of a thread are sent the same events. The first connection of a worker that reads an
event takes it apart and checks it; its bytes are kept here. Every other connection of the worker
then only has to compare what it reads with these bytes: equal bytes are the same events, of the same
thread, in the same order, with no gap and no repeat, and a whole read is compared at once. What
differs is taken apart in its turn, so nothing depends on a server that frames events alike for all.
"""

from __future__ import annotations

from bisect import bisect_right

from trunkline_cli.load.stats import Interval

__all__ = ["ThreadLog"]

_MAX_BYTES = 8_000_000


class ThreadLog:
    """Frames with the sequence numbers `first`, `first + 1`, … and so on, without a hole."""

    __slots__ = ("_ends", "_run_first", "_run_ms", "_stops", "base", "data", "first", "next", "readers")

    def __init__(self) -> None:
        self.data = bytearray()
        self.base = 0
        """Position of the first byte of `data`, counted from the first byte ever added."""
        self.first = 0
        """Sequence number of the oldest frame that is kept."""
        self.next = 0
        """Sequence number of the frame that may be added."""
        self.readers = 0
        """Subscribers in this worker. With a single one nothing is kept."""
        # The position after each frame.
        self._ends: list[int] = []
        # Runs of frames with one `emittedAtMs`: the first number of each run, and its milliseconds.
        self._run_first: list[int] = []
        self._run_ms: list[int] = []
        # Numbers of the frames that each connection has to look at itself: prompts, ends of turns, …
        self._stops: list[int] = []

    def add(self, number: int, frame: bytes, emitted_ms: int, *, stop: bool) -> None:
        """Keep a frame that was checked. One that does not follow the newest begins the log anew."""
        self._begin(number, emitted_ms)
        self.data += frame
        self._ends.append(self.base + len(self.data))
        if stop:
            self._stops.append(number)
        self.next = number + 1

    def add_alike(self, number: int, frames: bytes, size: int, emitted_ms: int) -> None:
        """Do the same with frames of one size, the first of them with this number; none is to stop at."""
        self._begin(number, emitted_ms)
        begin = self.base + len(self.data)
        self.data += frames
        self._ends.extend(range(begin + size, begin + len(frames) + 1, size))
        self.next = number + len(frames) // size

    def _begin(self, number: int, emitted_ms: int) -> None:
        """Make ready for frames from `number` on."""
        if number != self.next:
            self._clear(number)
        elif len(self.data) > _MAX_BYTES:
            self._trim()
        if not self._run_ms or self._run_ms[-1] != emitted_ms:
            self._run_first.append(number)
            self._run_ms.append(emitted_ms)

    def match(self, number: int, data: memoryview) -> tuple[int, int]:
        """Compare `data` with the frames from `number` on, as far as both go.

        It never goes past a frame that each connection has to look at itself.

        Returns:
            The number of the first frame that was not matched, and the bytes of those that were.

        """
        if number < self.first or number >= self.next:
            return number, 0
        low = number - self.first
        begin = self._ends[low - 1] if low else self.base
        high = bisect_right(self._ends, begin + len(data), low)
        stop = bisect_right(self._stops, number - 1)
        if stop < len(self._stops):
            high = min(high, self._stops[stop] - self.first)
        if high > low and not self._same(begin, high, data):
            high = self._first_difference(begin, low, high, data)
        return (self.first + high, self._ends[high - 1] - begin) if high > low else (number, 0)

    def record(self, interval: Interval, name: str, number: int, after: int, now_ms: float) -> None:
        """Record, as `name`, that the frames from `number` to the one before `after` came at `now_ms`."""
        runs, last = self._run_first, len(self._run_first) - 1
        run = bisect_right(runs, number) - 1
        while number < after:
            end = after if run == last else min(after, runs[run + 1])
            interval.record(name, int((now_ms - self._run_ms[run]) * 1000), end - number)
            number = end
            run += 1

    def _same(self, begin: int, high: int, data: memoryview) -> bool:
        size = self._ends[high - 1] - begin
        return self.data.startswith(data[:size], begin - self.base)

    def _first_difference(self, begin: int, low: int, high: int, data: memoryview) -> int:
        """Return the index of the first frame that differs. Those before `low` are equal."""
        while low < high:
            middle = (low + high) // 2
            if self._same(begin, middle + 1, data):
                low = middle + 1
            else:
                high = middle
        return low

    def _clear(self, number: int) -> None:
        # Positions go on counting, so that one of before cannot be taken for one of now.
        self.base += len(self.data)
        self.data.clear()
        self._ends.clear()
        self._run_first.clear()
        self._run_ms.clear()
        self._stops.clear()
        self.first = self.next = number

    def _trim(self) -> None:
        """Forget the older half."""
        count = len(self._ends) // 2
        del self.data[: self._ends[count - 1] - self.base]
        self.base = self._ends[count - 1]
        del self._ends[:count]
        self.first += count
        del self._stops[: bisect_right(self._stops, self.first - 1)]
        run = bisect_right(self._run_first, self.first) - 1
        del self._run_first[:run], self._run_ms[:run]
