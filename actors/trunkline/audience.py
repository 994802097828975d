"""Who is sent what is for everybody: initialized connections, by what they opted out of.

A thread's status goes to every connection of the server. Among thousands of them, those who opted out must
cost such a broadcast nothing: they are kept together, and passed over together.

A plain object that belongs to the Router actor and is called by it alone.
"""

from __future__ import annotations

from trunkline.actor import post
from trunkline.messages import Broadcast, Ref
from trunkline.types import ConnectionId

__all__ = ["Audience"]


class Audience:
    """The connections that broadcasts are for."""

    def __init__(self) -> None:
        # By the methods of notifications that they are not sent.
        self._groups: dict[frozenset[str], dict[ConnectionId, Ref]] = {}
        self._unwanted: dict[ConnectionId, frozenset[str]] = {}

    def __len__(self) -> int:
        return len(self._unwanted)

    def add(self, connection_id: ConnectionId, connection: Ref, unwanted: frozenset[str]) -> None:
        """Let a connection be told broadcasts from now on, but for those it does not want. Once for each."""
        self._unwanted[connection_id] = unwanted
        self._groups.setdefault(unwanted, {})[connection_id] = connection

    def remove(self, connection_id: ConnectionId) -> None:
        """Forget a connection. One that was not added is ignored."""
        unwanted = self._unwanted.pop(connection_id, None)
        if unwanted is not None:
            group = self._groups[unwanted]
            del group[connection_id]
            if not group:
                del self._groups[unwanted]

    def tell(self, message: Broadcast) -> None:
        """Tell everybody who wants any of it."""
        methods = message.chunk.methods
        for unwanted, group in self._groups.items():
            if not methods <= unwanted:
                for connection in group.values():
                    post(connection, message)
