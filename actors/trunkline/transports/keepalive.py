"""Keepalive: finds peers that are gone without a word, such as behind a pulled cable.

Whatever comes from a peer is a sign of life, and so is that it takes what waits for it. Where there is
neither it is sent a ping, and where that has no effect it is given up. One timer sweeps over all links, a
part of them at a time: ten thousand idle ones are ten thousand flags that are looked at every few seconds.

On the loop's thread.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Collection, Iterable
from itertools import islice
from math import ceil
from typing import Protocol

from trunkline.transports.loop import IoLoop

__all__ = ["Keepalive", "Pinged", "bytes_taken"]

_SWEEPS = 4
"""Sweeps in the shorter of the two times: how exactly they are kept."""

_PARTS = 16
"""Parts of a sweep: so that the pings of links that fell silent at the same moment do not go out at one."""

# The members of Linux's struct tcp_info (linux/tcp.h) that are of use: tcpi_unacked, tcpi_bytes_acked,
# tcpi_notsent_bytes, and where that ends.
_TCP_INFO = struct.Struct("=24xI92xQ16xI")


class Pinged(Protocol):
    """What is kept alive."""

    silence: int
    """Sweeps in which no sign of life came. The keepalive's own."""

    def take_sign_of_life(self) -> bool:
        """Tell whether one came since the last call."""
        ...

    def ping(self) -> None:
        """Ask the peer for one."""
        ...

    def give_up(self) -> None:
        """Close: the peer is gone."""
        ...


class Keepalive:
    """Watches the links of a listener.

    Args:
        loop: whose thread calls.
        links: those that are open now; whoever owns it adds and removes.
        interval_s: seconds of silence after which a ping is sent, 0 for never.
        timeout_s: seconds of silence after that, after which the peer is given up.

    """

    def __init__(
        self, loop: IoLoop, links: Collection[Pinged], *, interval_s: float, timeout_s: float
    ) -> None:
        self._loop = loop
        self._links = links
        self._is_running = interval_s <= 0  # then it is never started
        sweep_s = min(interval_s, timeout_s) / _SWEEPS or 1.0
        self._tick_s = sweep_s / _PARTS
        self._ping_after = ceil(interval_s / sweep_s)
        self._give_up_after = self._ping_after + ceil(timeout_s / sweep_s)
        self._part = 0
        self._sweep: Iterable[Pinged] = iter(())
        self._part_size = 0

    def watch(self) -> None:
        """Say that there is a link. The timer runs as long as there are any."""
        if not self._is_running:
            self._is_running = True
            self._part = 0
            self._loop.call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        if self._part == 0:
            if not self._links:
                self._is_running = False
                return
            self._sweep = iter(list(self._links))
            self._part_size = ceil(len(self._links) / _PARTS)
        for link in islice(self._sweep, self._part_size):
            self._look_at(link)
        self._part = (self._part + 1) % _PARTS
        self._loop.call_later(self._tick_s, self._tick)

    def _look_at(self, link: Pinged) -> None:
        if link.take_sign_of_life():
            link.silence = 0
            return
        link.silence += 1
        if link.silence == self._ping_after:
            link.ping()
        elif link.silence >= self._give_up_after:
            link.give_up()


def bytes_taken(sock: socket.socket) -> int | None:
    """Return how many bytes the peer has ever taken, if more are waiting for it in the operating system.

    A peer that has all is no reader, only an operating system with room in its buffers: None. None as well
    where this cannot be known (only Linux tells it, of TCP).
    """
    if sys.platform != "linux":
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return None
    if len(info) < _TCP_INFO.size:
        return None
    unacknowledged, acknowledged, unsent = _TCP_INFO.unpack(info)
    return int(acknowledged) if unacknowledged or unsent else None
