"""The shape of a message: what is left of it when all is made alike that no model looks at.

Much of the traffic differs in nothing but ids, texts and times. Two messages of one shape are both readable
or both not, so that one of them has to be validated. That is so because of three things, the second of which
a test proves by the models themselves:

- A shape is the whole message, in JSON, with its members in their order. Nothing is left out of it but the
  values of the members below, and each is replaced by one of its own JSON type.
- Whatever model has a member of such a name takes any string there, or none at all; any integer from 0
  on, or none at all. There is no model whose maps, the names of whose members are anybody's, do otherwise.
- Only messages about threads, turns and items, and errors, have a shape: no others come in such numbers. All
  others are validated one by one.
"""

from __future__ import annotations

from typing import Any

import orjson

__all__ = ["NUMBERS", "STRINGS", "SUBJECTS", "shape_of"]

SUBJECTS = frozenset({"thread", "turn", "item"})
"""The first parts of the methods whose messages have shapes."""

STRINGS = frozenset(
    {
        *("id", "threadId", "turnId", "itemId", "rootTurnId", "sessionId", "forkedFromId", "parentThreadId"),
        *("clientId", "clientUserMessageId", "text", "delta", "preview", "name", "threadName", "title"),
        *("command", "aggregatedOutput", "message", "question", "query", "diff", "cwd", "path", "cliVersion"),
        *("model", "modelProvider", "nextCursor", "backwardsCursor", "turnsBackwardsCursor"),
        *("itemsBackwardsCursor",),
    }
)
"""Members of which no model says more than that they are strings."""

NUMBERS = frozenset(
    {
        *(
            "id",
            "requestId",
            "seq",
            "emittedAtMs",
            "startedAtMs",
            "completedAtMs",
            "startedAt",
            "completedAt",
        ),
        *("createdAt", "updatedAt", "recencyAt", "durationMs", "exitCode"),
    }
)
"""Members of which no model says more than that they are integers, or that they are not negative."""


def shape_of(message: Any) -> bytes:
    """Return the shape of a message, which is changed by that."""
    _blank(message)
    return orjson.dumps(message)


def _blank(value: Any) -> None:
    if type(value) is dict:
        for name, member in value.items():
            kind = type(member)
            if kind is str:
                if name in STRINGS:
                    value[name] = ""
            elif kind is int:
                if member >= 0 and name in NUMBERS:
                    value[name] = 0
            elif kind is dict or kind is list:
                _blank(member)
    else:
        for member in value:
            if type(member) is dict or type(member) is list:
                _blank(member)
