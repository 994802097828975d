"""What an agent tells is looked at before its thread is told, which would fail over it for everybody."""

from __future__ import annotations

from trunkline.agents.events import ItemCompleted, ItemDelta, ItemStarted, PromptRaised, TurnEvent
from trunkline.errors import TurnFailed
from trunkline.protocol.values import check_value
from trunkline.types import Json

__all__ = ["check_event"]


def check_event(event: TurnEvent) -> None:
    """See that an event can be written. On the agent's thread.

    Raises:
        TurnFailed: it cannot. The text says why.

    """
    if isinstance(event, ItemDelta):
        _check_written("a delta", event.joined)
    elif isinstance(event, ItemStarted):
        _check_written("an item", event.item)
    elif isinstance(event, ItemCompleted):
        _check_written("a change to an item", event.changes)
    elif isinstance(event, PromptRaised):
        _check_written("a prompt", {event.method: event.params})


def _check_written(what: str, told: Json) -> None:
    try:
        check_value(told)
    except TypeError as error:
        raise TurnFailed(f"the agent told {what} that cannot be written as JSON: {error}") from error
