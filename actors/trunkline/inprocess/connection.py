"""A client in this process: typed, without a socket, and without JSON."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from trunkline.actor import post
from trunkline.errors import Disconnected, WouldDeadlock
from trunkline.futures import Future
from trunkline.inprocess.deliveries import Closed, Delivery
from trunkline.inprocess.link import InProcessLink, QueueSink
from trunkline.messages import HostCall, Ref
from trunkline.protocol import errors
from trunkline.protocol.values import plain_object
from trunkline.transports.base import CloseCode
from trunkline.types import JsonObject

__all__ = ["InProcessConnection"]

MAX_WAITING_CALLS = 1024
"""Requests that the server has not looked at, at which further ones are refused at once."""


class InProcessConnection:
    """A connection from within the process, with the rights and rules of one on a socket.

    Made by `AppServer.connect`. It has to send `initialize` before anything else, is sent what it
    subscribes to, and is closed if it takes its events too slowly. Every method may be called from any
    thread; none blocks but `receive` and the iterator.

    Use it in a `with` block, or call `close()`: a connection that is forgotten stays open as long as the
    server runs.

    Examples:
        >>> with AppServer(Config(agent="script")) as server, server.connect() as connection:
        ...     _ = connection.initialize("my-host").get(timeout=PATIENCE_S)
        ...     thread_id = connection.request("thread/start").get(timeout=PATIENCE_S)["thread"]["id"]
        ...     turn = {"threadId": thread_id, "input": [{"type": "text", "text": "text hello"}]}
        ...     _ = connection.request("turn/start", turn).get(timeout=PATIENCE_S)
        ...     for delivery in connection:
        ...         match delivery:
        ...             case Notification(method="item/agentMessage/delta", params=params):
        ...                 print(params["delta"])
        ...             case Notification(method="turn/completed"):
        ...                 break
        hello

    """

    def __init__(
        self,
        session: Ref,
        link: InProcessLink,
        queue: QueueSink | None,
        brought_by: tuple[threading.Thread, ...] = (),
    ) -> None:
        self._brought_by = brought_by
        self._session = session
        self._link = link
        self._queue = queue
        self._request_ids = itertools.count(1)

    @property
    def is_open(self) -> bool:
        """False once either end has closed."""
        return self._link.is_open

    def initialize(
        self, name: str, version: str = "0", *, experimental: bool = False, opt_out: Iterable[str] = ()
    ) -> Future[JsonObject]:
        """Send `initialize`: the first request of a connection.

        Args:
            name: what the client calls itself: printable ASCII.
            version: and its version.
            experimental: whether it wants methods, params and notifications that need `experimentalApi`.
            opt_out: methods of notifications that it does not want to be sent.

        """
        capabilities = {"experimentalApi": experimental, "optOutNotificationMethods": list(opt_out)}
        params = {"clientInfo": {"name": name, "version": version}, "capabilities": capabilities}
        return self.request("initialize", params)

    def request(self, method: str, params: object = None) -> Future[Any]:
        """Send a request.

        When the future has the answer, all that was published before it has been given to the callback,
        told to the actor, or can be read; unless this client is too slow to have taken it.

        Args:
            method: one of the protocol's, such as `thread/start`, or of the host's own.
            params: an object (a dict, struct or dataclass) with members named as the wire names them;
                None if there are none. It is copied.

        Returns:
            The result, as the wire has it: a copy, which is the caller's. Or it raises `RpcError` if the
            request was refused, `Disconnected` if the connection ended before it was answered.

        Raises:
            TypeError: `params` cannot be written as a JSON object.

        """
        future: Future[Any] = Future(self._brought_by)
        call = HostCall(next(self._request_ids), method, plain_object(params), future)
        if len(self._session.actor_inbox.messages) >= MAX_WAITING_CALLS:  # type: ignore[attr-defined]
            future.fail(errors.overloaded())
        elif not post(self._session, call):
            closed = self._link.closed or Closed(CloseCode.ABNORMAL, "")
            future.fail(Disconnected(closed.code, closed.reason))
        return future

    def receive(self, timeout_s: float | None = None) -> Delivery:
        """Wait for the next delivery. For connections that deliver to nobody else.

        Args:
            timeout_s: seconds to wait; None waits for ever.

        Returns:
            What came: in the end, and from then on, `Closed`.

        Raises:
            TimeoutError: nothing came in time.
            TypeError: the connection delivers to a callback or an actor.
            WouldDeadlock: this is a thread that brings what comes.

        """
        if self._queue is None:
            raise TypeError("this connection delivers to a callback or an actor: there is nothing to read")
        if threading.current_thread() in self._brought_by:
            raise WouldDeadlock
        return self._queue.take(timeout_s)

    def __iter__(self) -> Iterator[Delivery]:
        """Go through what comes, up to and with `Closed`. Waits for each, as `receive` does."""
        while True:
            delivery = self.receive()
            yield delivery
            if isinstance(delivery, Closed):
                return

    def close(self) -> None:
        """Close the connection. Twice is harmless."""
        self._link.close(CloseCode.NORMAL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
