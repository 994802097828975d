"""The lobby: clients that have connected and not yet said who they are.

A plain object that belongs to the router and is called by it alone. One timer at a time runs for all.
"""

from __future__ import annotations

import logging

from trunkline.actor import post
from trunkline.messages import Close, Message, Ref
from trunkline.timers import Timers
from trunkline.transports.closes import NOT_INITIALIZED
from trunkline.types import ConnectionId

__all__ = ["Lobby", "LobbyDue"]

logger = logging.getLogger(__name__)


class LobbyDue(Message, frozen=True):
    """Somebody may have been in the lobby for too long. Told to the router, by a timer."""


class Lobby:
    """Who waits in it, and since when.

    Args:
        timeout_s: seconds after which a connection is closed.
        timers: tells `LobbyDue`.
        router: whom.

    """

    def __init__(self, timeout_s: float, timers: Timers, router: Ref) -> None:
        self._timeout_s = timeout_s
        self._timers = timers
        self._router = router
        # When each has to have left. In the order of their coming, as a dict is: the first is due first.
        self._due: dict[ConnectionId, tuple[float, Ref]] = {}
        self._is_timer_set = False

    def opened(self, connection_id: ConnectionId, connection: Ref) -> None:
        """Let a connection in."""
        self._due[connection_id] = (self._timers.clock.monotonic() + self._timeout_s, connection)
        self._set_timer()

    def left(self, connection_id: ConnectionId) -> None:
        """Let a connection go: it is initialized, or gone."""
        self._due.pop(connection_id, None)

    def clear_out(self) -> None:
        """Close the connections that have been here for too long. Called on `LobbyDue`."""
        self._is_timer_set = False
        now = self._timers.clock.monotonic()
        while self._due:
            connection_id, (due, connection) = next(iter(self._due.items()))
            if due > now:
                break
            del self._due[connection_id]
            logger.info(
                "- connection %s: not initialized within %g s",
                connection_id,
                self._timeout_s,
                extra={"connectionId": connection_id},
            )
            post(connection, Close(NOT_INITIALIZED))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._due and not self._is_timer_set:
            self._is_timer_set = True
            due, _ = next(iter(self._due.values()))
            self._timers.tell_later(max(due - self._timers.clock.monotonic(), 0.0), self._router, LobbyDue())
