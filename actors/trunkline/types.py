"""Names for the values that travel everywhere: ids, times, JSON."""

from __future__ import annotations

from typing import Any, NewType, TypeAlias

__all__ = ["Buffer", "ConnectionId", "Json", "JsonObject", "RequestId", "ThreadId", "TurnId"]

Buffer: TypeAlias = bytes | bytearray
"""Bytes on their way out, which nobody changes: a `bytearray` where `bytes` would be one more copy."""

ConnectionId = NewType("ConnectionId", int)
"""One client's transport connection. Counted from 1 in the process, never reused."""

ThreadId = NewType("ThreadId", str)
"""A conversation: a lower-case UUIDv7."""

TurnId = NewType("TurnId", str)
"""A turn of a thread: a lower-case UUIDv7."""

RequestId: TypeAlias = int | str
"""The id of a JSON-RPC request, given back exactly as it came: `5` and `"5"` are two ids."""

Json: TypeAlias = Any
"""A value as `orjson` reads it. The one place where `Any` stands for "JSON"."""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object."""
