"""The outgoing side of one non-blocking socket, shared by all threads without a lock.

Whoever sends also writes, as far as the operating system takes it; what it does not take waits here
until the I/O loop says that the socket is writable. Knows bytes and their order, and nothing else.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from trunkline.transports.serial import SerialQueue
from trunkline.types import Buffer

__all__ = ["Outbox"]

_MAX_BUFFERS = 512
"""Buffers passed to one system call. Linux takes 1,024 (IOV_MAX)."""


class _Order(Enum):
    """What the queue carries beside bytes."""

    WRITABLE = "the socket takes bytes again"
    END = "when all is written, end our direction of the connection"
    CLOSE = "close the socket now"


class _Last(bytes):
    """Bytes after which nothing may be written any more: a close frame, or a whole HTTP response."""

    __slots__ = ()


_Item: TypeAlias = Buffer | _Order


class Outbox:
    """Writes to one socket, in order and never two threads at once.

    The state below belongs to whoever has the turn (see `SerialQueue`). The socket is closed in a turn
    too: a descriptor that is closed while another thread is about to write to it may be somebody
    else's by then.

    Args:
        sock: connected and non-blocking. The outbox closes it.
        on_blocked: the socket takes no more; `writable` is to be called when it does.
        on_drained: all that waited has been taken. Comes after `on_blocked`, unless the connection is lost.
        on_broken: the connection is lost, nothing more can be written. Comes at most once.

    The three are called in a turn, so on any thread; they must not block.

    """

    __slots__ = (
        "_ended",
        "_is_behind",
        "_is_blocked",
        "_on_blocked",
        "_on_broken",
        "_on_drained",
        "_queue",
        "_shut_down_when_empty",
        "_sock",
        "_waiting",
        "_waiting_bytes",
        "put",
        "unsent",
    )

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_blocked: Callable[[], None],
        on_drained: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._on_blocked = on_blocked
        self._on_drained = on_drained
        self._on_broken = on_broken
        self._queue: SerialQueue[_Item] = SerialQueue(self._work)
        self.put = self._queue.put
        """Send bytes, after all that was put before. Any thread; never blocks."""
        self.unsent = 0
        """Bytes that wait for the socket to take more. If not 0, `on_drained` or `on_broken` will follow."""
        self._waiting: list[Buffer | memoryview] = []
        self._waiting_bytes = 0
        # The socket takes no more, and the loop has been asked to say when it does.
        self._is_blocked = False
        # It was so since something was last written in full: on_drained is owed.
        self._is_behind = False
        # No more bytes are taken in.
        self._ended = False
        self._shut_down_when_empty = False

    def put_last(self, data: bytes) -> None:
        """Send bytes and ignore all that is put after them. Any thread; never blocks."""
        self.put(_Last(data))

    def end(self) -> None:
        """When all is written, end our direction of the connection (the peer sees end of file)."""
        self.put(_Order.END)

    def writable(self) -> None:
        """Write on, now that the socket takes bytes again."""
        self.put(_Order.WRITABLE)

    def close(self) -> None:
        """Close the socket; what waits is dropped. Twice is harmless."""
        self.put(_Order.CLOSE)

    def _work(self, items: list[_Item]) -> None:
        first = items[0]
        # By far the most common: nothing waits, and one buffer comes.
        is_idle = not self._waiting and not self._ended
        if is_idle and len(items) == 1 and (type(first) is bytes or type(first) is bytearray):
            self._write_one(first)
            return
        for item in items:
            self._take_in(item)
        if not self._is_blocked:
            self._write_waiting()
        self.unsent = self._waiting_bytes if self._is_blocked else 0

    def _take_in(self, item: _Item) -> None:
        if not isinstance(item, _Order):
            if self._ended:
                return
            self._waiting.append(item)
            self._waiting_bytes += len(item)
            if isinstance(item, _Last):
                self._ended = True
        elif item is _Order.WRITABLE:
            self._is_blocked = False
        elif item is _Order.END:
            self._ended = True
            self._shut_down_when_empty = True
        else:
            self._drop_all()
            self._sock.close()

    def _write_one(self, data: Buffer) -> None:
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._break()
            return
        if sent != len(data):
            self._waiting.append(memoryview(data)[sent:])
            self._waiting_bytes = len(data) - sent
            self._block()
            self.unsent = self._waiting_bytes

    def _write_waiting(self) -> None:
        """Write until nothing waits or the socket takes no more."""
        while self._waiting:
            buffers = self._waiting[:_MAX_BUFFERS]
            try:
                sent = self._sock.sendmsg(buffers)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._break()
                return
            if not self._forget(sent, buffers):
                self._block()
                return
        if self._is_behind:
            self._is_behind = False
            self.unsent = 0  # before on_drained: who still reads more than 0 is told after that
            self._on_drained()
        if self._shut_down_when_empty:
            self._shut_down()

    def _forget(self, sent: int, buffers: list[Buffer | memoryview]) -> bool:
        """Drop the first `sent` bytes; tell whether that is all of `buffers`."""
        self._waiting_bytes -= sent
        done = 0
        for buffer in buffers:
            if sent < len(buffer):
                self._waiting[done] = memoryview(buffer)[sent:]
                break
            sent -= len(buffer)
            done += 1
        del self._waiting[:done]
        return done == len(buffers)

    def _block(self) -> None:
        self._is_blocked = True
        self._is_behind = True
        self._on_blocked()

    def _break(self) -> None:
        self._drop_all()
        self._on_broken()

    def _drop_all(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        self.unsent = 0
        self._is_blocked = False
        self._is_behind = False
        self._shut_down_when_empty = False
        self._ended = True

    def _shut_down(self) -> None:
        self._shut_down_when_empty = False
        with contextlib.suppress(OSError):  # the peer may have been quicker
            self._sock.shutdown(socket.SHUT_WR)
