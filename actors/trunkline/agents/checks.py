"""What an agent tells is looked at before its thread is told, which would fail over it for everybody."""

from __future__ import annotations

from trunkline.agents.events import ItemCompleted, ItemDelta, ItemStarted, PromptRaised, TurnEvent
from trunkline.errors import TurnFailed
from trunkline.protocol.items import item_kind
from trunkline.protocol.values import check_value
from trunkline.types import Json

__all__ = ["check_event"]


def check_event(event: TurnEvent) -> None:
    """See that an event can be written, and has what a thread goes by. On the agent's thread.

    Raises:
        TurnFailed: it cannot, or has not. The text says what is wrong.

    """
    if isinstance(event, ItemDelta):
        _check_written("a delta", event.joined)
        _check_item_id("a delta", event.item_id)
    elif isinstance(event, ItemStarted):
        _check_written("an item", event.item)
        _check_item(event.item)
    elif isinstance(event, ItemCompleted):
        _check_written("a change to an item", event.changes)
        _check_item_id("a change to an item", event.item_id)
        if not isinstance(event.changes, dict):
            raise TurnFailed("the agent told a change to an item that is no object")
    elif isinstance(event, PromptRaised):
        _check_written("a prompt", {event.method: event.params})
        if not isinstance(event.params, dict):
            raise TurnFailed("the agent told a prompt whose params are no object")


def _check_written(what: str, told: Json) -> None:
    try:
        check_value(told)
    except TypeError as error:
        raise TurnFailed(f"the agent told {what} that cannot be written as JSON: {error}") from error


def _check_item_id(what: str, item_id: object) -> None:
    if not isinstance(item_id, str):
        raise TurnFailed(f"the agent told {what} for an id that is not a text")


def _check_item(item: Json) -> None:
    if not isinstance(item, dict):
        raise TurnFailed("the agent told an item that is no object")
    for name in ("type", "id"):
        if not isinstance(item.get(name), str) or not item[name]:
            raise TurnFailed(f"the agent told an item whose `{name}` is missing, empty or not a text")
    text = item_kind(item["type"]).text_member
    if text is not None and not isinstance(item.get(text), str | None):
        raise TurnFailed(f"the agent told an item whose `{text}` is not a text")
