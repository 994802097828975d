"""A stand-in for what surrounds an actor: one that records what it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pykka
from pykka._envelope import Envelope

__all__ = ["Recorder"]

T = TypeVar("T")


class Recorder:
    """What `post` needs of a reference, with everything it is told kept in `heard`.

    Args:
        name: what failures call it.
        on_message: called with each message, on the thread that tells it.

    """

    def __init__(self, name: str = "recorder", on_message: Callable[[Any], None] = lambda _: None) -> None:
        self.name = name
        self.heard: list[Any] = []
        self.actor_stopped = threading.Event()
        self.actor_inbox = self
        self._on_message = on_message

    def __repr__(self) -> str:
        return f"<Recorder {self.name}>"

    @property
    def ref(self) -> pykka.ActorRef[Any]:
        """This, for those who ask for a reference."""
        return self  # type: ignore[return-value]

    def put(self, envelope: Envelope[Any], /) -> None:
        """Take a message."""
        self.heard.append(envelope.message)
        self._on_message(envelope.message)

    def tell(self, message: object) -> None:
        """Take a message, as a reference does."""
        if self.actor_stopped.is_set():
            raise pykka.ActorDeadError(self.name)
        self.put(Envelope(message))

    def stop(self) -> None:
        """Be an actor that has stopped."""
        self.actor_stopped.set()

    def of(self, message_type: type[T]) -> list[T]:
        """Return what it was told of one type."""
        return [message for message in self.heard if isinstance(message, message_type)]

    def take(self) -> list[Any]:
        """Return what it was told since the last call."""
        taken, self.heard = self.heard, []
        return taken
