"""Small tools with which threads share work without a lock.

`SerialQueue` lets whoever comes first do the work of all who come meanwhile. `Tally` is a sum that any
thread may add to. `Window` counts what was handed out and not yet dealt with.

They rest on the operations of a list (append, pop, a slice read or deleted) being atomic, as CPython
documents. Lists and not deques, as there are several to a connection and an empty deque takes 600
bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["SerialQueue", "Tally", "Window"]

T = TypeVar("T")


class SerialQueue(Generic[T]):
    """A queue whose items are worked off by whichever thread finds nobody else doing so.

    `_free` holds one token while nobody works; `list.pop` is atomic, so of all who find it there
    exactly one gets it. It is put back when the queue has been found empty, and the queue is looked
    at once more after that: an item that came in between is either seen by this look or by the
    thread that put it and finds the token. So no item is stranded, and the work never runs twice
    at once.

    Args:
        work: is given the items that came, at least one, and must not raise or block. It runs on
            any of the threads that call `put`, one at a time.

    """

    __slots__ = ("_free", "_items", "_work")

    def __init__(self, work: Callable[[list[T]], None]) -> None:
        self._items: list[T] = []
        self._free: list[None] = [None]
        self._work = work

    def put(self, item: T) -> None:
        """Add `item`; if nobody works now, work until nothing is left. Any thread; never blocks."""
        self._items.append(item)
        if self._free:
            self._run()

    def hold(self) -> None:
        """Let items wait until `release`. Call it before anything is put."""
        self._free.pop()

    def release(self) -> None:
        """End a `hold`: work on what has come meanwhile. Any thread; never blocks."""
        self._free.append(None)
        self._run()

    def _run(self) -> None:
        items = self._items
        free = self._free
        while items:
            try:
                free.pop()
            except IndexError:
                return  # its holder looks at the items again when it has put the token back
            try:
                batch = items[:]
                del items[: len(batch)]  # what came in between is behind it
                if batch:
                    self._work(batch)
            finally:
                free.append(None)


class Tally:
    """A sum that any thread may add to, without a lock."""

    __slots__ = ("_queue", "value")

    def __init__(self) -> None:
        self.value = 0
        """The sum of all that was added; an `add` at this very moment on another thread may be missing."""
        self._queue: SerialQueue[int] = SerialQueue(self._settle)

    def add(self, amount: int) -> None:
        """Add `amount`. Any thread; never blocks."""
        self._queue.put(amount)

    def _settle(self, amounts: list[int]) -> None:
        self.value += sum(amounts)


class Window:
    """What was handed out and is not consumed yet, in messages and in bytes.

    One thread owns the window and calls everything but `consumed`, which any thread may call.

    Args:
        max_messages: more than this many outstanding messages are too many.
        max_bytes: more than this many outstanding bytes are too many.

    """

    __slots__ = ("_batches", "_consumed", "_max_bytes", "_max_messages", "bytes", "messages")

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self.messages = 0
        self.bytes = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        # [messages left, bytes] of each batch. A batch's bytes are outstanding until its last
        # message is consumed: that is never too few, and costs nothing per message.
        self._batches: list[list[int]] = []
        self._consumed: list[int] = []

    def hand_out(self, messages: int, size: int) -> None:
        """Count a batch. Call it before the batch is handed out, as that may consume it at once."""
        self.messages += messages
        self.bytes += size
        self._batches.append([messages, size])

    def consumed(self, messages: int) -> None:
        """Say that the oldest `messages` have been dealt with. Any thread; never blocks."""
        self._consumed.append(messages)

    def is_over(self, *, half: bool) -> bool:
        """Tell whether more is outstanding than allowed, or than half of it if `half`."""
        if self._consumed:
            self._settle()
        shift = 1 if half else 0
        return self.messages > self._max_messages >> shift or self.bytes > self._max_bytes >> shift

    def _settle(self) -> None:
        counts = self._consumed[:]
        del self._consumed[: len(counts)]
        left = min(sum(counts), self.messages)
        self.messages -= left
        done = 0
        for batch in self._batches:
            if left < batch[0]:
                batch[0] -= left
                break
            left -= batch[0]
            self.bytes -= batch[1]
            done += 1
        del self._batches[:done]
