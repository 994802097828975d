"""The stdio transport: one JSON text a line, with the one client at the other ends of two pipes.

A pipe handed to us is shared with others and may not be made non-blocking, so there is a thread for
each direction. Both wait in `poll`, so that either can be told to stop.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from typing import Protocol, TypeAlias

from trunkline.access import EVERYTHING, Access
from trunkline.transports.base import CloseCode, Closed, Opened
from trunkline.transports.framing import LINE_FRAMING, LineFraming
from trunkline.transports.lines import LineSplitter
from trunkline.transports.relay import Relay
from trunkline.transports.serial import Tally, Window
from trunkline.transports.waker import Waker
from trunkline.types import Buffer

__all__ = ["StdioTransport"]

logger = logging.getLogger(__name__)

READ_BYTES = 65_536

WRITE_BYTES = select.PIPE_BUF
"""POSIX: what a pipe that is ready to be written takes without blocking."""


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


File: TypeAlias = int | _HasFileno
"""A descriptor, or something that has one, such as `sys.stdin`."""


class StdioTransport:
    """A `Link` over two descriptors. The descriptors stay the caller's: they are never closed here.

    Args:
        stdin: is read from.
        stdout: is written to. Nothing else in the process may write to it.
        opened: called by `start`, on the caller's thread.
        max_message_bytes: the longest line; a longer one is skipped, and handed on as `UNREADABLE`.
        max_outstanding_messages: messages handed out and not consumed, over which nothing more is read.
        max_outstanding_bytes: the same in bytes.
        close_timeout_s: seconds that `close` gives the client to take what is unsent.

    """

    def __init__(
        self,
        stdin: File,
        stdout: File,
        opened: Opened,
        *,
        max_message_bytes: int = 16 * 1024 * 1024,
        max_outstanding_messages: int = 1024,
        max_outstanding_bytes: int = 1024 * 1024,
        close_timeout_s: float = 2.0,
    ) -> None:
        self.is_open = True
        self._stdin = stdin if isinstance(stdin, int) else stdin.fileno()
        self._stdout = stdout if isinstance(stdout, int) else stdout.fileno()
        self._opened = opened
        self._relay = Relay()
        self._closed: Closed | None = None
        self._close_token: list[None] = [None]
        self._close_timeout_s = close_timeout_s
        # Of the reader.
        self._lines = LineSplitter(max_message_bytes)
        self._window = Window(max_messages=max_outstanding_messages, max_bytes=max_outstanding_bytes)
        self._is_paused = False
        self._reader_waker = Waker()
        self._reader = threading.Thread(target=self._read, name="trunkline-stdin", daemon=True)
        # Of the writer.
        self._outgoing: deque[Buffer] = deque()
        self._given = Tally()
        self._written = 0
        # The part of it that is being written.
        self._waiting = memoryview(b"")
        # When `close` gives up, once it has begun.
        self._deadline: float | None = None
        self._writer_waker = Waker()
        self._writer_poll = select.poll()
        self._writer_poll.register(self._writer_waker, select.POLLIN)
        self._writer_poll.register(self._stdout, 0)
        self._writer = threading.Thread(target=self._write, name="trunkline-stdout", daemon=True)

    @property
    def name(self) -> str:
        """What a log calls it."""
        return "stdio"

    @property
    def access(self) -> Access:
        """What the client may do: all, as it has started this process."""
        return EVERYTHING

    @property
    def is_remote(self) -> bool:
        """False: it has started this process."""
        return False

    @property
    def framing(self) -> LineFraming:
        """Lines."""
        return LINE_FRAMING

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the pipe has not taken yet. If not 0, `on_drained` or `on_closed` follows."""
        return max(0, self._given.value - self._written)

    def start(self) -> None:
        """Call `opened`, then begin to read and write. Call it once."""
        self._relay.attach(self._opened(self))
        self._writer.start()
        self._reader.start()

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """Its two threads."""
        return (self._reader, self._writer)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until both threads have ended, which they do after `on_closed`. Any thread but the two.

        Returns:
            True if they have ended within `timeout_s` seconds (each).

        """
        for thread in (self._reader, self._writer):
            if thread.ident is not None:
                thread.join(timeout_s)
        return not (self._reader.is_alive() or self._writer.is_alive())

    def send(self, data: Buffer) -> None:
        """Send framed bytes. Any thread; never blocks. After the link has closed this does nothing."""
        if self.is_open and data:
            self._given.add(len(data))
            self._outgoing.append(data)
            self._writer_waker.wake()

    def consumed(self, count: int) -> None:
        """Say that `count` messages have been dealt with. Any thread; never blocks."""
        self._window.consumed(count)
        if self._is_paused:
            self._reader_waker.wake()

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send what is unsent, then close. Any thread; never blocks; the first call counts."""
        self._close(Closed(code, reason))

    def _close(self, closed: Closed) -> None:
        try:
            self._close_token.pop()
        except IndexError:
            return
        self._closed = closed
        self.is_open = False
        self._reader_waker.wake()
        self._writer_waker.wake()

    # The reader's thread.

    def _read(self) -> None:
        try:
            while self.is_open and self._read_once():
                pass
        finally:
            self._reader_waker.close()

    def _read_once(self) -> bool:
        """Wait for input and hand it on; tell whether there may be more."""
        waker = self._reader_waker
        poll = select.poll()
        poll.register(waker, select.POLLIN)
        may_wait = waker.doze()
        # After the doze: a `consumed` or `close` before it is seen here, one after it wakes us.
        if self._may_read():
            poll.register(self._stdin, select.POLLIN)
        ready = poll.poll(None if self.is_open and may_wait else 0)
        waker.rise()
        has_input = False
        for fd, _ in ready:
            if fd == waker.fileno():
                waker.drain()
            else:
                has_input = True
        return not has_input or self._take_input()

    def _may_read(self) -> bool:
        half = self._is_paused
        self._is_paused = True  # before the look, so that a `consumed` after it wakes us
        self._is_paused = self._window.is_over(half=half)
        return not self._is_paused

    def _take_input(self) -> bool:
        try:
            data = os.read(self._stdin, READ_BYTES)
        except OSError as error:  # such as EIO from a terminal that is gone
            logger.info("- stdio: input lost: %s", error.strerror)
            data = b""
        texts = self._lines.feed(data) if data else self._lines.finish()
        if texts and self.is_open:
            self._window.hand_out(len(texts), len(data))
            self._relay.messages(tuple(texts))
        if not data:
            self._relay.input_ended()
        return bool(data)

    # The writer's thread.

    def _write(self) -> None:
        try:
            while self._write_once():
                pass
        finally:
            self._close(Closed(CloseCode.INTERNAL_ERROR, ""))  # only if nobody did
            self._writer_waker.close()
            assert self._closed is not None
            self._relay.closed(self._closed)

    def _write_once(self) -> bool:
        """Wait for something to write, or for room, and write; tell whether to go on."""
        waker = self._writer_waker
        may_wait = waker.doze()
        # After the doze: a `send` or `close` before it is seen here, one after it wakes us.
        if not self._waiting:
            self._collect()
        if not self.is_open and self._is_closing_over():
            return False
        has_room = self._wait_for_room(self._time_left_ms() if may_wait else 0)
        waker.rise()
        return not has_room or self._write_some()

    def _collect(self) -> None:
        outgoing = self._outgoing
        self._waiting = memoryview(b"".join([outgoing.popleft() for _ in range(len(outgoing))]))

    def _is_closing_over(self) -> bool:
        if not self._waiting:
            return True
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._close_timeout_s
        if now < self._deadline:
            return False
        logger.info("- stdio: %s bytes were not taken in time", self.unsent_bytes)
        return True

    def _time_left_ms(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic()) * 1000

    def _wait_for_room(self, timeout_ms: float | None) -> bool:
        """Wait until there is room for what waits, or to be woken; tell whether there is room."""
        poll = self._writer_poll
        # With nothing to write this still reports that nobody reads the pipe any more.
        poll.modify(self._stdout, select.POLLOUT if self._waiting else 0)
        ready = dict(poll.poll(timeout_ms))
        if ready.pop(self._writer_waker.fileno(), 0):
            self._writer_waker.drain()
        return bool(ready)

    def _write_some(self) -> bool:
        if not self._waiting:  # not asked for room, but told: nobody reads any more
            self._lose_output("nobody reads it")
            return False
        try:
            count = os.write(self._stdout, self._waiting[:WRITE_BYTES])
        except OSError as error:
            self._lose_output(str(error))
            return False
        self._waiting = self._waiting[count:]
        self._written += count
        if not self._waiting and not self._outgoing:
            self._relay.drained()
        return True

    def _lose_output(self, why: str) -> None:
        logger.info("- stdio: output lost: %s", why)
        self._close(Closed(CloseCode.ABNORMAL, "output lost"))
