"""Prompts that nobody answers: a refusal, never an approval, and the record says so."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from conftest import Serve
from helpers import Client, Message

LATE = "nobody answered within 0.05 s"
ALONE = "nobody is attached"


def completed_item(client: Client, kind: str) -> Message:
    message = client.wait_for(
        lambda message: (
            message.get("method") == "item/completed" and message["params"]["item"]["type"] == kind
        )
    )
    item: Message = message["params"]["item"]
    return item


@pytest.mark.parametrize(("line", "kind"), [("ask rm x", "commandExecution"), ("patch f", "fileChange")])
def test_an_approval_that_nobody_gives_in_time_is_a_refusal(serve: Serve, line: str, kind: str) -> None:
    alice = serve(prompt_timeout_s=0.05).connect("alice")
    thread_id = alice.start_thread()

    turn = alice.run_turn(thread_id, line)

    assert turn["status"] == "completed"
    item = completed_item(alice, kind)
    assert (item["status"], item["refusalReason"]) == ("declined", LATE)
    assert alice.wait("serverRequest/resolved")["params"]["reason"] == LATE


def test_the_shell_does_not_run_what_nobody_approved_in_time(serve: Serve, tmp_path: Any) -> None:
    alice = serve(agent="shell", prompt_timeout_s=0.05).connect("alice")
    thread_id = alice.start_thread(cwd=str(tmp_path))
    alice.run_turn(thread_id, "touch made")
    assert completed_item(alice, "commandExecution")["status"] == "declined"
    assert list(tmp_path.iterdir()) == []


def test_a_question_that_nobody_answers_in_time_has_no_answer(serve: Serve) -> None:
    alice = serve(prompt_timeout_s=0.05).connect("alice")
    alice.run_turn(alice.start_thread(), "question who?")
    assert completed_item(alice, "agentMessage")["text"] == "no answer"


def test_the_record_of_a_refusal_outlives_the_thread(serve: Serve) -> None:
    alice = serve(prompt_timeout_s=0.05, unload_after_s=0.0).connect("alice")
    thread_id = alice.start_thread()
    alice.run_turn(thread_id, "ask rm x")
    alice.request("thread/unsubscribe", threadId=thread_id)
    alice.wait("thread/closed")
    items = alice.resume(thread_id)["turns"][0]["items"]
    assert [item.get("refusalReason") for item in items] == [None, LATE]


def test_an_answer_in_time_keeps_the_deadline_away_from_the_next_prompt(serve: Serve) -> None:
    alice = serve(prompt_timeout_s=1000.0).connect("alice")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "ask ls")
    alice.decide(alice.wait("item/commandExecution/requestApproval"))
    alice.wait_turn(turn_id)
    assert completed_item(alice, "commandExecution")["status"] == "completed"
    assert "reason" not in alice.wait("serverRequest/resolved")["params"]


def test_a_prompt_with_nobody_attached_waits_by_default(serve: Serve) -> None:
    house = serve()
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    alice.request("thread/unsubscribe", threadId=thread_id)
    alice.start_turn(thread_id, "ask ls")
    alice.wait("thread/status/changed", status={"type": "active", "activeFlags": ["waitingOnApproval"]})
    bob.resume(thread_id)
    bob.decide(bob.wait("item/commandExecution/requestApproval"))
    assert completed_item(bob, "commandExecution")["status"] == "completed"


def test_a_prompt_with_nobody_attached_is_refused_at_once_if_so_configured(serve: Serve) -> None:
    alice = serve(prompt_without_subscriber="refuse").connect("alice")
    thread_id = alice.start_thread()
    alice.request("thread/unsubscribe", threadId=thread_id)
    alice.start_turn(thread_id, "ask ls")
    alice.wait("thread/status/changed", status={"type": "active", "activeFlags": []})
    alice.wait("thread/status/changed", status={"type": "idle"})
    items = alice.resume(thread_id)["turns"][0]["items"]
    assert (items[1]["status"], items[1]["refusalReason"]) == ("declined", ALONE)


def test_a_prompt_is_refused_when_the_last_one_leaves_if_so_configured(serve: Serve) -> None:
    house = serve(prompt_without_subscriber="refuse")
    alice, bob, carol = house.connect("alice"), house.connect("bob"), house.connect("carol")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    alice.start_turn(thread_id, "ask ls")
    alice.wait("item/commandExecution/requestApproval")
    house.lose(alice)
    assert carol.request("thread/read", threadId=thread_id)["thread"]["status"]["type"] == "active"
    house.lose(bob)
    carol.wait("thread/status/changed", status={"type": "idle"})
    items = carol.resume(thread_id)["turns"][0]["items"]
    assert (items[1]["status"], items[1]["refusalReason"]) == ("declined", ALONE)


def test_every_answer_is_logged_with_who_gave_it(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="trunkline.prompts")
    house = serve()
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "ask ls")
    prompt = alice.wait("item/commandExecution/requestApproval")
    alice.decide(prompt, "decline")
    alice.wait_turn(turn_id)
    record = next(record for record in caplog.records if "has answered" in record.getMessage())
    fields = vars(record)
    assert fields["threadId"] == thread_id
    assert fields["promptId"] == prompt["id"]
    assert fields["decision"] == "decline"
    assert fields["who"].startswith("ws 127.0.0.1:")


def test_the_answer_to_a_question_is_not_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="trunkline")
    alice = serve().connect("alice")
    turn_id = alice.start_turn(alice.start_thread(), "question password?")
    prompt = alice.wait("item/tool/requestUserInput")
    alice.answer(prompt["id"], {"answers": {"answer": {"answers": ["hunter2"]}}})
    alice.wait_turn(turn_id)
    assert any("has answered" in record.getMessage() for record in caplog.records)
    assert "hunter2" not in caplog.text
    assert not any("hunter2" in str(vars(record)) for record in caplog.records)


def test_a_refusal_by_the_server_is_logged_as_one(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="trunkline.prompts")
    alice = serve(prompt_timeout_s=0.05).connect("alice")
    alice.run_turn(alice.start_thread(), "ask ls")
    record = next(record for record in caplog.records if LATE in record.getMessage())
    assert (vars(record)["who"], vars(record)["decision"]) == ("server", "refused")
