"""A clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable

from trunkline.clock import Clock

__all__ = ["ManualClock"]

_NAP_S = 0.01
"""Seconds of real time after which an agent that waits looks at the clock again."""


class ManualClock(Clock):
    """The clock of a server, moved by hand. One clock may be that of several servers.

    What runs by it: unloading, the time limits of turns and prompts, an interrupted agent's grace,
    stalled clients, handshakes and closing handshakes, and what an agent waits by its `Turn`. What does
    not: `AppServer.stop`, and the times of day that threads and items report.

    Examples:
        >>> clock = ManualClock()
        >>> with running_server(clock=clock, prompt_timeout_s=300.0) as server:
        ...     client = server.connect("alice")
        ...     turn_id = client.start_turn(client.start_thread(), "ask ls")
        ...     prompt = client.wait("item/commandExecution/requestApproval")
        ...     clock.advance(300.0)
        ...     client.wait("serverRequest/resolved")["params"]["reason"]
        'nobody answered within 300 s'

    """

    def __init__(self) -> None:
        self._now = 0.0
        # Appended to and removed from by servers that start and stop, copied by `advance`: no lock needed.
        self._looks: list[Callable[[], None]] = []

    def monotonic(self) -> float:
        """Return the seconds by which the clock was moved."""
        return self._now

    def wait_s(self, deadline: float) -> float | None:
        """Return 0 for a moment that has come, else None: real time brings none nearer."""
        return 0.0 if deadline <= self._now else None

    def nap_s(self, deadline: float) -> float:
        """Return 0 for a moment that has come, else a moment of real time, after which to look again."""
        return 0.0 if deadline <= self._now else _NAP_S

    def watch(self, look: Callable[[], None]) -> None:
        """Have `look` called by each `advance`."""
        self._looks.append(look)

    def unwatch(self, look: Callable[[], None]) -> None:
        """Forget `look`."""
        if look in self._looks:
            self._looks.remove(look)

    def advance(self, seconds: float) -> None:
        """Move the clock in one leap, as if the machine had slept, and wait until what is due was told.

        The actors that were told may still have to act on it: `settle` waits for that, and a client
        that waits for what comes of it needs neither. Not for the threads of the server itself.

        Args:
            seconds: 0 or more.

        Raises:
            ValueError: `seconds` is negative.

        """
        if seconds < 0:
            raise ValueError(f"a clock does not go back: {seconds}")
        self._now += seconds
        for look in tuple(self._looks):
            look()
