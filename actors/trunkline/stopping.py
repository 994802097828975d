"""How a server ends: step by step, each with its time, and what had to be cut off.

Runs on a thread that may wait: whoever called `AppServer.stop`, or one of its own. It is written so that
nothing in it can wait for ever: not for an actor that somebody else has stopped, and not for a thread
that does not end.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import pykka

from trunkline.actor import post
from trunkline.messages import (
    CloseConnections,
    CutConnections,
    Drain,
    InterruptTurns,
    Message,
    Ref,
    StopThreads,
)
from trunkline.transports.closes import STOPPING
from trunkline.types import ThreadId

__all__ = ["Deadline", "StopReport", "alive", "close_connections", "end_turns", "stop_actor", "stop_threads"]

logger = logging.getLogger(__name__)

CLOSE_S = 5.0
"""Seconds that clients have to take what is unsent and to finish the closing handshake."""

LITTLE_S = 0.2
"""Seconds that each of the last steps has in any case: a thread that has nothing to do still has to end."""

LOOK_S = 0.05
"""Seconds after which one who waits for an actor sees whether it is still there."""


@dataclass(frozen=True, slots=True)
class StopReport:
    """What came of a stop: how long it took, and what had to be cut off.

    Examples:
        >>> server = AppServer(agent=None)
        >>> server.start()
        >>> report = server.stop()
        >>> report.is_clean, report.turns, report.os_threads
        (True, (), ())

    """

    is_complete: bool = True
    """Whether all has been done that will be. False if the caller was one that could not wait for it, such
    as a callback on a thread of the server's: then it goes on behind it."""
    took_s: float = 0.0
    """Seconds from the first call on."""
    turns: tuple[ThreadId, ...] = ()
    """Threads whose turn had not ended by itself in its time of grace, and was interrupted."""
    connections: int = 0
    """Clients that did not take what was to be sent to them, or did not finish the closing handshake."""
    actors: tuple[str, ...] = ()
    """Actors and child processes that have not stopped."""
    os_threads: tuple[str, ...] = ()
    """Names of the server's OS threads that still run: of an agent that takes no notice of an interrupt, of
    a method's handler or a callback that does not return."""

    @property
    def is_clean(self) -> bool:
        """Whether everything came to its end by itself, and nothing is left."""
        return self.is_complete and not (self.turns or self.connections or self.actors or self.os_threads)


class Deadline:
    """The time that a stop may take.

    Args:
        timeout_s: seconds from now on.

    """

    def __init__(self, timeout_s: float) -> None:
        self._began = time.monotonic()
        self._ends = self._began + timeout_s
        # What the last steps need, in which threads are joined that have nothing more to do.
        self._reserve_s = min(1.0, timeout_s / 4)

    @property
    def took_s(self) -> float:
        """Seconds that have passed."""
        return time.monotonic() - self._began

    def left_s(self, most: float = CLOSE_S) -> float:
        """Return the seconds that are left, `most` at most, and a little in any case."""
        return max(min(most, self._ends - time.monotonic()), LITTLE_S)

    def step_s(self, most: float) -> float:
        """Return the same for a step that is not among the last."""
        return max(min(most, self._ends - self._reserve_s - time.monotonic()), 0.01)


def end_turns(
    router: Ref | None,
    deadline: Deadline,
    hurry: threading.Event,
    grace_s: float,
    interrupt_grace_s: float,
) -> tuple[ThreadId, ...]:
    """Let the running turns end, then interrupt them.

    Args:
        router: the server's.
        deadline: of the whole stop.
        hurry: is set when no turn is running any more, and by one who does not want to wait for that.
        grace_s: seconds that the turns have.
        interrupt_grace_s: seconds that their agents have then.

    Returns:
        The threads whose turns were interrupted.

    """
    idle = threading.Event()

    def on_idle() -> None:
        idle.set()
        hurry.set()

    _tell(router, Drain(on_idle), hurry, deadline.step_s(grace_s))
    if idle.is_set():
        return ()
    interrupted: list[ThreadId] = []
    told = threading.Event()

    def note(threads: tuple[ThreadId, ...]) -> None:
        interrupted.extend(threads)
        told.set()

    _tell(router, InterruptTurns(note), told, deadline.step_s(CLOSE_S))
    # Also if none was named: that a turn runs is told behind its first events, which may be on their way.
    if _is_late(router, idle, deadline.step_s(interrupt_grace_s + 1.0)):
        logger.error("x server: turns are still running; they are cut off")
    return tuple(interrupted)


def close_connections(router: Ref | None, deadline: Deadline) -> int:
    """Send clients what is unsent and close them with 1001.

    Returns:
        How many had to be cut off.

    """
    closed = threading.Event()
    if not _tell(router, CloseConnections(STOPPING, closed.set), closed, deadline.step_s(CLOSE_S)):
        return 0
    logger.warning("x server: some clients did not finish the closing handshake; they are cut off")
    cut: list[int] = []
    gone = threading.Event()
    _tell(router, CutConnections(cut.append, gone.set), gone, deadline.left_s(1.0))
    return sum(cut)


def stop_threads(router: Ref | None, deadline: Deadline) -> None:
    """Stop the actors of all threads, which write down what they have for clients that come back."""
    stopped = threading.Event()
    # A thousand that have streamed want more than a few seconds.
    if _tell(router, StopThreads(stopped.set), stopped, deadline.step_s(math.inf)):
        logger.error("x server: some threads have not stopped")


def stop_actor(ref: Ref | None, timeout_s: float) -> tuple[str, ...]:
    """Stop an actor and wait for that.

    Returns:
        Its name, if it has not stopped in time.

    """
    if ref is None:
        return ()
    try:
        ref.stop(block=True, timeout=timeout_s)
    except pykka.Timeout:
        logger.error("x server: %s has not stopped", ref)
        return (str(ref),)
    return ()


def alive(threads: Iterable[threading.Thread]) -> tuple[str, ...]:
    """Return the names of the threads that run."""
    return tuple(sorted(thread.name for thread in threads if thread.is_alive()))


def _tell(router: Ref | None, message: Message, done: threading.Event, timeout_s: float) -> bool:
    """Tell the router and wait for `done`; return whether there is a router that is late with it."""
    return post(router, message) and _is_late(router, done, timeout_s)


def _is_late(router: Ref | None, done: threading.Event, timeout_s: float) -> bool:
    """Wait for `done`, as long as the router is there to see to it."""
    ends = time.monotonic() + timeout_s
    while not done.wait(min(LOOK_S, max(ends - time.monotonic(), 0.0))):
        if router is None or router.actor_stopped.is_set():
            return False  # somebody else has stopped it, and there is nobody left to wait for
        if time.monotonic() >= ends:
            return True
    return False
