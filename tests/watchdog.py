"""A watchdog over handlers: notes each call of what waits, and handlers that do not come back."""

from __future__ import annotations

import queue
import select
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pykka
import pytest

from trunkline.actor import PooledActor

__all__ = ["STUCK_S", "WAITS", "Watchdog", "watching"]

STUCK_S = 10.0
"""A handler that takes this long waits for something."""

WAITS = (
    (time, "sleep"),
    (threading.Event, "wait"),
    (threading.Condition, "wait"),
    (threading.Thread, "join"),
    (threading.Thread, "start"),
    (threading.Barrier, "wait"),
    (threading.Semaphore, "acquire"),
    (queue.Queue, "get"),
    (pykka.ThreadingFuture, "get"),
    (subprocess.Popen, "wait"),
    (select, "select"),
)
"""What waits: thread starts do too, until the thread runs."""


class Watchdog:
    """Knows which threads are in a handler, and what they do there that they must not."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.handled = 0
        self._since: dict[int, tuple[PooledActor, float]] = {}
        self._stop = threading.Event()

    def note(self, what: str) -> None:
        """Note a wait, if this thread is in a handler."""
        here = self._since.get(threading.get_ident())
        if here is not None:
            stack = "".join(traceback.format_stack(limit=8))
            self.seen.append(f"{type(here[0]).__name__} called {what}:\n{stack}")

    def wrap_run(self, run: Callable[[PooledActor], None]) -> Callable[[PooledActor], None]:
        """Know when a thread is in an actor's handlers."""

        def watched(actor: PooledActor) -> None:
            self.handled += 1
            self._since[threading.get_ident()] = (actor, time.monotonic())
            try:
                run(actor)
            finally:
                self._since.pop(threading.get_ident(), None)

        return watched

    def walk(self) -> None:
        """Look at every thread that is in a handler, again and again, until `stop`."""
        while not self._stop.wait(0.05):
            frames = sys._current_frames()
            for thread_id, (actor, since) in list(self._since.items()):
                if time.monotonic() - since > STUCK_S and thread_id in frames:
                    stack = "".join(traceback.format_stack(frames[thread_id]))
                    self.seen.append(f"{type(actor).__name__} does not come back:\n{stack}")
                    return

    def stop(self) -> None:
        """End the walk."""
        self._stop.set()


@contextmanager
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    """A watchdog over every pooled actor of the process."""
    dog = Watchdog()

    def noting(what: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def waits(*args: Any, **kwargs: Any) -> Any:
            dog.note(what)
            return original(*args, **kwargs)

        return waits

    walker = threading.Thread(target=dog.walk, name="watchdog")
    walker.start()
    for owner, name in WAITS:
        what = f"{getattr(owner, '__name__', owner)}.{name}"
        monkeypatch.setattr(owner, name, noting(what, getattr(owner, name)))
    monkeypatch.setattr(PooledActor, "_run", dog.wrap_run(PooledActor._run))
    yield dog
    monkeypatch.undo()
    dog.stop()
    walker.join()
