"""Stand-ins for what surrounds an actor: one that records what it is told, and timers without time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import pykka
from pykka._envelope import Envelope

from trunkline.timers import Timers
from wires import PATIENCE_S

__all__ = ["Due", "FakeTimers", "Recorder"]

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


class Due(NamedTuple):
    """Something that is to be told later."""

    delay_s: float
    ref: pykka.ActorRef[Any]
    message: object


class FakeTimers(Timers):
    """Timers whose time comes when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.due: list[Due] = []
        self._changed = threading.Condition()

    def start(self) -> None:
        """Start nothing."""

    def stop(self, timeout_s: float | None = None) -> bool:
        """Stop nothing."""
        return True

    def tell_later(self, delay_s: float, ref: pykka.ActorRef[Any], message: object) -> None:
        """Keep it for the test."""
        with self._changed:
            self.due.append(Due(delay_s, ref, message))
            self._changed.notify_all()

    def wait(self, name: str) -> Due:
        """Wait until there is a message of the type with this name, and take the oldest."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.named(name), PATIENCE_S), f"no {name} among {self.due}"
            due = self.named(name)[0]
            self.due.remove(due)
            return due

    def named(self, name: str) -> list[Due]:
        """Return what is to be told of a type, oldest first."""
        return [due for due in self.due if type(due.message).__name__ == name]

    @staticmethod
    def fire(due: Due) -> None:
        """Tell it: its time has come."""
        due.ref.tell(due.message)
