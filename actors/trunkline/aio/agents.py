"""Agents that are coroutines: each turn is a task of the host's loop."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeGuard

from trunkline.agents.base import Agent, Turn
from trunkline.aio.turns import AsyncTurn, Calls
from trunkline.errors import TurnFailed, TurnInterrupted

__all__ = ["AsyncAgent", "AsyncAgentLike", "is_for_a_loop", "on_loop"]

RunTurn: TypeAlias = Callable[[AsyncTurn], Awaitable[None]]


class AsyncAgent(ABC):
    """Answers the turns of one thread, one at a time, on the host's loop.

    Its turns end as those of an `Agent`: return, and the turn is completed; raise `TurnFailed` with a
    reason, and it is failed. When the turn is interrupted, its task is cancelled.

    Examples:
        >>> class Counter(AsyncAgent):
        ...     def __init__(self) -> None:
        ...         self.turns = 0
        ...
        ...     async def run_turn(self, turn: AsyncTurn) -> None:
        ...         self.turns += 1
        ...         await turn.say(f"turn {self.turns} of this thread")
        >>> server = AsyncAppServer(agent=Counter)

    """

    @abstractmethod
    async def run_turn(self, turn: AsyncTurn) -> None:
        """Run one turn to its end. A task of the loop: it must not block."""


AsyncAgentLike: TypeAlias = RunTurn | type[AsyncAgent] | AsyncAgent
"""A coroutine function that is called with each turn; a class, of which each thread gets an object of its
own; or one object for all threads."""


def on_loop(agent: AsyncAgentLike, loop: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], Agent]:
    """Return what makes agents for a server, whose turns run as tasks of a loop.

    Args:
        agent: what answers the turns.
        loop: tells which loop; called when a thread's first turn begins.

    Raises:
        TypeError: it is none of what an agent may be.

    """
    if isinstance(agent, type) and issubclass(agent, AsyncAgent):
        make = agent
        return lambda: _OnLoop(make().run_turn, loop())
    if isinstance(agent, AsyncAgent):
        run_turn = agent.run_turn
        return lambda: _OnLoop(run_turn, loop())
    if inspect.iscoroutinefunction(agent):
        return lambda: _OnLoop(agent, loop())
    raise TypeError(f"an agent is a coroutine function or an AsyncAgent, not {agent!r}")


def is_for_a_loop(agent: object) -> TypeGuard[AsyncAgentLike]:
    """Whether it is an agent for `on_loop`, and not one that may block."""
    is_class = isinstance(agent, type) and issubclass(agent, AsyncAgent)
    return is_class or isinstance(agent, AsyncAgent) or inspect.iscoroutinefunction(agent)


class _OnLoop(Agent):
    """Runs each turn as a task, and meanwhile makes on the turn's thread the calls that may wait."""

    def __init__(self, run_turn: RunTurn, loop: asyncio.AbstractEventLoop) -> None:
        self._run_turn = run_turn
        self._loop = loop

    def run_turn(self, turn: Turn) -> None:
        """Run one turn to its end."""
        running = _Running(self._run_turn, turn, self._loop)
        with turn.on_interrupt(running.cancel):
            running.run()


class _Running:
    """One turn: a task on the loop, and the calls that it has this thread make."""

    def __init__(self, run_turn: RunTurn, turn: Turn, loop: asyncio.AbstractEventLoop) -> None:
        self._run_turn = run_turn
        self._turn = turn
        self._loop = loop
        self._calls = Calls()
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._is_done = False
        self._is_cancelled = False

    def run(self) -> None:
        """Return when the task has ended, as the turn is to end. On the turn's thread; blocks."""
        if not self._call(self._begin):
            raise TurnFailed("the event loop of the agent has ended")
        self._calls.run()
        error = self._error or self._calls.error
        if error is not None:
            raise error
        if not self._is_done:
            raise TurnFailed("the event loop of the agent has ended")

    def cancel(self) -> None:
        """Cancel the task. On the thread that interrupts; never blocks or raises."""
        if not self._call(self._cancel):
            self._calls.end()

    def _call(self, function: Callable[[], None]) -> bool:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True

    # On the loop.

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._run(), name=f"trunkline-turn-{self._turn.turn_id[-8:]}")
        self._task.add_done_callback(self._end)
        if self._turn.is_interrupted:
            self._cancel()

    async def _run(self) -> None:
        await self._run_turn(AsyncTurn(self._turn, self._calls))

    def _cancel(self) -> None:
        # Once only: a second time would cancel what the coroutine does to clean up.
        if self._task is not None and not self._is_cancelled:
            self._is_cancelled = True
            self._task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._is_done = True
        if task.cancelled():
            # By the interrupt, or by a loop that is ending: either way nobody is to blame.
            self._error = TurnInterrupted()
        else:
            self._error = task.exception()
        self._calls.end()
