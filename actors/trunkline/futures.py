"""Answers that are still to come: Pykka's futures, which can also call back.

Like everything between threads here it has no lock: whoever finds the outcome there, or brings it, takes
the callbacks off the list one by one, and `list.pop` is atomic.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import pykka

from trunkline.errors import WouldDeadlock

__all__ = ["Future"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class _Outcome(NamedTuple):
    value: Any
    error: BaseException | None


class Future(pykka.Future[T]):
    """A value that is there now or later, or the exception that came in its place.

    It is a `pykka.Future`: `get`, `map`, `join` and the others are as Pykka documents them, and it can be
    put among Pykka's own (`pykka.get_all`, what a handler returns to an `ask`). Unlike those it can call
    back, which is what code needs that must not wait, such as an actor or an event loop.

    On a thread of the server's (in a callback of `connect` or of a future) `get` raises `WouldDeadlock`
    unless the value is there. Do not call it in a pooled actor's handler either.

    Examples:
        >>> with AppServer(Config(agent="script")) as server, server.connect() as connection:
        ...     answer = connection.initialize("my-host").map(lambda result: result["platformFamily"])
        ...     answer.get(timeout=PATIENCE_S)
        'unix'
        >>> future: Future[int] = Future()
        >>> future.add_done_callback(lambda done: print(done.get()))
        >>> future.set(5)
        5

    """

    def __init__(self, brought_by: Collection[threading.Thread] = ()) -> None:
        super().__init__()
        # The threads on which nobody can wait for it.
        self._brought_by = brought_by
        self._outcome: _Outcome | None = None
        # One token, which whoever brings the outcome takes.
        self._open: list[None] = [None]
        self._callbacks: list[Callable[[Future[T]], object]] = []

    def __repr__(self) -> str:
        return f"<trunkline.Future {'done' if self.is_done else 'pending'}>"

    @property
    def is_done(self) -> bool:
        """Whether the value or exception is there, so that `get` does not wait. Any thread."""
        return self._outcome is not None

    @property
    def is_derived(self) -> bool:
        """Whether `map`, `join` or the like have made it: then it is worked out in `get`, and not before."""
        return self._get_hook is not None

    def get(self, *, timeout: float | None = None) -> T:
        """Return the value, or raise the exception; wait until there is one.

        Args:
            timeout: seconds to wait; None waits for ever.

        Raises:
            pykka.Timeout: it did not come in time. It may still come.
            WouldDeadlock: it is not there yet, and this is one of the threads that bring it.
            Exception: whatever came in place of the value.

        """
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if self._outcome is None:
            self._wait(timeout)
        outcome = self._outcome
        assert outcome is not None
        if outcome.error is not None:
            try:
                raise outcome.error
            finally:
                del self, outcome  # or the traceback would hold what holds it
        value: T = outcome.value
        return value

    def set(self, value: T | None = None) -> None:
        """Bring the value. For whoever made the future; what is brought first counts."""
        self._settle(_Outcome(value, None))

    def set_exception(
        self,
        exc_info: tuple[type[BaseException] | None, BaseException | None, TracebackType | None] | None = None,
    ) -> None:
        """Bring an exception: that of `exc_info`, or the one that is being handled. As with `set`."""
        error = (exc_info or sys.exc_info())[1]
        assert error is not None
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Bring an exception. As with `set`."""
        self._settle(_Outcome(None, error))

    def add_done_callback(self, callback: Callable[[Future[T]], object]) -> None:
        """Have `callback` called with this future once it is done: at once if it is. Any thread.

        It runs on the thread that brings the outcome, usually one of the server's, and must not block.
        What it raises is logged.

        Raises:
            TypeError: the future is a derived one, and never done by itself.

        """
        if self._get_hook is not None:
            raise TypeError("a future made by map() or the like calls nobody back: ask the one it is made of")
        self._callbacks.append(callback)
        if self._outcome is not None:
            self._call_back()

    def to_concurrent(self) -> concurrent.futures.Future[T]:
        """Return the same as a `concurrent.futures.Future`, for `asyncio.wrap_future` and its like."""
        other: concurrent.futures.Future[T] = concurrent.futures.Future()

        def copy(_: Future[T]) -> None:
            assert self._outcome is not None
            if not other.set_running_or_notify_cancel():
                return  # cancelled, and so nobody waits for it
            if self._outcome.error is not None:
                other.set_exception(self._outcome.error)
            else:
                other.set_result(self._outcome.value)

        self.add_done_callback(copy)
        return other

    def _settle(self, outcome: _Outcome) -> None:
        try:
            self._open.pop()
        except IndexError:
            return
        self._outcome = outcome
        self._call_back()

    def _call_back(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:
                return  # another thread has taken the last one
            try:
                callback(self)
            except Exception:
                logger.exception("x a callback of a future failed")

    def _wait(self, timeout: float | None) -> None:
        if threading.current_thread() in self._brought_by:
            raise WouldDeadlock
        done = threading.Event()

        def wake(_: Future[T]) -> None:
            done.set()

        self.add_done_callback(wake)
        if not done.wait(timeout):
            with contextlib.suppress(ValueError):
                self._callbacks.remove(wake)
            raise pykka.Timeout(f"{timeout} seconds")
