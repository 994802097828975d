"""The catalog of the threads that are kept in the store: starts, loads, forks and lists them.

A plain object that belongs to the Router actor and is called by it alone.

Takes    Fork, from threads; Loaded, Listed, from the store
Sends    to connections: Reply, Refuse
         to threads:     Forked
         to the store:   LoadThread, ListThreads, ReleaseThread
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from trunkline.actor import post
from trunkline.context import Context
from trunkline.conversation import Conversation, record_json
from trunkline.engines import Desk, Engine, Handlers, Numbering, Seat
from trunkline.errors import RpcError
from trunkline.local.engine import LocalEngine, Origin
from trunkline.local.workshop import Workshop
from trunkline.messages import Fork, Forked, Ref, Refuse, Reply, Request
from trunkline.pages import page_size
from trunkline.protocol import errors
from trunkline.protocol.ids import is_uuid, parse_uuid
from trunkline.protocol.params import ForkParams, LoadedListParams, ThreadListParams, ThreadStartParams
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
from trunkline.stored import TAKES_STORED, WRITES_STORED, answer_from_store, check_stored
from trunkline.types import Json, JsonObject, ThreadId

__all__ = ["LocalCatalog"]

logger = logging.getLogger(__name__)


class LocalCatalog:
    """The threads of one server.

    Args:
        desk: the server's router.
        context: what the server's actors share.
        workshop: the agents and the store.

    """

    def __init__(self, *, desk: Desk, context: Context, workshop: Workshop) -> None:
        self._desk = desk
        self._context = context
        self._workshop = workshop
        # Requests that wait for their thread to be read from the store, for writing or not.
        self._loading: dict[tuple[ThreadId, bool], list[Request]] = {}
        # Requests that wait for a page of the store, by token.
        self._listing: dict[int, Request] = {}
        self._last_token = 0

    # What a router sees of any catalog

    @property
    def handlers(self) -> Handlers:
        """What only it knows."""
        return {Loaded: self._on_loaded, Listed: self._on_listed, Fork: self._on_fork}

    def begin(self) -> None:
        """Nothing: the store is there."""

    def thread_id(self, request: Request) -> ThreadId:
        """Return the thread that a request names, as a UUID is written here."""
        given: str = request.params.thread_id  # type: ignore[attr-defined]  # its methods all have one
        if is_uuid(given):
            return ThreadId(given)
        try:
            return ThreadId(parse_uuid(given))
        except ValueError as error:
            what = "session" if request.method.name == "thread/resume" else "thread"
            raise errors.invalid_request(f"invalid {what} id: {error}") from None

    def answer(self, request: Request) -> None:
        """Answer what concerns no single thread."""
        self._answers[request.method.name](self, request, request.params)

    def answer_unloaded(self, request: Request, thread_id: ThreadId) -> None:
        """Answer a request about a thread that is not loaded; load it if need be."""
        name = request.method.name
        if name == "thread/unsubscribe":
            _reply(request, {"status": "notLoaded"})
        elif name not in TAKES_STORED:
            raise errors.thread_not_found(thread_id)
        else:
            self._load_stored(request, thread_id, is_for_writing=name in WRITES_STORED)

    # Threads

    def _load_stored(self, request: Request, thread_id: ThreadId, *, is_for_writing: bool) -> None:
        key = (thread_id, is_for_writing)
        if key in self._loading:
            self._loading[key].append(request)
        else:
            self._loading[key] = [request]
            post(self._workshop.store, LoadThread(thread_id, is_for_writing, self._desk.actor_ref))

    def _on_loaded(self, message: Loaded) -> None:
        for request in self._loading.pop((message.thread_id, message.is_for_writing), ()):
            try:
                self._answer_from_store(request, message)
            except RpcError as error:
                post(request.reply_to, Refuse(request.id, error))
        if message.is_for_writing and not self._desk.is_loaded(message.thread_id):
            post(self._workshop.store, ReleaseThread(message.thread_id))

    def _answer_from_store(self, request: Request, message: Loaded) -> None:
        if message.error is not None:
            logger.error("x thread %s: cannot be read from the store: %s", message.thread_id, message.error)
            raise errors.internal()
        if message.is_busy:
            raise errors.active_writer(message.thread_id)
        if self._desk.is_loaded(message.thread_id):  # for a request before this one
            self._desk.pass_to_thread(request, message.thread_id)
            return
        stored = check_stored(request.method.name, message.thread_id, message.thread)
        answer = answer_from_store(stored, request.params, self._context.config.limits.snapshot_bytes)
        if answer is not None:
            _reply(request, answer)
        elif not self._desk.is_connected(request):
            return  # it has gone, and nothing has begun
        elif isinstance(request.params, ForkParams):
            copy = fork_copy(Conversation(stored.record, stored.turns), request.params)
            self._on_fork(Fork(request, copy))
        else:
            self._load(stored.record, stored, Origin.RESUMED if request.method.subscribes else Origin.ERRAND)
            self._desk.pass_to_thread(request, message.thread_id)

    def _load(self, record: ThreadRecord, stored: StoredThread | None, origin: Origin) -> Ref:
        workshop = self._workshop

        def make_engine(seat: Seat) -> Engine:
            return LocalEngine(
                seat=seat,
                context=self._context,
                workshop=workshop,
                router=self._desk.actor_ref,
                record=record,
                stored=stored,
                origin=origin,
            )

        is_kept = workshop.store_is_durable and not record.is_ephemeral
        return self._desk.load(record.id, Numbering(record.epoch, record.seq_bound, is_kept), make_engine)

    def _start_thread(self, request: Request, params: ThreadStartParams) -> None:
        check_start(params)
        base = self._context.config.cwd or _current_directory(params)
        record = new_record(params, base=base, agent_name=self._context.agent_name)
        self._load(record, None, Origin.NEW)
        self._desk.pass_to_thread(request, record.id)

    def _on_fork(self, message: Fork) -> None:
        if not self._desk.is_connected(message.request):
            return
        record = message.copy.record
        thread = self._load(record, message.copy, Origin.NEW)
        self._desk.note_subscriber(message.request, record.id)
        post(thread, Forked(message.request))

    # Lists

    def _list_loaded(self, request: Request, params: LoadedListParams) -> None:
        ids = self._desk.loaded_ids
        start = 0
        if params.cursor is not None and ids:
            if not is_uuid(params.cursor):
                raise errors.invalid_request(f"invalid cursor: {params.cursor}")
            start = bisect_right(ids, ThreadId(params.cursor))
        end = len(ids) if params.limit is None else start + page_size(params.limit, most=len(ids) + 1)
        page = ids[start:end]
        next_cursor = page[-1] if end < len(ids) else None
        _reply(request, {"data": page, "nextCursor": next_cursor})

    def _list_threads(self, request: Request, params: ThreadListParams) -> None:
        if params.sort_key == "section_position":
            if params.section_id is None:
                raise errors.invalid_request("section-position sorting requires a section filter")
            _reply(request, _page_json([], None, None))  # there are no sections here
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
        post(self._workshop.store, ListThreads(query, self._desk.actor_ref, self._last_token))

    def _on_listed(self, message: Listed) -> None:
        request = self._listing.pop(message.token)
        if message.is_bad_cursor and isinstance(request.params, ThreadListParams):
            error = errors.invalid_request(f"invalid cursor: {request.params.cursor}")
            post(request.reply_to, Refuse(request.id, error))
        elif message.error is not None:
            logger.error("x router: threads cannot be listed: %s", message.error)
            post(request.reply_to, Refuse(request.id, errors.internal()))
        else:
            data = [record_json(record, self._desk.status(record.id)) for record in message.records]
            _reply(request, _page_json(data, message.next_cursor, message.backwards_cursor))

    _answers: ClassVar[dict[str, Callable[[LocalCatalog, Request, Any], None]]] = {
        "thread/start": _start_thread,
        "thread/loaded/list": _list_loaded,
        "thread/list": _list_threads,
    }


def _reply(request: Request, result: Json) -> None:
    post(request.reply_to, Reply(request.id, result))


def _page_json(data: list[JsonObject], next_cursor: str | None, backwards_cursor: str | None) -> JsonObject:
    return {
        "data": data,
        "nextCursor": next_cursor,
        "backwardsCursor": backwards_cursor,
        "readStates": {},
    }


def _current_directory(params: ThreadStartParams) -> Path:
    """Return the directory of this process, to which a thread's may be relative."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        if params.cwd is not None and Path(params.cwd).is_absolute():
            return Path("/")
        raise errors.invalid_request("the server's working directory is gone, and no `cwd` given") from None
