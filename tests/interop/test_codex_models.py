"""The check that everything passes which the clients of the tests receive."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import codex_models
from codex_models import check_message
from conftest import Serve
from gateway.upstreams import FAKE
from helpers import Client, Message
from trunkline.local.conversation_engine import ConversationEngine

pytestmark = pytest.mark.skipif(
    not codex_models.are_installed(), reason="needs the packages of the extra: pip install '.[interop]'"
)

AT = {"emittedAtMs": 1}
IDS = {"threadId": "t", "turnId": "u"}
MESSAGE_ITEM = {"type": "agentMessage", "id": "i", "text": "hello"}


def notification(method: str, **params: object) -> Message:
    return {"method": method, "params": params, **AT}


def prompt(method: str, **params: object) -> Message:
    return {"id": 0, "method": method, "params": params}


FITTING = [
    (notification("item/completed", **IDS, completedAtMs=1, item=MESSAGE_ITEM), ""),
    (prompt("item/fileChange/requestApproval", **IDS, itemId="i", startedAtMs=1), ""),
    ({"id": 1, "result": {"status": "unsubscribed"}}, "thread/unsubscribe"),
    ({"id": 1, "result": {"data": []}}, "collaborationMode/list"),
    ({"id": 1, "error": {"code": -32600, "message": "no"}}, "thread/read"),
]

BROKEN = [
    (notification("item/completed", **IDS, item=MESSAGE_ITEM), ""),
    (notification("item/forgotten", **IDS), ""),
    ({"method": "thread/closed", "params": {"threadId": 5}, **AT}, ""),
    (prompt("item/fileChange/requestApproval", **IDS, itemId="i"), ""),
    (prompt("item/lookTheOtherWay", **IDS), ""),
    ({"id": 1, "result": {"status": "gone"}}, "thread/unsubscribe"),
    ({"id": 1, "result": {"data": None}}, "collaborationMode/list"),
    ({"id": 1, "error": {"code": "-32600", "message": "no"}}, "thread/read"),
]


def what(case: object) -> str | None:
    return str(case.get("method", "answer")) if isinstance(case, dict) else None


@pytest.mark.parametrize(("message", "method"), FITTING, ids=what)
def test_a_message_that_codex_reads_passes(message: Message, method: str) -> None:
    check_message(message, [method] if method else [])


@pytest.mark.parametrize(("message", "method"), BROKEN, ids=what)
def test_a_message_that_codex_cannot_read_does_not_pass(message: Message, method: str) -> None:
    with pytest.raises(AssertionError, match=r"Codex|no notification"):
        check_message(message, [method] if method else [])


def test_a_notification_without_its_time_does_not_pass() -> None:
    message = notification("thread/closed", threadId="t")
    del message["emittedAtMs"]

    with pytest.raises(AssertionError, match="no time of emission"):
        check_message(message)


def test_an_answer_passes_if_it_fits_one_of_the_requests_of_its_id() -> None:
    answer = {"id": 1, "result": {"status": "unsubscribed"}}

    check_message(answer, ["thread/list", "thread/unsubscribe"])
    with pytest.raises(AssertionError):
        check_message(answer, ["thread/list"])


def test_whatever_a_client_of_the_tests_receives_is_checked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[tuple[str, tuple[str, ...]]] = []
    assert Client.watch is check_message

    def watch(message: Message, answers: Any) -> None:
        checked.append((message.get("method", ""), tuple(answers)))

    monkeypatch.setattr(Client, "watch", staticmethod(watch))
    alice = serve().connect()
    alice.run_turn(alice.start_thread(), "text hello")

    assert ("", ("initialize",)) in checked
    assert ("", ("turn/start",)) in checked
    assert ("item/completed", ()) in checked


def test_a_server_that_sends_what_codex_cannot_read_fails_the_test(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = serve().connect()
    monkeypatch.setattr(ConversationEngine, "_compute_status", lambda _: {"type": "thoughtful"})

    with pytest.raises(AssertionError, match=r"^Codex cannot read .*thoughtful"):
        alice.run_turn(alice.start_thread(), "text hello")


def test_so_does_an_upstream_behind_the_gateway(serve: Serve, tmp_path: Path) -> None:
    alice = serve(upstream=(sys.executable, str(FAKE), str(tmp_path))).connect()

    # Sent past the client's own account: the answer, which may come first, has no model either.
    alice.send_text('{"id":"s","method":"spoil"}')

    with pytest.raises(AssertionError, match=r"^Codex cannot read .*thread/closed"):
        alice.wait("thread/closed")
