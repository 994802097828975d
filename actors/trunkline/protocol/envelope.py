"""The envelope: JSON-RPC 2.0 shapes without the `jsonrpc` member, one message to a text.

Reads a text into one of four messages, tried in this order: request, notification, response, error.
Writes results, errors and notifications. What the params mean is not known here.
"""

from __future__ import annotations

import time
from typing import TypeAlias

import msgspec
import orjson

from trunkline.errors import RpcError
from trunkline.protocol import errors
from trunkline.protocol.values import fragment
from trunkline.types import Json, JsonObject, RequestId

__all__ = [
    "MAX_JSON_DEPTH",
    "Incoming",
    "IncomingNotification",
    "IncomingRequest",
    "IncomingResponse",
    "MalformedMessage",
    "compact",
    "encode_error",
    "encode_notification",
    "encode_result",
    "encode_server_request",
    "now_ms",
    "parse",
]


MAX_JSON_DEPTH = 128
"""Levels of arrays and objects in a message unless it is said otherwise: what the reference reads, too."""


class IncomingRequest(msgspec.Struct, frozen=True):
    """A request that is well formed; nothing is known of its method yet."""

    id: RequestId
    method: str
    params: Json


class IncomingNotification(msgspec.Struct, frozen=True):
    """A notification from the client."""

    method: str


class IncomingResponse(msgspec.Struct, frozen=True):
    """The client's answer to a prompt: a result, or an error."""

    id: RequestId | None
    """None for an error that answers something we sent and the client could not read."""
    result: Json
    failed: bool
    """Whether it is an error. Its content is the client's business and is not read."""


class MalformedMessage(Exception):  # not an error of ours
    """The text is not a message. `error` is the answer, under `id` if one could be read."""

    def __init__(self, error: RpcError, id: RequestId | None = None) -> None:  # noqa: A002
        super().__init__(error, id)
        self.error = error
        self.id = id


Incoming: TypeAlias = IncomingRequest | IncomingNotification | IncomingResponse
"""A message that was read."""


def parse(text: str | bytes, max_depth: int = MAX_JSON_DEPTH) -> Incoming:
    """Read one message.

    Unknown members are ignored at every level, a `jsonrpc` member among them.

    Args:
        text: the message.
        max_depth: levels of arrays and objects that it may have, itself included; at most 1,024, which is
            as deep as the reader goes.

    Raises:
        MalformedMessage: the text is not JSON (-32700), or JSON that is no message (-32600). A batch is
            none (the protocol has no batches), nor is a null id: JSON-RPC 2.0, 4 discourages it for
            requests, and 5 gives it to answers to what could not be read.

    """
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise MalformedMessage(errors.parse_error()) from None
    if type(message) is not dict:
        raise MalformedMessage(errors.invalid_request("Invalid request: a message is a JSON object"))
    # A level takes two characters: nearly every message is too short to be too deep.
    if len(text) > 2 * max_depth and _is_deeper(message, max_depth):
        raise MalformedMessage(
            errors.invalid_request(f"Invalid request: nested more than {max_depth} levels deep"),
            _readable_id(message),
        )
    if "method" in message:
        return _parse_call(message)
    if "id" in message and ("result" in message or "error" in message):
        return _parse_response(message)
    raise MalformedMessage(
        errors.invalid_request("Invalid request: neither a method nor an answer"), _readable_id(message)
    )


def _is_deeper(message: JsonObject, most: int) -> bool:
    level: list[Json] = [message]
    for _ in range(most):
        level = [
            value
            for parent in level
            for value in (parent.values() if type(parent) is dict else parent)
            if type(value) is dict or type(value) is list
        ]
        if not level:
            return False
    return True


def _parse_call(message: JsonObject) -> IncomingRequest | IncomingNotification:
    method = message["method"]
    if type(method) is not str:
        raise MalformedMessage(
            errors.invalid_request("Invalid request: `method` must be a string"), _readable_id(message)
        )
    if "id" not in message:
        return IncomingNotification(method)
    request_id = message["id"]
    if type(request_id) is not int and type(request_id) is not str:
        raise MalformedMessage(errors.invalid_request("Invalid request: `id` must be a string or an integer"))
    return IncomingRequest(request_id, method, message.get("params"))


def _parse_response(message: JsonObject) -> IncomingResponse:
    request_id = message["id"]
    failed = "result" not in message
    if type(request_id) is int or type(request_id) is str or (request_id is None and failed):
        return IncomingResponse(request_id, message.get("result"), failed)
    raise MalformedMessage(errors.invalid_request("Invalid request: `id` must be a string or an integer"))


def _readable_id(message: JsonObject) -> RequestId | None:
    request_id = message.get("id")
    return request_id if type(request_id) is int or type(request_id) is str else None


def encode_result(request_id: RequestId, result: Json) -> bytes:
    """Write the response to a request. `result` may hold `Encoded`s and `orjson.Fragment`s."""
    return orjson.dumps({"id": request_id, "result": result}, fragment)


def encode_error(request_id: RequestId | None, error: RpcError) -> bytes:
    """Write an error; under a null id if it answers a message whose id could not be read."""
    body: JsonObject = {"code": int(error.code), "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return orjson.dumps({"error": body, "id": request_id})


def encode_notification(method: str, params: Json, at_ms: int, seq: int | None = None) -> bytes:
    """Write a notification made at `at_ms` (Unix milliseconds), with its place in a thread if it has one."""
    message = {"method": method, "params": params, "emittedAtMs": at_ms}
    if seq is not None:
        message["seq"] = seq
    return compact(orjson.dumps(message, fragment))


def encode_server_request(request_id: int, method: str, params: Json, seq: int) -> bytes:
    """Write a prompt: a request of ours to clients."""
    return compact(orjson.dumps({"id": request_id, "method": method, "params": params, "seq": seq}, fragment))


def compact(data: bytes) -> bytes:
    """Return a copy for keeping: what orjson returns occupies the 4 KB it was written into, however short."""
    return b"%b" % data


def now_ms() -> int:
    """Return the time in Unix milliseconds."""
    return time.time_ns() // 1_000_000
