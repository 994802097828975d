"""What hostile clients say: messages that are right, nearly right, or nothing at all."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import msgspec
from hypothesis import strategies as st

from trunkline.protocol.methods import METHODS

__all__ = ["SCRIPTS", "THREADS", "UNKNOWN", "answers", "damaged", "json_values", "mutated", "requests"]

Json: TypeAlias = Any

SCRIPTS = (
    *("text hello", "say 30 100", "ask ls", "question who?", "patch f", "fail on purpose", "sleep 0"),
    *("", "é\x00"),
)
"""What the script agent is told to do. It runs nothing and touches no file."""

UNKNOWN = "01900000-0000-7000-8000-000000000000"

THREADS = ("{thread 0}", "{thread 1}", "{thread 2}")
"""Places for ids. What is drawn must not depend on what a server has answered by then."""

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.integers(0, 5000).map("a".__mul__),
    st.sampled_from(["", "\u0000", "../../etc/passwd", UNKNOWN, "0", "-1", "null", "__class__"]),
)

json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)

_ODD_IDS = [2**53, -(2**63), 2**64 - 1, "", "0"]
ids = st.one_of(st.integers(0, 30), st.text(max_size=5), st.sampled_from(_ODD_IDS))

_PLAUSIBLE: dict[str, st.SearchStrategy[Json]] = {
    "turnId": st.sampled_from([UNKNOWN, "", "current"]),
    "expectedTurnId": st.sampled_from([UNKNOWN, "current"]),
    "beforeTurnId": st.sampled_from([UNKNOWN, "current"]),
    "lastTurnId": st.sampled_from([UNKNOWN, "current"]),
    "input": st.lists(st.sampled_from(SCRIPTS).map(lambda text: {"type": "text", "text": text}), max_size=3),
    "name": st.text(max_size=30),
    "limit": st.integers(0, 200),
    "afterSeq": st.integers(0, 40),
    "cursor": st.text(max_size=30),
    "approvalPolicy": st.sampled_from(["untrusted", "on-request", "never"]),
    "clientInfo": st.just({"name": "hostile", "version": "1"}),
    "capabilities": st.sampled_from([{"experimentalApi": True}, {"optOutNotificationMethods": ["warning"]}]),
    "ephemeral": st.booleans(),
    "includeTurns": st.booleans(),
    "excludeTurns": st.booleans(),
    "sortDirection": st.sampled_from(["asc", "desc"]),
    "archived": st.booleans(),
}


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Json]:
    """Draw a request whose params nearly always fit. Its threads are of `THREADS`: places for real ones."""
    method = METHODS[draw(st.sampled_from(sorted(METHODS)))]
    params: dict[str, Json] = {}
    for field in msgspec.structs.fields(method.params):
        if field.required or draw(st.integers(0, 3)) == 0:
            if field.encode_name == "threadId":
                plausible = st.sampled_from([*THREADS, UNKNOWN])
            else:
                plausible = _PLAUSIBLE.get(field.encode_name, json_values)
            params[field.encode_name] = draw(json_values if draw(st.integers(0, 15)) == 0 else plausible)
    return {"id": draw(ids), "method": method.name, "params": params}


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Json]:
    """Draw what might be the answer to a prompt."""
    decisions = [{"decision": word} for word in ("accept", "acceptForSession", "decline", "cancel", "maybe")]
    result = st.one_of(st.sampled_from([*decisions, {"answers": {}}, {}]), json_values)
    kind = draw(st.sampled_from(["result", "result", "error", "both"]))
    message: dict[str, Json] = {"id": draw(st.one_of(st.integers(0, 30), ids))}
    if kind != "error":
        message["result"] = draw(result)
    if kind != "result":
        message["error"] = draw(json_values)
    return message


@st.composite
def mutated(draw: st.DrawFn, messages: st.SearchStrategy[Json]) -> Json:
    """Draw a message with one or a few members left out, doubled, or replaced by anything."""
    message = draw(messages)
    for _ in range(draw(st.integers(1, 3))):
        message = _mutate(draw, message)
    return message


def _mutate(draw: st.DrawFn, value: Json) -> Json:
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        rest = {name: member for name, member in value.items() if name != key}
        match draw(st.sampled_from(["inside", "inside", "drop", "rename", "replace"])):
            case "inside":
                return {**rest, key: _mutate(draw, value[key])}
            case "drop":
                return rest
            case "rename":
                return {**rest, draw(st.text(max_size=6)): value[key]}
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _mutate(draw, value[at]), *value[at:]]
    if draw(st.integers(0, 9)) == 0:
        depth = draw(st.sampled_from([50, 300, 2000]))
        return json.loads("[" * depth + "]" * depth) if depth < 500 else "[" * depth
    return draw(json_values)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw what a line that loses, repeats and flips bits makes of bytes."""
    damaged = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(damaged) - 1, 0)))
        match draw(st.sampled_from(["flip", "drop", "insert", "cut", "repeat"])):
            case "flip" if damaged:
                damaged[at] ^= 1 << draw(st.integers(0, 7))
            case "drop":
                del damaged[at : at + draw(st.integers(1, 8))]
            case "insert":
                damaged[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del damaged[at:]
            case _:
                damaged[at:at] = damaged[at : at + 16]
    return bytes(damaged)
