"""The events of one thread, as one worker has read and checked them, for comparison.

All subscribers of a thread are sent the same events. The first connection of a worker that reads an
event takes it apart and checks it; its bytes are kept here. Every other connection of the worker
then only has to compare what it reads with these bytes: equal bytes are the same events, of the same
thread, in the same order, with no gap and no repeat, and a whole read is compared at once. What
differs is taken apart in its turn, so nothing depends on a server that frames events alike for all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Any, TypeAlias

from trunkline_cli.load.read import Buffer, Read

__all__ = ["ThreadLog"]

_MAX_BYTES = 2_000_000
_STOP_BYTES = 128
"""What is kept of an event that each connection looks at itself: about what it takes to remember it."""
_LARGE_BYTES = 4_096
"""From this size on an event is quicker compared with what another connection has read than taken apart."""
_MOST_LARGE = 4
"""Large events that are kept whole, with what they say."""
_BLOCK_BYTES = 32_768
"""Bytes after which frames go into another block. To put much behind much is to move it all now and then."""


class _Alike:
    """Frames of one size, most of which were read together.

    Args:
        first: number of the first.
        size: bytes of each.
        frames: the first of them.

    """

    __slots__ = ("_size", "after", "data", "entered", "first")

    def __init__(self, first: int, size: int, frames: Buffer) -> None:
        self.first = first
        """Sequence number of the first frame."""
        self.after = first + len(frames) // size
        """Sequence number behind the last one."""
        self.data = frames
        self.entered = 0
        """Connections that have compared its first frame."""
        self._size = size

    def takes(self, size: int) -> bool:
        """Whether frames of that size go into this block."""
        return size == self._size and len(self.data) < _BLOCK_BYTES

    def add(self, frames: Buffer) -> None:
        """Add the next frames."""
        self.data += frames
        self.after += len(frames) // self._size

    def begin(self, number: int) -> int:
        """Return where a frame begins, or the last one ends."""
        return (number - self.first) * self._size

    def fitting(self, number: int, size: int) -> int:
        """Return the number behind the last frame from `number` on that fits into so many bytes."""
        return min(number + size // self._size, self.after)


class _Mixed:
    """Frames of any size, read one by one."""

    __slots__ = ("_ends", "after", "data", "entered", "first")

    def __init__(self, first: int) -> None:
        self.first = self.after = first
        self.entered = 0
        self.data = bytearray()
        # The position after each frame.
        self._ends: list[int] = []

    @property
    def is_full(self) -> bool:
        """Whether the next frame goes into another block."""
        return len(self.data) >= _BLOCK_BYTES

    def add(self, frame: Buffer) -> None:
        """Add the next frame."""
        self.data += frame
        self._ends.append(len(self.data))
        self.after += 1

    def begin(self, number: int) -> int:
        """See `_Alike`."""
        return self._ends[number - self.first - 1] if number > self.first else 0

    def fitting(self, number: int, size: int) -> int:
        """See `_Alike`."""
        index = number - self.first
        return self.first + bisect_right(self._ends, self.begin(number) + size, index)


_Block: TypeAlias = _Alike | _Mixed


@dataclass(slots=True)
class _Large:
    """A large event that each connection has to look at itself."""

    number: int
    frame: Buffer
    message: dict[str, Any]
    """What it says."""
    left: int
    """Connections that have not asked for it."""


class ThreadLog:
    """Frames with the sequence numbers `first`, `first + 1`, … and so on, without a hole."""

    __slots__ = ("_blocks", "_bytes", "_large", "_run_first", "_run_ms", "_stops", "first", "next", "readers")

    def __init__(self) -> None:
        self.first = 0
        """Sequence number of the oldest frame that is kept."""
        self.next = 0
        """Sequence number of the frame that may be added."""
        self.readers = 0
        """Subscribers in this worker. With a single one nothing is kept."""
        # Oldest first.
        self._blocks: deque[_Block] = deque()
        self._bytes = 0
        # Runs of frames with one `emittedAtMs`: the first number of each run, and its milliseconds.
        self._run_first: list[int] = []
        self._run_ms: list[int] = []
        # Numbers of the frames that each connection has to look at itself: prompts, ends of turns, …
        self._stops: list[int] = []
        # Those among them that are large, the newest ones.
        self._large: deque[_Large] = deque(maxlen=_MOST_LARGE)

    def add(self, number: int, frame: Buffer, emitted_ms: int, *, stop: bool) -> None:
        """Keep a frame that was checked. One that does not follow the newest begins the log anew.

        Args:
            number: of the frame.
            frame: its bytes; the log takes them over.
            emitted_ms: when it was emitted.
            stop: each connection has to look at it itself. Nothing of it will be compared but by `find`.

        """
        self._begin(number, emitted_ms)
        block = self._blocks[-1] if self._blocks else None
        if not isinstance(block, _Mixed) or block.is_full:
            block = _Mixed(number)
            self._blocks.append(block)
        if stop:
            frame = frame[:_STOP_BYTES]
            self._stops.append(number)
        block.add(frame)
        self._added(block.after, len(frame))

    def add_alike(self, number: int, frames: Buffer, size: int, emitted_ms: int) -> None:
        """Do the same with frames of one size, the first of them with this number; none is to stop at."""
        self._begin(number, emitted_ms)
        block = self._blocks[-1] if self._blocks else None
        if isinstance(block, _Alike) and block.takes(size):
            block.add(frames)
        else:
            block = _Alike(number, size, frames)
            self._blocks.append(block)
        self._added(block.after, len(frames))

    def _begin(self, number: int, emitted_ms: int) -> None:
        """Make ready for frames from `number` on."""
        if number != self.next:
            self._clear(number)
        if not self._run_ms or self._run_ms[-1] != emitted_ms:
            self._run_first.append(number)
            self._run_ms.append(emitted_ms)

    def _added(self, after: int, size: int) -> None:
        self.next = after
        self._bytes += size
        if self._bytes > _MAX_BYTES and len(self._blocks) > 1:
            self._trim()

    def add_large(self, number: int, frame: Buffer, message: dict[str, Any]) -> None:
        """Keep what a frame that was added says, if it is so large that it should not be taken apart again.

        Nobody may change the message any more, nor the frame.
        """
        if len(frame) >= _LARGE_BYTES:
            self._large.append(_Large(number, frame, message, self.readers - 1))

    def find(self, number: int, data: Buffer, begin: int, end: int) -> dict[str, Any] | None:
        """Return what a frame says, the one with a number, if another connection has read the very same."""
        for large in self._large:
            if large.number == number:
                is_same = len(large.frame) == end - begin and data.startswith(large.frame, begin)
                large.left -= 1
                if large.left <= 0:  # if some come and go it may be too soon, or `_MOST_LARGE` ends it
                    self._large.remove(large)
                return large.message if is_same else None
        return None

    def match(self, number: int, data: memoryview) -> tuple[int, int]:
        """Compare `data` with the frames from `number` on, as far as both go.

        It never goes past a frame that each connection has to look at itself.

        Returns:
            The number of the first frame that was not matched, and the bytes of those that were.

        """
        if not self.first <= number < self.next:
            return number, 0
        stop = bisect_right(self._stops, number - 1)
        end = self._stops[stop] if stop < len(self._stops) else self.next
        position = 0
        for block in self._blocks_from(number):
            last = min(block.fitting(number, len(data) - position), end)
            size = block.begin(last) - block.begin(number)
            if size and not _same(block, number, last, data[position:]):
                last = _first_difference(block, number, last, data[position:])
                size = block.begin(last) - block.begin(number)
            if size and number == block.first:
                self._enter(block)
            number, position = last, position + size
            if number < block.after or number == end:
                break
        return number, position

    def _blocks_from(self, number: int) -> list[_Block]:
        """Return the blocks that have frames from `number` on. Nearly all who ask are near the newest."""
        found: list[_Block] = []
        for block in reversed(self._blocks):
            if block.after <= number:
                break
            found.append(block)
        found.reverse()
        return found

    def record(self, read: Read, number: int, after: int) -> None:
        """Record the latency of the frames from `number` to the one before `after`: they came with `read`."""
        runs, last = self._run_first, len(self._run_first) - 1
        run = bisect_right(runs, number) - 1
        while number < after:
            end = after if run == last else min(after, runs[run + 1])
            read.record(self._run_ms[run], end - number)
            number = end
            run += 1

    def _clear(self, number: int) -> None:
        self._blocks.clear()
        self._bytes = 0
        self._run_first.clear()
        self._run_ms.clear()
        self._stops.clear()
        self._large.clear()
        self.first = self.next = number

    def _enter(self, block: _Block) -> None:
        """Note that one more connection goes on into `block`, and forget what is before it once all have.

        The one that added it need not compare it. If some come and go the count may be wrong, which costs no
        more than a look at each frame, or memory up to the limit.
        """
        block.entered += 1
        if block.entered >= self.readers - 1 and block is not self._blocks[0]:
            while self._blocks[0] is not block:
                self._bytes -= len(self._blocks.popleft().data)
            self._forget_rest()

    def _trim(self) -> None:
        """Forget the older half, but never the newest block."""
        while self._bytes > _MAX_BYTES // 2 and len(self._blocks) > 1:
            self._bytes -= len(self._blocks.popleft().data)
        self._forget_rest()

    def _forget_rest(self) -> None:
        """Forget what is known of frames before the oldest block."""
        self.first = self._blocks[0].first
        del self._stops[: bisect_right(self._stops, self.first - 1)]
        while self._large and self._large[0].number < self.first:
            self._large.popleft()
        run = bisect_right(self._run_first, self.first) - 1
        del self._run_first[:run], self._run_ms[:run]


def _same(block: _Block, number: int, last: int, data: memoryview) -> bool:
    """Whether `data` begins with the frames from `number` to the one before `last`."""
    begin = block.begin(number)
    return block.data.startswith(data[: block.begin(last) - begin], begin)


def _first_difference(block: _Block, number: int, last: int, data: memoryview) -> int:
    """Return the number of the first frame from `number` on that `data` does not begin with."""
    low, high = number, last
    while low < high:
        middle = (low + high) // 2
        if _same(block, number, middle + 1, data):
            low = middle + 1
        else:
            high = middle
    return low
