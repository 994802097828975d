"""The errors of the wire: codes, and one function for each that is answered in more than one place.

The texts are those of the reference server where clients match on them.
"""

from __future__ import annotations

from enum import IntEnum

from trunkline.errors import RpcError
from trunkline.types import JsonObject

__all__ = [
    "MAX_INPUT_CHARS",
    "ErrorCode",
    "active_writer",
    "archived",
    "draining",
    "forbidden",
    "input_too_long",
    "internal",
    "invalid_params",
    "invalid_request",
    "method_not_found",
    "needs_experimental",
    "no_rollout",
    "not_archived",
    "not_kept",
    "overloaded",
    "parse_error",
    "thread_closing",
    "thread_not_found",
    "thread_not_loaded",
    "too_many_subscriptions",
    "too_many_threads",
]

MAX_INPUT_CHARS = 1_048_576
"""Characters that the text inputs of one turn/start or turn/steer may have together."""


class ErrorCode(IntEnum):
    """JSON-RPC 2.0, 5.1, and one of our own."""

    PARSE_ERROR = -32700
    """The message is not JSON."""
    INVALID_REQUEST = -32600
    """JSON that is no message; or a request that the state does not allow, or names something unknown."""
    METHOD_NOT_FOUND = -32601
    """No such method."""
    INVALID_PARAMS = -32602
    """The params do not fit the method."""
    INTERNAL_ERROR = -32603
    """A failure on our side; details are in the server's log only."""
    OVERLOADED = -32001
    """Too much is under way; the request was not executed and may be sent again later."""


def parse_error() -> RpcError:
    """The message is not JSON."""
    return RpcError(ErrorCode.PARSE_ERROR, "Parse error: the message is not valid JSON")


def invalid_request(message: str, data: JsonObject | None = None) -> RpcError:
    """Refuse what a client may not do now, or a thing that is not there."""
    return RpcError(ErrorCode.INVALID_REQUEST, message, data)


def method_not_found(method: str) -> RpcError:
    """No such method. A long name is cut, as it is a stranger's text."""
    return RpcError(ErrorCode.METHOD_NOT_FOUND, f"Method not found: `{method[:128]}`")


def invalid_params(reason: str) -> RpcError:
    """The params do not fit; `reason` names the member."""
    return RpcError(ErrorCode.INVALID_PARAMS, f"Invalid params: {reason}")


def input_too_long(chars: int) -> RpcError:
    """The input of a turn is over the limit."""
    return RpcError(
        ErrorCode.INVALID_PARAMS,
        f"Input exceeds the maximum length of {MAX_INPUT_CHARS} characters.",
        {"input_error_code": "input_too_large", "max_chars": MAX_INPUT_CHARS, "actual_chars": chars},
    )


def internal() -> RpcError:
    """A bug of ours: what happened is in the log."""
    return RpcError(ErrorCode.INTERNAL_ERROR, "Internal error")


def not_kept(reason: str) -> RpcError:
    """The thread cannot be written to the store, so it has ended; what was kept can be resumed."""
    return RpcError(ErrorCode.INTERNAL_ERROR, f"the thread cannot be stored: {reason}")


def overloaded() -> RpcError:
    """Too many requests in flight. The data is what the Python SDK recognizes as worth a retry."""
    return RpcError(
        ErrorCode.OVERLOADED, "Server overloaded; retry later.", {"codexErrorInfo": "server_overloaded"}
    )


def forbidden(scope: str) -> RpcError:
    """The credential with which the client came in does not allow it."""
    return invalid_request(f"this connection lacks the scope `{scope}`", {"missingScope": scope})


def too_many_threads(most: int) -> RpcError:
    """As many threads are loaded as may be. To be tried again later, as `overloaded`."""
    return RpcError(
        ErrorCode.OVERLOADED,
        f"Server overloaded: {most} threads are loaded; retry later.",
        {"codexErrorInfo": "server_overloaded"},
    )


def too_many_subscriptions(most: int) -> RpcError:
    """The connection is subscribed to as many threads as one may be."""
    return invalid_request(
        f"this connection is subscribed to {most} threads, the most it may be; unsubscribe from one first",
        {"reason": "tooManySubscriptions", "limit": most},
    )


def needs_experimental(descriptor: str) -> RpcError:
    """The method, field or variant needs a capability the client did not ask for."""
    return invalid_request(f"{descriptor} requires experimentalApi capability")


def draining() -> RpcError:
    """The server finishes what runs and takes nothing new."""
    return invalid_request("Server is draining; retry after reconnecting", {"reason": "serverShuttingDown"})


def thread_not_found(thread_id: str) -> RpcError:
    """The thread is not loaded, and the method needs that."""
    return invalid_request(f"thread not found: {thread_id}")


def thread_not_loaded(thread_id: str) -> RpcError:
    """The thread is neither loaded nor stored."""
    return invalid_request(f"thread not loaded: {thread_id}")


def no_rollout(thread_id: str) -> RpcError:
    """The thread is not stored."""
    return invalid_request(f"no rollout found for thread id {thread_id}")


def archived(thread_id: str) -> RpcError:
    """The thread is archived."""
    return invalid_request(
        f"session {thread_id} is archived. Run `codex unarchive {thread_id}` to unarchive it first."
    )


def not_archived(thread_id: str) -> RpcError:
    """The thread is not in the archive."""
    return invalid_request(f"no archived rollout found for thread id {thread_id}")


def active_writer(thread_id: str) -> RpcError:
    """The thread is loaded, here or in another process."""
    return invalid_request(f"thread {thread_id} already has an active writer")


def thread_closing(thread_id: str) -> RpcError:
    """The thread went away while the request was on its way to it."""
    return invalid_request(f"thread {thread_id} is closing; retry thread/resume after the thread is closed")
