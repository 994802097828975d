"""How many connections there may be: in all, and from one address. No sockets, no waiting."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from ipaddress import IPv6Address, ip_address

__all__ = ["Crowd", "Welcome"]

SPARE = 64
"""Connections over the limit that are told so with an answer; more are closed without a word."""


class Welcome(Enum):
    """What becomes of a connection that has come."""

    IN = "it is served"
    TURNED_AWAY = "it is told that there are too many"
    CLOSED = "it is closed without a word, and not counted: too many are being turned away"


class Crowd:
    """The connections of all listeners that share it. Called on the loop's thread only.

    Args:
        max_connections: in all.
        max_per_address: of one IP address, or of one /64 of IPv6, which is what a single customer has.
            Those of this machine are not counted: all of its programs, and a proxy in front of the
            server with everybody behind it, share one.

    """

    def __init__(self, max_connections: int = 10_000, max_per_address: int = 1_000) -> None:
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._by_origin: Counter[bytes] = Counter()
        self.count = 0
        """Connections that are open now."""
        self.refused = 0
        """Connections that were too many, since the start."""

    def enter(self, address: str) -> Welcome:
        """Count a connection from `address`, which is empty if it has none."""
        origin = _origin(address)
        excess = self.count - self._max_connections
        if origin is not None:
            excess = max(excess, self._by_origin[origin] - self._max_per_address)
        if excess >= 0:
            self.refused += 1
        if excess >= SPARE:
            return Welcome.CLOSED
        self.count += 1
        if origin is not None:
            self._by_origin[origin] += 1
        return Welcome.TURNED_AWAY if excess >= 0 else Welcome.IN

    def leave(self, address: str) -> None:
        """Count one that has entered out again."""
        self.count -= 1
        origin = _origin(address)
        if origin is not None:
            self._by_origin[origin] -= 1
            if not self._by_origin[origin]:
                del self._by_origin[origin]


def _origin(address: str) -> bytes | None:
    """Return what addresses are counted by; None if this one is not counted."""
    if not address:
        return None
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    real = mapped or parsed
    return None if real.is_loopback else real.packed[:8]
