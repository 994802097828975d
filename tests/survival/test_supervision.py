"""What goes wrong in one place stays there: a bug in an actor, and agents that behave badly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Serve
from helpers import Client
from houses import LocalHouse, Puppets
from trunkline import Agent, Limits, Turn, TurnFailed
from trunkline.connection import Connection
from trunkline.local.catalog import LocalCatalog
from trunkline.local.engine import LocalEngine
from trunkline.testing import ManualClock
from trunkline.transports.closes import BUG
from trunkline.turns import TurnClock
from wires import PATIENCE_S


class Bug(Exception):
    """What a handler raises in these tests."""


Raiser = Callable[..., None]


def raiser(error: BaseException) -> Raiser:
    def raise_it(*_: Any, **__: Any) -> None:
        raise error

    return raise_it


def is_well(client: Client, text: str = "text hello") -> None:
    """See that a client can do all that it could before."""
    thread_id = client.start_thread()
    assert client.run_turn(thread_id, text)["status"] == "completed"


ERRORS = pytest.mark.parametrize("error", [Bug(), SystemExit(3)], ids=["exception", "SystemExit"])


@ERRORS
def test_a_bug_in_a_connection_closes_that_connection_and_no_other(
    house: LocalHouse, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    monkeypatch.setattr(Connection, "_on_notification", raiser(error))

    alice.send({"method": "anything"})

    assert tuple(alice.wait_closed()) == BUG
    assert bob.request("thread/read", threadId=thread_id)["thread"]["subscriberCount"] == 1
    assert bob.run_turn(thread_id, "text hello")["status"] == "completed"


def test_a_bug_at_the_start_of_a_connection_closes_it(
    house: LocalHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = house.connect("bob")
    with monkeypatch.context() as patch:
        patch.setattr("trunkline.connection.ConnectionOpened", raiser(Bug()))
        assert house.open("alice").wait_closed().code == 1011
    is_well(bob)


@ERRORS
def test_a_bug_in_a_thread_fails_that_thread_and_everybody_is_told(
    house: LocalHouse, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id, other_id = alice.start_thread(), alice.start_thread()
    alice.run_turn(thread_id, "text kept")
    bob.drain()
    monkeypatch.setitem(LocalEngine._answers, "thread/items/list", raiser(error))

    refusal = alice.refused("thread/items/list", threadId=thread_id)

    assert refusal == {"code": -32603, "message": "Internal error"}
    for client in (alice, bob):
        client.wait("thread/status/changed", threadId=thread_id, status={"type": "systemError"})
        client.wait("thread/closed", threadId=thread_id)
    assert alice.run_turn(other_id, "text hello")["status"] == "completed"


def test_a_thread_that_failed_is_resumed_from_the_store(
    house: LocalHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    alice.run_turn(thread_id, "text kept")
    turn_id = alice.start_turn(thread_id, "steered")
    with monkeypatch.context() as patch:
        patch.setitem(LocalEngine._answers, "thread/items/list", raiser(Bug()))
        alice.refused("thread/items/list", threadId=thread_id)
        alice.wait("thread/closed", threadId=thread_id)

    turns = alice.resume(thread_id)["turns"]

    assert [turn["status"] for turn in turns] == ["completed", "interrupted"]
    assert turns[0]["items"][-1]["text"] == "kept"
    assert turns[1]["id"] == turn_id
    assert alice.run_turn(thread_id, "text again")["status"] == "completed"


def test_a_bug_at_the_start_of_a_thread_fails_that_thread(
    house: LocalHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = house.connect("alice")
    with monkeypatch.context() as patch:
        patch.setattr("trunkline.local.conversation_engine.ConversationEngine.publish_status", raiser(Bug()))
        refusal = alice.refused("thread/start")
    assert "is closing" in refusal["message"]
    assert alice.request("thread/loaded/list")["data"] == []
    is_well(alice)


@ERRORS
def test_a_bug_in_the_router_is_logged_and_the_router_goes_on(
    house: LocalHouse,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    alice = house.connect("alice")
    with monkeypatch.context() as patch:
        patch.setitem(LocalCatalog._answers, "thread/loaded/list", raiser(error))
        assert alice.refused("thread/loaded/list") == {"code": -32603, "message": "Internal error"}
    is_well(alice)
    assert any(record.exc_info for record in caplog.records if record.name == "trunkline.router")


# Agents


def test_an_agent_that_raises_fails_its_turn_without_a_traceback_on_the_wire(
    stage: LocalHouse, puppets: Puppets
) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id, other_id = alice.start_thread(), bob.start_thread()
    turn_id = alice.start_turn(thread_id, "")
    play = puppets.next()
    other_turn = bob.start_turn(other_id, "")
    other_play = puppets.next()
    play.do(raiser(Bug("a secret of the program")))

    turn = alice.wait_turn(turn_id)

    assert turn["status"] == "failed"
    assert turn["error"]["message"] == "the agent failed with Bug"
    assert "secret" not in str(alice.arrived)
    other_play.end()
    assert bob.wait_turn(other_turn)["status"] == "completed"


def test_a_turn_that_takes_too_long_is_ended_as_failed(serve: Serve, puppets: Puppets) -> None:
    house = serve(agent=puppets, turn_timeout_s=0.05)
    alice = house.connect("alice")
    thread_id = alice.start_thread()

    turn = alice.wait_turn(alice.start_turn(thread_id, ""))

    assert turn["status"] == "failed"
    assert turn["error"]["message"] == "the turn did not end within 0.05 s"
    assert puppets.next().turn.is_interrupted


class _Deaf(Agent):
    """Ignores interrupts."""

    release = threading.Event()

    def run_turn(self, turn: Turn) -> None:
        if turn.text == "hang":
            self.release.wait(PATIENCE_S)


def test_an_agent_that_hangs_past_its_time_costs_its_turn_and_not_its_thread(serve: Serve) -> None:
    house = serve(agent=_Deaf, turn_timeout_s=0.05, interrupt_grace_s=0.05)
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    try:
        turn = alice.wait_turn(alice.start_turn(thread_id, "hang"))
        assert turn["status"] == "failed"
        assert turn["error"]["message"] == "the turn did not end within 0.05 s"
        assert alice.run_turn(thread_id, "")["status"] == "completed"
    finally:
        _Deaf.release.set()


def test_a_turn_that_waits_for_a_client_is_not_taken_for_one_that_hangs() -> None:
    clock = ManualClock()
    waited = [3.0]
    turn = TurnClock(10.0, lambda: waited[0], clock)
    clock.advance(100.0)
    waited[0] = 103.0
    assert turn.left_s() == 10.0
    clock.advance(4.0)
    assert turn.left_s() == 6.0


def test_the_time_of_a_prompt_counts_once_however_many_are_open(stage: LocalHouse, puppets: Puppets) -> None:
    alice = stage.connect("alice")
    thread_id = alice.start_thread()
    alice.start_turn(thread_id, "")
    play = puppets.next()
    play.do(lambda turn: turn.command("ls").ask_approval())
    prompt = alice.wait("item/commandExecution/requestApproval")
    prompts = stage.thread(thread_id).prompts
    before = prompts.waited_s
    assert before > 0
    alice.decide(prompt)
    alice.wait("serverRequest/resolved")
    alice.fence(thread_id)
    after = prompts.waited_s
    assert after >= before
    assert prompts.waited_s == after, "it stands still while none is open"
    play.end()


class _Flooder(Agent):
    """Writes as much as it is let."""

    def run_turn(self, turn: Turn) -> None:
        if turn.text != "flood":
            raise TurnFailed("as told")
        with turn.message() as message:
            while True:
                message.write("x" * 4096)


def test_an_agent_that_floods_is_held_and_harms_nobody_else(serve: Serve) -> None:
    house = serve(agent=_Flooder, limits=Limits(inbox_high_water=64))
    alice, bob = house.connect("alice"), house.connect("bob")
    flooded = alice.request("thread/start")["thread"]["id"]
    turn_id = alice.start_turn(flooded, "flood")
    alice.request("thread/unsubscribe", threadId=flooded)
    other = bob.start_thread()
    depths = []
    for _ in range(20):
        assert bob.run_turn(other, "no")["status"] == "failed"
        depths.append(house.thread(flooded).inbox_depth)
    assert max(depths) < 64 + 300, "what waits for the thread is bounded by the gate and a batch"
    assert alice.request("turn/interrupt", threadId=flooded, turnId=turn_id) == {}


def test_children_that_a_command_leaves_behind_do_not_hold_its_turn(serve: Serve) -> None:
    house = serve(agent="shell")
    alice = house.connect("alice")
    thread_id = alice.start_thread(approvalPolicy="never")
    # One in the shell's process group, which is ended; one that fled into a session of its own.
    turn = alice.run_turn(thread_id, "sleep 1000 & setsid sleep 2 & echo started")
    assert turn["status"] == "completed"
    item = alice.wait_for(
        lambda message: (
            message.get("method") == "item/completed"
            and message["params"]["item"]["type"] == "commandExecution"
        )
    )["params"]["item"]
    assert item["aggregatedOutput"] == "started\n"
    assert item["exitCode"] == 0


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="trunkline")
