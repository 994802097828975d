"""The Router actor: the registry of connections and threads.

Opens and closes both, finds the thread a request names, and passes broadcasts to everybody who is
initialized. It remembers which threads a connection may be subscribed to, so that a close costs those
and not all. What concerns no single thread, or one that is not loaded, its catalog answers.

Accepts  ConnectionOpened, ConnectionInitialized, ConnectionClosed, Request, from connections
         ThreadChanged, ThreadIdle, StillLoaded, ThreadStopped, Broadcast, Relay, from threads
         Publish, RaisePrompt, from the host
         Drain, InterruptTurns, StopThreads, CloseConnections, CutConnections, from the server
         and what its catalog's `handlers` are for
Sends    to connections: Reply, Refuse, Broadcast, Close, what is in a Relay
         to threads:     Request, ConnectionClosed, Unload, InterruptTurn, TellSummary
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Any

from trunkline.actor import PooledActor, handles, post
from trunkline.audience import Audience
from trunkline.context import Context
from trunkline.engines import ENDS_THREAD, NOT_LOADED, MakeCatalog, MakeEngine, Numbering
from trunkline.errors import RpcError, ServerStopped
from trunkline.lobby import Lobby, LobbyDue
from trunkline.log import Event
from trunkline.messages import (
    Broadcast,
    Close,
    CloseConnections,
    ConnectionClosed,
    ConnectionInitialized,
    ConnectionOpened,
    CutConnections,
    Drain,
    HostEvent,
    InterruptTurn,
    InterruptTurns,
    Publish,
    RaisePrompt,
    Ref,
    Refuse,
    Relay,
    Request,
    StillLoaded,
    StopThreads,
    Summary,
    TellSummary,
    ThreadChanged,
    ThreadIdle,
    ThreadStopped,
    Unload,
    Unsubscribed,
)
from trunkline.metrics import Survey
from trunkline.protocol import errors
from trunkline.protocol.envelope import now_ms
from trunkline.protocol.methods import Answerer
from trunkline.protocol.values import measure
from trunkline.thread import Thread
from trunkline.types import ConnectionId, JsonObject, ThreadId

__all__ = ["Router"]

logger = logging.getLogger(__name__)


class _Peer:
    """A connection."""

    __slots__ = ("connection", "threads")

    def __init__(self, connection: Ref) -> None:
        self.connection = connection
        self.threads: set[ThreadId] = set()
        """Threads that were passed a subscribing request of this connection. As the router's messages to a
        thread are in order, a close that follows finds them all. An unsubscribe takes none out: the thread
        may still know the connection as one that can answer a prompt."""


class _Loaded:
    """A thread that is loaded."""

    __slots__ = ("peers", "summary", "thread", "waiting")

    def __init__(self, thread: Ref) -> None:
        self.thread = thread
        self.summary = Summary({"type": "idle"}, is_running=False)
        self.peers: set[ConnectionId] = set()
        """The other side of `_Peer.threads`."""
        self.waiting: list[Request | HostEvent] | None = None
        """What came for it while the thread decides whether to unload; None while it does not."""


class Router(PooledActor):
    """The one actor that knows every connection and every thread.

    Args:
        context: what the server's actors share.
        make_catalog: makes what knows the threads that are not loaded.
        ended: called when it has stopped; must not block.

    """

    def __init__(
        self, *, context: Context, make_catalog: MakeCatalog, ended: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(dispatcher=context.dispatcher)
        self._ended = ended
        self._context = context
        self._catalog = make_catalog(self)
        self._catalog_handlers = self._catalog.handlers
        self._peers: dict[ConnectionId, _Peer] = {}
        self._audience = Audience()
        self._lobby = Lobby(context.config.limits.initialize_timeout_s, context.timers, self.actor_ref)
        self._threads: dict[ThreadId, _Loaded] = {}
        # The keys of `_threads`, ascending.
        self._loaded_ids: list[ThreadId] = []
        self._is_draining = False
        # Threads that have not yet said whether they are running since the drain began.
        self._unreported: set[ThreadId] = set()
        # How every connection is to be closed, new ones included; None while the server runs.
        self._close_all: Close | None = None
        # What the server waits for: whether it has come about, and what to call then.
        self._awaited: list[tuple[Callable[[], bool], Callable[[], None]]] = []

    def on_start(self) -> None:
        """Let the catalog begin."""
        self._context.metrics.survey = self.survey
        self._catalog.begin()

    def on_receive(self, message: Any) -> Any:
        """Handle a message. A failure costs that message only: everybody depends on the router."""
        handle = self._catalog_handlers.get(type(message))
        try:
            return super().on_receive(message) if handle is None else handle(message)
        except BaseException:  # not even a SystemExit is to end it
            logger.exception("x router: a %s could not be handled", type(message).__name__)
            if isinstance(message, Request):
                post(message.reply_to, Refuse(message.id, errors.internal()))
            elif isinstance(message, HostEvent):
                message.future.fail(errors.internal())
        return None

    def on_stop(self) -> None:
        """End everything: whoever stopped the router, nothing works without it."""
        for peer in self._peers.values():
            peer.connection.stop(block=False)
        for loaded in self._threads.values():
            loaded.thread.stop(block=False)
        self._ended()

    def on_batch_end(self) -> None:
        """See whether something the server waits for has come about."""
        for awaited in self._awaited[:]:
            has_come, tell = awaited
            if has_come():
                self._awaited.remove(awaited)
                tell()

    def on_undelivered(self, message: Any) -> None:
        """Answer what came too late."""
        if isinstance(message, Request):
            post(message.reply_to, Refuse(message.id, errors.draining()))
        elif isinstance(message, HostEvent):
            message.future.fail(ServerStopped("the server is not running"))
        elif isinstance(message, ConnectionOpened):
            message.connection.stop(block=False)

    def survey(self) -> Survey:
        """Look at what there is. Any thread: the copies that it takes are each made at one moment."""
        peers = list(self._peers.values())
        threads = list(self._threads.values())
        return Survey(
            router=self.actor_ref,
            connections=tuple([peer.connection for peer in peers]),
            initialized=len(self._audience),
            threads=tuple([loaded.thread for loaded in threads]),
            running=sum([loaded.summary.is_running for loaded in threads]),
        )

    # Connections

    @handles(ConnectionOpened)
    def _on_connection_opened(self, message: ConnectionOpened) -> None:
        self._peers[message.connection_id] = _Peer(message.connection)
        if message.is_remote:
            self._lobby.opened(message.connection_id, message.connection)
        if self._close_all is not None:
            post(message.connection, self._close_all)

    @handles(ConnectionInitialized)
    def _on_connection_initialized(self, message: ConnectionInitialized) -> None:
        peer = self._peers.get(message.connection_id)
        if peer is not None:
            self._audience.add(message.connection_id, peer.connection, message.unwanted)
            self._lobby.left(message.connection_id)

    @handles(LobbyDue)
    def _on_lobby_due(self, _message: LobbyDue) -> None:
        self._lobby.clear_out()

    @handles(ConnectionClosed)
    def _on_connection_closed(self, message: ConnectionClosed) -> None:
        peer = self._peers.pop(message.connection_id, None)
        if peer is None:
            return
        self._lobby.left(message.connection_id)
        self._audience.remove(message.connection_id)
        for thread_id in peer.threads:
            loaded = self._threads.get(thread_id)
            if loaded is not None:
                loaded.peers.discard(message.connection_id)
                post(loaded.thread, message)

    # Requests

    @handles(Request)
    def _on_request(self, request: Request) -> None:
        peer = self._peers.get(request.connection_id)
        if peer is None:
            return  # it has gone, and nothing has begun
        try:
            self._check_draining(request)
            if request.method.answerer is Answerer.THREAD:
                self.pass_to_thread(request, self._catalog.thread_id(request))
            else:
                self._catalog.answer(request)
        except RpcError as error:
            post(request.reply_to, Refuse(request.id, error))

    def _check_draining(self, request: Request) -> None:
        if self._is_draining and request.method.starts_work:
            raise errors.draining()

    def pass_to_thread(self, request: Request, thread_id: ThreadId) -> None:
        """Pass a request to its thread, or have it answered if that is not loaded.

        Raises:
            RpcError: it is refused.

        """
        loaded = self._threads.get(thread_id)
        if loaded is None:
            self._catalog.answer_unloaded(request, thread_id)
        elif loaded.waiting is not None:
            loaded.waiting.append(request)
        else:
            self._forward(request, thread_id, loaded)

    def _forward(self, request: Request, thread_id: ThreadId, loaded: _Loaded) -> None:
        if not self.is_connected(request):
            return
        self._check_draining(request)  # it may have waited since it was asked
        if request.method.subscribes:
            self.note_subscriber(request, thread_id)
        if not post(loaded.thread, request):
            raise errors.thread_closing(thread_id)
        if request.method.name in ENDS_THREAD:
            loaded.waiting = []  # until it has stopped, or says that it goes on

    @handles(Publish)
    def _on_publish(self, message: Publish) -> None:
        self._pass_to_loaded(message)

    @handles(RaisePrompt)
    def _on_raise_prompt(self, message: RaisePrompt) -> None:
        self._pass_to_loaded(message)

    def _pass_to_loaded(self, message: HostEvent) -> None:
        loaded = self._threads.get(message.thread_id)
        if loaded is None:
            message.future.fail(errors.thread_not_found(message.thread_id))
        elif loaded.waiting is not None:
            loaded.waiting.append(message)
        elif not post(loaded.thread, message):
            message.future.fail(errors.thread_closing(message.thread_id))

    # For the catalog: see `Desk`

    @property
    def loaded_ids(self) -> list[ThreadId]:
        """The threads that are loaded, ascending."""
        return self._loaded_ids

    def is_loaded(self, thread_id: ThreadId) -> bool:
        """Whether a thread is."""
        return thread_id in self._threads

    def status(self, thread_id: ThreadId) -> JsonObject:
        """Return the status of a thread, loaded or not."""
        loaded = self._threads.get(thread_id)
        return NOT_LOADED if loaded is None else loaded.summary.status

    def is_connected(self, request: Request) -> bool:
        """Whether whoever asked is still there."""
        return request.connection_id in self._peers

    def check_room(self) -> None:
        """See that one more thread may be loaded.

        Raises:
            RpcError: as many are as may be.

        """
        most = self._context.config.limits.max_threads
        if len(self._threads) >= most:
            raise errors.too_many_threads(most)

    def load(self, thread_id: ThreadId, numbering: Numbering, make_engine: MakeEngine) -> Ref:
        """Start the actor of a thread, which is loaded from now on."""
        thread = Thread.start(
            context=self._context,
            router=self.actor_ref,
            thread_id=thread_id,
            numbering=numbering,
            make_engine=make_engine,
        )
        self._threads[thread_id] = _Loaded(thread)
        insort(self._loaded_ids, thread_id)
        return thread

    def note_subscriber(self, request: Request, thread_id: ThreadId) -> None:
        """Note that the caller is about to be a subscriber of a loaded thread."""
        peer = self._peers.get(request.connection_id)
        if peer is not None:
            peer.threads.add(thread_id)
            self._threads[thread_id].peers.add(request.connection_id)

    # Threads

    @handles(Broadcast)
    def _on_broadcast(self, message: Broadcast) -> None:
        self._audience.tell(message)

    @handles(Relay)
    def _on_relay(self, message: Relay) -> None:
        post(message.connection, message.message)

    @handles(ThreadChanged)
    def _on_thread_changed(self, message: ThreadChanged) -> None:
        self._unreported.discard(message.thread_id)
        loaded = self._threads.get(message.thread_id)
        if loaded is not None:
            loaded.summary = message.summary

    @handles(ThreadIdle)
    def _on_thread_idle(self, message: ThreadIdle) -> None:
        loaded = self._threads.get(message.thread_id)
        if loaded is not None and loaded.waiting is None:
            loaded.waiting = []
            post(loaded.thread, Unload())

    @handles(StillLoaded)
    def _on_still_loaded(self, message: StillLoaded) -> None:
        loaded = self._threads.get(message.thread_id)
        if loaded is not None:
            waiting, loaded.waiting = loaded.waiting, None
            self._pass_again(message.thread_id, waiting)

    @handles(ThreadStopped)
    def _on_thread_stopped(self, message: ThreadStopped) -> None:
        loaded = self._threads.get(message.thread_id)
        if loaded is None or loaded.thread is not message.thread:
            return
        del self._threads[message.thread_id]
        del self._loaded_ids[bisect_left(self._loaded_ids, message.thread_id)]
        self._unreported.discard(message.thread_id)
        for connection_id in loaded.peers:
            peer = self._peers.get(connection_id)
            if peer is not None:
                peer.threads.discard(message.thread_id)
                post(peer.connection, Unsubscribed(message.thread_id))
        if message.has_failed:
            self._tell_failed(message.thread_id)
        self._pass_again(message.thread_id, loaded.waiting)

    def _tell_failed(self, thread_id: ThreadId) -> None:
        """Tell everybody what the thread cannot tell itself. It has no place in the thread's sequence."""
        at_ms = now_ms()
        for method, params in (
            ("thread/status/changed", {"threadId": thread_id, "status": {"type": "systemError"}}),
            ("thread/closed", {"threadId": thread_id}),
        ):
            event = Event(0, method, None, measure(params), params, at_ms, to_everybody=True)
            self._on_broadcast(Broadcast.of(thread_id, event))

    def _pass_again(self, thread_id: ThreadId, waiting: list[Request | HostEvent] | None) -> None:
        for request in waiting or ():
            if not isinstance(request, Request):
                self._pass_to_loaded(request)
                continue
            try:
                self.pass_to_thread(request, thread_id)
            except RpcError as error:
                post(request.reply_to, Refuse(request.id, error))

    # The end

    @handles(Drain)
    def _on_drain(self, message: Drain) -> None:
        self._is_draining = True
        self._awaited.append((self._is_quiet, message.idle))
        # A turn/start may be on its way to a thread: what a thread says from now on counts.
        self._unreported = set(self._threads)
        for loaded in self._threads.values():
            post(loaded.thread, TellSummary())

    @handles(InterruptTurns)
    def _on_interrupt_turns(self, message: InterruptTurns) -> None:
        for loaded in self._threads.values():
            post(loaded.thread, InterruptTurn())
        running = (key for key, loaded in self._threads.items() if loaded.summary.is_running)
        message.done(tuple(running))

    @handles(StopThreads)
    def _on_stop_threads(self, message: StopThreads) -> None:
        self._awaited.append((lambda: not self._threads, message.done))
        for loaded in self._threads.values():
            loaded.thread.stop(block=False)

    @handles(CloseConnections)
    def _on_close_connections(self, message: CloseConnections) -> None:
        self._awaited.append((lambda: not self._peers, message.done))
        self._close_all = Close(message.ending)
        for peer in self._peers.values():
            post(peer.connection, self._close_all)

    @handles(CutConnections)
    def _on_cut_connections(self, message: CutConnections) -> None:
        message.count(len(self._peers))
        self._awaited.append((lambda: not self._peers, message.done))
        for peer in self._peers.values():
            peer.connection.stop(block=False)

    def _is_quiet(self) -> bool:
        return not self._unreported and not any(
            loaded.summary.is_running for loaded in self._threads.values()
        )
