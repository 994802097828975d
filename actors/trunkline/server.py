"""The server: builds the parts, starts them in the order they need each other, stops them in reverse.

What a host embeds. Nothing here is global: two servers in one process share nothing, and neither
touches signal handlers, logging configuration or the working directory.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import pykka

from trunkline.access import Access, Scope, covers
from trunkline.actor import Dispatcher, post
from trunkline.admission import Slots
from trunkline.backends import make_backend
from trunkline.clock import Clock
from trunkline.config import Config, Limits, Settings
from trunkline.connection import Connection
from trunkline.context import Context
from trunkline.errors import ServerStopped
from trunkline.inprocess.connection import InProcessConnection
from trunkline.inprocess.deliveries import Delivery
from trunkline.inprocess.link import ActorSink, CallbackSink, InProcessLink, QueueSink, Sink
from trunkline.inprocess.session import InProcessSession
from trunkline.messages import (
    InputEnded,
    LinkClosed,
    LinkDrained,
    Received,
    Ref,
)
from trunkline.metrics import Metrics
from trunkline.own_methods import Handler, OwnMethods
from trunkline.protocol.methods import Method
from trunkline.publishing import ThreadHandle, ThreadHandles
from trunkline.router import Router
from trunkline.status import status_json
from trunkline.stopping import (
    CLOSE_S,
    Deadline,
    StopReport,
    alive,
    close_connections,
    end_turns,
    stop_actor,
    stop_threads,
)
from trunkline.timers import Timers
from trunkline.transports.base import Closed, Link, LinkEvents
from trunkline.transports.crowd import Crowd
from trunkline.transports.entrances import Entrances
from trunkline.transports.handshake import Page, Site
from trunkline.transports.listen import StdioListen, parse_listen_url
from trunkline.transports.loop import IoLoop
from trunkline.transports.stdio import StdioTransport
from trunkline.transports.websocket_link import WebSocketLimits
from trunkline.types import ConnectionId, Json, JsonObject, ThreadId

__all__ = ["AppServer", "Listening"]

_RECENT_CHUNKS = 64
"""Chunks whose framed bytes are kept for subscribers who are a little behind: of a window each at most,
so 16 MiB for each framing and set of opt-outs that is in use."""

logger = logging.getLogger(__name__)

H = TypeVar("H", bound=Handler)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a listener can be reached.

    Examples:
        >>> with running_server() as server:
        ...     [listening] = server.server.listeners
        ...     listening.url.startswith("ws://127.0.0.1:"), listening.ready_url.endswith("/readyz")
        (True, True)

    """

    url: str
    """For clients, such as `ws://127.0.0.1:4500`."""
    ready_url: str | None
    """200 while the server takes connections, 503 otherwise. None where plain HTTP cannot go, as over a
    Unix socket."""
    health_url: str | None
    """200 while the process lives. None for the same."""


class AppServer:
    """An app-server: threads, their agents, and the clients that attach to them.

        with AppServer(listen=("ws://127.0.0.1:0",), agent="script") as server:
            print(server.listeners[0].url)
            server.wait_closed()

    Its methods may be called from any thread, and block only where they say so.

    Args:
        config: how it is set up; the defaults open no listener.
        settings: further settings, by the names they have in `Config`, in place of those of `config`.
        clock: by which the server waits, for tests (`trunkline.testing.ManualClock`); None is the machine's.

    Raises:
        ConfigError: A setting does not fit.

    Examples:
        >>> with AppServer(Config(listen=("ws://127.0.0.1:0",), agent="script")) as server:
        ...     url = server.listeners[0].url  # for clients: port 0 took a free one
        ...     with server.connect() as connection:  # and a client in this process
        ...         _ = connection.initialize("my-host").get(timeout=PATIENCE_S)
        ...         connection.request("thread/loaded/list").get(timeout=PATIENCE_S)["data"]
        []

    """

    def __init__(
        self, config: Config | None = None, *, clock: Clock | None = None, **settings: Unpack[Settings]
    ) -> None:
        self.config = dataclasses.replace(config or Config(), **settings)
        self._listens = [parse_listen_url(url) for url in self.config.listen]
        self._entrances = self._make_entrances()
        self._backend = make_backend(self.config)
        self._dispatcher = Dispatcher(workers=self.config.workers)
        self._timers = Timers(clock)
        # The loop runs the actors that its sockets wake: see Dispatcher.
        self._loop = IoLoop(clock=clock, after_round=self._dispatcher.run_own)
        self._router: Ref | None = None
        self._context: Context | None = None
        self._stdio: StdioTransport | None = None
        self._is_ready = False
        # Set when a client on stdio has gone, or somebody has begun to stop the server.
        self._closing = threading.Event()
        self._stopped = threading.Event()
        # Set when no turn is running any more, or somebody does not want to wait for that.
        self._hurry = threading.Event()
        self._has_started = False
        self._report: StopReport | None = None
        # Holds one token until somebody begins to stop: `list.pop` is atomic, so one caller gets it.
        self._stop_token: list[None] = []
        self._handles = ThreadHandles(self._make_handle)
        self._own_methods = OwnMethods(self.config.method_workers)
        self._slots = Slots(self.config.limits.max_requests_in_all)
        self._metrics = Metrics()
        self._started_at = time.monotonic()

    @property
    def metrics_url(self) -> str | None:
        """Where the metrics have a port of their own; None if they have none. Known once started."""
        listener = self._entrances.metrics_listener
        return None if listener is None else f"http{listener.url.removeprefix('ws')}/metrics"

    @property
    def listeners(self) -> tuple[Listening, ...]:
        """Where the server can be reached over WebSocket, in the order given. Known once started."""
        return tuple(_listening(listener.url) for listener in self._entrances.listeners)

    def start(self) -> None:
        """Start the server. Call it once; returns when clients may connect.

        Raises:
            StartError: A listener could not come up. Nothing is left running.
            RuntimeError: It has been started before. A server that has stopped is not started again.

        """
        if self._has_started:
            raise RuntimeError("the server has been started before; make another one")
        self._dispatcher.start()
        self._timers.start()
        self._own_methods.start()
        self._has_started = True
        self._stop_token.append(None)
        self._context = Context(
            config=self.config,
            dispatcher=self._dispatcher,
            timers=self._timers,
            agent_name=self._backend.agent_name,
            connection_ids=itertools.count(1),
            prompt_ids=itertools.count(),
            request_slots=self._slots,
            metrics=self._metrics,
            status=self.status,
            recent_frames=deque(maxlen=_RECENT_CHUNKS),
            read_call=self._read_call,
            own_methods=self._own_methods,
            thread_handle=self.thread,
        )
        try:
            make_catalog = self._backend.start(self._context)
            self._router = Router.start(
                context=self._context, make_catalog=make_catalog, ended=self._router_ended
            )
            self._start_listeners()
        except BaseException:
            self.stop(grace_s=0)
            raise
        self._is_ready = True

    def connect(
        self,
        deliver_to: Callable[[Delivery], object] | pykka.ActorRef[Any] | None = None,
        *,
        name: str = "in-process",
        scopes: Iterable[Scope] = (Scope.ADMIN,),
    ) -> InProcessConnection:
        """Connect a client in this process, with the same rights and rules as one on a socket. Any thread.

            with server.connect() as connection:
                connection.initialize("my-host").get()
                thread_id = connection.request("thread/start").get()["thread"]["id"]
                for delivery in connection:
                    ...

        Args:
            deliver_to: where notifications, prompts and, last, the `Closed` go. A function is called with
                each, one at a time, on a worker thread, and must not block. The reference of an actor of
                any kind is told each. With None they are kept until they are read from the connection.
            name: what a log calls the client.
            scopes: what the client may do; everything unless said.

        Raises:
            ServerStopped: The server is not running.
            TypeError: `deliver_to` is none of these.

        """
        return self._connect_to(_sink(deliver_to), name, scopes)

    def thread(self, thread_id: str) -> ThreadHandle:
        """Return a thread, for the host to publish into. Any thread; never blocks.

        Whether there is such a thread, and whether it is loaded, is seen when something is published.

        Raises:
            ServerStopped: The server is not running.

        """
        if not self._is_ready:
            raise ServerStopped("the server is not running")
        return self._handles.get(ThreadId(thread_id))

    def method(self, name: str, *, scope: Scope = Scope.DRIVE) -> Callable[[H], H]:
        """Add a method of the host's own. Any thread, before the start or after it.

            class Roll(msgspec.Struct):
                sides: int = 6

            @server.method("dice/roll")
            def roll(call: Call, params: Roll) -> dict[str, int]:
                return {"rolled": random.randint(1, params.sides)}

        A handler takes the `Call`, and the params if it wants any. It runs on one of the server's method
        threads (`Config.method_workers`), several at once, and may block. What it returns is the result:
        anything that JSON can say, a struct or a dataclass, None; or a future of that, Pykka's or one of
        `concurrent.futures`, which is answered when it is done. It raises `RpcError` to refuse; whatever
        else it raises is logged, and the client is told of an internal error.

        Clients call it as any method, over any transport and by the same rules: after `initialize`, within
        the limit of requests in flight, and not while the server stops.

        Args:
            name: `vendor/name`; what begins with `thread/`, `turn/`, `item/` and such is the protocol's.
            scope: what a client must be allowed to do to call it.

        Returns:
            A decorator, which returns the handler as it is. The type of the handler's params (a
            `msgspec.Struct`, a dataclass, a `TypedDict`, a `dict[str, …]`) is what a client's are
            checked by, before the handler is called: -32602 if they do not fit.

        Raises:
            ConfigError: the name is taken or no name of one's own, or (when the decorator is called) the
                handler is not such a function.

        """

        def add(handler: H) -> H:
            self._own_methods.add(name, handler, scope)
            return handler

        return add

    def status(self) -> JsonObject:
        """Return the server at a glance: connections, threads, requests and so on. Any thread; never blocks.

        The shape is that of the answer to `trunkline/status`: see docs/operations.md.

        """
        return status_json(
            self._metrics,
            self._slots,
            self._backend.store,
            uptime_s=time.monotonic() - self._started_at,
            is_ready=self._is_ready,
        )

    def _metrics_page(self) -> Page:
        exposition = importlib.import_module("trunkline.exposition")  # brings a library that few need
        return Page(exposition.exposition(self.status()), exposition.CONTENT_TYPE_LATEST)

    def _read_call(self, name: str, raw_params: Json) -> tuple[Method, Any]:
        return self._own_methods.read_call(name, raw_params) or self._backend.read_call(name, raw_params)

    def wait_closed(self, timeout_s: float | None = None) -> bool:
        """Wait until the client on stdio has gone, or somebody has called `stop`.

        Returns:
            False if `timeout_s` seconds passed first.

        """
        return self._closing.wait(timeout_s)

    def stop(self, *, grace_s: float = 10.0, timeout_s: float = 30.0) -> StopReport:
        """Stop the server, and return when nothing of it is left. Any thread, any actor, any number of times.

        In this order: whoever wants in is answered with 503, and so is `/readyz`; requests that would start
        work are refused; turns that run have `grace_s` seconds, and are interrupted then; what clients have
        not been sent is sent, and they are closed with 1001; ports are given back; actors and threads end.

        Whoever calls while another is at it waits for the same end. On a thread of the server's own (in a
        callback, a method, an agent, a pooled actor on its dispatcher) that would be to wait for oneself:
        there the stop is begun, and goes on on a thread made for it.

        Args:
            grace_s: seconds that turns have to end by themselves. A call with 0 ends the time that an earlier
                one gives.
            timeout_s: seconds after which it returns in any case, about. What has not ended by then is in
                the report.

        Returns:
            What had to be cut off.

        """
        self._closing.set()
        if grace_s <= 0:
            self._hurry.set()
        is_own = threading.current_thread() in self._os_threads()
        deadline = Deadline(timeout_s)
        try:
            self._stop_token.pop()
        except IndexError:
            if not is_own and self._has_started:
                self._stopped.wait(deadline.left_s(timeout_s))
            return self._report or StopReport(is_complete=not self._has_started)
        if not is_own:
            return self._shut_down(deadline, grace_s)
        self._shut_down_behind(deadline, grace_s)
        return StopReport(is_complete=False)

    def _shut_down_behind(self, deadline: Deadline, grace_s: float) -> None:
        threading.Thread(
            target=self._shut_down, args=(deadline, grace_s), name="trunkline-stop", daemon=True
        ).start()

    def _shut_down(self, deadline: Deadline, grace_s: float) -> StopReport:
        """Do what `stop` says. For one thread, once."""
        self._is_ready = False
        self._own_methods.drain()
        turns = end_turns(self._router, deadline, self._hurry, grace_s, self.config.interrupt_grace_s)
        connections = close_connections(self._router, deadline)
        stop_threads(self._router, deadline)
        actors = stop_actor(self._router, deadline.left_s())
        # What a thousand threads have left to be stored takes a store more than a few seconds.
        actors += self._backend.stop(deadline.step_s(math.inf))
        self._entrances.close(timeout_s=deadline.left_s(1.0))
        if self._stdio is not None:
            self._stdio.join(deadline.left_s())
        self._loop.stop(deadline.left_s())
        self._timers.stop(deadline.left_s())
        self._dispatcher.stop(deadline.left_s())
        # Last those that a host's own code may keep from ending.
        self._own_methods.stop(deadline.left_s())
        for thread in self._backend.os_threads:
            if thread.ident is not None:
                thread.join(deadline.left_s())
        self._report = report = StopReport(
            took_s=deadline.took_s,
            turns=turns,
            connections=connections,
            actors=actors,
            os_threads=alive(self._os_threads()),
        )
        if not report.is_clean:
            logger.warning("x server: stopped, and some of it was cut off: %s", report)
        self._stopped.set()
        return report

    def _os_threads(self) -> tuple[threading.Thread, ...]:
        """Return the server's OS threads: on these nobody can wait for its end."""
        return (
            *self._actor_threads(),
            *self._own_methods.pool.threads,
            *self._backend.os_threads,
            *(() if self._stdio is None else self._stdio.threads),
        )

    def _actor_threads(self) -> tuple[threading.Thread, ...]:
        """Return those that run actors, or tell them something: on these nobody may wait at all."""
        return (*self._dispatcher.threads, self._loop.thread, self._timers.thread)

    def _router_ended(self) -> None:
        """Stop the server, if it was not the server that has stopped its router."""
        self._closing.set()
        try:
            self._stop_token.pop()
        except IndexError:
            return
        self._shut_down_behind(Deadline(CLOSE_S), 0.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _make_handle(self, thread_id: ThreadId) -> ThreadHandle:
        assert self._router is not None
        limits = self.config.limits
        return ThreadHandle(
            thread_id,
            self._router,
            limits.max_unconfirmed_events,
            limits.log_bytes // 8,
            self._actor_threads(),
        )

    def _start_listeners(self) -> None:
        if self._entrances.are_wanted:
            self._loop.start()
            site = Site(
                is_ready=lambda: self._is_ready,
                refused=self._metrics.refused,
                pages={"/metrics": self._metrics_page},
            )
            self._entrances.open(self._opened, self._loop, site)
        if StdioListen() in self._listens:  # last: its end ends the server
            max_bytes = self.config.limits.max_message_bytes
            self._stdio = StdioTransport(
                sys.stdin, sys.stdout, self._opened_stdio, max_message_bytes=max_bytes
            )
            self._stdio.start()

    def _make_entrances(self) -> Entrances:
        limits = self.config.limits
        return Entrances(
            self._listens,
            self.config.entrances,
            _websocket_limits(limits),
            Crowd(limits.max_connections, limits.max_connections_per_address),
        )

    def _opened(self, link: Link) -> LinkEvents:
        return _ToConnection(self._connect(link, None))

    def _opened_stdio(self, link: Link) -> LinkEvents:
        # The end of input, or of the pipe, ends the server.
        return _ToConnection(self._connect(link, self._closing.set), self._closing.set)

    def _connect_to(self, sink: Sink, name: str, scopes: Iterable[Scope]) -> InProcessConnection:
        if not self._is_ready:
            raise ServerStopped("the server is not running")
        link = InProcessLink(name, Access(scopes=covers(scopes)), sink)
        session = self._connect(link, None, InProcessSession)
        link.attach(session, _ToConnection(session))
        queue = sink if isinstance(sink, QueueSink) else None
        return InProcessConnection(session, link, queue, self._actor_threads())

    def _connect(
        self, link: Any, on_input_done: Callable[[], None] | None, kind: type[Connection] = Connection
    ) -> Ref:
        assert self._context is not None
        assert self._router is not None
        return kind.start(
            context=self._context,
            router=self._router,
            link=link,
            connection_id=ConnectionId(next(self._context.connection_ids)),
            on_input_done=on_input_done,
        )


class _ToConnection:
    """Tells a connection's actor what its link says. `LinkEvents`, on the transport's thread."""

    def __init__(self, connection: Ref, when_closed: Callable[[], None] | None = None) -> None:
        self._connection = connection
        self._when_closed = when_closed

    def on_messages(self, messages: tuple[str, ...]) -> None:
        post(self._connection, Received(messages))

    def on_drained(self) -> None:
        post(self._connection, LinkDrained())

    def on_input_ended(self) -> None:
        post(self._connection, InputEnded())

    def on_closed(self, closed: Closed) -> None:
        post(self._connection, LinkClosed(closed))
        if self._when_closed is not None:
            self._when_closed()


def _sink(deliver_to: object) -> Sink:
    if deliver_to is None:
        return QueueSink()
    if isinstance(deliver_to, pykka.ActorRef):
        return ActorSink(deliver_to)
    if callable(deliver_to):
        return CallbackSink(deliver_to)
    raise TypeError(f"deliver_to must be a function or an ActorRef, not {type(deliver_to).__name__}")


def _websocket_limits(limits: Limits) -> WebSocketLimits:
    return WebSocketLimits(
        max_message_bytes=limits.max_message_bytes,
        handshake_timeout_s=limits.handshake_timeout_s,
        ping_interval_s=limits.ping_interval_s,
        ping_timeout_s=limits.ping_timeout_s,
    )


def _listening(url: str) -> Listening:
    if url.startswith("unix:"):
        return Listening(url, None, None)
    http = "http" + url.removeprefix("ws")
    return Listening(url, f"{http}/readyz", f"{http}/healthz")
