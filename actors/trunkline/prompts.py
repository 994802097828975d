"""A thread's open prompts: what clients were asked and nobody has answered.

A plain object that belongs to one Thread actor and is called by it alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from trunkline.actor import post
from trunkline.agents.events import Answer
from trunkline.clock import Clock
from trunkline.feed import Feed
from trunkline.log import Event
from trunkline.messages import PromptAnswer, PromptEnded, PromptMisfit, Ref
from trunkline.protocol.prompts import Flag, PromptKind, prompt_kind
from trunkline.types import ConnectionId, Json, JsonObject, ThreadId

__all__ = ["Prompts"]

logger = logging.getLogger(__name__)


class _Prompt:
    """A prompt that is open."""

    __slots__ = ("event", "is_turns", "kind", "left", "method", "misfits", "reply")

    def __init__(
        self, method: str, reply: Callable[[Answer], None], kind: PromptKind, *, is_turns: bool
    ) -> None:
        self.method = method
        self.is_turns = is_turns
        self.kind = kind
        self.event: Event | None = None
        self.reply = reply
        self.left: dict[ConnectionId, Ref] = {}
        """Those who were sent it and have unsubscribed since; they may still answer."""
        self.misfits: set[ConnectionId] = set()
        """Those whose answer did not fit, while others could still give one."""


class Prompts:
    """The open prompts of a thread.

    Args:
        thread_id: whose they are.
        feed: where they are published, and their ends.
        ids: request ids, one count for the whole server.
        clock: by which time passes.
        on_new: called with the id of each prompt that is opened.

    """

    def __init__(
        self,
        thread_id: ThreadId,
        feed: Feed,
        ids: Iterator[int],
        clock: Clock,
        on_new: Callable[[int], None],
    ) -> None:
        self._thread_id = thread_id
        self._feed = feed
        self._ids = ids
        self._clock = clock
        self._on_new = on_new
        self._open: dict[int, _Prompt] = {}
        # Seconds with a turn's prompt open, up to the moment from which one is open now (None: none is).
        self._waited_s = 0.0
        self._waiting_since: float | None = None

    @property
    def waited_s(self) -> float:
        """For how many seconds, all in all, at least one prompt of a turn was open."""
        since = self._waiting_since
        return self._waited_s + (0.0 if since is None else self._clock.monotonic() - since)

    def __len__(self) -> int:
        return len(self._open)

    def new(
        self,
        method: str,
        reply: Callable[[Answer], None],
        kind: PromptKind | None = None,
        *,
        is_turns: bool = True,
    ) -> int:
        """Open a prompt, which counts from now on; `publish` sends it.

        Args:
            method: the server request.
            reply: called once, with how it was settled; must not block.
            kind: what an answer must look like; None for what the protocol says of the method.
            is_turns: whether it is the running turn's, and ends with that.

        Returns:
            Its request id.

        """
        prompt_id = next(self._ids)
        self._open[prompt_id] = _Prompt(method, reply, kind or prompt_kind(method), is_turns=is_turns)
        if is_turns and self._waiting_since is None:
            self._waiting_since = self._clock.monotonic()
        self._on_new(prompt_id)
        return prompt_id

    def publish(self, prompt_id: int, method: str, params: Json) -> None:
        """Send an open prompt to every subscriber. `params` may be an `orjson.Fragment`."""
        self._open[prompt_id].event = self._feed.prompt(prompt_id, method, params)

    def flags(self) -> list[Flag]:
        """Return what the status of the thread says of the open prompts."""
        return sorted({prompt.kind.flag for prompt in self._open.values() if prompt.kind.flag is not None})

    def messages(self, *, are_sent: bool) -> tuple[tuple[int, Event | None], ...]:
        """Return id and event of each, oldest first, for one who subscribes now.

        Args:
            are_sent: whether the events are to be sent; not to a client that has them already or
                gets them among the events it missed. It may answer them all the same.

        """
        return tuple(
            (prompt_id, prompt.event if are_sent else None) for prompt_id, prompt in self._open.items()
        )

    def answer(self, answer: PromptAnswer, answerers: Iterable[ConnectionId]) -> bool:
        """Settle a prompt with a client's answer: the first one counts.

        An error settles it as refused. So does an answer that does not fit, unless one of the other
        subscribers can still answer: one client that answers `{}` to everything must not speak for all.

        Args:
            answer: the client's.
            answerers: the subscribers that may answer.

        Returns:
            Whether it was settled by this.

        """
        prompt = self._open.get(answer.prompt_id)
        who = (answer.connection_id, answer.prompt_id)
        ids = {
            "connectionId": answer.connection_id,
            "threadId": self._thread_id,
            "promptId": answer.prompt_id,
        }
        if prompt is None:
            logger.info("x connection %s: its answer to prompt %s is late and ignored", *who, extra=ids)
            return False
        result = None if answer.failed else prompt.kind.read(answer.result)
        if result is None and not answer.failed:
            is_first = answer.connection_id not in prompt.misfits
            prompt.misfits.add(answer.connection_id)
            if not prompt.misfits.issuperset(answerers):
                if is_first:  # or a client could fill the log
                    text = "x connection %s: its answer to prompt %s does not fit and is ignored"
                    logger.warning(text, *who, extra=ids)
                post(answer.connection, PromptMisfit(answer.prompt_id))
                return False
        # An audit trail: who let a command run, or refused it. The answer to a question is not for a log.
        logger.info(
            "= connection %s (%s): it has answered prompt %s of thread %s, %s: %s",
            answer.connection_id,
            answer.who,
            answer.prompt_id,
            self._thread_id,
            prompt.method,
            _decision(result),
            extra={**ids, "who": answer.who, "decision": _decision(result)},
        )
        self._settle(answer.prompt_id, Answer("refused" if result is None else "result", result))
        return True

    def refuse(self, prompt_id: int, reason: str) -> bool:
        """Settle a prompt as refused by the server itself, if it is still open.

        Returns:
            Whether it was settled by this.

        """
        if prompt_id not in self._open:
            return False
        self._log_refusal(prompt_id, reason)
        self._settle(prompt_id, Answer("refused", reason=reason))
        return True

    def refuse_all(self, reason: str) -> bool:
        """Do the same with every prompt that is open; tell whether there was one."""
        refused = [self.refuse(prompt_id, reason) for prompt_id in list(self._open)]
        return any(refused)

    def refuse_misfits(self, answerers: Callable[[], Iterable[ConnectionId]]) -> bool:
        """Refuse each whose answers did not fit, if no subscriber is left who could still answer it.

        Args:
            answerers: returns the subscribers that may answer.

        Returns:
            Whether there was one.

        """
        hopeless = [
            prompt_id
            for prompt_id, prompt in self._open.items()
            if prompt.misfits and prompt.misfits.issuperset(answerers())
        ]
        for prompt_id in hopeless:
            self._log_refusal(prompt_id, "no answer fits, and nobody is left who could give another")
            # Without a reason: it is the clients' answers that refuse it.
            self._settle(prompt_id, Answer("refused"))
        return bool(hopeless)

    def drop(self, prompt_id: int) -> None:
        """End an open prompt without an answer, and tell everybody."""
        self._settle(prompt_id, Answer("dropped"))

    def drop_all(self, *, with_hosts: bool = False) -> None:
        """End every prompt of the turn without an answer, and tell everybody; or also those of the host."""
        for prompt_id in [key for key, prompt in self._open.items() if with_hosts or prompt.is_turns]:
            self._settle(prompt_id, Answer("dropped"))

    def abandon(self) -> None:
        """End every prompt without an answer; publish nothing."""
        for prompt_id, prompt in self._open.items():
            prompt.reply(Answer("dropped"))
            for connection in prompt.left.values():  # subscribers are told that the thread has ended
                post(connection, PromptEnded(prompt_id))
        self._open.clear()

    def subscriber_came(self, connection_id: ConnectionId) -> None:
        """Note that a connection is a subscriber (again)."""
        for prompt in self._open.values():
            prompt.left.pop(connection_id, None)

    def subscriber_left(self, connection_id: ConnectionId, connection: Ref) -> None:
        """Note that a connection has unsubscribed; it may still answer what it was sent."""
        for prompt in self._open.values():
            prompt.left[connection_id] = connection

    def connection_closed(self, connection_id: ConnectionId) -> None:
        """Forget a connection."""
        for prompt in self._open.values():
            prompt.left.pop(connection_id, None)

    def _log_refusal(self, prompt_id: int, reason: str) -> None:
        logger.info(
            "= thread %s: prompt %s, %s, is refused: %s",
            self._thread_id,
            prompt_id,
            self._open[prompt_id].method,
            reason,
            extra={
                "threadId": self._thread_id,
                "promptId": prompt_id,
                "who": "server",
                "decision": "refused",
            },
        )

    def _settle(self, prompt_id: int, answer: Answer) -> None:
        prompt = self._open.pop(prompt_id)
        if self._waiting_since is not None and not any(each.is_turns for each in self._open.values()):
            self._waited_s, self._waiting_since = self.waited_s, None
        prompt.reply(answer)
        # `reason` is not in the reference.
        reason: JsonObject = {} if answer.reason is None else {"reason": answer.reason}
        self._feed.notify(
            "serverRequest/resolved",
            {"threadId": self._thread_id, "requestId": prompt_id, **reason},
            resolves=prompt_id,
            is_terminal=True,
        )
        for connection in prompt.left.values():
            self._feed.tell(connection, PromptEnded(prompt_id))


def _decision(result: JsonObject | None) -> str:
    """Return what a log may say of an answer: an approval's decision, of others only that it came."""
    if result is None:
        return "refused"
    decision = result.get("decision")
    if isinstance(decision, dict):  # an amendment, which holds what the client wants a rule to be
        return next(iter(decision), "answered")
    return decision if isinstance(decision, str) else "answered"
