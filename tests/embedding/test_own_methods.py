"""Methods of a host's own: `AppServer.method`."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import msgspec
import pykka
import pytest

from embedding.hosts import Inbox, get, initialized, start_thread
from houses import LocalHouse
from trunkline import AppServer, Call, ConfigError, Disconnected, Future, Limits, RpcError, Scope
from trunkline.testing import settle
from wires import PATIENCE_S


class Roll(msgspec.Struct):
    sides: int = 6
    name: str | None = None


@dataclasses.dataclass
class Rolled:
    value: int
    by: str


class Typed(TypedDict):
    text: str


@pytest.fixture
def server() -> Iterator[AppServer]:
    with AppServer(agent=None) as server:
        yield server


def test_a_method_answers_over_every_transport_by_its_types(house: LocalHouse) -> None:
    @house.server.method("dice/roll")
    def roll(call: Call, params: Roll) -> Rolled:
        return Rolled(params.sides, call.client_name)

    alice = house.connect("alice")
    assert alice.request("dice/roll", sides=20) == {"value": 20, "by": "alice"}
    assert alice.request("dice/roll") == {"value": 6, "by": "alice"}
    with initialized(house.server) as connection:
        assert get(connection.request("dice/roll", Roll(8))) == {"value": 8, "by": "host"}
    error = alice.refused("dice/roll", sides="many")
    assert (error["code"], error["message"]) == (
        -32602,
        "Invalid params: `sides`: Expected `int`, got `str`",
    )


def test_params_may_be_any_type_that_says_what_they_are(server: AppServer) -> None:
    @server.method("acme/none")
    def none(call: Call) -> str:
        return f"{call.connection_id} {call.method} {call.who or 'somebody'}"

    @server.method("acme/dataclass")
    def dataclass(_: Call, params: Rolled) -> int:
        return params.value

    @server.method("acme/typed")
    def typed(_: Call, params: Typed) -> str:
        return params["text"]

    @server.method("acme/any")
    def any_(_: Call, params: dict[str, Any]) -> list[str]:
        return list(params)

    class Counter:
        count = 0

        def add(self, _: Call, params: dict[str, int]) -> int:
            self.count += params["by"]
            return self.count

        def __call__(self, _: Call) -> int:
            return self.count

    counter = Counter()
    server.method("acme/add")(counter.add)
    server.method("acme/count")(counter)
    with initialized(server) as connection:
        ask = connection.request
        assert get(ask("acme/none", {"ignored": 1})) == "1 acme/none somebody"
        assert get(ask("acme/dataclass", {"value": 3, "by": "me"})) == 3
        assert get(ask("acme/typed", {"text": "t"})) == "t"
        assert get(ask("acme/any", {"a": 1, "b": 2})) == ["a", "b"]
        assert get(ask("acme/add", {"by": 2})) == 2
        assert get(ask("acme/count")) == 2
        with pytest.raises(RpcError, match="missing field `text`") as raised:
            get(ask("acme/typed", {}))
        assert raised.value.code == -32602


def test_it_may_answer_later_with_a_future_of_any_kind(server: AppServer) -> None:
    ours: Future[str] = Future()
    theirs: concurrent.futures.Future[str] = concurrent.futures.Future()
    pykkas: pykka.ThreadingFuture[str] = pykka.ThreadingFuture()
    futures: dict[str, Any] = {
        "ours": ours,
        "theirs": theirs,
        "pykkas": pykkas,
        "derived": ours.map(str.upper),
    }

    @server.method("acme/later")
    def later(_: Call, params: Typed) -> object:
        return futures[params["text"]]

    with initialized(server) as connection:
        # Futures that call back keep no thread: more of them wait than there are threads.
        early = [connection.request("acme/later", {"text": "ours"}) for _ in range(20)]
        failed = connection.request("acme/later", {"text": "theirs"})
        settle(server)
        assert not any(future.is_done for future in early)
        ours.set("x")
        assert [get(future) for future in early] == ["x"] * 20
        theirs.set_exception(RpcError(-32050, "not today", {"until": "monday"}))
        with pytest.raises(RpcError, match="not today") as raised:
            get(failed)
        assert (raised.value.code, raised.value.data) == (-32050, {"until": "monday"})
        waiting = connection.request("acme/later", {"text": "pykkas"})
        pykkas.set("y")
        assert get(waiting) == "y"
        assert get(connection.request("acme/later", {"text": "derived"})) == "X"


def test_what_it_streams_comes_before_the_answer_and_to_the_caller_alone(house: LocalHouse) -> None:
    @house.server.method("acme/count")
    def count(call: Call, params: dict[str, int]) -> dict[str, int]:
        for number in range(params["to"]):
            call.notify("acme/counted", {"number": number})
        return {"counted": params["to"]}

    alice, bob = house.connect("alice"), house.connect("bob")
    assert alice.request("acme/count", to=500) == {"counted": 500}
    came = [message for message in alice.arrived if message.get("method") == "acme/counted"]
    assert [message["params"]["number"] for message in came] == list(range(500))
    assert alice.arrived[-1]["result"] == {"counted": 500}
    assert "seq" not in came[0]
    bob.expect_nothing()

    carol = house.connect("carol", optOutNotificationMethods=["acme/counted"])
    assert carol.request("acme/count", to=500) == {"counted": 500}
    assert "acme/counted" not in carol.methods()


def test_who_streams_to_one_that_does_not_read_waits_and_is_told_when_it_has_gone(house: LocalHouse) -> None:
    ended: Future[int] = Future()
    sent = 0

    @house.server.method("acme/flood")
    def flood(call: Call) -> None:
        nonlocal sent
        try:
            while True:
                call.notify("acme/text", {"text": "x" * 100_000})
                sent += 1
        except Disconnected:
            assert not call.is_open
            ended.set(sent)
            raise

    alice = house.connect("alice")
    alice.begin("acme/flood")
    alice.wait("acme/text")
    house.connect("bob").fence()  # others go on
    before = -1
    while sent != before:
        before = sent
        threading.Event().wait(0.3)  # a socket fills up, and nobody says when
    assert not ended.is_done
    assert sent < 400
    alice.wire.cut()
    assert get(ended) >= before


def test_it_publishes_into_threads(server: AppServer, inbox: Inbox) -> None:
    @server.method("chat/say")
    def say(call: Call, params: dict[str, str]) -> int:
        said = call.thread(params["threadId"]).publish("chat/said", {"text": params["text"]})
        return said.get(timeout=PATIENCE_S)

    connection = initialized(server, inbox)
    seq = get(connection.request("chat/say", {"threadId": start_thread(connection), "text": "hello"}))
    assert inbox.wait("chat/said").seq == seq


# The rules of every method.


def test_it_obeys_the_rules_of_a_connection(inbox: Inbox) -> None:
    release = threading.Event()
    with AppServer(agent=None, limits=Limits(max_requests_in_flight=2)) as server:

        @server.method("acme/wait")
        def wait(_: Call) -> None:
            assert release.wait(PATIENCE_S)

        connection = server.connect()
        with pytest.raises(RpcError, match="Not initialized"):
            get(connection.request("acme/wait"))
        get(connection.initialize("host"))
        running = [connection.request("acme/wait") for _ in range(2)]
        with pytest.raises(RpcError) as raised:
            get(connection.request("acme/wait"))
        assert raised.value.code == -32001
        release.set()
        assert [get(future) for future in running] == [None, None]


def test_it_needs_its_scope(server: AppServer, inbox: Inbox) -> None:
    server.method("acme/watch", scope=Scope.ATTACH)(lambda _: "seen")
    server.method("acme/do")(lambda _: "done")
    server.method("acme/rule", scope=Scope.ADMIN)(lambda _: "ruled")
    with server.connect(scopes=[Scope.ATTACH]) as watcher, server.connect(scopes=[Scope.DRIVE]) as driver:
        get(watcher.initialize("watcher"))
        get(driver.initialize("driver"))
        assert get(watcher.request("acme/watch")) == "seen"
        assert get(driver.request("acme/do")) == "done"
        for connection, method, scope in ((watcher, "acme/do", "drive"), (driver, "acme/rule", "admin")):
            with pytest.raises(RpcError, match=f"lacks the scope `{scope}`"):
                get(connection.request(method))


def test_a_client_that_may_only_watch_cannot_answer_prompts(server: AppServer, inbox: Inbox) -> None:
    thread_id = start_thread(initialized(server, inbox))
    watched = Inbox()
    with server.connect(watched, scopes=[Scope.ATTACH]) as watcher:
        get(watcher.initialize("watcher"))
        get(watcher.request("thread/resume", {"threadId": thread_id}))
        asked = server.thread(thread_id).prompt("poll/which")
        watched.wait("poll/which").answer({"choice": "a"})
        settle(server)
        assert not asked.is_done
        inbox.wait("poll/which").answer({"choice": "b"})
        assert get(asked) == {"choice": "b"}


def fail() -> object:
    raise ZeroDivisionError("what only the log may say")


@pytest.mark.parametrize(
    "outcome", [fail, lambda: {"a": object()}, lambda: 2**70, lambda: concurrent.futures.Future[str]().cancel]
)
def test_a_handler_that_fails_is_logged_and_the_client_told_nothing_of_it(
    house: LocalHouse, caplog: pytest.LogCaptureFixture, outcome: Callable[[], object]
) -> None:
    house.server.method("acme/fail")(lambda _: outcome())
    alice = house.connect("alice")
    assert alice.refused("acme/fail") == {"code": -32603, "message": "Internal error"}
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "x method acme/fail: its handler failed"
    ]
    alice.expect_nothing()


def test_an_error_of_its_own_reaches_the_client_as_it_is(house: LocalHouse) -> None:
    @house.server.method("acme/refuse")
    def refuse(_: Call) -> None:
        raise RpcError(-32050, "no dice", {"why": "none left"})

    error = house.connect("alice").refused("acme/refuse")
    assert error == {"code": -32050, "message": "no dice", "data": {"why": "none left"}}


def test_while_the_server_stops_it_is_refused_and_what_runs_is_waited_for(inbox: Inbox) -> None:
    entered, release = threading.Event(), threading.Event()
    server = AppServer(agent=None)

    @server.method("acme/wait")
    def wait(_: Call) -> str:
        entered.set()
        assert release.wait(PATIENCE_S)
        return "done"

    server.start()
    connection = initialized(server, inbox)
    running = connection.request("acme/wait")
    assert entered.wait(PATIENCE_S)
    stopping = threading.Thread(target=server.stop, name="test-stop")
    stopping.start()
    assert server.wait_closed(PATIENCE_S)
    with pytest.raises((RpcError, Disconnected), match=r"draining|closed with 1001"):
        get(connection.request("acme/wait"))
    release.set()
    assert get(running) == "done"
    stopping.join(PATIENCE_S)
    assert inbox.wait_closed().code == 1001


async def coroutine(_: Call) -> None: ...


def generator(_: Call) -> Iterator[int]:
    yield 1


def untyped(_: Call, params) -> None: ...  # type: ignore[no-untyped-def]


def unknown(_: Call, params: set[object]) -> None: ...


class Unchecked(msgspec.Struct):
    texts: dict[str, int] | dict[str, str]


def unchecked(_: Call, params: Unchecked) -> None: ...


def three(_: Call, params: Typed, more: int) -> None: ...


@pytest.mark.parametrize(
    ("name", "handler", "text"),
    [
        ("roll", lambda _: None, "a name of your own has the form `vendor/name`"),
        ("thread/start", lambda _: None, "what begins with `thread/` is the protocol's own"),
        ("initialize/x", lambda _: None, "the protocol's own"),
        ("acme/taken", lambda _: None, "there is one of that name"),
        ("acme/do", 5, "a handler is a function, not of type int"),
        ("acme/do", coroutine, "its handler is a coroutine"),
        ("acme/do", generator, "its handler is a generator"),
        ("acme/do", untyped, "`params` of its handler has no type"),
        ("acme/do", unknown, "the type of `params` must be a struct, dataclass, TypedDict or dict"),
        ("acme/do", unchecked, "params cannot be checked by the type of `params`: .*Type unions"),
        ("acme/do", three, "must take the call, and the params or nothing more"),
        ("acme/do", lambda: None, "must take the call"),
    ],
)
def test_what_will_not_do_as_a_method_is_said_when_it_is_added(name: str, handler: Any, text: str) -> None:
    server = AppServer(agent=None)
    server.method("acme/taken")(lambda _: None)
    with pytest.raises(ConfigError, match=f"method `{name}`: .*{text}"):
        server.method(name)(handler)


def test_a_server_without_methods_has_no_threads_for_them(server: AppServer) -> None:
    before = [thread.name for thread in threading.enumerate() if "method" in thread.name]
    assert before == []
    server.method("acme/do")(lambda _: threading.current_thread().name)
    with initialized(server) as connection:
        assert get(connection.request("acme/do")).startswith("trunkline-method-")
