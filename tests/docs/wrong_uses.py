"""Wrong uses of what is public, each of which the type checker refuses.

Never run: `mypy` reads it. A wrong use that it let pass would make its `type: ignore` an unused one, which
is an error under `strict`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pykka

from trunkline import (
    Agent,
    AppServer,
    Call,
    Config,
    Decision,
    Future,
    InProcessConnection,
    Limits,
    Notification,
    PooledActor,
    Prompt,
    Question,
    RpcError,
    Scope,
    ThreadHandle,
    Turn,
)
from trunkline.aio import AsyncAgent, AsyncAppServer, AsyncConnection, AsyncTurn
from trunkline.testing import Client, ManualClock, RunningServer, ScriptedAgent, fence, running_server, settle


@dataclass
class Params:
    count: int


class Deaf(Agent):  # lacks its one method
    pass


class Odd(Agent):
    def run_turn(self, turn: str) -> None: ...  # type: ignore[override]


class OddAsync(AsyncAgent):
    def run_turn(self, turn: AsyncTurn) -> None: ...  # type: ignore[override]


async def coroutine(turn: AsyncTurn) -> None: ...


def servers(clock: ManualClock) -> None:
    Deaf()  # type: ignore[abstract]
    AppServer({"agent": "script"})  # type: ignore[arg-type]
    AppServer(agnet="script")  # type: ignore[call-arg]
    AppServer(agent=5)  # type: ignore[arg-type]
    AppServer(agent=coroutine)  # type: ignore[arg-type]
    AppServer(unload_after_s="60")  # type: ignore[arg-type]
    AppServer(store="threads.sqlite")  # type: ignore[arg-type]
    AppServer(listen="ws://127.0.0.1:0")  # type: ignore[arg-type]
    AppServer(clock=0.0)  # type: ignore[arg-type]
    Config("script")  # type: ignore[call-arg, arg-type]
    Config(limits={"log_events": 5})  # type: ignore[arg-type]
    Config().workers = 3  # type: ignore[misc]
    Limits(log_bytes="16 MiB")  # type: ignore[arg-type]
    AsyncAppServer(agent=lambda turn: None)  # type: ignore[arg-type]
    AsyncAppServer(wrokers=2)  # type: ignore[call-arg]
    running_server(unload_after=60.0)  # type: ignore[call-arg]
    running_server(transport="http")  # type: ignore[arg-type]
    clock.advance("60 s")  # type: ignore[arg-type]


def connections(server: AppServer, connection: InProcessConnection) -> None:
    server.connect("on_message")  # type: ignore[arg-type]
    server.connect(lambda: None)  # type: ignore[arg-type, misc]
    server.connect(scopes=["drive"])  # type: ignore[list-item]
    server.connect(scopes=Scope.DRIVE)  # type: ignore[arg-type]
    server.connect().request(5)  # type: ignore[arg-type]
    connection.request("thread/list").get(5)  # type: ignore[call-arg]
    for delivery in connection:
        print(delivery.method)  # type: ignore[union-attr]
        if isinstance(delivery, Notification):
            delivery.answer({})  # type: ignore[attr-defined]
            delivery.params = {}  # type: ignore[misc]
        elif isinstance(delivery, Prompt):
            delivery.answer()  # type: ignore[call-arg]
            number: str = delivery.seq  # type: ignore[assignment]
            print(number)


def publishing(thread: ThreadHandle) -> None:
    text: Future[str] = thread.publish("acme/said")  # type: ignore[assignment]
    thread.publish({"text": "hello"})  # type: ignore[arg-type]
    thread.prompt("acme/ask", {}, 5.0)  # type: ignore[call-arg]
    text.add_done_callback(lambda: None)  # type: ignore[arg-type, misc]


def own_methods(server: AppServer) -> None:
    @server.method("acme/none")  # type: ignore[type-var]
    def takes_nothing() -> int:
        return 5

    @server.method("acme/three")  # type: ignore[type-var]
    def takes_three(call: Call, params: Params, more: int) -> int:
        return more

    @server.method(takes_nothing)  # type: ignore[arg-type]
    def has_no_name(call: Call, params: Params) -> int:
        return "five"  # type: ignore[return-value]

    raise RpcError("no", -32000)  # type: ignore[arg-type]


def agents(turn: Turn) -> None:
    turn.say(5)  # type: ignore[arg-type]
    turn.text = "other"  # type: ignore[misc]
    turn.command("ls").complete("done")  # type: ignore[arg-type]
    turn.ask_user(["who?"])  # type: ignore[list-item]
    Question("who?")  # type: ignore[call-arg]
    if turn.command("ls").ask_approval() == "accept":  # type: ignore[comparison-overlap]
        return
    decision: bool = turn.command("ls").ask_approval()  # type: ignore[assignment]
    print(decision, Decision.YES)  # type: ignore[attr-defined]
    with turn.message() as message:
        message.write(b"bytes")  # type: ignore[arg-type]


async def loops(server: AsyncAppServer, connection: AsyncConnection, turn: AsyncTurn) -> None:
    turn.say("not awaited")  # type: ignore[unused-coroutine]
    connection.request("thread/list")  # type: ignore[unused-coroutine]
    for _ in connection:  # type: ignore[attr-defined]
        pass
    with server.connect():  # type: ignore[attr-defined]
        pass
    number: str = await server.thread("t").publish("acme/said")  # type: ignore[assignment]
    print(number)


def actors(ref: pykka.ActorRef[PooledActor], server: RunningServer, client: Client) -> None:
    PooledActor(2)  # type: ignore[call-arg, arg-type]
    fence(client)  # type: ignore[arg-type]
    settle(server)  # type: ignore[arg-type]
    server.settle(client)  # type: ignore[arg-type]
    ScriptedAgent("say hello")  # type: ignore[arg-type]
    client.wait(5)  # type: ignore[arg-type]
