"""The catalog of the threads that are kept in the store: starts, loads, forks and lists them.

A plain object that belongs to the Router actor and is called by it alone.

Takes    Fork, ReadOlder, from threads; Loaded, Listed, TurnsListed, ItemsListed, from the store
Sends    to connections: Reply, Refuse
         to threads:     Forked
         to the store:   LoadThread, ForkThread, ReleaseThread, ListThreads, ListTurns, ListItems
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from trunkline.actor import post
from trunkline.context import Context
from trunkline.engines import Desk, Engine, Handlers, Numbering, Seat
from trunkline.errors import RpcError
from trunkline.local.engine import LocalEngine, Origin
from trunkline.local.pages import page_size
from trunkline.local.questions import Questions, check_readable
from trunkline.local.records import fork_record, new_record
from trunkline.local.remembered import read_events
from trunkline.local.stored import READS_STORED, WRITES_STORED, StoredAnswers, check_stored
from trunkline.local.workshop import Workshop
from trunkline.messages import Fork, Forked, ReadOlder, Ref, Refuse, Reply, Request
from trunkline.protocol import errors
from trunkline.protocol.ids import is_uuid, parse_uuid
from trunkline.protocol.params import ForkParams, LoadedListParams, ThreadListParams, ThreadStartParams
from trunkline.protocol.product import check_start
from trunkline.protocol.values import check_value
from trunkline.store.base import (
    ForkThread,
    ItemsListed,
    Listed,
    Loaded,
    LoadThread,
    ReleaseThread,
    StoredThread,
    ThreadRecord,
    TurnQuery,
    TurnsListed,
)
from trunkline.types import Json, ThreadId, TurnId

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
        self._max_bytes = context.config.limits.snapshot_bytes
        # Requests that wait for their thread to be loaded.
        self._loading: dict[ThreadId, list[Request]] = {}
        self._questions = Questions(workshop.store)
        self._stored = StoredAnswers(desk, self._questions, self._max_bytes)

    # What a router sees of any catalog

    @property
    def handlers(self) -> Handlers:
        """What only it knows."""
        answered = self._questions.answered
        return {
            Loaded: answered,
            Listed: answered,
            TurnsListed: answered,
            ItemsListed: answered,
            Fork: self._on_fork,
            ReadOlder: self._on_read_older,
        }

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
        elif name in READS_STORED:
            self._stored.read(request, thread_id)
        elif name in WRITES_STORED:
            self._load_for(request, thread_id)
        elif name == "thread/fork":
            self._fork_stored(request, thread_id)
        else:
            raise errors.thread_not_found(thread_id)

    # Threads

    def _load_for(self, request: Request, thread_id: ThreadId) -> None:
        """Have a request answered by the thread's actor, which is yet to be made."""
        waiting = self._loading.get(thread_id)
        if waiting is not None:
            waiting.append(request)
            return
        self._loading[thread_id] = [request]
        ref, max_bytes = self._desk.actor_ref, self._max_bytes
        self._questions.ask(
            lambda token: LoadThread(thread_id, True, ref, token, max_item_bytes=max_bytes, with_events=True),
            partial(self._on_read, thread_id),
        )

    def _on_read(self, thread_id: ThreadId, answer: Loaded) -> None:
        for request in self._loading.pop(thread_id):
            try:
                check_readable(answer)
                self._load_and_pass(request, thread_id, answer)
            except RpcError as error:
                post(request.reply_to, Refuse(request.id, error))
            except Exception:  # others wait for the same thread, and its claim is to be let go
                logger.exception("x thread %s: it cannot be loaded", thread_id, extra={"threadId": thread_id})
                post(request.reply_to, Refuse(request.id, errors.internal()))
        if not self._desk.is_loaded(thread_id):
            post(self._workshop.store, ReleaseThread(thread_id))

    def _load_and_pass(self, request: Request, thread_id: ThreadId, answer: Loaded) -> None:
        if not self._desk.is_loaded(thread_id):  # for a request before this one
            if answer.is_busy:
                raise errors.active_writer(thread_id)
            stored = check_stored(request.method.name, thread_id, answer.thread)
            if not self._desk.is_connected(request):
                return  # it has gone, and nothing has begun
            self._desk.check_room()
            self._load(stored.record, stored, Origin.RESUMED if request.method.subscribes else Origin.ERRAND)
        self._desk.pass_to_thread(request, thread_id)

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
        events = () if stored is None else read_events(stored.events, workshop.run_id)
        numbering = Numbering(record.epoch, record.seq_bound, tuple(events), is_kept=is_kept)
        return self._desk.load(record.id, numbering, make_engine)

    def _start_thread(self, request: Request, params: ThreadStartParams) -> None:
        check_start(params)
        base = self._context.config.cwd or _current_directory(params)
        record = new_record(params, base=base, agent_name=self._context.agent_name)
        self._desk.check_room()
        self._load(record, None, Origin.NEW)
        self._desk.pass_to_thread(request, record.id)

    def _fork_stored(self, request: Request, thread_id: ThreadId) -> None:
        def fork(answer: Loaded) -> None:
            if self._desk.is_loaded(thread_id):
                self._desk.pass_to_thread(request, thread_id)
            else:
                self._fork(request, check_stored("thread/fork", thread_id, answer.thread).record)

        ref = self._desk.actor_ref
        self._questions.ask_for(
            request, lambda token: LoadThread(thread_id, False, ref, token, with_turns=False), fork
        )

    def _on_fork(self, message: Fork) -> None:
        try:
            self._fork(message.request, message.source)
        except RpcError as error:
            post(message.request.reply_to, Refuse(message.request.id, error))

    def _fork(self, request: Request, source: ThreadRecord) -> None:
        """Have the store make the copy; of an ephemeral fork it is only read."""
        self._desk.check_room()
        params = request.params
        assert isinstance(params, ForkParams)
        record = fork_record(source, params)
        last_turn_id = None if params.last_turn_id is None else TurnId(params.last_turn_id)
        ref = self._desk.actor_ref

        def question(token: int) -> ForkThread | LoadThread:
            if record.is_ephemeral:
                return LoadThread(source.id, False, ref, token, last_turn_id=last_turn_id)
            return ForkThread(source.id, record, ref, token, last_turn_id, self._max_bytes)

        def start(answer: Loaded) -> None:
            if answer.is_turn_unknown or (answer.thread is None and last_turn_id is not None):
                raise errors.invalid_request(f"turn not found: {last_turn_id}")
            turns = StoredThread(record) if answer.thread is None else answer.thread
            self._start_fork(request, msgspec.structs.replace(turns, record=record))

        self._questions.ask_for(request, question, start)

    def _start_fork(self, request: Request, stored: StoredThread) -> None:
        thread_id = stored.record.id
        if not self._desk.is_connected(request):
            post(self._workshop.store, ReleaseThread(thread_id))
            return
        thread = self._load(stored.record, stored, Origin.NEW)
        self._desk.note_subscriber(request, thread_id)
        post(thread, Forked(request))

    def _on_read_older(self, message: ReadOlder) -> None:
        if isinstance(message.query, TurnQuery):
            self._stored.list_turns(message.request, message.thread_id, message.query, is_loaded=True)
        else:
            self._stored.list_items(message.request, message.thread_id, message.query, is_loaded=True)

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
        self._stored.list_threads(request, params)

    _answers: ClassVar[dict[str, Callable[[LocalCatalog, Request, Any], None]]] = {
        "thread/start": _start_thread,
        "thread/loaded/list": _list_loaded,
        "thread/list": _list_threads,
    }


def _reply(request: Request, result: Json) -> None:
    post(request.reply_to, Reply(request.id, result))


def _current_directory(params: ThreadStartParams) -> Path:
    """Return the directory of this process, to which a thread's may be relative."""
    try:
        directory = Path.cwd()
        check_value(str(directory))
    except (FileNotFoundError, TypeError) as error:
        if params.cwd is not None and Path(params.cwd).is_absolute():
            return Path("/")
        why = "gone" if isinstance(error, FileNotFoundError) else "one whose name is no text"
        raise errors.invalid_request(f"the server's working directory is {why}, and no `cwd` given") from None
    return directory
