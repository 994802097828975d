"""Items: which delta each type has, where its text is kept, and how a cut one ends."""

from __future__ import annotations

import msgspec

from trunkline.types import JsonObject

__all__ = ["KEPT_OUTPUT_CHARS", "KEPT_TEXT_CHARS", "ItemKind", "item_kind", "user_message"]

KEPT_OUTPUT_CHARS = 1024 * 1024
"""Characters that are kept of what a command writes, unless its agent says what is to be kept."""

KEPT_TEXT_CHARS = 16 * 1024 * 1024
"""Characters that are kept of what an agent says in one item; a flood shall not fill the memory."""


class ItemKind(msgspec.Struct, frozen=True):
    """What the thread has to know of a type of item; the rest is the agent's business."""

    delta_method: str | None = None
    """The notification that carries its deltas; None for a type that has none."""
    text_member: str | None = None
    """The member that its deltas add up to."""
    has_status: bool = False
    """Whether it has a `status`, which is `failed` when the turn ends while it is open."""
    is_message: bool = False
    """Whether it is what the agent says: the last one of a turn is in `turn/completed`."""
    kept_chars: int | None = None
    """Characters of its text that are kept; what comes after is sent on only. None keeps all."""


_PLAIN = ItemKind()
_KINDS = {
    "agentMessage": ItemKind("item/agentMessage/delta", "text", is_message=True, kept_chars=KEPT_TEXT_CHARS),
    "plan": ItemKind("item/plan/delta", "text"),
    "commandExecution": ItemKind(
        "item/commandExecution/outputDelta", "aggregatedOutput", has_status=True, kept_chars=KEPT_OUTPUT_CHARS
    ),
    "fileChange": ItemKind(has_status=True),
    "dynamicToolCall": ItemKind(has_status=True),
    "mcpToolCall": ItemKind(has_status=True),
}


def item_kind(item_type: str) -> ItemKind:
    """Return what is known of `item_type`; an unknown type has no deltas and no status."""
    return _KINDS.get(item_type, _PLAIN)


def user_message(item_id: str, content: list[JsonObject], client_id: str | None) -> JsonObject:
    """Return a `userMessage` item. `text_elements` is always there on output, as in the reference."""
    return {
        "type": "userMessage",
        "id": item_id,
        "content": [
            {"text_elements": [], **part} if part.get("type") == "text" else part for part in content
        ],
        "clientId": client_id,
    }
