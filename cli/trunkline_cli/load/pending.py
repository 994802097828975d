"""Requests that are not answered yet, and the kinds of errors they may be answered with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["OVERLOADED", "Pending", "error_kind"]

OVERLOADED = -32001
"""The error of a server that wants to be asked again later."""

# What differs from case to case in an error's text, and would make every error a kind of its own.
_PARTICULARS = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+")


class Pending(NamedTuple):
    """A request that is not answered yet."""

    method: str
    since: float
    """`time.monotonic()` when it was, or should have been, sent."""
    awaited: bool
    """The driver is told the answer."""
    expect_error: bool
    insists: bool
    """The driver asks again if the server is overloaded."""
    effect: Callable[[dict[str, Any]], None] | None
    """Called with the result, before anything that follows it is read."""


def error_kind(error: dict[str, Any]) -> str:
    """Return what an error has in common with others of its kind."""
    return f"{error.get('code')} {_PARTICULARS.sub('…', str(error.get('message')))[:120]}"
