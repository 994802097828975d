"""Waking a thread that waits in `select` or `poll`, without a lock and without needless system calls."""

from __future__ import annotations

import contextlib
import socket
import time

__all__ = ["Waker"]


class Waker:
    """A descriptor that becomes readable when its owner is to get up.

    There is one token. It lies in `_asleep` while the owner sleeps or is about to; who takes it from
    there sends a byte and then puts it into `_awake`. So a thousand calls to `wake` while the owner
    is busy cost nothing, and while it sleeps one of them costs one system call. The owner needs the
    token to close, so no byte is ever sent to a descriptor that is somebody else's by then.

    The owner's round is: `doze`, look at what there may be to do, wait (not at all if there is
    something, or if `doze` said so), `rise`, `drain` if the descriptor is readable, do it.
    """

    __slots__ = ("_asleep", "_awake", "_receiver", "_sender")

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._awake: list[None] = [None]
        self._asleep: list[None] = []

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._receiver.fileno()

    def wake(self) -> None:
        """Have the owner look at what there is to do. Any thread; never blocks."""
        if not self._asleep:
            return
        try:
            self._asleep.pop()
        except IndexError:
            return  # somebody else is waking it
        try:
            with contextlib.suppress(BlockingIOError):  # bytes enough are there already
                self._sender.send(b"\0")
        finally:
            self._awake.append(None)

    def doze(self) -> bool:
        """Announce that the owner will wait. It has to look at what there is to do once more after this.

        Returns:
            False if the owner must not wait yet, only look: a thread that woke it is still about to
            put the token back, and until it has, nobody else can wake the owner.

        """
        try:
            self._awake.pop()
        except IndexError:
            return False
        self._asleep.append(None)
        return True

    def rise(self) -> None:
        """Announce that the owner is busy."""
        with contextlib.suppress(IndexError):
            self._asleep.pop()
            self._awake.append(None)

    def drain(self) -> None:
        """Make the descriptor not readable until the next `wake`."""
        with contextlib.suppress(BlockingIOError):
            self._receiver.recv(64)

    def close(self) -> None:
        """Close the descriptor; `wake` does nothing after that. For the owner, once."""
        while not self._take_for_good():
            time.sleep(0)  # a thread is between taking the token and putting it back
        self._receiver.close()
        self._sender.close()

    def _take_for_good(self) -> bool:
        for tokens in (self._awake, self._asleep):
            with contextlib.suppress(IndexError):
                tokens.pop()
                return True
        return False
