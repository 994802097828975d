"""The options of `trunkline serve` that are limits: one row each, for a field of `Limits`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import click

from trunkline.config import READABLE_DEPTH, Limits
from trunkline_cli.options import setting

__all__ = ["limit_settings", "take_limits"]

FC = TypeVar("FC", bound=Callable[..., Any])

_DEFAULTS = Limits()


class _Row(NamedTuple):
    option: str
    field: str
    unit: str
    """What a value of it is: the metavar."""
    help: str
    most: int | None = None
    """The largest value; None is any."""
    may_be_zero: bool = False


_ROWS = (
    _Row(
        "--max-connections",
        "max_connections",
        "COUNT",
        "Connections over sockets; whoever is one too many gets a 503.",
    ),
    _Row(
        "--max-connections-per-address",
        "max_connections_per_address",
        "COUNT",
        "Connections from one address elsewhere; those of this machine are not counted.",
    ),
    _Row(
        "--handshake-timeout", "handshake_timeout_s", "SECONDS", "When to give up on an HTTP request's head."
    ),
    _Row(
        "--initialize-timeout",
        "initialize_timeout_s",
        "SECONDS",
        "When to close a WebSocket whose client does not send `initialize`.",
    ),
    _Row(
        "--ping-interval",
        "ping_interval_s",
        "SECONDS",
        "When to ping a WebSocket from which nothing comes; 0 is never.",
        may_be_zero=True,
    ),
    _Row(
        "--ping-timeout",
        "ping_timeout_s",
        "SECONDS",
        "When to close one from which nothing comes after that.",
    ),
    _Row("--max-message-bytes", "max_message_bytes", "BYTES", "The longest message a client may send."),
    _Row(
        "--max-json-depth",
        "max_json_depth",
        "LEVELS",
        "Levels of arrays and objects that a message may have.",
        most=READABLE_DEPTH,
    ),
    _Row(
        "--max-requests",
        "max_requests_in_flight",
        "COUNT",
        "Requests of one connection that may be under way.",
    ),
    _Row(
        "--max-requests-in-all",
        "max_requests_in_all",
        "COUNT",
        "Requests of all connections that may be under way.",
    ),
    _Row(
        "--max-subscriptions",
        "max_subscriptions",
        "COUNT",
        "Threads that one connection may be subscribed to.",
    ),
    _Row("--max-threads", "max_threads", "COUNT", "Threads that may be loaded."),
    _Row(
        "--max-unsent-bytes",
        "max_unsent_bytes",
        "BYTES",
        "Answers and broadcasts that may wait for a client; it is warned at half of that.",
    ),
    _Row(
        "--stall-timeout",
        "stall_timeout_s",
        "SECONDS",
        "When to close a client that takes nothing of what it is sent; it is warned at half of that.",
    ),
    _Row(
        "--log-events",
        "log_events",
        "COUNT",
        "Events a thread keeps for clients that are behind or come back.",
    ),
    _Row("--log-bytes", "log_bytes", "BYTES", "Bytes of events a thread keeps for the same."),
    _Row(
        "--stored-event-bytes",
        "stored_event_bytes",
        "BYTES",
        "Bytes of events that stay in the store with a thread that is not loaded.",
    ),
)


def limit_settings(command: FC) -> FC:
    """Give a command the options."""
    for row in reversed(_ROWS):
        command = setting(
            row.option,
            row.field,
            metavar=row.unit,
            type=_type(row),
            default=getattr(_DEFAULTS, row.field),
            help=row.help,
        )(command)
    return command


def take_limits(settings: dict[str, Any]) -> Limits:
    """Make `Limits` of the settings that are theirs, and take those out."""
    names = {field.name for field in dataclasses.fields(Limits)}
    return Limits(**{name: settings.pop(name) for name in list(settings) if name in names})


def _type(row: _Row) -> click.FloatRange | click.IntRange:
    if row.unit == "SECONDS":
        return click.FloatRange(min=0, min_open=not row.may_be_zero)
    return click.IntRange(min=1, max=row.most)
