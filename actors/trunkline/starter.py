"""The OS threads of turns: one for each turn that runs, used again for the next."""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from typing import Any, NamedTuple

import pykka

from trunkline.agents.base import Turn
from trunkline.turns import AgentSlot

__all__ = ["TurnStarter"]

IDLE_S = 10.0
"""Seconds for which a thread waits for another turn before it ends."""

MAX_IDLE = 64
"""Threads that wait at the same time. To begin one costs as much as a tenth of a short turn, and no more."""


class TurnStarter:
    """Runs turns on OS threads: an edge of its own, as to begin a thread is to wait until it runs.

    Args:
        name: the thread that begins the others is called `<name>-starter`, and they `<name>-turn-` and the
            end of the turn's id, or `<name>-turn-idle`.

    """

    def __init__(self, name: str = "trunkline") -> None:
        self._name = name
        # Turns for which no thread was idle.
        self._turns: queue.SimpleQueue[_Start | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._begin_runners, name=f"{name}-starter", daemon=True)
        self._runners: set[threading.Thread] = set()
        # The inboxes of the threads that wait. Taking one out is atomic: whoever has it may put one turn, or
        # None, into it.
        self._idle: list[_Inbox] = []
        self._is_stopping = False

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """Its own thread, and those of turns, at work or idle. Any thread."""
        return (self._thread, *self._runners.copy())

    def start(self) -> None:
        """Start to start. Call it once."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Start what is waiting, then end; threads of turns end when those do.

        Returns whether its own thread has ended. For any other thread.
        """
        self._is_stopping = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().put(None)
        self._turns.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def start_turn(self, slot: AgentSlot, turn: Turn, thread: pykka.ActorRef[Any]) -> None:
        """Have a turn run on an OS thread of its own. Any thread; never blocks.

        `thread` is told `TurnEnded` when it has ended, or if the operating system gives no more threads.
        """
        start = _Start(slot, turn, thread)
        try:
            inbox = self._idle.pop()
        except IndexError:
            self._turns.put(start)
        else:
            inbox.put(start)

    def _begin_runners(self) -> None:
        while (start := self._turns.get()) is not None:
            # Not as an argument: a thread holds those until it ends.
            inbox: _Inbox = queue.SimpleQueue()
            inbox.put(start)
            name = f"{self._name}-turn-idle"
            runner = threading.Thread(target=self._run_turns, args=(inbox,), name=name, daemon=True)
            self._runners.add(runner)
            try:
                runner.start()
            except RuntimeError:
                self._runners.discard(runner)
                start.slot.fail_to_run(start.turn, start.thread)
            del start, inbox, runner  # while it waits for the next it holds nothing

    def _run_turns(self, inbox: _Inbox) -> None:
        """Run the turn in `inbox`, and those that come after it. For an OS thread of its own; blocks."""
        runner = threading.current_thread()
        start = inbox.get()
        try:
            while start is not None:
                runner.name = f"{self._name}-turn-{start.turn.turn_id[-8:]}"
                # What an agent sets for its context is not the next one's.
                contextvars.Context().run(start.slot.run_turn, start.turn, start.thread)
                start = None  # while it waits for the next it holds nothing
                runner.name = f"{self._name}-turn-idle"
                start = self._wait(inbox)
        finally:
            self._runners.discard(runner)

    def _wait(self, inbox: _Inbox) -> _Start | None:
        """Wait for another turn. Returns None if the thread is to end."""
        if len(self._idle) >= MAX_IDLE:
            return None
        self._idle.append(inbox)
        # The order matters: whoever stops says so first and looks for idle ones then.
        if not self._is_stopping:
            try:
                return inbox.get(timeout=IDLE_S)
            except queue.Empty:
                pass
        try:
            self._idle.remove(inbox)
        except ValueError:
            return inbox.get()  # somebody has taken it out, and is about to put something
        return None


class _Start(NamedTuple):
    slot: AgentSlot
    turn: Turn
    thread: pykka.ActorRef[Any]


_Inbox = queue.SimpleQueue[_Start | None]
