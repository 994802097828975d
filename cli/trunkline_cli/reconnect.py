"""Getting a lost connection back: when to try, how often, and when not to.

Owns the connection that an attached session uses. The session says that it has lost it and goes on with
what it can do without; a thread of this module's waits and connects, and puts what comes of it into the
session's inbox.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from trunkline_cli.client import Client, ClientError, Connection, Refused

__all__ = ["Backoff", "GaveUp", "NotBack", "Reconnector", "Reopened", "Reopening", "TryFailed"]

FIRST_DELAY_S = 0.25
MAX_DELAY_S = 15.0
"""The delays of `Backoff`. A server that restarts is back within seconds; one that is away for an hour need
not be asked more often than four times a minute."""

STEADY_S = 10.0
"""A connection that lasted this long was a good one: the next loss begins with short delays again. One that
is lost as soon as it is there, time and again, is not asked for faster and faster."""

CLOSE_WAIT_S = 0.5
"""How long `close` waits for an attempt that is under way, which sees by itself that nobody wants it."""


class NotBack(ClientError):
    """A lost connection could not be had again in time."""

    def __init__(self, tried_s: float, last: ClientError) -> None:
        super().__init__(tried_s, last)
        self.tried_s = tried_s
        """For how long it was tried, in seconds."""
        self.last = last
        """Why the last attempt failed."""

    def __str__(self) -> str:
        return f"the connection was lost and not to be had again within {self.tried_s:g} s: {self.last}"


@dataclass(frozen=True, slots=True)
class Reopened:
    """There is a connection again, with the handshake done."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class TryFailed:
    """An attempt has failed, and another one will be made."""

    error: ClientError


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No more attempts are made."""

    error: ClientError


Reopening: TypeAlias = Reopened | TryFailed | GaveUp
"""All that a `Reconnector` puts into the inbox."""


class Backoff:
    """The delays before attempts, in seconds: each up to twice the one before, from 0.25 to 15.

    Half of a delay is random, so that the clients of a server that restarts do not all come back at once.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._attempts = 0

    def next_s(self) -> float:
        """Return the next delay."""
        most = min(FIRST_DELAY_S * 2.0 ** min(self._attempts, 30), MAX_DELAY_S)
        self._attempts += 1
        return self._rng.uniform(most / 2, most)

    def reset(self) -> None:
        """Begin with short delays again."""
        self._attempts = 0


class Reconnector:
    """The connection of a session, which is another one after each loss.

    Args:
        connect: makes a connection, with the handshake done. Blocks. Its errors are `ClientError`s.
        put: told what becomes of a loss, on a thread of this class's.
        patience_s: how many seconds a lost thread is tried for; infinity is for ever.

    Raises:
        ClientError: the first connection cannot be made. There is no second attempt at that.

    """

    def __init__(
        self, connect: Callable[[], Client], put: Callable[[Reopening], None], patience_s: float
    ) -> None:
        self._connect = connect
        self._put = put
        self._patience_s = patience_s
        self._backoff = Backoff()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._lost_at = 0.0
        self.client = connect()
        """The newest connection."""
        self._connected_at = time.monotonic()

    def reopen(self, was_open: bool) -> None:
        """Close the connection and make another. Call it again only after a `Reopened`.

        Args:
            was_open: whether the thread was open on this connection; the patience begins anew then.

        """
        now = time.monotonic()
        if was_open:
            self._lost_at = now
        if now - self._connected_at >= STEADY_S:
            self._backoff.reset()
        self._thread = threading.Thread(target=self._work, name="trunkline-reconnect", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Make no more attempts, and close the connection."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)
        self.client.close()

    def _work(self) -> None:
        # This waits for the client's thread: its messages are all in the inbox before those of the next.
        self.client.close()
        while not self._stopping.wait(self._backoff.next_s()):
            try:
                client = self._connect()
            except ClientError as error:
                if not self._goes_on_after(error):
                    return
                continue
            if self._stopping.is_set():
                client.close()
                return
            self.client, self._connected_at = client, time.monotonic()
            self._put(Reopened(client))
            return

    def _goes_on_after(self, error: ClientError) -> bool:
        """Tell what came of an attempt that failed, and whether another one is to be made."""
        if isinstance(error, Refused):
            self._put(GaveUp(error))  # they know us, and do not want us
        elif time.monotonic() - self._lost_at >= self._patience_s:
            self._put(GaveUp(NotBack(self._patience_s, error)))
        else:
            self._put(TryFailed(error))
            return True
        return False
