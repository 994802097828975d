"""The in-process transport: a client in the same process, without a socket or a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable

from trunkline.access import EVERYTHING, Access
from trunkline.transports.base import CloseCode, Closed, Opened
from trunkline.transports.framing import LINE_FRAMING, LineFraming
from trunkline.transports.relay import Relay
from trunkline.transports.turns import Tally, Turns

__all__ = ["InProcessClient", "InProcessLink"]

logger = logging.getLogger(__name__)

MAX_OUTSTANDING_MESSAGES = 1024
"""Messages that the server has not dealt with, at which `InProcessClient.send` refuses more."""


class InProcessClient:
    """The client's end of an in-process connection, open from the start.

    The callbacks run on whichever of the server's threads has something to say (or, for
    `on_closed`, on the caller of `close`), one at a time; they must not block.

    Args:
        opened: is handed the server's end.
        on_message: called with each message from the server: JSON in UTF-8.
        on_closed: called once, and last.

    """

    def __init__(
        self,
        opened: Opened,
        on_message: Callable[[bytes], None],
        on_closed: Callable[[Closed], None] = lambda _closed: None,
    ) -> None:
        self._link = InProcessLink(on_message, on_closed)
        self._link.open(opened)

    @property
    def is_open(self) -> bool:
        """False once either end has closed."""
        return self._link.is_open

    def send(self, text: str) -> bool:
        """Send one JSON text. Any thread; never blocks.

        Returns:
            False if the text was not sent: the connection is closed, or the server has not dealt
            with so many earlier ones that it takes no more for now.

        """
        return self._link.receive(text)

    def close(self) -> None:
        """Close the connection. Any thread; never blocks; twice is harmless."""
        self._link.close(CloseCode.NORMAL)


class InProcessLink:
    """The server's end: a `Link` whose sends are calls to the client's callbacks."""

    __slots__ = (
        "_close_token",
        "_consumed",
        "_on_closed",
        "_on_message",
        "_outgoing",
        "_received",
        "_relay",
        "is_open",
    )

    def __init__(self, on_message: Callable[[bytes], None], on_closed: Callable[[Closed], None]) -> None:
        self.is_open = True
        self._on_message = on_message
        self._on_closed = on_closed
        self._close_token: list[None] = [None]
        self._received = Tally()
        self._consumed = Tally()
        self._outgoing: Turns[bytes | Closed] = Turns(self._deliver)
        self._relay = Relay()

    def open(self, opened: Opened) -> None:
        """Hand this link to `opened`. Call it once."""
        self._relay.attach(opened(self))

    def receive(self, text: str) -> bool:
        """Hand `text` on to the server; tell whether it was. Any thread; never blocks."""
        if not self.is_open or self._received.value - self._consumed.value >= MAX_OUTSTANDING_MESSAGES:
            return False
        self._received.add(1)
        self._relay.messages((text,))
        return True

    @property
    def name(self) -> str:
        """What a log calls it."""
        return "in-process"

    @property
    def access(self) -> Access:
        """What the client may do: all, as it is part of this process."""
        return EVERYTHING

    @property
    def framing(self) -> LineFraming:
        """Lines, which can be told apart again at little cost."""
        return LINE_FRAMING

    @property
    def unsent_bytes(self) -> int:
        """Always 0: the client's callback takes everything at once."""
        return 0

    def send(self, data: bytes) -> None:
        """Call the client with each message in `data`. Any thread; does nothing after the link has closed."""
        if self.is_open:
            self._outgoing.put(data)

    def consumed(self, count: int) -> None:
        """Say that `count` messages have been dealt with. Any thread; never blocks."""
        self._consumed.add(count)

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Deliver what was sent before, then close. Any thread; never blocks; the first call counts."""
        try:
            self._close_token.pop()
        except IndexError:
            return
        self.is_open = False
        closed = Closed(code, reason)
        self._outgoing.put(closed)
        self._relay.closed(closed)

    def _deliver(self, items: list[bytes | Closed]) -> None:
        for item in items:
            try:
                if isinstance(item, Closed):
                    self._on_message = _ignore
                    self._on_closed(item)
                else:
                    for line in item.removesuffix(b"\n").split(b"\n"):
                        self._on_message(line)
            except Exception:
                logger.exception("x a callback of an in-process client failed")


def _ignore(_message: bytes) -> None:
    """Take no message: one that was put at the moment of the close comes too late."""
