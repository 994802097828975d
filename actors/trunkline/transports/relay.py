"""What a link tells, in one order and to one callback at a time, whichever threads it comes from."""

from __future__ import annotations

import logging
from collections.abc import Callable

from trunkline.transports.base import Closed, LinkEvents
from trunkline.transports.serial import SerialQueue

__all__ = ["Relay"]

logger = logging.getLogger(__name__)


class Relay:
    """Passes what several threads report on to one `LinkEvents`, and nothing after the close.

    A callback runs on whichever of the threads comes first (see `SerialQueue`). Every method is for any
    thread and does not block. What is reported before `attach` waits for it.
    """

    __slots__ = ("_events", "_is_over", "_queue")

    def __init__(self) -> None:
        self._is_over = False
        self._queue: SerialQueue[Callable[[LinkEvents], None]] = SerialQueue(self._tell)
        self._events: LinkEvents
        self._queue.hold()

    def attach(self, events: LinkEvents) -> None:
        """Say whom to tell, and pass on what has been reported. Call it once."""
        self._events = events
        self._queue.release()

    def messages(self, texts: tuple[str, ...]) -> None:
        """Pass on `on_messages`."""
        self._queue.put(lambda events: events.on_messages(texts))

    def drained(self) -> None:
        """Pass on `on_drained`."""
        self._queue.put(_drained)

    def input_ended(self) -> None:
        """Pass on `on_input_ended`."""
        self._queue.put(_input_ended)

    def closed(self, closed: Closed) -> None:
        """Pass on `on_closed`, the first time."""

        def close(events: LinkEvents) -> None:
            self._is_over = True
            events.on_closed(closed)

        self._queue.put(close)

    def _tell(self, reports: list[Callable[[LinkEvents], None]]) -> None:
        for report in reports:
            if self._is_over:
                continue
            try:
                report(self._events)
            except Exception:
                logger.exception("x a callback of a link failed")


def _drained(events: LinkEvents) -> None:
    events.on_drained()


def _input_ended(events: LinkEvents) -> None:
    events.on_input_ended()
