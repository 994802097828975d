"""Rule 7: a message to one that has stopped is ordinary, and a failing handler ends at most its own actor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest

from helpers import Message, methods
from houses import LocalHouse, Play, Puppets, in_parallel
from trunkline import Agent, Turn, TurnFailed
from trunkline.actor import Dispatcher, PooledActor, handles, post
from trunkline.agents.events import ItemDelta
from trunkline.connection import Connection
from trunkline.messages import InterruptTurn, Received, Reply, Request
from trunkline.router import Router
from trunkline.store.base import SaveItem
from trunkline.store.sqlite import SqliteStore
from trunkline.thread import Thread
from wires import PATIENCE_S

ERRORS = [ValueError("a bug of ours"), SystemExit(3), KeyboardInterrupt()]

Fail = Callable[..., None]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Makes a handler raise on the messages that are meant."""

    def fail(
        actor: type[PooledActor], kind: type, error: BaseException, is_meant: Callable[[Any], bool]
    ) -> None:
        handler = actor._handlers.get(kind)
        receive = actor._handle_receive

        def fail_if_meant(self: PooledActor, message: object) -> object:
            if type(message) is kind and is_meant(message):
                raise error
            return receive(self, message) if handler is None else handler(self, message)

        if handler is None:  # for the engine of a thread
            monkeypatch.setattr(actor, "_handle_receive", fail_if_meant)
        else:
            monkeypatch.setitem(actor._handlers, kind, fail_if_meant)

    return fail


class Host(pykka.ThreadingActor):
    """An actor of the program that embeds the server."""

    def on_receive(self, message: object) -> object:
        return message


class Neighbour(PooledActor):
    """Another actor on the same kind of workers."""

    @handles(str)
    def _on_text(self, message: str) -> str:
        return message


@pytest.fixture
def hosts() -> Iterator[list[pykka.ActorRef[Any]]]:
    """Actors of others in this process; they must be well at the end."""
    dispatcher = Dispatcher(name="trunkline-host")
    dispatcher.start()
    refs: list[pykka.ActorRef[Any]] = [Host.start(), Neighbour.start(dispatcher=dispatcher)]
    yield refs
    assert [ref.ask("well?", timeout=PATIENCE_S) for ref in refs] == ["well?"] * 2
    for ref in refs:
        ref.stop(timeout=PATIENCE_S)
    dispatcher.stop(PATIENCE_S)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_connection_whose_handler_fails_is_closed_and_nobody_else(
    house: LocalHouse, fail: Fail, hosts: object, error: BaseException
) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    fail(Connection, Received, error, lambda message: "poison" in message.texts[0])

    bob.send({"id": "poison", "method": "thread/loaded/list"})

    assert bob.wait_closed().code == 1011
    assert alice.run_turn(thread_id, "text hello")["status"] == "completed"
    assert alice.request("thread/read", threadId=thread_id)["thread"]["subscriberCount"] == 1
    assert house.connect("bob again").resume(thread_id)["id"] == thread_id


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_thread_whose_handler_fails_is_told_as_closed_and_no_other(
    stage: LocalHouse, puppets: Puppets, fail: Fail, hosts: object, error: BaseException
) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    doomed, other = alice.start_thread(), alice.start_thread()
    for thread_id in (doomed, other):
        bob.resume(thread_id)
    alice.start_turn(doomed, "play")
    play = puppets.next()
    asked = alice.begin("turn/interrupt", threadId=doomed, turnId=play.turn.turn_id)
    fail(Thread, Request, error, lambda message: message.method.name == "thread/name/set")
    fail(Thread, ItemDelta, error, lambda message: message.texts == ("poison",))
    alice.response(asked)
    alice.start_turn(doomed, "play")
    play = puppets.next()

    play.speak("poison")

    for client in (alice, bob):
        client.wait("thread/status/changed", threadId=doomed, status={"type": "systemError"})
        client.wait("thread/closed", threadId=doomed)
    assert play.turn.wait_interrupted(PATIENCE_S)
    assert alice.request("thread/loaded/list")["data"] == [other]
    assert len(alice.resume(doomed)["turns"]) == 2  # from the store
    assert_works(stage, puppets, other)


def assert_works(stage: LocalHouse, puppets: Puppets, thread_id: str) -> None:
    """Check that a turn runs on a thread."""
    client = stage.connect("checker")
    client.resume(thread_id)
    turn_id = client.start_turn(thread_id, "play")
    play = puppets.next()
    play.speak("hello")
    play.end()
    assert client.wait_turn(turn_id)["status"] == "completed"


def test_requests_and_prompts_of_a_thread_that_fails_are_let_go(
    stage: LocalHouse, puppets: Puppets, fail: Fail
) -> None:
    alice = stage.connect("alice")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()
    decision = play.ask("ls")
    alice.wait("item/commandExecution/requestApproval")
    fail(Thread, ItemDelta, ValueError("a bug of ours"), lambda _: True)

    play.turn.emit(ItemDelta(play.turn.turn_id, "x", ("y",), "y"))

    alice.wait("thread/closed")
    assert decision.exception(PATIENCE_S) is not None
    error = alice.refused("turn/interrupt", threadId=thread_id, turnId=turn_id)
    assert error["message"] == f"thread not found: {thread_id}"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_failure_of_the_router_costs_the_one_message(
    house: LocalHouse, fail: Fail, hosts: object, error: BaseException
) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    fail(Router, Request, error, lambda message: message.id == "poison")

    bob.send({"id": "poison", "method": "thread/loaded/list"})

    assert bob.response("poison")["error"] == {"code": -32603, "message": "Internal error"}
    assert bob.request("thread/loaded/list")["data"] == [thread_id]
    assert alice.run_turn(thread_id, "text hello")["status"] == "completed"


def test_a_store_that_fails_costs_what_it_was_told_and_nobody_waits(
    house: LocalHouse, monkeypatch: pytest.MonkeyPatch, hosts: object
) -> None:
    def fail(_store: SqliteStore, _message: object) -> None:
        raise ValueError("a bug of ours")

    client = house.connect()
    thread_id = client.start_thread()
    monkeypatch.setitem(SqliteStore._writers, SaveItem, fail)
    client.start_turn(thread_id, "text hello")
    client.fence()
    assert client.request("thread/loaded/list")["data"] in ([thread_id], [])


class Faulty(Agent):
    """Fails as its turn's text says."""

    def run_turn(self, turn: Turn) -> None:
        turn.say("so far")
        raise {
            "exit": SystemExit(1),
            "bug": ZeroDivisionError("secret details"),
            "interrupt": KeyboardInterrupt(),
            "reason": TurnFailed("the reason"),
        }[turn.text]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("exit", "the agent failed with SystemExit"),
        ("bug", "the agent failed with ZeroDivisionError"),
        ("interrupt", "the agent failed with KeyboardInterrupt"),
        ("reason", "the reason"),
    ],
)
def test_an_agent_that_raises_fails_its_turn_with_a_reason_and_no_traceback(
    serve: Callable[..., LocalHouse], hosts: object, text: str, told: str
) -> None:
    client = serve(agent=Faulty).connect()
    thread_id = client.start_thread()

    turn = client.run_turn(thread_id, text)

    error = {"message": told, "codexErrorInfo": "other", "additionalDetails": None}
    assert (turn["status"], turn["error"]) == ("failed", error)
    events = client.events_of(thread_id)
    assert methods(events)[-3:] == ["thread/status/changed", "error", "turn/completed"]
    assert events[-3]["params"]["status"] == {"type": "systemError"}
    assert events[-2]["params"] == {
        "threadId": thread_id,
        "turnId": turn["id"],
        "error": error,
        "willRetry": False,
    }
    assert not any("secret" in str(message) or "Traceback" in str(message) for message in client.arrived)
    assert active_after(client.run_turn(thread_id, "reason"), client.events_of(thread_id))


def active_after(turn: Message, events: list[Message]) -> bool:
    """Whether the status went active when this turn began."""
    started = next(
        place
        for place, event in enumerate(events)
        if event["method"] == "turn/started" and event["params"]["turn"]["id"] == turn["id"]
    )
    return bool(events[started - 1]["params"]["status"] == {"type": "active", "activeFlags": []})


def test_a_client_in_this_process_whose_callback_raises_harms_nobody(house: LocalHouse) -> None:
    alice = house.connect("alice")

    def raise_always(_: object) -> None:
        raise ValueError("a bug of the host")

    faulty = house.server.connect(raise_always)
    faulty.initialize("faulty").get(timeout=PATIENCE_S)
    thread_id = alice.start_thread()
    assert alice.run_turn(thread_id, "text hello")["status"] == "completed"
    faulty.close()
    alice.fence()


class Doomed(PooledActor):
    """Stops when it is told to."""

    @handles(Reply)
    def _on_reply(self, _message: Reply) -> None:
        pass


def test_telling_one_that_stops_at_this_moment_raises_nothing_and_says_whether_it_was_told() -> None:
    dispatcher = Dispatcher(name="trunkline-test")
    dispatcher.start()
    for _ in range(200):
        ref = Doomed.start(dispatcher=dispatcher)
        told: list[bool] = []

        def tell(ref: pykka.ActorRef[Doomed] = ref, told: list[bool] = told) -> None:
            told += [post(ref, Reply(1, None)) for _ in range(50)]

        def stop(ref: pykka.ActorRef[Doomed] = ref) -> None:
            ref.stop(block=False)

        in_parallel(tell, stop)
        assert ref.actor_stopped.wait(PATIENCE_S)
        assert not post(ref, Reply(1, None))
        assert len(told) == 50
    assert dispatcher.stop(PATIENCE_S)


def test_a_thread_goes_on_when_its_subscribers_are_stopped_under_it(
    stage: LocalHouse, puppets: Puppets, caplog: pytest.LogCaptureFixture
) -> None:
    # Not by closing: the actors are simply gone, as after a failure, and the thread does not know.
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    alice.start_turn(thread_id, "play")
    play: Play = puppets.next()
    refs = [stage.connection(client) for client in (alice, bob)]

    with caplog.at_level(logging.ERROR):
        in_parallel(
            lambda: play.speak(*["x"] * 2000), *(lambda ref=ref: ref.stop(timeout=PATIENCE_S) for ref in refs)
        )
        post(stage.thread(thread_id).actor_ref, InterruptTurn())
        carol = stage.connect("carol")
        carol.fence(thread_id)

    assert carol.request("thread/read", threadId=thread_id)["thread"]["subscriberCount"] == 0
    assert not caplog.records
