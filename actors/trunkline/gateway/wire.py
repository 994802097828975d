"""What the gateway has to read of the upstream's messages; everything else passes as it came."""

from __future__ import annotations

import msgspec
import orjson

from trunkline.errors import RpcError
from trunkline.protocol.errors import ErrorCode
from trunkline.types import Json, RequestId, ThreadId

__all__ = [
    "BROADCASTS",
    "Incoming",
    "encode_refusal",
    "encode_request",
    "encode_response",
    "read_line",
    "rpc_error",
    "thread_of",
]

BROADCASTS = frozenset(
    {
        "thread/started",
        "thread/status/changed",
        "thread/closed",
        "thread/archived",
        "thread/unarchived",
        "thread/deleted",
        "thread/reverted",
        "thread/name/updated",
        "thread/goal/updated",
        "thread/goal/cleared",
        "thread/section/changed",
    }
)
"""Notifications that name a thread and are for everybody."""

_NOTHING = msgspec.Raw(b"")


class Incoming(msgspec.Struct, frozen=True):
    """A message of the upstream. What it does not have is empty."""

    id: RequestId | None = None
    method: str = ""
    params: msgspec.Raw = _NOTHING
    result: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


class _Named(msgspec.Struct, frozen=True):
    id: str = ""


class _Place(msgspec.Struct, frozen=True, rename="camel"):
    thread_id: str | None = None
    thread: _Named | None = None


class _Error(msgspec.Struct, frozen=True):
    code: int = ErrorCode.INTERNAL_ERROR
    message: str = ""
    data: Json = None


_read_incoming = msgspec.json.Decoder(Incoming).decode
_read_place = msgspec.json.Decoder(_Place).decode
_read_error = msgspec.json.Decoder(_Error).decode


def read_line(line: bytes) -> Incoming | None:
    """Read one line of the upstream; None if it is no message."""
    try:
        return _read_incoming(line)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def thread_of(payload: msgspec.Raw | bytes) -> ThreadId | None:
    """Return the thread that params or a result name; None if they name none."""
    if not payload:
        return None
    try:
        place = _read_place(payload)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    name = place.thread_id or (None if place.thread is None else place.thread.id)
    return None if not name else ThreadId(name)


def rpc_error(payload: msgspec.Raw) -> RpcError:
    """Read an error."""
    try:
        error = _read_error(payload)
    except (msgspec.DecodeError, msgspec.ValidationError):
        error = _Error(message="the upstream's error could not be read")
    return RpcError(error.code, error.message, error.data)


def encode_request(request_id: int | None, method: str, params: Json) -> bytes:
    """Write a request, or a notification under no id, as a line. Params that are None are left out."""
    message: dict[str, Json] = {"method": method}
    if request_id is not None:
        message["id"] = request_id
    if params is not None:
        message["params"] = params
    return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)


def encode_response(request_id: RequestId, result: Json) -> bytes:
    """Write the answer to a request of the upstream, as a line."""
    return orjson.dumps({"id": request_id, "result": result}, option=orjson.OPT_APPEND_NEWLINE)


def encode_refusal(request_id: RequestId, message: str) -> bytes:
    """Write an error as the answer to a request of the upstream, as a line."""
    error = {"code": int(ErrorCode.INVALID_REQUEST), "message": message}
    return orjson.dumps({"id": request_id, "error": error}, option=orjson.OPT_APPEND_NEWLINE)
