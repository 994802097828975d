"""Admission: which requests of a client are taken, and which are refused because too much is under way.

Counted in two places: for each connection by its own actor, and for the whole server by slots that the
connections take from one list and put back.
"""

from __future__ import annotations

from collections.abc import Collection

from trunkline.config import Limits
from trunkline.protocol import errors
from trunkline.protocol.methods import Method
from trunkline.protocol.params import Params
from trunkline.types import RequestId, ThreadId

__all__ = ["Admission", "Slots"]

_JOINS = frozenset({"thread/start", "thread/resume", "thread/revert", "thread/fork"})
"""Methods that make the caller a subscriber: of a thread that the params name, or of a new one."""


class Slots:
    """As many requests as may be under way in the whole server. Any thread; nothing blocks.

    A slot is an entry of a list: `list.pop` is atomic, so no two connections get the same one.

    Args:
        count: how many, 1 or more.

    """

    __slots__ = ("_free", "count")

    def __init__(self, count: int) -> None:
        self._free: list[None] = [None] * count
        self.count = count
        """How many there are."""

    @property
    def taken(self) -> int:
        """How many requests are under way."""
        return self.count - len(self._free)

    def take(self) -> bool:
        """Take a slot; False if none is left."""
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def put_back(self, count: int = 1) -> None:
        """Put slots back that were taken."""
        self._free.extend([None] * count)


class Admission:
    """The requests of one connection that are under way. Belongs to that connection's actor.

    Args:
        limits: what one connection may have.
        slots: the server's.

    """

    __slots__ = ("_joining", "_limits", "_open", "_slots", "in_flight")

    def __init__(self, limits: Limits, slots: Slots) -> None:
        self._limits = limits
        self._slots = slots
        self._open: dict[RequestId, Method] = {}
        # Requests among them that may make the connection a subscriber.
        self._joining = 0
        self.in_flight = 0
        """How many there are. More than there are ids, if a client uses one id twice."""

    def begin(
        self, request_id: RequestId, method: Method, params: Params, subscribed: Collection[ThreadId]
    ) -> None:
        """Take a request in.

        Args:
            request_id: the client's.
            method: what it asks for.
            params: with what.
            subscribed: the threads that the connection is subscribed to.

        Raises:
            RpcError: it is refused, as too much is under way.

        """
        if self.in_flight >= self._limits.max_requests_in_flight:
            raise errors.overloaded()
        joins = method.name in _JOINS
        if joins:
            self._check_subscriptions(method, params, subscribed)
        if not self._slots.take():
            raise errors.overloaded()
        self.in_flight += 1
        self._open[request_id] = method
        self._joining += joins

    def end(self, request_id: RequestId) -> str | None:
        """Let go of a request that is answered.

        Returns:
            The name of its method; None if the client has used the id twice, or is gone.

        """
        if self.in_flight == 0:
            return None  # abandoned
        self.in_flight -= 1
        self._slots.put_back()
        method = self._open.pop(request_id, None)
        if self.in_flight == 0:
            self._joining = 0
        elif method is not None:
            self._joining -= method.name in _JOINS
        return None if method is None else method.name

    def abandon(self) -> None:
        """Let go of all: the client is gone, and what is still answered is answered to nobody."""
        self._slots.put_back(self.in_flight)
        self._open.clear()
        self.in_flight = self._joining = 0

    def _check_subscriptions(self, method: Method, params: Params, subscribed: Collection[ThreadId]) -> None:
        most = self._limits.max_subscriptions
        # A thread that is named is the one to subscribe to, except by a fork, which names its source.
        is_renewal = method.name != "thread/fork" and getattr(params, "thread_id", None) in subscribed
        if not is_renewal and len(subscribed) + self._joining >= most:
            raise errors.too_many_subscriptions(most)
