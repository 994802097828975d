"""Turns: how an agent runs them, and the gate where it waits for its thread's actor."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pykka

from trunkline.actor import post
from trunkline.agents.base import Agent, AgentFactory, Turn
from trunkline.agents.events import TurnEnded, TurnStatus
from trunkline.clock import Clock
from trunkline.errors import TurnFailed, TurnInterrupted

__all__ = ["AgentSlot", "Gate", "TurnClock"]

logger = logging.getLogger(__name__)


class Gate:
    """Where an agent waits while its thread has too much to do.

    The agent's thread passes through; the actor shuts and opens, and never waits. The gate is shut
    while more than `high_water` messages are in the actor's inbox (fewer of those with much text or of many
    events: what is in the inbox must fit into the thread's log), or while the actor says so.

    Args:
        inbox_depth: tells how many messages are in the actor's inbox, on any thread.
        high_water: messages in the inbox at which the agent begins to wait.
        max_chars: characters of text that may be in the inbox, about.
        max_events: events that may be in the inbox, about; None sets no limit but `high_water`.

    """

    def __init__(
        self, inbox_depth: Callable[[], int], high_water: int, max_chars: int, max_events: int | None = None
    ) -> None:
        self._inbox_depth = inbox_depth
        self._high_water = high_water
        self._max_chars = max_chars
        self._max_events = high_water if max_events is None else max_events
        self._opened = threading.Event()
        self._has_waiter = False
        # Messages in the inbox at which a waiter is woken.
        self._wake_depth = 0
        self._is_held = False
        self._is_open_for_good = False

    def wait_open(self, chars: int = 0, count: int = 1) -> None:
        """Wait until the actor keeps up. For any thread of the agent.

        Args:
            chars: the length of the text that the agent is about to tell.
            count: the events that become of it.

        """
        limit = self._high_water
        # As many as there may be if all are like this. A few in any case: there are other messages too.
        if count * limit > self._max_events:
            limit = max(self._max_events // count, 4)
        if chars * limit > self._max_chars:
            limit = max(self._max_chars // chars, 4)
        while self._is_shut(limit):
            self._opened.clear()
            # Not as soon as there is room for one more: it would wait again at once.
            self._wake_depth = limit // 2
            # The order matters: the actor looks for a waiter after it has taken messages, so either it
            # sees this waiter, or this look sees what it took.
            self._has_waiter = True
            if not self._is_shut(limit):
                self._opened.set()  # for another one who is about to wait, and whose wake-up was cleared
                break
            self._opened.wait()

    def set_held(self, is_held: bool) -> None:  # its one argument is its name
        """Keep the gate shut, or not, and wake the waiter if it is open. For the actor; never blocks.

        Called at the end of each batch: the waiter relies on it.
        """
        self._is_held = is_held
        if self._has_waiter and not is_held and self._inbox_depth() <= self._wake_depth:
            self._has_waiter = False
            self._opened.set()

    def open_for_good(self) -> None:
        """Let everybody through from now on: the actor has ended, or the turn has."""
        self._is_open_for_good = True
        self._opened.set()

    def _is_shut(self, limit: int) -> bool:
        return not self._is_open_for_good and (self._is_held or self._inbox_depth() > limit)


class TurnClock:
    """Measures how much of its time a turn has had.

    Args:
        timeout_s: seconds that a turn may take.
        waited_s: tells for how many seconds the thread has waited for clients in all; the turn is not
            to blame for those.
        clock: by which time passes.

    """

    def __init__(self, timeout_s: float, waited_s: Callable[[], float], clock: Clock) -> None:
        self.timeout_s = timeout_s
        self._waited_s = waited_s
        self._clock = clock
        self._started = clock.monotonic() - waited_s()

    def left_s(self) -> float:
        """Return the seconds that are left, 0 or less when there are none."""
        return self.timeout_s - (self._clock.monotonic() - self._waited_s() - self._started)


class AgentSlot:
    """A thread's agent, made on the OS thread of its first turn, as making it may block.

    Args:
        factory: makes the agent.

    """

    def __init__(self, factory: AgentFactory) -> None:
        self._factory = factory
        self._agent: Agent | None = None

    def fail_to_run(self, turn: Turn, thread: pykka.ActorRef[Any]) -> None:
        """Tell `thread` that a turn has ended before it began: there is no OS thread for it. Never blocks."""
        logger.error("x thread %s: no OS thread for turn %s", *_ids(turn), extra=_fields(turn))
        post(thread, TurnEnded(turn.turn_id, "failed", "the server has no more threads to run the agent on"))

    def run_turn(self, turn: Turn, thread: pykka.ActorRef[Any]) -> None:
        """Run a turn and tell `thread` how it ended. For the turn's own OS thread; blocks."""
        status: TurnStatus = "failed"
        message = None
        try:
            if self._agent is None:
                self._agent = self._factory()
            self._agent.run_turn(turn)
        except TurnInterrupted:
            status = "interrupted"
        except TurnFailed as error:
            # A path in it may have bytes that are no text: these are shown as escapes.
            reason = str(error).encode(errors="backslashreplace").decode()
            message = reason or "the agent gave no reason"
        except BaseException as error:
            # Also a SystemExit: an agent ends its turn and nothing else.
            logger.exception("x thread %s: the agent raised in turn %s", *_ids(turn), extra=_fields(turn))
            message = f"the agent failed with {type(error).__name__}"
        else:
            status = "interrupted" if turn.is_interrupted else "completed"
        post(thread, TurnEnded(turn.turn_id, status, message))


def _ids(turn: Turn) -> tuple[str, str]:
    return turn.thread_id, turn.turn_id


def _fields(turn: Turn) -> dict[str, str]:
    """Return what a line of the log about a turn has as fields."""
    return {"threadId": turn.thread_id, "turnId": turn.turn_id}
