"""What a host publishes into a thread: events and prompts that come from no turn.

A plain object that belongs to one Thread actor and is called by it alone.
"""

from __future__ import annotations

from collections.abc import Callable

from trunkline.agents.events import Answer
from trunkline.errors import PromptRefused
from trunkline.feed import Feed
from trunkline.futures import Future
from trunkline.messages import Publish, RaisePrompt
from trunkline.prompts import Prompts
from trunkline.protocol import errors
from trunkline.protocol.envelope import now_ms
from trunkline.protocol.ids import uuid7
from trunkline.protocol.prompts import PROMPTS, USER_INPUT
from trunkline.types import JsonObject, ThreadId

__all__ = ["Publications"]


class Publications:
    """Publishes for the host, and tells it how far that has come.

    Args:
        thread_id: the thread's id.
        feed: where everything is published.
        prompts: the thread's open prompts.

    """

    def __init__(self, thread_id: ThreadId, feed: Feed, prompts: Prompts) -> None:
        self._thread_id = thread_id
        self._feed = feed
        self._prompts = prompts
        # Published, and not yet confirmed: the confirmation is what holds up a host.
        self._unconfirmed: list[tuple[Future[int], int]] = []

    def publish(self, message: Publish) -> None:
        """Publish a notification."""
        try:
            self._feed.notify(message.method, self._with_thread_id(message.params))
        except BaseException:
            message.future.fail(errors.internal())
            raise
        self._unconfirmed.append((message.future, self._feed.last_seq))

    def raise_prompt(self, message: RaisePrompt, opened: Callable[[], None]) -> int:
        """Publish a prompt, once `opened` has been called; return its id."""
        future = message.future

        def reply(answer: Answer) -> None:
            if answer.kind == "result":
                future.set(answer.result)
            elif answer.kind == "refused":
                future.fail(PromptRefused(answer.reason or "a client refused it"))
            else:
                future.fail(PromptRefused("the thread has ended"))

        prompt_id = self._prompts.new(message.method, reply, is_turns=False)
        opened()
        params = self._with_thread_id(
            {"startedAtMs": now_ms(), **_place_of(message.method), **message.params}
        )
        self._prompts.publish(prompt_id, message.method, params)
        return prompt_id

    def confirm(self) -> None:
        """Tell the host that what it published has been taken."""
        unconfirmed, self._unconfirmed = self._unconfirmed, []
        for future, seq in unconfirmed:
            future.set(seq)

    def _with_thread_id(self, params: JsonObject) -> JsonObject:
        return {"threadId": self._thread_id, **params}


def _place_of(method: str) -> JsonObject:
    """Return what clients require a prompt of the protocol to say, and a host has no turn to say it of."""
    if method not in PROMPTS:
        return {}
    blocking = {"isBlocking": True} if method == USER_INPUT else {}
    return {"turnId": uuid7(), "itemId": uuid7(), **blocking}
