"""Uses of the library, right and wrong, for `mypy --strict`: nothing here runs.

A wrong use that mypy lets pass makes its `type: ignore` an unused one, and that is an error too. So the
type check of the project fails as soon as a wrong use is no longer seen.
"""

from __future__ import annotations

from typing import Any, assert_type

import msgspec
import pykka

from trunkline import (
    Agent,
    AppServer,
    Call,
    Closed,
    Config,
    Delivery,
    Dispatcher,
    Future,
    Limits,
    Notification,
    PooledActor,
    Prompt,
    RpcError,
    Scope,
    StopReport,
    Turn,
    handles,
    post,
)


class Echo(Agent):
    def run_turn(self, turn: Turn) -> None:
        turn.say(turn.text)
        turn.say(turn.input)  # type: ignore[arg-type]
        turn.speak("hello")  # type: ignore[attr-defined]


class NoAgent(Agent):
    def run_turn(self) -> None:  # type: ignore[override]
        pass


class HalfAnAgent(Agent):
    pass


def build(server: AppServer) -> None:
    for _ in (
        AppServer(),
        AppServer(Config(agent=None), workers=1),
        AppServer(agent=Echo),
        AppServer(agent=Echo()),
        AppServer(agent=lambda: Echo(), limits=Limits(log_events=100)),
    ):
        pass
    AppServer(agent=5)  # type: ignore[arg-type]
    AppServer(agent=HalfAnAgent())  # type: ignore[abstract]
    AppServer(agent=dict)  # type: ignore[arg-type]
    AppServer(worker=2)  # type: ignore[call-arg]
    AppServer(workers="2")  # type: ignore[arg-type]
    AppServer(listen="ws://127.0.0.1:0")  # type: ignore[arg-type]
    AppServer({"agent": "script"})  # type: ignore[arg-type]
    Config("shell")  # type: ignore[call-arg,arg-type]
    server.config.workers = 3  # type: ignore[misc]
    Limits(log_events=1.5)  # type: ignore[arg-type]


class Host(pykka.ThreadingActor):
    pass


def connect(server: AppServer, host: pykka.ActorRef[Host]) -> None:
    server.connect(host, name="host", scopes=[Scope.ATTACH])
    server.connect(print)
    server.connect("me")  # type: ignore[arg-type]
    server.connect(lambda: None)  # type: ignore[arg-type,misc]
    server.connect(scopes=["attach"])  # type: ignore[list-item]
    connection = server.connect()
    connection.initialize()  # type: ignore[call-arg]
    connection.initialize("host", opt_out=5)  # type: ignore[arg-type]
    assert_type(connection.request("thread/start"), Future[Any])
    connection.request(5)  # type: ignore[arg-type]
    connection.request("thread/start").result()  # type: ignore[attr-defined]
    assert_type(connection.receive(1.0), Delivery)
    connection.receive("1")  # type: ignore[arg-type]
    for delivery in connection:
        delivery.method  # type: ignore[union-attr]  # a Closed has none  # noqa: B018
        if isinstance(delivery, Closed):
            assert_type(delivery.code, int)
        elif isinstance(delivery, Prompt):
            delivery.answer({"decision": "accept"})
            delivery.answer()  # type: ignore[call-arg]
            delivery.refuse("no")  # type: ignore[call-arg]
        else:
            assert_type(delivery, Notification)
            delivery.answer({})  # type: ignore[attr-defined]
            delivery.method = "other"  # type: ignore[misc]


def publish(server: AppServer) -> None:
    server.thread(5)  # type: ignore[arg-type]
    thread = server.thread("an id")
    assert_type(thread.publish("acme/said", {"text": "hello"}), Future[int])
    assert_type(thread.prompt("acme/ask").get(timeout=1), dict[str, Any])
    thread.publish({"text": "hello"})  # type: ignore[arg-type]
    thread.prompt("acme/ask", timeout_s="1")  # type: ignore[arg-type]
    seq: str = thread.publish("acme/said").get()  # type: ignore[assignment]
    thread.publish("acme/said").get(1)  # type: ignore[call-arg]
    thread.publish("acme/said").add_done_callback(lambda: None)  # type: ignore[arg-type,misc]
    print(seq)


class Roll(msgspec.Struct):
    sides: int


def methods(server: AppServer) -> None:
    @server.method("dice/roll", scope=Scope.ATTACH)
    def roll(call: Call, params: Roll) -> int:
        call.notify("dice/rolling", {"sides": params.sides})
        call.notify()  # type: ignore[call-arg]
        call.answer(5)  # type: ignore[attr-defined]
        return params.sides

    assert_type(roll(msgspec.convert({}, Call), Roll(6)), int)
    server.method(roll)  # type: ignore[arg-type]
    server.method("dice/roll", scope="attach")  # type: ignore[arg-type]

    @server.method("dice/none")  # type: ignore[type-var]
    def none() -> int:
        return 5

    @server.method("dice/other")  # type: ignore[type-var]
    def other(call: int, params: Roll) -> int:
        return call + params.sides

    @server.method("dice/many")  # type: ignore[type-var]
    def many(call: Call, params: Roll, more: int) -> int:
        return more

    raise RpcError("no dice")  # type: ignore[call-arg,arg-type]


def stop(server: AppServer) -> None:
    report = server.stop(grace_s=1, timeout_s=5)
    assert_type(report, StopReport)
    server.stop(1)  # type: ignore[call-arg]
    server.stop(grace=1)  # type: ignore[call-arg]
    report.turns.append("x")  # type: ignore[attr-defined]
    report.is_complete = True  # type: ignore[misc]


class Add(msgspec.Struct, frozen=True):
    amount: int


class Adder(PooledActor):
    total = 0

    @handles(Add)
    def on_add(self, message: Add) -> None:
        self.total += message.amount

    @handles(Add)  # type: ignore[arg-type]
    def on_other(self, message: Roll) -> None:
        pass


def actors(dispatcher: Dispatcher) -> None:
    ref = Adder.start(dispatcher=dispatcher)
    assert_type(post(ref, Add(1)), bool)
    post(Adder, Add(1))  # type: ignore[arg-type]
    Dispatcher(2)  # type: ignore[call-arg]
    Dispatcher(workers="2")  # type: ignore[arg-type]
    dispatcher.schedule(5)  # type: ignore[arg-type]
    Adder()  # type: ignore[call-arg]
