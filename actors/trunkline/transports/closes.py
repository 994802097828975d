"""Every close that the server begins: its code, and a reason that says whether to reconnect, and when.

A reason ends in `; reconnect now`, `; reconnect in N s` or `; do not reconnect`, with what to do first or
then behind it. docs/protocol.md has the table.
"""

from __future__ import annotations

from typing import NamedTuple

from trunkline.transports.base import CloseCode

__all__ = [
    "BUG",
    "MAX_REASON_BYTES",
    "NORMAL",
    "NOT_INITIALIZED",
    "RECONNECT_S",
    "SILENT",
    "STOPPING",
    "TOO_SLOW",
    "Ending",
    "advised",
]

RECONNECT_S = 5
"""Seconds after which a client should try again that was told to come back later."""


class Ending(NamedTuple):
    """How we close a connection."""

    code: CloseCode
    reason: str
    """At most 123 bytes of UTF-8."""


NORMAL = Ending(CloseCode.NORMAL, "")
"""The client has said goodbye."""

STOPPING = Ending(CloseCode.GOING_AWAY, f"server is stopping; reconnect in {RECONNECT_S} s and resume")
"""The server ends; whoever runs it is likely to start it again."""

BUG = Ending(CloseCode.INTERNAL_ERROR, "internal error; reconnect in 1 s and resume")
"""A bug of ours. Not at once: the same may happen again."""

TOO_SLOW = Ending(CloseCode.TRY_AGAIN_LATER, "too slow; reconnect now and resume")
"""What waited for the client was over a limit, or nothing of it was taken for too long."""

SILENT = Ending(CloseCode.TRY_AGAIN_LATER, "no answer to a ping; reconnect now and resume")
"""Nothing came from the client for too long: it is taken for dead."""

NOT_INITIALIZED = Ending(CloseCode.POLICY, "not initialized in time; reconnect now and send initialize first")
"""The client has opened a connection and not said who it is."""

_MENDED = "; do not reconnect before that is mended"
_ADVICE: dict[int, str] = {
    CloseCode.PROTOCOL_ERROR: _MENDED,
    CloseCode.INVALID_DATA: _MENDED,
    CloseCode.TOO_BIG: "; reconnect now, and do not send that again",
}

MAX_REASON_BYTES = 123
"""RFC 6455, 5.5: a control frame carries 125 bytes, two of which are the code."""


def advised(code: int, what: str) -> str:
    """Return the reason for closing because of what a client did: what that was, and whether to reconnect."""
    advice = _ADVICE.get(code, "")
    room = MAX_REASON_BYTES - len(advice.encode())
    return what.encode()[:room].decode(errors="ignore") + advice
