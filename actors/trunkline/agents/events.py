"""What a running turn tells its thread. Made by `Turn`, on the agent's own OS thread.

Every event names its turn, so that one that comes late cannot hit the turn after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec

from trunkline.protocol.even_texts import join
from trunkline.types import JsonObject, TurnId

__all__ = [
    "Answer",
    "AnswerKind",
    "ItemCompleted",
    "ItemDelta",
    "ItemStarted",
    "PromptRaised",
    "TurnEnded",
    "TurnEvent",
    "TurnStatus",
]

TurnStatus: TypeAlias = Literal["completed", "interrupted", "failed"]
"""How a turn ends."""

AnswerKind: TypeAlias = Literal["result", "refused", "dropped"]
"""`result`: a client answered and it fits. `refused`: a client answered with an error or with something
that does not fit the prompt, or the server refused it itself. `dropped`: the turn ended or was
interrupted before anybody answered."""


class Answer(msgspec.Struct, frozen=True):
    """How a prompt was settled."""

    kind: AnswerKind
    result: JsonObject | None = None
    """The client's result, checked against the prompt's schema; None unless `kind` is `result`."""
    reason: str | None = None
    """Why the server refused it itself, such as that its deadline has passed; None if a client did."""


class ItemStarted(msgspec.Struct, frozen=True):
    """An item begins. It is open until its `ItemCompleted`, or until the turn ends."""

    turn_id: TurnId
    item: JsonObject
    """The item as the wire has it, `type` and `id` included. Not to be changed afterwards."""


class ItemDelta(msgspec.Struct, frozen=True):
    """Text is added to an open item. The thread adds it up for snapshots and for the completed item."""

    turn_id: TurnId
    item_id: str
    texts: Sequence[str]
    """Each is a delta of its own to clients; those that are there at once cost less together."""
    joined: str
    """All of them together: put together by the agent, which has just made them."""

    def split(self, most: int) -> list[ItemDelta]:
        """Return the same in several, each of at most so many texts."""
        starts = range(0, len(self.texts), most)
        parts = [self.texts[start : start + most] for start in starts]
        return [ItemDelta(self.turn_id, self.item_id, part, join(part)) for part in parts]


class ItemCompleted(msgspec.Struct, frozen=True):
    """An open item is complete: as started, plus its deltas, plus `changes`."""

    turn_id: TurnId
    item_id: str
    changes: JsonObject
    """Members to set on the item, such as `status` and `exitCode`."""


class PromptRaised(msgspec.Struct, frozen=True):
    """Clients are asked something."""

    turn_id: TurnId
    method: str
    """The server request, such as `item/commandExecution/requestApproval`."""
    params: JsonObject
    """Its params without `threadId`, `turnId` and `startedAtMs`, which the thread adds."""
    reply: Callable[[Answer], None]
    """Called once, by the thread's actor; must not block."""


class TurnEnded(msgspec.Struct, frozen=True):
    """The agent has returned or raised. The last event of a turn."""

    turn_id: TurnId
    status: TurnStatus
    message: str | None = None
    """Why it failed, for the clients."""


TurnEvent: TypeAlias = ItemStarted | ItemDelta | ItemCompleted | PromptRaised | TurnEnded
"""All that a turn tells its thread."""
