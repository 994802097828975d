"""Questions to the store, and what is to be done with their answers.

A plain object that belongs to one actor and is called by it alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from trunkline.actor import post
from trunkline.errors import RpcError
from trunkline.messages import Ref, Refuse, Request
from trunkline.protocol import errors
from trunkline.store.base import ItemsListed, Listed, Loaded, TurnsListed

__all__ = ["Answer", "Questions", "check_readable"]

logger = logging.getLogger(__name__)

Answer: TypeAlias = Loaded | Listed | TurnsListed | ItemsListed
"""What the store says."""


class Questions:
    """What an actor has asked the store and has no answer to.

    Args:
        store: told the questions.

    """

    def __init__(self, store: Ref) -> None:
        self._store = store
        self._last_token = 0
        self._open: dict[int, Callable[[Any], None]] = {}

    def ask(self, question: Callable[[int], object], then: Callable[[Any], None]) -> None:
        """Ask the store something.

        Args:
            question: makes the message from its token.
            then: called with the answer.

        """
        self._last_token += 1
        self._open[self._last_token] = then
        post(self._store, question(self._last_token))

    def ask_for(
        self, request: Request, question: Callable[[int], object], then: Callable[[Any], None]
    ) -> None:
        """Ask the store something that is needed to answer a request.

        Args:
            request: refused if the store cannot be read, or if `then` says so.
            question: makes the message from its token.
            then: called with the answer. May raise RpcError.

        """

        def guarded(answer: Answer) -> None:
            try:
                check_readable(answer)
                then(answer)
            except RpcError as error:
                post(request.reply_to, Refuse(request.id, error))
            except BaseException:
                post(request.reply_to, Refuse(request.id, errors.internal()))
                raise

        self.ask(question, guarded)

    def answered(self, answer: Answer) -> None:
        """Go on with an answer."""
        self._open.pop(answer.token)(answer)


def check_readable(answer: Answer) -> None:
    """Raise an error for clients if the store could not be read.

    Raises:
        RpcError: it could not; the reason is in the log.

    """
    if answer.error is not None:
        logger.error("x store: it cannot be read: %s", answer.error)
        raise errors.internal()
