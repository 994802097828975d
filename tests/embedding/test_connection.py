"""The typed connection: `AppServer.connect`."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pykka
import pytest

from embedding.hosts import Inbox, get, initialized, start_thread, start_turn
from houses import LocalHouse, Puppets, look_into
from trunkline import (
    AppServer,
    Closed,
    Config,
    Delivery,
    Disconnected,
    Limits,
    Notification,
    Prompt,
    RpcError,
    ServerStopped,
    WouldDeadlock,
)
from trunkline.inprocess import link
from trunkline.testing import settle
from wires import PATIENCE_S


def test_a_whole_turn_with_a_prompt_comes_as_typed_values(server: AppServer, inbox: Inbox) -> None:
    connection = initialized(server, inbox)
    thread_id = start_thread(connection)
    start_turn(connection, thread_id, "text hello\nask ls")

    prompt = inbox.wait("item/commandExecution/requestApproval")
    assert isinstance(prompt, Prompt)
    assert (prompt.thread_id, prompt.params["command"]) == (thread_id, "ls")
    prompt.answer({"decision": "accept"})

    done = inbox.wait("turn/completed")
    assert isinstance(done, Notification)
    assert (done.thread_id, done.params["turn"]["status"]) == (thread_id, "completed")
    numbered = [each for each in inbox.all if not isinstance(each, Closed) and each.seq is not None]
    seqs = [each.seq for each in numbered]
    assert seqs == list(range(seqs[0] or 0, (seqs[0] or 0) + len(seqs)))
    connection.close()
    assert inbox.wait_closed() == (1000, "")


def test_what_is_published_before_an_answer_has_come_before_it(server: AppServer, inbox: Inbox) -> None:
    connection = initialized(server, inbox)
    thread_id = start_thread(connection)
    for number in range(50):
        get(connection.request("thread/name/set", {"threadId": thread_id, "name": f"{number}"}))
        get(connection.request("thread/read", {"threadId": thread_id}))
        assert isinstance(inbox.all[-1], Notification)
        assert inbox.all[-1].params["threadName"] == f"{number}"


def test_an_actor_of_the_hosts_is_told_what_comes(server: AppServer) -> None:
    class Host(pykka.ThreadingActor):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[Any] = []
            self.closed = threading.Event()

        def on_receive(self, message: Any) -> None:
            self.heard.append(message)
            if isinstance(message, Prompt):
                message.answer({"decision": "decline"})  # an actor may answer in its handler
            if isinstance(message, Closed):
                self.closed.set()

    host = Host.start()
    actor = look_into(host)
    with initialized(server, host) as connection:
        thread_id = start_thread(connection)
        start_turn(connection, thread_id, "ask ls\ntext done")
        while not any(getattr(each, "method", "") == "turn/completed" for each in actor.heard):
            settle(server, host)
    assert actor.closed.wait(PATIENCE_S)
    host.stop()
    declined = [
        each
        for each in actor.heard
        if getattr(each, "method", "") == "item/completed" and each.params["item"].get("status") == "declined"
    ]
    assert len(declined) == 1


def test_the_iterator_ends_with_the_close(server: AppServer) -> None:
    connection = initialized(server)
    thread_id = start_thread(connection)
    start_turn(connection, thread_id, "text hello")
    methods = []
    for delivery in connection:
        if isinstance(delivery, Closed):
            assert delivery.code == 1000
            break
        methods.append(delivery.method)
        if delivery.method == "turn/completed":
            connection.close()
    assert methods[-1] == "turn/completed"
    assert list(connection) == [(1000, "")], "and so for everybody who reads"
    assert connection.receive() == (1000, "")


def test_what_does_not_come_in_time_is_said(server: AppServer, inbox: Inbox) -> None:
    with initialized(server) as connection, pytest.raises(TimeoutError):
        connection.receive(0)
    with initialized(server, inbox) as other, pytest.raises(TypeError, match="nothing to read"):
        other.receive(0)


# The rules of every connection.


def test_nothing_goes_before_initialize_and_it_goes_once(server: AppServer) -> None:
    with server.connect() as connection:
        with pytest.raises(RpcError, match="Not initialized"):
            get(connection.request("thread/start"))
        get(connection.initialize("host"))
        with pytest.raises(RpcError, match="Already initialized"):
            get(connection.initialize("host"))


def test_an_opt_out_holds_for_the_connection_that_made_it(server: AppServer) -> None:
    one, other = Inbox(), Inbox()
    connection = initialized(server, one, opt_out=["thread/started"])
    initialized(server, other)
    thread_id = start_thread(connection)
    other.wait("thread/started")
    get(connection.request("thread/name/set", {"threadId": thread_id, "name": "n"}))
    settle(server)
    assert one.methods() == ["thread/name/updated"]


def test_what_is_experimental_is_for_those_who_ask_for_it(server: AppServer) -> None:
    with initialized(server) as connection, pytest.raises(RpcError, match="requires experimentalApi"):
        get(connection.request("mock/experimentalMethod"))
    with initialized(server, experimental=True) as connection:
        with pytest.raises(RpcError) as raised:
            get(connection.request("mock/experimentalMethod"))
        assert "experimentalApi" not in raised.value.message


def test_too_many_requests_in_flight_are_refused(puppets: Puppets) -> None:
    config = Config(agent=puppets, limits=Limits(max_requests_in_flight=3))
    with AppServer(config) as server, initialized(server) as connection:
        thread_id = start_thread(connection)
        turn_id = start_turn(connection, thread_id, "x")
        play = puppets.next_turn()
        release = threading.Event()
        play.do(lambda _: release.wait(PATIENCE_S))
        params = {"threadId": thread_id, "turnId": turn_id}
        waiting = [connection.request("turn/interrupt", params) for _ in range(3)]
        with pytest.raises(RpcError) as raised:
            get(connection.request("thread/loaded/list"))
        assert raised.value.code == -32001
        release.set()
        assert [get(future) for future in waiting] == [{}, {}, {}]


def test_params_that_do_not_fit_are_refused_as_on_the_wire(server: AppServer) -> None:
    with initialized(server) as connection:
        with pytest.raises(RpcError, match="missing field `threadId`") as raised:
            get(connection.request("thread/resume", {}))
        assert raised.value.code == -32602
        with pytest.raises(RpcError) as raised:
            get(connection.request("thread/fly"))
        assert raised.value.code == -32601


@dataclasses.dataclass
class Resume:
    threadId: str  # noqa: N815  # as the wire has it


class Read(msgspec.Struct, rename="camel"):
    thread_id: str
    include_turns: bool = True


def test_params_may_be_a_dataclass_or_a_struct(server: AppServer) -> None:
    with initialized(server) as connection, initialized(server) as other:
        thread_id = start_thread(connection)
        assert get(other.request("thread/resume", Resume(thread_id)))["thread"]["id"] == thread_id
        assert get(other.request("thread/read", Read(thread_id)))["thread"]["turns"] == []


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ([1], "params must be an object"),
        ({"a": object()}, "object"),
        ({"a": 2**64}, "64 bits"),
        ({"a": "\ud800"}, "surrogate"),
        ({1: 2}, "keys of an object must be strings"),
    ],
)
def test_what_json_cannot_say_is_refused_where_it_is_given(
    server: AppServer, params: object, text: str
) -> None:
    with initialized(server) as connection, pytest.raises(TypeError, match=text):
        connection.request("thread/start", params)


def test_what_one_is_given_is_ones_own(server: AppServer) -> None:
    one, other = Inbox(), Inbox()
    connection, second = initialized(server, one), initialized(server, other)
    thread_id = start_thread(connection)
    joined = get(second.request("thread/resume", {"threadId": thread_id}))
    joined["thread"]["turns"].append("spoilt")
    given = {"threadId": thread_id, "input": [{"type": "text", "text": "text hello"}]}
    future = connection.request("turn/start", given)
    given["input"][0]["text"] = "fail"  # type: ignore[index]
    get(future)["turn"].clear()
    for delivery in (one.wait("item/completed"), one.wait("turn/completed")):
        delivery.params.clear()
    assert other.wait("turn/completed").params["turn"]["status"] == "completed"
    turns = get(second.request("thread/read", {"threadId": thread_id, "includeTurns": True}))["thread"][
        "turns"
    ]
    assert [item["type"] for item in turns[0]["items"]] == ["userMessage", "agentMessage"]


def test_to_wait_for_oneself_is_an_error_and_not_a_deadlock(server: AppServer) -> None:
    caught: list[str] = []
    done = threading.Event()

    def wait(what: Callable[[], object]) -> None:
        try:
            what()
        except WouldDeadlock as error:
            caught.append(str(error))

    def on_delivery(delivery: Delivery) -> None:
        if isinstance(delivery, Notification) and delivery.method == "thread/started":
            thread = server.thread(str(delivery.thread_id))
            wait(connection.request("thread/loaded/list").get)
            wait(thread.publish("acme/said").get)
            wait(thread.publish("acme/said").map(str).get)
            wait(reader.receive)
            done.set()

    reader = initialized(server)
    connection = initialized(server, on_delivery)
    started = connection.request("thread/start")
    assert done.wait(PATIENCE_S)
    assert caught == ["this thread brings what it would wait for: use add_done_callback"] * 4
    assert get(started)["thread"]["id"]
    get(connection.request("thread/loaded/list"))


# Those who do not keep up, and the end.


def test_a_callback_that_raises_is_logged_and_called_again(
    server: AppServer, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()

    def raise_at_first(delivery: Delivery) -> None:
        inbox(delivery)
        if len(inbox.all) == 1:
            raise ValueError("a bug of the host")

    connection = initialized(server, raise_at_first)
    start_thread(connection)
    start_thread(connection)
    assert inbox.methods().count("thread/started") == 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def slow_server(puppets: Puppets) -> AppServer:
    return AppServer(Config(agent=puppets, limits=Limits(log_bytes=100_000)))


def test_an_iterator_that_nobody_reads_is_closed_as_a_slow_client_is(
    puppets: Puppets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "BUFFER_BYTES", 10_000)
    with slow_server(puppets) as server, initialized(server) as connection:
        inbox = Inbox()
        other = initialized(server, inbox)
        thread_id = start_thread(other)
        get(connection.request("thread/resume", {"threadId": thread_id}))
        start_turn(other, thread_id, "x")
        play = puppets.next_turn()
        done = threading.Event()

        def emit(_: Any) -> None:
            while connection.is_open:
                play.speak("x" * 1000)
            done.set()

        play.do(emit)
        assert done.wait(PATIENCE_S)
        play.end()
        assert inbox.wait("turn/completed"), "who keeps up is not held up"
        *before, closed = list(connection)
        assert isinstance(closed, Closed)
        assert (closed.code, closed.reason) == (1013, "too slow; reconnect now and resume")
        assert sum(len(str(delivery)) for delivery in before) < 500_000, "and little was kept for it"
        with pytest.raises(Disconnected, match="1013: too slow"):
            get(connection.request("thread/loaded/list"))


def test_an_actor_that_does_not_come_to_it_is_told_no_more_than_it_can_take(puppets: Puppets) -> None:
    class Slow(pykka.ThreadingActor):
        release = threading.Event()

        def __init__(self) -> None:
            super().__init__()
            self.heard: list[Delivery] = []

        def on_receive(self, message: Any) -> None:
            self.release.wait(PATIENCE_S)
            self.heard.append(message)

    slow = Slow.start()
    actor = look_into(slow)
    with slow_server(puppets) as server, initialized(server, Inbox()) as other:
        thread_id = start_thread(other)
        connection = initialized(server, slow)
        get(connection.request("thread/resume", {"threadId": thread_id}))
        start_turn(other, thread_id, "x")
        play = puppets.next_turn()
        done = threading.Event()

        def emit(_: Any) -> None:
            while connection.is_open:
                play.speak("x" * 1000)
            done.set()

        play.do(emit)
        assert done.wait(PATIENCE_S)
        Slow.release.set()
        play.end()
        settle(server, slow)
        assert actor.heard[-1] == (1013, "too slow; reconnect now and resume")
        assert sum(len(str(delivery)) for delivery in actor.heard) < 1_000_000
    slow.stop()


def test_a_connection_whose_actor_has_stopped_is_closed(server: AppServer) -> None:
    class Host(pykka.ThreadingActor):
        pass

    host = Host.start()
    connection = initialized(server, host)
    host.stop()
    start_thread(connection)
    settle(server)
    assert not connection.is_open
    with pytest.raises(Disconnected, match="the actor it was delivered to has stopped"):
        get(connection.request("thread/loaded/list"))


def test_requests_that_the_end_overtakes_are_told_so(puppets: Puppets) -> None:
    with AppServer(Config(agent=puppets)) as server:
        connection = initialized(server)
        thread_id = start_thread(connection)
        turn_id = start_turn(connection, thread_id, "x")
        play = puppets.next_turn()
        release = threading.Event()
        play.do(lambda _: release.wait(PATIENCE_S))
        waiting = connection.request("turn/interrupt", {"threadId": thread_id, "turnId": turn_id})
        settle(server)
        connection.close()
        with pytest.raises(Disconnected, match="closed with 1000"):
            get(waiting)
        release.set()
        with pytest.raises(Disconnected):
            get(connection.request("thread/loaded/list"))


def test_a_stop_closes_it_with_1001(inbox: Inbox) -> None:
    server = AppServer(Config(agent="script"))
    with pytest.raises(ServerStopped):
        server.connect()
    with server:
        initialized(server, inbox)
    assert inbox.wait_closed().code == 1001
    with pytest.raises(ServerStopped):
        server.connect()


def test_what_cannot_be_delivered_to_is_refused(server: AppServer) -> None:
    with pytest.raises(TypeError, match="a function or an ActorRef, not str"):
        server.connect("me")  # type: ignore[arg-type]


# No JSON.


@pytest.fixture
def json_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every call of an encoder or decoder in the library."""
    calls: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return function(*arguments, **options)

        return call

    for name in ("dumps", "loads"):
        monkeypatch.setattr(orjson, name, counted(name, getattr(orjson, name)))
    return calls


@pytest.mark.parametrize("is_ephemeral", [True, False])
def test_with_clients_in_this_process_alone_no_json_is_made_of_events_and_answers(
    json_calls: list[str], *, is_ephemeral: bool
) -> None:
    with AppServer(agent="script") as server:
        inbox, other = Inbox(), Inbox()
        connection, second = initialized(server, inbox), initialized(server, other)
        started = get(connection.request("thread/start", {"ephemeral": is_ephemeral}))
        thread_id = started["thread"]["id"]
        get(second.request("thread/resume", {"threadId": thread_id}))
        for _ in range(2):
            start_turn(connection, thread_id, "text hello\nask ls")
            for each in (inbox, other):
                prompt = each.wait("item/commandExecution/requestApproval")
            prompt.answer({"decision": "accept"})
            assert other.wait("turn/completed").params["turn"]["items"][0]["text"] == "hello"
        get(connection.request("thread/name/set", {"threadId": thread_id, "name": "n"}))
        get(server.thread(thread_id).publish("acme/said", {"text": "hello"}))
        for each in (inbox, other):
            each.wait("acme/said")
        get(connection.request("thread/unsubscribe", {"threadId": thread_id}))
        published = [each for each in inbox.all if not isinstance(each, Closed)]
    if is_ephemeral:
        assert json_calls == []
    else:  # what is kept is kept as JSON: each event once, and each item, for the store, and none is read
        items = inbox.methods().count("item/completed")
        assert set(json_calls) == {"dumps"}
        assert len(json_calls) <= len(published) + items


def test_a_network_client_that_shares_the_thread_has_it_encoded_once(house: LocalHouse, inbox: Inbox) -> None:
    connection = initialized(house.server, inbox)
    thread_id = start_thread(connection)
    get(connection.request("thread/name/set", {"threadId": thread_id, "name": "before"}))
    alice = house.connect("alice")
    resumed = alice.request("thread/resume", threadId=thread_id)
    start_turn(connection, thread_id, "text hello")
    turn = inbox.wait("turn/completed")
    came = alice.wait("turn/completed")
    assert came["params"] == turn.params
    assert came["seq"] == turn.seq
    assert came["emittedAtMs"] == turn.emitted_at_ms
    again = house.connect("again").request(
        "thread/resume", threadId=thread_id, afterSeq=1, epoch=resumed["epoch"]
    )
    assert again["delivery"] == "events", "what was published for clients in this process is there for others"


def test_who_joins_a_thread_that_was_encoded_gets_the_same(house: LocalHouse, inbox: Inbox) -> None:
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    epoch = alice.request("thread/resume", threadId=thread_id)["epoch"]
    alice.run_turn(thread_id, "text hello")
    connection = initialized(house.server, inbox)
    params = {"threadId": thread_id, "afterSeq": 1, "epoch": epoch}
    get(connection.request("thread/resume", params))
    inbox.wait("turn/completed")
    mine = {each.seq: (each.method, each.params) for each in inbox.all if isinstance(each, Notification)}
    for message in alice.events_of(thread_id):
        if message["seq"] > 1:
            assert mine[message["seq"]] == (message["method"], message["params"])
