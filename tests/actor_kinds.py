"""One behaviour as a Pykka `ThreadingActor` and as a `PooledActor`, for tests of what they promise alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import pykka

from trunkline.actor import Dispatcher, PooledActor
from wires import PATIENCE_S

__all__ = ["Diary", "Kind", "Pooled", "Start", "Threaded", "in_turn", "wait"]


class Diary:
    """What an actor did. `lines` grows on whichever thread runs the actor."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.fail_in: set[str] = set()
        """The hooks that raise."""
        self.is_active = False

    def note(self, line: object) -> None:
        self.lines.append(line)
        if line in self.fail_in:
            raise ValueError(f"{line} fails")


Deed: TypeAlias = Callable[["Kind"], object]


class Kind(pykka.Actor):
    """Does what it is sent, if that is a function; writes down everything else."""

    diary: Diary
    number = 5
    """For proxies to read and write."""

    def on_start(self) -> None:
        self.diary.note("on_start")

    def on_stop(self) -> None:
        self.diary.note("on_stop")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.diary.note("on_failure")
        self.diary.lines.append((exception_type, str(exception_value)))

    def on_receive(self, message: Any) -> Any:
        assert not self.diary.is_active, "two messages at once"
        self.diary.is_active = True
        try:
            if callable(message):
                return message(self)
            self.diary.lines.append(message)
            return message
        finally:
            self.diary.is_active = False

    def add(self, amount: int) -> int:
        self.number += amount
        return self.number

    def fail(self) -> None:
        raise ValueError("a method fails")


class Threaded(Kind, pykka.ThreadingActor):
    """Pykka's own."""

    def __init__(self, diary: Diary, dispatcher: Dispatcher) -> None:
        super().__init__()
        self.diary = diary


class Pooled(Kind, PooledActor):
    """Ours."""

    def __init__(self, diary: Diary, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher=dispatcher)
        self.diary = diary

    def on_undelivered(self, message: Any) -> None:
        self.diary.note(f"undelivered {message}")


Start: TypeAlias = Callable[[Diary], pykka.ActorRef[Any]]


def wait(event: threading.Event) -> None:
    """Wait for an event that comes."""
    assert event.wait(PATIENCE_S), "it did not come"


def in_turn(*steps: Callable[[], object]) -> None:
    """Do one after the other, where a lambda can do only one."""
    for step in steps:
        step()
