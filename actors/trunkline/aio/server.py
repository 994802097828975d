"""A server beside a loop: what waits is awaited, agents and methods may be coroutines.

The server is an `AppServer` as ever, with its own threads; there is no loop in it. What would block the
caller is done on another thread, and the loop is told.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, cast

from trunkline.access import Scope
from trunkline.agents.base import AgentLike
from trunkline.aio.agents import AsyncAgentLike, is_for_a_loop, on_loop
from trunkline.aio.connection import AsyncConnection, LoopSink, awaited
from trunkline.clock import Clock
from trunkline.config import Config, SettingsButAgent
from trunkline.own_methods import Handler
from trunkline.publishing import ThreadHandle
from trunkline.server import AppServer, Listening
from trunkline.stopping import StopReport
from trunkline.types import JsonObject

__all__ = ["AsyncAppServer", "AsyncThreadHandle"]

H = TypeVar("H", bound=Handler)

_AS_CONFIGURED: Any = object()


class AsyncAppServer:
    """An app-server for a program that runs on asyncio.

    It belongs to the loop that runs when it is started. Its methods are for that loop's thread; `server`
    is the `AppServer`, for everything else and for other threads.

    Args:
        config: how it is set up; the defaults open no listener.
        agent: what answers turns: a coroutine function, an `AsyncAgent` class or object; or whatever
            `Config.agent` may be, which is taken if there is none here.
        clock: by which the server waits, for tests; None is the machine's.
        **settings: fields of `Config`, in the place of those of `config`.

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
        agent: AsyncAgentLike | AgentLike = _AS_CONFIGURED,
        clock: Clock | None = None,
        **settings: Unpack[SettingsButAgent],
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        if is_for_a_loop(agent):
            config = replace(config or Config(), agent=on_loop(agent, self._own_loop))
        elif agent is not _AS_CONFIGURED:
            config = replace(config or Config(), agent=cast("AgentLike", agent))
        self.server = AppServer(config, clock=clock, **settings)
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
        starting = asyncio.create_task(asyncio.to_thread(self.server.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A start cannot be called off half way. What has come up by its end is stopped again.
            await asyncio.wait([starting])
            if starting.exception() is None:
                await self.stop(grace_s=0.0)
            raise

    async def stop(self, *, grace_s: float = 10.0, timeout_s: float = 30.0) -> StopReport:
        """Stop the server, as `AppServer.stop` does. The loop goes on meanwhile, and so do its agents.

        Args:
            grace_s: seconds that running turns have before they are interrupted.
            timeout_s: seconds after which it returns in any case, about.

        Returns:
            What had to be cut off.

        """
        return await asyncio.to_thread(self.server.stop, grace_s=grace_s, timeout_s=timeout_s)

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

    def thread(self, thread_id: str) -> AsyncThreadHandle:
        """Return a thread to publish into. It need not be loaded, or exist."""
        return AsyncThreadHandle(self.server.thread(thread_id))

    def method(self, name: str, *, scope: Scope = Scope.DRIVE) -> Callable[[H], H]:
        """Add a method of the host's own, as `AppServer.method` does, with a coroutine function if wanted.

            @server.method("dice/roll")
            async def roll(call: Call, params: Roll) -> dict[str, int]:
                await asyncio.sleep(1)
                return {"rolled": random.randint(1, params.sides)}

        A coroutine runs as a task of the loop, any other handler on one of the server's method threads.
        `Call.notify` may wait: a coroutine calls it by `asyncio.to_thread`.

        Args:
            name: `vendor/name`; what begins with `thread/`, `turn/`, `item/` and such is the protocol's.
            scope: what a client must be allowed to do to call it.

        Raises:
            ConfigError: the name is taken or no name of one's own, or (when the decorator is called) the
                handler is not such a function.

        """

        def add(handler: H) -> H:
            is_coroutine = inspect.iscoroutinefunction(handler)
            self.server.method(name, scope=scope)(self._on_loop(handler) if is_coroutine else handler)
            return handler

        return add

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

    def _on_loop(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)  # its params are what a client's are checked by
        def handle(*args: Any) -> concurrent.futures.Future[Any]:
            return asyncio.run_coroutine_threadsafe(handler(*args), self._own_loop())

        return handle

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop


class AsyncThreadHandle:
    """A thread of a server, for a coroutine to publish into. Made by `AsyncAppServer.thread`.

    Examples:
        >>> import asyncio
        >>> async def main() -> None:
        ...     async with AsyncAppServer(agent=None) as server, server.connect() as connection:
        ...         await connection.initialize("my-host")
        ...         thread_id = (await connection.request("thread/start"))["thread"]["id"]
        ...         await server.thread(thread_id).publish("acme/said", {"text": "hello"})
        ...         async for delivery in connection:
        ...             if isinstance(delivery, Notification) and delivery.method == "acme/said":
        ...                 print(delivery.params["text"])
        ...                 break
        >>> asyncio.run(main())
        hello

    """

    def __init__(self, handle: ThreadHandle) -> None:
        self._handle = handle

    async def publish(self, method: str, params: object = None) -> int:
        """Publish a notification, and wait until the thread has taken it and its subscribers keep up.

        Args:
            method: a name of the host's own, `vendor/name`, such as `acme/said`.
            params: an object (a dict, struct or dataclass); None is an empty one. Clients are sent it with
                the thread's id as `threadId`.

        Returns:
            The event's number.

        Raises:
            Overloaded: so much waits already that no more is taken. Nothing was published.
            RpcError: the thread is not loaded.
            ServerStopped: the server has ended.
            TypeError: `params` cannot be written as a JSON object.
            ValueError: `method` is no name of one's own.

        """
        return await awaited(self._handle.publish(method, params))

    async def prompt(
        self, method: str, params: object = None, *, timeout_s: float | None = None
    ) -> JsonObject:
        """Ask the subscribers of the thread something, and wait for the first answer.

        Args:
            method: a name of the host's own, or one of the protocol's prompts such as
                `item/tool/requestUserInput`, whose answers are checked.
            params: as with `publish`.
            timeout_s: seconds after which the server refuses it itself, more than 0. None sets no limit but
                `Config.prompt_timeout_s`.

        Raises:
            PromptRefused: a client or the server refused it, or the thread has ended.
            Exception: what `publish` raises.

        """
        return await awaited(self._handle.prompt(method, params, timeout_s=timeout_s))
