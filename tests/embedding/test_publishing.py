"""What a host publishes: `AppServer.thread`, its events and its prompts."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from embedding.hosts import Inbox, get, initialized, start_thread, start_turn
from helpers import UNKNOWN_ID, methods
from houses import LocalHouse, Puppets, in_parallel, look_into
from trunkline import (
    AppServer,
    Dispatcher,
    Future,
    Limits,
    Notification,
    Overloaded,
    PooledActor,
    Prompt,
    PromptRefused,
    RpcError,
    ServerStopped,
    post,
)
from trunkline.inprocess import link
from trunkline.testing import ManualClock, settle
from wires import PATIENCE_S


@pytest.fixture
def room() -> Iterator[AppServer]:
    """A server without any agent."""
    with AppServer(agent=None, unload_after_s=None) as server:
        yield server


def test_what_a_host_publishes_comes_numbered_to_every_subscriber(house: LocalHouse, inbox: Inbox) -> None:
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    get(initialized(house.server, inbox).request("thread/resume", {"threadId": thread_id}))
    stranger = house.connect("stranger")

    seq = get(house.server.thread(thread_id).publish("acme/said", {"text": "hello"}))

    said = alice.wait("acme/said")
    assert said["params"] == {"threadId": thread_id, "text": "hello"}
    assert said["seq"] == seq
    mine = inbox.wait("acme/said")
    assert (mine.params, mine.seq, mine.emitted_at_ms) == (said["params"], seq, said["emittedAtMs"])
    stranger.expect_nothing(thread_id)


def test_it_is_among_the_events_that_one_who_comes_back_is_given(house: LocalHouse) -> None:
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    place = alice.request("thread/resume", threadId=thread_id)
    house.lose(alice)
    publish = house.server.thread(thread_id).publish
    seqs = [get(publish("acme/said", {"number": number})) for number in range(3)]

    again = house.connect("again")
    again.request("thread/resume", threadId=thread_id, afterSeq=place["seq"], epoch=place["epoch"])
    assert [again.wait("acme/said", number=number)["seq"] for number in range(3)] == seqs


def test_a_room_needs_no_agent_and_takes_no_turns(room: AppServer) -> None:
    one, other = Inbox(), Inbox()
    alice, bob = initialized(room, one), initialized(room, other)
    thread_id = start_thread(alice)
    get(bob.request("thread/resume", {"threadId": thread_id}))
    for number in range(100):
        room.thread(thread_id).publish("chat/said", {"number": number})
    for inbox in (one, other):
        assert [inbox.wait("chat/said").params["number"] for _ in range(100)] == list(range(100))
    with pytest.raises(RpcError, match="this server has no agent"):
        start_turn(alice, thread_id, "hello")


@dataclasses.dataclass
class Said:
    text: str
    threadId: str = "mine"  # noqa: N815  # as the wire has it


def test_params_may_be_typed_and_the_thread_is_said_by_the_server(room: AppServer, inbox: Inbox) -> None:
    thread_id = start_thread(initialized(room, inbox))
    room.thread(thread_id).publish("chat/said", Said("hello"))
    assert inbox.wait("chat/said").params == {"threadId": thread_id, "text": "hello"}


def test_it_is_published_from_os_threads_actors_and_tasks_in_the_order_of_each(
    room: AppServer, inbox: Inbox
) -> None:
    thread = room.thread(start_thread(initialized(room, inbox)))

    class Threaded(pykka.ThreadingActor):
        def on_receive(self, message: int) -> None:
            thread.publish("chat/threaded", {"number": message})

    class Pooled(PooledActor):
        def on_receive(self, message: int) -> None:
            thread.publish("chat/pooled", {"number": message})

    dispatcher = Dispatcher(workers=1, name="trunkline-test")
    dispatcher.start()
    threaded, pooled = Threaded.start(), Pooled.start(dispatcher=dispatcher)

    async def publish_from_task() -> None:
        for number in range(200):
            await asyncio.wrap_future(thread.publish("chat/task", {"number": number}).to_concurrent())

    in_parallel(
        lambda: [thread.publish("chat/thread", {"number": number}) for number in range(200)],
        lambda: [post(threaded, number) for number in range(200)],
        lambda: [post(pooled, number) for number in range(200)],
        lambda: asyncio.run(publish_from_task()),
    )
    threaded.stop()
    pooled.stop()
    assert dispatcher.stop(PATIENCE_S)
    settle(room)
    for name in ("thread", "threaded", "pooled", "task"):
        came = [
            each for each in inbox.all if isinstance(each, Notification) and each.method == f"chat/{name}"
        ]
        assert [each.params["number"] for each in came] == list(range(200))


# Back-pressure.


def test_who_publishes_faster_than_subscribers_read_is_told_so_and_can_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "BUFFER_BYTES", 10_000)
    clock = ManualClock()  # by which nobody has stalled
    with AppServer(agent=None, limits=Limits(log_bytes=1_000_000), clock=clock) as server:
        reader = initialized(server)
        thread_id = start_thread(reader)
        thread = server.thread(thread_id)
        futures: list[Future[int]] = []

        def publish_on() -> None:
            while True:
                futures.append(thread.publish("chat/said", {"text": "x" * 30_000}))

        while all(future.is_done for future in futures):
            with pytest.raises(Overloaded, match=f"thread {thread_id} takes no more for now"):
                publish_on()
            settle(server)
        assert thread.unconfirmed == sum(not future.is_done for future in futures)

        seqs = []
        for delivery in reader:
            if isinstance(delivery, Notification) and delivery.method == "chat/said":
                seqs.append(delivery.seq)
                if len(seqs) == len(futures):
                    break
        assert seqs == [get(future) for future in futures], "all of them came"
        get(thread.publish("chat/said", {"text": "again"}))
        reader.close()


def test_a_subscriber_that_takes_nothing_at_all_holds_a_host_for_two_seconds() -> None:
    clock = ManualClock()
    limits = Limits(log_bytes=10_000_000, log_events=100)
    with AppServer(agent=None, limits=limits, clock=clock) as server:
        reader = initialized(server)
        thread = server.thread(start_thread(reader))
        futures: list[Future[int]] = []
        while not futures or futures[-1].is_done:
            futures.append(thread.publish("chat/said", {"text": "x" * 100_000}))
            settle(server)
        clock.advance(2)
        settle(server)
        assert futures[-1].is_done
        reader.close()


def test_one_that_is_larger_than_what_may_be_unconfirmed_is_taken_alone(inbox: Inbox) -> None:
    with AppServer(agent=None, limits=Limits(log_bytes=8000)) as server:
        thread = server.thread(start_thread(initialized(server, inbox)))
        assert len(inbox.wait("thread/started").params)
        get(thread.publish("chat/said", {"text": "x" * 50_000}))
        assert len(inbox.wait("chat/said").params["text"]) == 50_000


def test_what_is_unconfirmed_counts_for_all_handles_of_a_thread(room: AppServer, inbox: Inbox) -> None:
    thread_id = start_thread(initialized(room, inbox))
    assert room.thread(thread_id) is room.thread(thread_id)
    get(room.thread(thread_id).publish("chat/said"))
    gc.collect()
    assert not room._handles._handles, "and a handle that nobody has is forgotten"


# What is refused.


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("said", "the form `vendor/name`"),
        ("turn/completed", "what begins with `turn/` is the protocol's own"),
        ("item/tool/requestUserInput", "the protocol's own"),
        ("acme/", "the form"),
        ("acme/a b", "the form"),
        ("a/" + "b" * 200, "the form"),
    ],
)
def test_names_that_are_not_a_hosts_own_are_refused(room: AppServer, method: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        room.thread(UNKNOWN_ID).publish(method)


def test_a_thread_that_is_not_loaded_takes_nothing(room: AppServer) -> None:
    thread = room.thread(UNKNOWN_ID)
    futures: list[Future[Any]] = [thread.publish("chat/said"), thread.prompt("chat/ask")]
    for future in futures:
        with pytest.raises(RpcError, match=f"thread not found: {UNKNOWN_ID}"):
            get(future)
    with pytest.raises(TypeError, match="params must be an object"):
        thread.publish("chat/said", "hello")


def test_after_the_stop_nothing_is_taken(inbox: Inbox) -> None:
    server = AppServer(agent=None)
    with pytest.raises(ServerStopped):
        server.thread(UNKNOWN_ID)
    with server:
        thread = server.thread(start_thread(initialized(server, inbox)))
        asked = thread.prompt("chat/ask")
    with pytest.raises(PromptRefused, match="the thread has ended"):
        get(asked)
    with pytest.raises(ServerStopped):
        get(thread.publish("chat/said"))
    with pytest.raises(ServerStopped):
        server.thread(UNKNOWN_ID)


def test_what_waits_while_a_thread_decides_to_unload_finds_out(inbox: Inbox) -> None:
    clock = ManualClock()
    with AppServer(agent=None, unload_after_s=60, clock=clock) as server:
        connection = initialized(server, inbox)
        thread_id = start_thread(connection)
        get(connection.request("thread/unsubscribe", {"threadId": thread_id}))
        thread = server.thread(thread_id)
        clock.advance(60)
        outcomes = []
        for future in [thread.publish("chat/said") for _ in range(100)]:
            try:
                outcomes.append(get(future) > 0)
            except RpcError:
                outcomes.append(False)
        settle(server)
        with pytest.raises(RpcError):
            get(thread.publish("chat/said"))
        assert outcomes == sorted(outcomes, reverse=True)


# Prompts.


def test_the_first_answer_to_a_hosts_prompt_counts(house: LocalHouse, inbox: Inbox) -> None:
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    get(initialized(house.server, inbox).request("thread/resume", {"threadId": thread_id}))

    asked = house.server.thread(thread_id).prompt("poll/which", {"of": ["a", "b"]})

    prompt = alice.wait("poll/which")
    assert {**prompt["params"], "startedAtMs": 0} == {
        "threadId": thread_id,
        "startedAtMs": 0,
        "of": ["a", "b"],
    }
    typed = inbox.wait("poll/which")
    assert isinstance(typed, Prompt)
    typed.answer({"choice": "b"})
    assert get(asked) == {"choice": "b"}
    assert alice.wait("serverRequest/resolved")["params"]["requestId"] == prompt["id"]
    alice.answer(prompt["id"], {"choice": "a"})
    alice.fence(thread_id)
    assert get(asked) == {"choice": "b"}


def test_a_prompt_of_the_protocol_is_checked_and_seen_in_the_status(room: AppServer, inbox: Inbox) -> None:
    connection = initialized(room, inbox)
    thread_id = start_thread(connection)
    asked = room.thread(thread_id).prompt("item/tool/requestUserInput", {"questions": []})
    assert inbox.wait("thread/status/changed").params["status"] == {
        "type": "active",
        "activeFlags": ["waitingOnUserInput"],
    }
    prompt = inbox.wait("item/tool/requestUserInput")
    assert prompt.params["turnId"] != prompt.params["itemId"], "it has a place of its own"
    prompt.answer({"answers": "none"})
    with pytest.raises(PromptRefused, match="a client refused it"):
        get(asked)
    assert inbox.wait("thread/status/changed").params["status"] == {"type": "idle"}
    with pytest.raises(ValueError, match="the protocol's own"):
        room.thread(thread_id).prompt("turn/start")


def test_it_survives_the_end_of_a_turn_and_reaches_those_who_come_later(
    stage: LocalHouse, puppets: Puppets, inbox: Inbox
) -> None:
    connection = initialized(stage.server, inbox)
    thread_id = start_thread(connection)
    start_turn(connection, thread_id, "x")
    play = puppets.next_turn()
    asked = stage.server.thread(thread_id).prompt("poll/which")
    play.end()
    inbox.wait("turn/completed")
    late = stage.connect("late")
    late.resume(thread_id)
    late.answer(late.wait("poll/which")["id"], {"choice": "a"})
    assert get(asked) == {"choice": "a"}


def test_it_does_not_stop_the_clock_of_a_turn(puppets: Puppets, inbox: Inbox) -> None:
    clock = ManualClock()
    with AppServer(agent=puppets, turn_timeout_s=10, clock=clock) as server:
        connection = initialized(server, inbox)
        thread_id = start_thread(connection)
        asked = server.thread(thread_id).prompt("poll/which")
        start_turn(connection, thread_id, "x")
        puppets.next_turn()
        settle(server)
        clock.advance(10)
        assert inbox.wait("turn/completed").params["turn"]["status"] == "failed"
        assert not asked.is_done


def test_nobody_answering_in_time_refuses_it(inbox: Inbox) -> None:
    clock = ManualClock()
    with AppServer(agent=None, clock=clock) as server:
        thread = server.thread(start_thread(initialized(server, inbox)))
        asked = thread.prompt("poll/which", timeout_s=30)
        inbox.wait("poll/which")
        clock.advance(30)
        with pytest.raises(PromptRefused, match="nobody answered within 30 s"):
            get(asked)
        with pytest.raises(ValueError, match="more than 0"):
            thread.prompt("poll/which", timeout_s=0)
        inbox.wait("serverRequest/resolved")
        asked = thread.prompt("poll/which")
        inbox.wait("poll/which").refuse()
        with pytest.raises(PromptRefused, match="a client refused it"):
            get(asked)


@pytest.mark.parametrize(
    ("method", "told"), [("thread/archive", "thread/archived"), ("thread/delete", "thread/deleted")]
)
def test_it_is_resolved_before_its_thread_is_gone(house: LocalHouse, method: str, told: str) -> None:
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    alice.run_turn(thread_id, "text hello")
    asked = house.server.thread(thread_id).prompt("poll/which")
    prompt = alice.wait("poll/which")

    alice.request(method, threadId=thread_id)

    alice.wait(told)
    arrived = methods(alice.arrived)
    assert arrived.index("serverRequest/resolved") < arrived.index(told)
    resolved = next(each for each in alice.arrived if each.get("method") == "serverRequest/resolved")
    assert resolved["params"]["requestId"] == prompt["id"]
    with pytest.raises(PromptRefused, match="the thread has ended"):
        get(asked)


def test_a_thread_that_fails_is_kept_by_nobody_it_asked(
    house: LocalHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    house.server.thread(thread_id).prompt("poll/which")
    alice.wait("poll/which")
    bob.wait("poll/which")
    bob.request("thread/unsubscribe", threadId=thread_id)
    connections = [look_into(house.connection(client)) for client in (alice, bob)]
    assert all(connection._prompts for connection in connections)

    monkeypatch.setattr(house.thread(thread_id).feed, "notify", lambda *_: 1 / 0)  # a bug of ours
    house.server.thread(thread_id).publish("chat/said")

    for client in (alice, bob):
        client.wait("thread/closed")
        client.fence()
    assert not any(connection._prompts for connection in connections)


def test_a_thread_that_fails_lets_go_of_the_host(
    house: LocalHouse, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id = start_thread(initialized(house.server, inbox))
    thread = house.server.thread(thread_id)
    asked = thread.prompt("poll/which")
    inbox.wait("poll/which")
    monkeypatch.setattr(house.thread(thread_id).feed, "notify", lambda *_: 1 / 0)  # a bug of ours
    published = thread.publish("chat/said")
    with pytest.raises(PromptRefused, match="the thread has ended"):
        get(asked)
    with pytest.raises(RpcError, match="Internal error"):
        get(published)
    inbox.wait("thread/closed")


def test_a_future_can_be_used_as_any_of_pykkas(room: AppServer, inbox: Inbox) -> None:
    thread = room.thread(start_thread(initialized(room, inbox)))
    seqs: list[Any] = pykka.get_all([thread.publish("chat/said"), thread.publish("chat/said")], timeout=30)  # type: ignore[assignment]
    assert seqs[1] == seqs[0] + 1
    assert thread.publish("chat/said").map(lambda seq: seq * 2).get(timeout=30) == 2 * (seqs[1] + 1)
