"""A client in this process, for a loop: requests are awaited, deliveries are iterated over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from trunkline.futures import Future
from trunkline.inprocess.connection import InProcessConnection
from trunkline.inprocess.deliveries import Closed, Delivery
from trunkline.inprocess.link import Parcel, QueueSink
from trunkline.types import JsonObject

__all__ = ["AsyncConnection", "LoopSink", "awaited"]

T = TypeVar("T")


async def awaited(future: Future[T]) -> T:
    """Wait for a future of the server's on the running loop; raise what it raises.

    To be cancelled ends the waiting, not what was asked for.

    Examples:
        >>> import asyncio
        >>> async def main() -> None:
        ...     future: Future[int] = Future()
        ...     future.set(5)
        ...     print(await awaited(future))
        >>> asyncio.run(main())
        5

    """
    return await asyncio.wrap_future(future.to_concurrent())


class LoopSink(QueueSink):
    """Keeps deliveries until the loop reads them, and wakes it when there are some.

    Args:
        loop: the reader's.

    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._arrived = asyncio.Event()
        # Holds a token while the loop need not be woken again.
        self._woken: list[None] = []

    def put(self, parcel: Parcel) -> None:
        """Keep it. On a worker."""
        super().put(parcel)
        self._wake()

    def close(self, closed: Closed) -> None:
        """Keep that it has ended. On a worker."""
        super().close(closed)
        self._wake()

    async def next(self) -> Delivery:
        """Return the next delivery; wait for it. On the loop."""
        while True:
            self._arrived.clear()
            self._woken.clear()
            # After the token is gone: what comes behind this look wakes the loop.
            try:
                return self.take(0)
            except TimeoutError:
                await self._arrived.wait()

    def _wake(self) -> None:
        if self._woken:
            return
        self._woken.append(None)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._arrived.set)


class AsyncConnection:
    """A connection from within the process, with the rights and rules of one on a socket.

    Made by `AsyncAppServer.connect`. Everything is for the loop's thread. Use it in an `async with` block,
    or call `close()`: a connection that is forgotten stays open as long as the server runs.

    A reader that is slow costs the server no memory; it is sent what it missed when it reads on, or is
    closed with 1013 once that is no longer kept.

    Examples:
        >>> import asyncio
        >>> async def main() -> None:
        ...     async with AsyncAppServer(Config(agent="script")) as server, server.connect() as connection:
        ...         await connection.initialize("my-host")
        ...         thread_id = (await connection.request("thread/start"))["thread"]["id"]
        ...         turn = {"threadId": thread_id, "input": [{"type": "text", "text": "text hello"}]}
        ...         await connection.request("turn/start", turn)
        ...         async for delivery in connection:
        ...             match delivery:
        ...                 case Notification(method="item/agentMessage/delta", params=params):
        ...                     print(params["delta"])
        ...                 case Notification(method="turn/completed"):
        ...                     break
        >>> asyncio.run(main())
        hello

    """

    def __init__(self, connection: InProcessConnection, sink: LoopSink) -> None:
        self._connection = connection
        self._sink = sink

    @property
    def is_open(self) -> bool:
        """False once either end has closed."""
        return self._connection.is_open

    async def initialize(
        self, name: str, version: str = "0", *, experimental: bool = False, opt_out: Iterable[str] = ()
    ) -> JsonObject:
        """Send `initialize`, the first request of a connection, and return the answer.

        Args:
            name: what the client calls itself: printable ASCII.
            version: and its version.
            experimental: whether it wants methods, params and notifications that need `experimentalApi`.
            opt_out: methods of notifications that it does not want to be sent.

        """
        return await awaited(
            self._connection.initialize(name, version, experimental=experimental, opt_out=opt_out)
        )

    async def request(self, method: str, params: object = None) -> Any:
        """Send a request, and return its result as the wire has it: a copy, which is the caller's.

        What was published before the answer can be read when it is there.

        Args:
            method: one of the protocol's, such as `thread/start`, or of the host's own.
            params: an object (a dict, struct or dataclass) with members named as the wire names them;
                None if there are none.

        Raises:
            RpcError: it was refused.
            Disconnected: the connection ended before it was answered.
            TypeError: `params` cannot be written as a JSON object.

        """
        return await awaited(self._connection.request(method, params))

    async def receive(self) -> Delivery:
        """Wait for the next notification or prompt, and take it; in the end, and from then on, `Closed`.

        For one task at a time. `asyncio.timeout` limits the waiting; nothing is lost by that.
        """
        return await self._sink.next()

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        """Go through what comes, up to and with `Closed`."""
        while True:
            delivery = await self.receive()
            yield delivery
            if isinstance(delivery, Closed):
                return

    def close(self) -> None:
        """Close the connection. Twice is harmless; never waits."""
        self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
