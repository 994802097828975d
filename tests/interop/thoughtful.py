"""An agent whose server tells a status that Codex has not: to see that this is found, wherever it runs."""

from __future__ import annotations

from trunkline.agents.script import ScriptAgent
from trunkline.local.conversation_engine import ConversationEngine
from trunkline.types import JsonObject


class Thoughtful(ScriptAgent):
    """The script agent; to load this module is to break the servers of the process."""


def _compute_status(_engine: ConversationEngine) -> JsonObject:
    return {"type": "thoughtful"}


ConversationEngine._compute_status = _compute_status  # type: ignore[method-assign, assignment]
