"""The Router actor: the registry of connections and threads.

Opens and closes both, finds the thread a request names, answers what concerns no single thread, and
passes broadcasts to everybody who is initialized. It remembers which threads a connection may be
subscribed to, so that a close costs those and not all.

Accepts  ConnectionOpened, ConnectionInitialized, ConnectionClosed, Request, from connections
         ThreadChanged, ThreadIdle, StillLoaded, ThreadStopped, Broadcast, Relay, from threads
         Loaded, Listed, from the store
         Drain, InterruptTurns, StopThreads, CloseConnections, from the server
Sends    to connections: Reply, Refuse, Broadcast, Close, what is in a Relay
         to threads:     Request, ConnectionClosed, Unload, InterruptTurn, TellSummary
         to the store:   LoadThread, ListThreads
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from trunkline.actor import PooledActor, handles, post
from trunkline.context import Context
from trunkline.conversation import Conversation, record_json
from trunkline.errors import RpcError
from trunkline.log import Chunk, Event
from trunkline.messages import (
    Broadcast,
    Close,
    CloseConnections,
    ConnectionClosed,
    ConnectionInitialized,
    ConnectionOpened,
    Drain,
    Fork,
    Forked,
    InterruptTurn,
    InterruptTurns,
    Ref,
    Refuse,
    Relay,
    Reply,
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
from trunkline.pages import page_size
from trunkline.protocol import errors
from trunkline.protocol.envelope import encode_notification, now_ms
from trunkline.protocol.ids import is_uuid, parse_uuid
from trunkline.protocol.methods import Answerer
from trunkline.protocol.params import (
    ForkParams,
    LoadedListParams,
    ThreadListParams,
    ThreadStartParams,
)
from trunkline.protocol.product import check_start
from trunkline.records import fork_copy, new_record
from trunkline.store.base import (
    Listed,
    ListThreads,
    Loaded,
    LoadThread,
    ReleaseThread,
    StoredThread,
    ThreadQuery,
    ThreadRecord,
)
from trunkline.stored import (
    ENDS_THREAD,
    NOT_LOADED,
    TAKES_STORED,
    WRITES_STORED,
    answer_from_store,
    check_stored,
)
from trunkline.thread import Origin, Thread
from trunkline.types import ConnectionId, Json, JsonObject, ThreadId

__all__ = ["Router"]

logger = logging.getLogger(__name__)


class _Peer:
    """A connection."""

    __slots__ = ("connection", "is_initialized", "threads")

    def __init__(self, connection: Ref) -> None:
        self.connection = connection
        self.is_initialized = False
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
        self.waiting: list[Request] | None = None
        """Requests that came while the thread decides whether to unload; None while it does not."""


class Router(PooledActor):
    """The one actor that knows every connection and every thread.

    Args:
        context: what the server's actors share.

    """

    def __init__(self, *, context: Context) -> None:
        super().__init__(dispatcher=context.dispatcher)
        self._context = context
        self._peers: dict[ConnectionId, _Peer] = {}
        self._threads: dict[ThreadId, _Loaded] = {}
        # The keys of `_threads`, ascending.
        self._loaded_ids: list[ThreadId] = []
        # Requests that wait for their thread to be read from the store, for writing or not.
        self._loading: dict[tuple[ThreadId, bool], list[Request]] = {}
        # Requests that wait for a page of the store, by token.
        self._listing: dict[int, Request] = {}
        self._last_token = 0
        self._is_draining = False
        # Threads that have not yet said whether they are running since the drain began.
        self._unreported: set[ThreadId] = set()
        # How every connection is to be closed, new ones included; None while the server runs.
        self._close_all: Close | None = None
        # What the server waits for: whether it has come about, and what to call then.
        self._awaited: list[tuple[Callable[[], bool], Callable[[], None]]] = []

    def on_receive(self, message: Any) -> Any:
        """Handle a message. A failure costs that message only: everybody depends on the router."""
        try:
            return super().on_receive(message)
        except BaseException:  # not even a SystemExit is to end it
            logger.exception("x router: a %s could not be handled", type(message).__name__)
            if isinstance(message, Request):
                post(message.reply_to, Refuse(message.id, errors.internal()))
        return None

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

    # Connections

    @handles(ConnectionOpened)
    def _on_connection_opened(self, message: ConnectionOpened) -> None:
        self._peers[message.connection_id] = _Peer(message.connection)
        if self._close_all is not None:
            post(message.connection, self._close_all)

    @handles(ConnectionInitialized)
    def _on_connection_initialized(self, message: ConnectionInitialized) -> None:
        peer = self._peers.get(message.connection_id)
        if peer is not None:
            peer.is_initialized = True

    @handles(ConnectionClosed)
    def _on_connection_closed(self, message: ConnectionClosed) -> None:
        peer = self._peers.pop(message.connection_id, None)
        if peer is None:
            return
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
            if self._is_draining and request.method.starts_work:
                raise errors.draining()
            if request.method.answerer is Answerer.THREAD:
                self._pass_to_thread(request, _thread_id(request))
            else:
                self._answer_itself(request)
        except RpcError as error:
            post(request.reply_to, Refuse(request.id, error))

    def _answer_itself(self, request: Request) -> None:
        """Answer what concerns no single thread."""
        self._answers[request.method.name](self, request, request.params)

    def _reply(self, request: Request, result: Json) -> None:
        post(request.reply_to, Reply(request.id, result))

    def _pass_to_thread(self, request: Request, thread_id: ThreadId) -> None:
        loaded = self._threads.get(thread_id)
        if loaded is None:
            self._answer_unloaded(request, thread_id)
        elif loaded.waiting is not None:
            loaded.waiting.append(request)
        else:
            self._forward(request, thread_id, loaded)

    def _forward(self, request: Request, thread_id: ThreadId, loaded: _Loaded) -> None:
        peer = self._peers.get(request.connection_id)
        if peer is None:
            return
        if request.method.subscribes:
            peer.threads.add(thread_id)
            loaded.peers.add(request.connection_id)
        if not post(loaded.thread, request):
            raise errors.thread_closing(thread_id)
        if request.method.name in ENDS_THREAD:
            loaded.waiting = []  # until it has stopped, or says that it goes on

    def _answer_unloaded(self, request: Request, thread_id: ThreadId) -> None:
        name = request.method.name
        if name == "thread/unsubscribe":
            self._reply(request, {"status": "notLoaded"})
        elif name not in TAKES_STORED:
            raise errors.thread_not_found(thread_id)
        else:
            self._load_stored(request, thread_id, is_for_writing=name in WRITES_STORED)

    def _load_stored(self, request: Request, thread_id: ThreadId, *, is_for_writing: bool) -> None:
        key = (thread_id, is_for_writing)
        if key in self._loading:
            self._loading[key].append(request)
        else:
            self._loading[key] = [request]
            post(self._context.store, LoadThread(thread_id, is_for_writing, self.actor_ref))

    @handles(Loaded)
    def _on_loaded(self, message: Loaded) -> None:
        for request in self._loading.pop((message.thread_id, message.is_for_writing), ()):
            try:
                self._answer_from_store(request, message)
            except RpcError as error:
                post(request.reply_to, Refuse(request.id, error))
        if message.is_for_writing and message.thread_id not in self._threads:
            post(self._context.store, ReleaseThread(message.thread_id))

    def _answer_from_store(self, request: Request, message: Loaded) -> None:
        if message.error is not None:
            logger.error("x thread %s: cannot be read from the store: %s", message.thread_id, message.error)
            raise errors.internal()
        if message.is_busy:
            raise errors.active_writer(message.thread_id)
        if message.thread_id in self._threads:  # loaded for a request before this one
            self._pass_to_thread(request, message.thread_id)
            return
        stored = check_stored(request.method.name, message.thread_id, message.thread)
        answer = answer_from_store(stored, request.params, self._context.config.limits.snapshot_bytes)
        if answer is not None:
            self._reply(request, answer)
        elif request.connection_id not in self._peers:
            return  # it has gone, and nothing has begun
        elif isinstance(request.params, ForkParams):
            copy = fork_copy(Conversation(stored.record, stored.turns), request.params)
            self._on_fork(Fork(request, copy))
        else:
            origin = Origin.RESUMED if request.method.subscribes else Origin.ERRAND
            self._forward(request, message.thread_id, self._load(stored.record, stored, origin))

    def _load(self, record: ThreadRecord, stored: StoredThread | None, origin: Origin) -> _Loaded:
        thread = Thread.start(
            context=self._context, router=self.actor_ref, record=record, stored=stored, origin=origin
        )
        return self._enter(record.id, thread)

    def _enter(self, thread_id: ThreadId, thread: Ref) -> _Loaded:
        loaded = self._threads[thread_id] = _Loaded(thread)
        insort(self._loaded_ids, thread_id)
        return loaded

    def _start_thread(self, request: Request, params: ThreadStartParams) -> None:
        check_start(params)
        base = self._context.config.cwd or Path.cwd()
        record = new_record(params, base=base, agent_name=self._context.agent_name)
        self._forward(request, record.id, self._load(record, None, Origin.NEW))

    @handles(Fork)
    def _on_fork(self, message: Fork) -> None:
        peer = self._peers.get(message.request.connection_id)
        if peer is None:
            return
        record = message.copy.record
        loaded = self._load(record, message.copy, Origin.NEW)
        peer.threads.add(record.id)
        loaded.peers.add(message.request.connection_id)
        post(loaded.thread, Forked(message.request))

    def _list_loaded(self, request: Request, params: LoadedListParams) -> None:
        ids = self._loaded_ids
        start = 0
        if params.cursor is not None and ids:
            if not is_uuid(params.cursor):
                raise errors.invalid_request(f"invalid cursor: {params.cursor}")
            start = bisect_right(ids, ThreadId(params.cursor))
        end = len(ids) if params.limit is None else start + page_size(params.limit, most=len(ids) + 1)
        page = ids[start:end]
        next_cursor = page[-1] if end < len(ids) else None
        self._reply(request, {"data": page, "nextCursor": next_cursor})

    def _list_threads(self, request: Request, params: ThreadListParams) -> None:
        if params.sort_key == "section_position":
            if params.section_id is None:
                raise errors.invalid_request("section-position sorting requires a section filter")
            self._reply(request, _page_json([], None, None))  # there are no sections here
            return
        cwds = (params.cwd,) if isinstance(params.cwd, str) else tuple(params.cwd or ())
        query = ThreadQuery(
            limit=page_size(params.limit),
            cursor=params.cursor,
            sort_key="created_at" if params.sort_key in (None, "created_at") else "updated_at",
            is_descending=params.sort_direction != "asc",
            is_archived=bool(params.archived),
            cwds=cwds,
            search_term=params.search_term or None,
            model_providers=tuple(params.model_providers or ()),
        )
        self._last_token += 1
        self._listing[self._last_token] = request
        post(self._context.store, ListThreads(query, self.actor_ref, self._last_token))

    @handles(Listed)
    def _on_listed(self, message: Listed) -> None:
        request = self._listing.pop(message.token)
        if message.is_bad_cursor and isinstance(request.params, ThreadListParams):
            error = errors.invalid_request(f"invalid cursor: {request.params.cursor}")
            post(request.reply_to, Refuse(request.id, error))
        elif message.error is not None:
            logger.error("x router: threads cannot be listed: %s", message.error)
            post(request.reply_to, Refuse(request.id, errors.internal()))
        else:
            data = [record_json(record, self._status(record.id)) for record in message.records]
            self._reply(request, _page_json(data, message.next_cursor, message.backwards_cursor))

    def _status(self, thread_id: ThreadId) -> JsonObject:
        loaded = self._threads.get(thread_id)
        return NOT_LOADED if loaded is None else loaded.summary.status

    _answers: ClassVar[dict[str, Callable[[Router, Request, Any], None]]] = {
        "thread/start": _start_thread,
        "thread/loaded/list": _list_loaded,
        "thread/list": _list_threads,
    }

    # Threads

    @handles(Broadcast)
    def _on_broadcast(self, message: Broadcast) -> None:
        for peer in self._peers.values():
            if peer.is_initialized:
                post(peer.connection, message)

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
            event = Event(0, method, encode_notification(method, params, at_ms), to_everybody=True)
            self._on_broadcast(Broadcast(thread_id, Chunk([event])))

    def _pass_again(self, thread_id: ThreadId, requests: list[Request] | None) -> None:
        for request in requests or ():
            try:
                self._pass_to_thread(request, thread_id)
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
    def _on_interrupt_turns(self, _message: InterruptTurns) -> None:
        for loaded in self._threads.values():
            post(loaded.thread, InterruptTurn())

    @handles(StopThreads)
    def _on_stop_threads(self, message: StopThreads) -> None:
        self._awaited.append((lambda: not self._threads, message.done))
        for loaded in self._threads.values():
            loaded.thread.stop(block=False)

    @handles(CloseConnections)
    def _on_close_connections(self, message: CloseConnections) -> None:
        self._awaited.append((lambda: not self._peers, message.done))
        self._close_all = Close(message.code, message.reason)
        for peer in self._peers.values():
            post(peer.connection, self._close_all)

    def _is_quiet(self) -> bool:
        return not self._unreported and not any(
            loaded.summary.is_running for loaded in self._threads.values()
        )


def _thread_id(request: Request) -> ThreadId:
    """Return the thread a request names, in the form that ids have here."""
    given: str = request.params.thread_id  # type: ignore[attr-defined]  # its methods all have one
    if is_uuid(given):
        return ThreadId(given)
    try:
        return ThreadId(parse_uuid(given))
    except ValueError as error:
        what = "session" if request.method.name == "thread/resume" else "thread"
        raise errors.invalid_request(f"invalid {what} id: {error}") from None


def _page_json(data: list[JsonObject], next_cursor: str | None, backwards_cursor: str | None) -> JsonObject:
    return {
        "data": data,
        "nextCursor": next_cursor,
        "backwardsCursor": backwards_cursor,
        "readStates": {},
    }
