"""Helpers for the tests of transports: what a link tells, recorded; and an echo."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from trunkline.transports.base import Closed, Link, Opened
from trunkline.transports.websocket import WebSocketLimits, WebSocketListener

PATIENCE_S = 20.0
"""Seconds that no passing test waits."""

T = TypeVar("T")


def get(source: queue.SimpleQueue[T]) -> T:
    """Return the next item; fail the test if none comes."""
    try:
        return source.get(timeout=PATIENCE_S)
    except queue.Empty:
        raise AssertionError("nothing came") from None


class Recorder:
    """`LinkEvents` that keep what they are told, and what the link said of itself at that moment."""

    def __init__(self, link: Link, *, consume: bool = True, echo: bool = False) -> None:
        self.link = link
        self.consume = consume
        self.echo = echo
        self.texts: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.batches: list[tuple[str, ...]] = []
        self.open_at_messages: list[bool] = []
        self.open_at_closed: list[bool] = []
        self.drained: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.input_ended = threading.Event()
        self.closed: queue.SimpleQueue[Closed] = queue.SimpleQueue()
        self.calls: list[str] = []

    def on_messages(self, messages: tuple[str, ...]) -> None:
        self.calls.append("messages")
        self.open_at_messages.append(self.link.is_open)
        self.batches.append(messages)
        if self.echo:
            frame = self.link.framing.frame
            self.link.send(b"".join([frame(message.encode()) for message in messages]))
        if self.consume:
            self.link.consumed(len(messages))
        for message in messages:
            self.texts.put(message)

    def on_drained(self) -> None:
        self.calls.append("drained")
        self.drained.put(self.link.unsent_bytes)

    def on_input_ended(self) -> None:
        self.calls.append("input_ended")
        self.input_ended.set()

    def on_closed(self, closed: Closed) -> None:
        self.calls.append("closed")
        self.open_at_closed.append(self.link.is_open)
        self.closed.put(closed)


class Listen(Protocol):
    """The `listen` fixture: starts a listener on a free port of a loopback address."""

    def __call__(
        self,
        opened: Opened,
        *,
        host: str = "127.0.0.1",
        ready: Callable[[], bool] = ...,
        limits: WebSocketLimits | None = None,
    ) -> WebSocketListener: ...


class Recorders:
    """An `Opened` that makes a `Recorder` for each link and hands it to the test."""

    def __init__(self, make: Callable[[Link], Recorder] = Recorder) -> None:
        self._make = make
        self._made: queue.SimpleQueue[Recorder] = queue.SimpleQueue()

    def __call__(self, link: Link) -> Recorder:
        recorder = self._make(link)
        self._made.put(recorder)
        return recorder

    def empty(self) -> bool:
        """Tell whether every link has been asked for."""
        return self._made.empty()

    def next(self) -> Recorder:
        """Return the recorder of the next link."""
        return get(self._made)


def echo(link: Link) -> Recorder:
    """Send every message back."""
    return Recorder(link, echo=True)
