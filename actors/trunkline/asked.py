"""What one connection was asked: the prompts it was sent and that have not ended.

A plain object that belongs to one Connection actor and is called by it alone.
"""

from __future__ import annotations

import logging

from trunkline.messages import Ref
from trunkline.types import ConnectionId

__all__ = ["MAX_UNREAD_ANSWERS", "Asked"]

logger = logging.getLogger(__name__)

MAX_UNREAD_ANSWERS = 8
"""Answers to one prompt that may be on their way to its thread. A client that corrects itself has a few; one
that streams them must not fill the thread's inbox."""


class _Prompt:
    """A prompt that the connection was sent."""

    __slots__ = ("is_flooded", "thread", "unread")

    def __init__(self, thread: Ref) -> None:
        self.thread = thread
        self.unread = 0
        """Answers that were passed to the thread and of which it has not said that they do not fit."""
        self.is_flooded = False
        """Whether an answer was ignored because of those; the log says it once."""


class Asked:
    """The prompts of a connection.

    Args:
        connection_id: whose they are.

    """

    def __init__(self, connection_id: ConnectionId) -> None:
        self._connection_id = connection_id
        self._prompts: dict[int, _Prompt] = {}

    def __len__(self) -> int:
        return len(self._prompts)

    def add(self, prompt_id: int, thread: Ref) -> None:
        """Note that the connection is sent a prompt, maybe once more."""
        if prompt_id not in self._prompts:
            self._prompts[prompt_id] = _Prompt(thread)

    def thread_of(self, prompt_id: int) -> Ref | None:
        """Return whose prompt it is; None if it is none the connection was sent, or has ended."""
        prompt = self._prompts.get(prompt_id)
        return None if prompt is None else prompt.thread

    def take_answer(self, prompt_id: int) -> bool:
        """Count an answer to one of the prompts; tell whether it may be passed to the thread."""
        prompt = self._prompts[prompt_id]
        if prompt.unread < MAX_UNREAD_ANSWERS:
            prompt.unread += 1
            return True
        if not prompt.is_flooded:
            prompt.is_flooded = True
            text = "x connection %s: it has answered prompt %s too often at once; what is too much is ignored"
            ids = {"connectionId": self._connection_id, "promptId": prompt_id}
            logger.warning(text, self._connection_id, prompt_id, extra=ids)
        return False

    def misfitted(self, prompt_id: int) -> None:
        """Note that the thread has read an answer, which did not fit."""
        prompt = self._prompts.get(prompt_id)
        if prompt is not None:
            prompt.unread -= 1

    def ended(self, prompt_id: int) -> None:
        """Forget a prompt."""
        self._prompts.pop(prompt_id, None)

    def thread_ended(self, thread: Ref) -> None:
        """Forget all that a thread asked."""
        self._prompts = {key: prompt for key, prompt in self._prompts.items() if prompt.thread != thread}

    def clear(self) -> None:
        """Forget everything."""
        self._prompts.clear()
