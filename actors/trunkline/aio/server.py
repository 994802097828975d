"""A server beside a loop: what waits is awaited, agents and methods may be coroutines.

The server is an `AppServer` as ever, with its own threads; there is no loop in it. What would block the
caller is done on another thread, and the loop is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import Self

from trunkline.access import Scope
from trunkline.aio.agents import AsyncAgentLike, on_loop
from trunkline.aio.connection import AsyncConnection, LoopSink
from trunkline.clock import Clock
from trunkline.config import Config
from trunkline.server import AppServer, Listening

__all__ = ["AsyncAppServer"]


class AsyncAppServer:
    """An app-server for a program that runs on asyncio.

    It belongs to the loop that runs when it is started. Its methods are for that loop's thread; `server`
    is the `AppServer`, for everything else and for other threads.

    Args:
        config: how it is set up; the defaults open no listener.
        agent: what answers turns: a coroutine function, an `AsyncAgent` class or object. None is what the
            config says.
        clock: by which the server waits, for tests; None is the machine's.

    Raises:
        ConfigError: A setting does not fit.

    Examples:
        >>> import asyncio
        >>> async def answer(turn: AsyncTurn) -> None:
        ...     await turn.say(f"you said {turn.text}")
        >>> async def main() -> None:
        ...     async with AsyncAppServer(agent=answer) as server, server.connect() as connection:
        ...         print((await connection.initialize("my-host"))["platformFamily"])
        >>> asyncio.run(main())
        unix

    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        agent: AsyncAgentLike | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        if agent is not None:
            config = replace(config or Config(), agent=on_loop(agent, self._own_loop))
        self.server = AppServer(config, clock=clock)
        """The server itself."""

    @property
    def listeners(self) -> tuple[Listening, ...]:
        """Where the server can be reached over WebSocket, in the order given. Known once started."""
        return self.server.listeners

    async def start(self) -> None:
        """Start the server beside the running loop. Call it once; returns when clients may connect.

        Raises:
            StartError: A part of it could not come up. Nothing is left running.

        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self.server.start)

    async def stop(self, *, grace_s: float = 10.0) -> None:
        """Stop the server, as `AppServer.stop` does. The loop goes on meanwhile, and so do its agents.

        Args:
            grace_s: seconds that running turns have before they are interrupted.

        """
        await asyncio.to_thread(self.server.stop, grace_s=grace_s)

    def connect(
        self, *, name: str = "in-process", scopes: Iterable[Scope] = (Scope.ADMIN,)
    ) -> AsyncConnection:
        """Connect a client in this process, with the same rights and rules as one on a socket.

        Args:
            name: what a log calls it.
            scopes: what it may do; everything unless said.

        Raises:
            ServerStopped: the server is not running.

        """
        sink = LoopSink(asyncio.get_running_loop())
        return AsyncConnection(self.server._connect_to(sink, name, scopes), sink)  # noqa: SLF001

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop
