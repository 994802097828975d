"""The turn that is running, and how an agent is set to work on it.

Plain objects that belong to one Thread actor and are called by it alone; but for `emit`, which the agent's
thread calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trunkline.actor import post
from trunkline.agents.base import Turn
from trunkline.agents.events import ItemDelta, TurnEvent
from trunkline.context import Context
from trunkline.conversation import History, TurnState
from trunkline.errors import TurnInterrupted
from trunkline.local.workshop import Workshop
from trunkline.messages import Ref, Request
from trunkline.prompts import Prompts
from trunkline.store.base import ThreadRecord
from trunkline.turns import AgentSlot, Gate, TurnClock
from trunkline.types import JsonObject

__all__ = ["Runner", "Running"]


class Running:
    """The turn that is running."""

    __slots__ = ("clock", "failure", "gate", "handle", "interrupts", "is_interrupted", "state")

    def __init__(self, handle: Turn, gate: Gate, state: TurnState, clock: TurnClock | None) -> None:
        self.handle = handle
        self.gate = gate
        self.state = state
        self.clock = clock
        self.failure: str | None = None
        """Why it is ended as failed, however its agent ends it."""
        self.is_interrupted = False
        self.interrupts: list[Request] = []
        """Requests that are answered when it has ended."""


class Runner:
    """Sets a thread's agent to work on its turns.

    Args:
        context: what the server's actors share.
        workshop: the agents.
        thread: the Thread actor, which is told what the turn tells.
        inbox_depth: tells how many messages wait for that actor; too many hold up the agent.
        prompts: the thread's open prompts, during which a turn's time stands still.

    """

    def __init__(
        self,
        context: Context,
        workshop: Workshop,
        thread: Ref,
        inbox_depth: Callable[[], int],
        prompts: Prompts,
    ) -> None:
        self._context = context
        self._workshop = workshop
        self._thread = thread
        self._inbox_depth = inbox_depth
        self._prompts = prompts
        self._agent = AgentSlot(workshop.agent_factory)

    def new_turn(
        self, record: ThreadRecord, state: TurnState, content: list[JsonObject], history: History
    ) -> Running:
        """Return a turn for the agent to `run`.

        Args:
            record: what the thread is.
            state: the turn's.
            content: its input.
            history: the items before it.

        """
        limits = self._context.config.limits
        # Half of the log may be waiting for subscribers when the gate is shut. What is in the inbox then
        # still has to fit, with room for what comes until the actor looks again, and for what JSON makes of
        # text: up to six bytes for one. An agent that waits costs more than its text takes: a quarter it is.
        gate = Gate(
            self._inbox_depth,
            limits.inbox_high_water,
            max_chars=limits.log_bytes // 32,
            max_events=limits.log_events // 4,
        )
        timeout_s = self._context.config.turn_timeout_s
        clock = None if timeout_s is None else self._new_clock(timeout_s)
        return Running(self._new_handle(record, state, content, history, gate), gate, state, clock)

    def run(self, running: Running) -> None:
        """Have the agent begin."""
        self._workshop.starter.start_turn(self._agent, running.handle, self._thread)

    def go_on(self, running: Running, record: ThreadRecord, content: list[JsonObject]) -> None:
        """Have the agent begin once more, in the same turn with other input."""
        running.handle = self._new_handle(
            record, running.state, content, running.handle.history, running.gate
        )
        self.run(running)

    def give_up(self) -> None:
        """Leave the agent to itself. It may still be at work: the next turn goes to another object."""
        self._agent = AgentSlot(self._workshop.agent_factory)

    def _new_clock(self, timeout_s: float) -> TurnClock:
        return TurnClock(timeout_s, lambda: self._prompts.waited_s, self._context.timers.clock)

    def _new_handle(
        self,
        record: ThreadRecord,
        state: TurnState,
        content: list[JsonObject],
        history: Sequence[JsonObject],
        gate: Gate,
    ) -> Turn:
        thread = self._thread
        # So few at once that the log can hold all that the gate lets into the inbox.
        most = max(self._context.config.limits.log_events // 32, 1)

        def emit(event: TurnEvent) -> None:  # on the agent's thread
            if type(event) is not ItemDelta:
                gate.wait_open()
            elif len(event.texts) > most:
                for part in event.split(most):
                    emit(part)
                return
            else:
                gate.wait_open(len(event.joined), len(event.texts))
            if not post(thread, event):
                raise TurnInterrupted

        return Turn(
            thread_id=record.id,
            turn_id=state.id,
            input=content,
            history=history,
            cwd=Path(record.cwd),
            approval_policy=record.approval_policy,
            emit=emit,
            clock=self._context.timers.clock,
        )
