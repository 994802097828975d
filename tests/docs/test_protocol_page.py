"""docs/protocol.md says what the server does: its sessions are played, its names and numbers compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from helpers import Client
from houses import running_server
from trunkline import Config, Limits
from trunkline.protocol.errors import MAX_INPUT_CHARS
from trunkline.protocol.items import KEPT_OUTPUT_CHARS, KEPT_TEXT_CHARS
from trunkline.protocol.methods import METHODS
from trunkline.transports import closes
from trunkline.transports.base import CloseCode
from trunkline.transports.closes import MAX_REASON_BYTES

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
SESSIONS = re.findall(r"^```session\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
MIB = 1024 * 1024

ANY = "…"

Names = dict[str, Any]
"""What the `$names` of a session stand for."""


def _filled_in(written: Any, names: Names) -> Any:
    """Return `written` with the values of its names."""
    if isinstance(written, dict):
        return {key: _filled_in(value, names) for key, value in written.items()}
    if isinstance(written, list):
        return [_filled_in(value, names) for value in written]
    return names[written] if isinstance(written, str) and written.startswith("$") else written


def _misfits(written: Any, came: Any, names: Names, place: str = "") -> Iterator[str]:
    """Yield where a message is not what is written; a name that is new takes the value it meets."""
    if isinstance(written, str) and written.startswith("$"):
        written = names.setdefault(written, came)
    if written == ANY:
        return
    if isinstance(written, dict) and isinstance(came, dict):
        for key, value in written.items():
            if key in came:
                yield from _misfits(value, came[key], names, f"{place}.{key}")
            else:
                yield f"{place}.{key} is missing"
    elif isinstance(written, list) and isinstance(came, list) and len(written) == len(came):
        for index, value in enumerate(written):
            yield from _misfits(value, came[index], names, f"{place}[{index}]")
    elif written != came or type(written) is not type(came):
        yield f"{place} is {came!r} and not {written!r}"


@pytest.mark.parametrize("session", SESSIONS, ids=range(len(SESSIONS)))
def test_a_session_of_the_page_goes_as_it_is_written(session: str) -> None:
    clients: dict[str, Client] = {}
    names: Names = {}
    with ExitStack() as stack:
        house = stack.enter_context(running_server())
        for line in filter(None, session.split("\n")):
            who, what, *rest = line.split(" ", 2)
            if who not in clients:
                clients[who] = house.open(who)
            if what == "closes":
                clients[who].close()
            elif what == "->":
                clients[who].send(_filled_in(json.loads(rest[0]), names))
            else:
                came = clients[who].wait_for(lambda _: True, line)
                assert not list(_misfits(json.loads(rest[0]), came, names)), line


def test_the_page_has_sessions() -> None:
    assert len(SESSIONS) == 2


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_on_the_page(method: str) -> None:
    assert f"`{method}`" in PAGE


def test_the_scope_of_every_method_is_on_the_page() -> None:
    rows = {
        scope: set(re.findall(r"`(\w+/[\w/]+)`", line))
        for scope, line in re.findall(r"^\| `(attach|drive|admin)` \| (.*)$", PAGE, re.MULTILINE)
    }
    assert rows.keys() == {"attach", "drive", "admin"}

    for method in METHODS.values():
        scope = next((scope for scope, names in rows.items() if method.name in names), "attach")
        assert method.name == "initialize" or method.scope.value == scope, method.name


def test_every_close_code_that_the_server_begins_is_on_the_page() -> None:
    echoed_or_never_sent = {CloseCode.NORMAL, CloseCode.NO_STATUS}
    table = PAGE.partition("## How a connection ends")[2]

    for code in set(CloseCode) - echoed_or_never_sent:
        assert str(int(code)) in table, code


ENDINGS = [ending for ending in vars(closes).values() if isinstance(ending, closes.Ending)]


@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if ending.code is not CloseCode.NORMAL])
def test_every_reason_says_when_to_reconnect_and_is_on_the_page(ending: closes.Ending) -> None:
    assert re.search("; (reconnect now|reconnect in [0-9]+ s|do not reconnect)( |$)", ending.reason)
    assert len(ending.reason.encode()) <= MAX_REASON_BYTES
    assert f"| {int(ending.code)} | `{ending.reason}` |" in PAGE


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    limits = Limits()

    assert f"{limits.max_message_bytes // MIB} MiB | WebSocket: closed with 1009" in PAGE
    assert f"requests in flight of one connection | {limits.max_requests_in_flight} |" in PAGE
    assert f"over sockets | {limits.max_connections:,} (" in PAGE
    assert f"address elsewhere | {limits.max_connections_per_address:,} (" in PAGE
    assert f"requests in flight of all | {limits.max_requests_in_all:,} |" in PAGE
    assert f"levels of JSON in a message | {limits.max_json_depth} |" in PAGE
    assert f"subscriptions of one connection | {limits.max_subscriptions:,} |" in PAGE
    assert f"threads loaded | {limits.max_threads:,} |" in PAGE
    assert f"on a WebSocket | {limits.initialize_timeout_s:g} seconds |" in PAGE
    silence = f"{limits.ping_interval_s:g} seconds, then a ping and {limits.ping_timeout_s:g} more"
    assert f"time without a sign of life | {silence} |" in PAGE
    assert f"newest {limits.log_events:,} events or {limits.log_bytes // MIB} MiB" in PAGE
    assert f"newest items, {limits.snapshot_bytes // MIB} MiB of them" in PAGE
    assert f"for {limits.stall_timeout_s:g} seconds (`--stall-timeout`)" in PAGE
    assert f"More than {limits.max_unsent_bytes // MIB} MiB of unsent" in PAGE
    assert f"agent has {Config().interrupt_grace_s:g} seconds to return" in PAGE
    assert f"input of a turn | {MAX_INPUT_CHARS:,} characters" in PAGE
    kept = (
        f"{KEPT_TEXT_CHARS // MIB} Mi characters of a message, {KEPT_OUTPUT_CHARS // MIB} Mi of a command's"
    )
    assert kept in PAGE
