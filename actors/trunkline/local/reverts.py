"""Reverts: a turn of a conversation and all later ones are dropped, wherever they are kept.

What is loaded is dropped at once. Where a revert reaches what is in the store only, the store is asked
whether there is such a turn, and for the end of what is left.

A plain object that belongs to one Thread actor and is called by it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from trunkline.conversation import Conversation
from trunkline.errors import RpcError
from trunkline.local.questions import Answer, Questions, check_readable
from trunkline.messages import Ref
from trunkline.protocol import errors
from trunkline.store.base import DropTurns, ListTurns, Loaded, LoadThread, TurnQuery, TurnsListed
from trunkline.store.cursors import at
from trunkline.types import TurnId

__all__ = ["Done", "Reverts"]

Done = Callable[[RpcError | None], None]
"""Called when a revert is done, or with the reason why it cannot be."""


class Reverts:
    """Reverts a conversation.

    Args:
        conversation: what is loaded of it.
        questions: where the store is asked.
        thread: the Thread actor, which is told the answers.
        save: tells the store something, if the thread is kept.
        max_bytes: of items that are loaded.

    """

    def __init__(
        self,
        conversation: Conversation,
        questions: Questions,
        thread: Ref,
        save: Callable[[object], None],
        max_bytes: int,
    ) -> None:
        self._conversation = conversation
        self._questions = questions
        self._thread = thread
        self._save = save
        self._max_bytes = max_bytes

    def revert(self, before_turn_id: TurnId, done: Done) -> None:
        """Drop a turn and all later ones. No turn may be running, nor begin before `done` is called."""
        if not self._conversation.can_drop(before_turn_id):
            query = TurnQuery(1, at(before_turn_id), is_descending=False, view="notLoaded")
            question = partial(ListTurns, self._conversation.record.id, query, self._thread)
            self._questions.ask(question, partial(self._drop_stored, before_turn_id, done))
        elif self._conversation.drop_turns(before_turn_id):
            self._save(DropTurns(self._conversation.record.id, before_turn_id))
            done(None)
        else:
            done(_not_found(before_turn_id))

    def _drop_stored(self, before_turn_id: TurnId, done: Done, listed: TurnsListed) -> None:
        error = _error_of(listed)
        if error is None and (not listed.turns or listed.turns[0].record.id != before_turn_id):
            error = _not_found(before_turn_id)
        if error is not None:
            done(error)
            return
        thread_id = self._conversation.record.id
        self._save(DropTurns(thread_id, before_turn_id))
        self._questions.ask(
            lambda token: LoadThread(thread_id, True, self._thread, token, max_item_bytes=self._max_bytes),
            partial(self._take, done),
        )

    def _take(self, done: Done, loaded: Loaded) -> None:
        error = _error_of(loaded)
        if error is None:
            assert loaded.thread is not None
            self._conversation.take_stored(loaded.thread)
            self._conversation.touch()
        done(error)


def _not_found(turn_id: TurnId) -> RpcError:
    return errors.invalid_request(f"turn not found: {turn_id}")


def _error_of(answer: Answer) -> RpcError | None:
    try:
        check_readable(answer)
    except RpcError as error:
        return error
    return None
