"""What is answered from the store: lists of threads, and threads that are not loaded.

A plain object that belongs to the catalog and is called by it alone; and the tables of methods that take
a thread which is not loaded.
"""

from __future__ import annotations

from functools import partial

from trunkline.actor import post
from trunkline.conversation import record_json
from trunkline.engines import NOT_LOADED, Desk
from trunkline.local.pages import (
    item_query,
    listed_items,
    listed_turns,
    page_size,
    read_json,
    turn_query,
)
from trunkline.local.questions import Questions
from trunkline.messages import Reply, Request
from trunkline.protocol import errors
from trunkline.protocol.params import ItemsListParams, ThreadListParams, ThreadReadParams, TurnsListParams
from trunkline.store.base import (
    ItemQuery,
    ItemsListed,
    Listed,
    ListItems,
    ListThreads,
    ListTurns,
    Loaded,
    LoadThread,
    StoredThread,
    ThreadQuery,
    TurnQuery,
    TurnsListed,
)
from trunkline.types import Json, JsonObject, ThreadId

__all__ = ["READS_STORED", "WRITES_STORED", "StoredAnswers", "check_stored"]

READS_STORED = frozenset({"thread/read", "thread/turns/list", "thread/items/list"})
"""Methods that take a thread which is not loaded, and leave it so."""

WRITES_STORED = frozenset(
    {"thread/resume", "thread/archive", "thread/unarchive", "thread/delete", "thread/name/set"}
)
"""Methods that load a thread which is not loaded."""


def check_stored(method: str, thread_id: ThreadId, stored: StoredThread | None) -> StoredThread:
    """Return what is stored of a thread, if the method takes it in its state.

    Raises:
        RpcError: there is no such thread, or it is in the archive, or it is not and should be.

    """
    if method == "thread/unarchive":
        if stored is None or not stored.record.is_archived:
            raise errors.not_archived(thread_id)
    elif stored is None or (stored.record.is_archived and method == "thread/archive"):
        raise errors.no_rollout(thread_id)
    elif stored.record.is_archived and method in ("thread/resume", "thread/fork"):
        raise errors.archived(thread_id)
    return stored


class StoredAnswers:
    """Answers requests from the store.

    Args:
        desk: the server's router.
        questions: where the store is asked.
        max_bytes: of items, in one answer.

    """

    def __init__(self, desk: Desk, questions: Questions, max_bytes: int) -> None:
        self._desk = desk
        self._questions = questions
        self._max_bytes = max_bytes

    def list_threads(self, request: Request, params: ThreadListParams) -> None:
        """Answer `thread/list`."""
        if params.sort_key == "section_position":
            if params.section_id is None:
                raise errors.invalid_request("section-position sorting requires a section filter")
            _reply(request, _page_json([], None, None))  # there are no sections here
            return
        query = ThreadQuery(
            limit=page_size(params.limit),
            cursor=params.cursor,
            sort_key="created_at" if params.sort_key in (None, "created_at") else "updated_at",
            is_descending=params.sort_direction != "asc",
            is_archived=bool(params.archived),
            cwds=(params.cwd,) if isinstance(params.cwd, str) else tuple(params.cwd or ()),
            search_term=params.search_term or None,
            model_providers=tuple(params.model_providers or ()),
        )
        question = partial(ListThreads, query, self._desk.actor_ref)
        self._questions.ask_for(request, question, partial(self._answer_list, request, query))

    def read(self, request: Request, thread_id: ThreadId) -> None:
        """Answer a method of `READS_STORED` for a thread that is not loaded."""
        params = request.params
        if isinstance(params, TurnsListParams):
            self.list_turns(request, thread_id, turn_query(params, self._max_bytes), is_loaded=False)
        elif isinstance(params, ItemsListParams):
            self.list_items(request, thread_id, item_query(params, self._max_bytes), is_loaded=False)
        else:
            assert isinstance(params, ThreadReadParams)

            def question(token: int) -> LoadThread:
                return LoadThread(
                    thread_id,
                    False,
                    self._desk.actor_ref,
                    token,
                    with_turns=bool(params.include_turns),
                    max_item_bytes=self._max_bytes,
                )

            self._questions.ask_for(request, question, partial(self._answer_read, request, thread_id))

    def list_turns(self, request: Request, thread_id: ThreadId, query: TurnQuery, *, is_loaded: bool) -> None:
        """Answer with a page of turns.

        Args:
            request: the client's.
            thread_id: whose turns.
            query: which of them.
            is_loaded: whether it is a loaded thread that wants this; it has the other turns itself.

        """

        def answer(listed: TurnsListed) -> None:
            if is_loaded or self._is_still_unloaded(request, thread_id, listed):
                _reply(request, listed_turns(listed, query))

        question = partial(ListTurns, thread_id, query, self._desk.actor_ref)
        self._questions.ask_for(request, question, answer)

    def list_items(self, request: Request, thread_id: ThreadId, query: ItemQuery, *, is_loaded: bool) -> None:
        """Answer with a page of items; as `list_turns`."""

        def answer(listed: ItemsListed) -> None:
            if is_loaded or self._is_still_unloaded(request, thread_id, listed):
                _reply(request, listed_items(listed, query))

        question = partial(ListItems, thread_id, query, self._desk.actor_ref)
        self._questions.ask_for(request, question, answer)

    def _is_still_unloaded(
        self, request: Request, thread_id: ThreadId, listed: TurnsListed | ItemsListed
    ) -> bool:
        if self._desk.is_loaded(thread_id):
            self._desk.pass_to_thread(request, thread_id)  # it knows more
            return False
        if listed.record is None and not listed.is_bad_cursor:
            raise errors.thread_not_loaded(thread_id)
        return True

    def _answer_read(self, request: Request, thread_id: ThreadId, answer: Loaded) -> None:
        if self._desk.is_loaded(thread_id):
            self._desk.pass_to_thread(request, thread_id)
        elif answer.thread is None:
            raise errors.thread_not_loaded(thread_id)
        else:
            assert isinstance(request.params, ThreadReadParams)
            with_turns = bool(request.params.include_turns)
            _reply(request, read_json(answer.thread, NOT_LOADED, self._max_bytes, with_turns=with_turns))

    def _answer_list(self, request: Request, query: ThreadQuery, listed: Listed) -> None:
        if listed.is_bad_cursor:
            raise errors.invalid_request(f"invalid cursor: {query.cursor}")
        data = [record_json(record, self._desk.status(record.id)) for record in listed.records]
        _reply(request, _page_json(data, listed.next_cursor, listed.backwards_cursor))


def _reply(request: Request, result: Json) -> None:
    post(request.reply_to, Reply(request.id, result))


def _page_json(data: list[JsonObject], next_cursor: str | None, backwards_cursor: str | None) -> JsonObject:
    return {"data": data, "nextCursor": next_cursor, "backwardsCursor": backwards_cursor, "readStates": {}}
