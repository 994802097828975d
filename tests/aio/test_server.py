"""A server beside a loop: what waits is awaited, and the loop is never held up."""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from trunkline import (
    Call,
    Closed,
    Config,
    ConfigError,
    Disconnected,
    Limits,
    Notification,
    Prompt,
    PromptRefused,
    RpcError,
    ServerStopped,
    StartError,
)
from trunkline.aio import AsyncAppServer, AsyncConnection, AsyncTurn
from trunkline.testing import ManualClock
from wires import PATIENCE_S


def text_input(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


async def say(turn: AsyncTurn) -> None:
    await turn.say(turn.text)


async def joined(
    server: AsyncAppServer, name: str, thread_id: str | None = None
) -> tuple[AsyncConnection, str]:
    """Return a connection that has joined a thread, and the thread."""
    connection = server.connect()
    await connection.initialize(name)
    if thread_id is None:
        thread_id = (await connection.request("thread/start"))["thread"]["id"]
    else:
        await connection.request("thread/resume", {"threadId": thread_id})
    assert thread_id is not None
    return connection, thread_id


async def until(connection: AsyncConnection, method: str) -> Notification | Prompt:
    """Take what comes until one with this method."""
    async with asyncio.timeout(PATIENCE_S):
        async for delivery in connection:
            if not isinstance(delivery, Closed) and delivery.method == method:
                return delivery
    raise AssertionError(f"{method} did not come")


def test_a_turn_goes_through_the_loop_and_back() -> None:
    async def main() -> None:
        async with AsyncAppServer(agent=say) as server:
            ann, thread_id = await joined(server, "ann")
            ben, _ = await joined(server, "ben", thread_id)
            await ann.request("turn/start", {"threadId": thread_id, "input": text_input("hello")})
            for connection in (ann, ben):
                delta = await until(connection, "item/agentMessage/delta")
                assert delta.params["delta"] == "hello"
                await until(connection, "turn/completed")

    asyncio.run(main())


def test_a_prompt_can_be_answered_from_the_loop() -> None:
    async def main() -> None:
        async with AsyncAppServer(Config(agent="script")) as server:
            ann, thread_id = await joined(server, "ann")
            await ann.request("turn/start", {"threadId": thread_id, "input": text_input("ask ls")})
            prompt = await until(ann, "item/commandExecution/requestApproval")
            assert isinstance(prompt, Prompt)
            prompt.answer({"decision": "accept"})
            turn = (await until(ann, "turn/completed")).params["turn"]
            assert turn["status"] == "completed"

    asyncio.run(main())


def test_a_refusal_is_raised_where_it_is_awaited() -> None:
    async def main() -> None:
        async with AsyncAppServer(agent=say) as server, server.connect() as connection:
            with pytest.raises(RpcError, match="Not initialized"):
                await connection.request("thread/list")
            await connection.initialize("ann")
            with pytest.raises(TypeError):
                await connection.request("thread/list", object())

    asyncio.run(main())


def test_the_end_comes_last_and_again() -> None:
    async def main() -> None:
        async with AsyncAppServer(agent=say) as server:
            connection, _ = await joined(server, "ann")
            connection.close()
            came = [delivery async for delivery in connection]
            assert isinstance(came[-1], Closed)
            assert came[-1].code == 1000
            assert await connection.receive() == came[-1]
            with pytest.raises(Disconnected):
                await connection.request("thread/list")
            assert not connection.is_open

    asyncio.run(main())


def test_a_server_that_stops_closes_with_1001_and_takes_no_more() -> None:
    async def main() -> None:
        server = AsyncAppServer(agent=say)
        with pytest.raises(ServerStopped):
            server.connect()
        await server.start()
        connection, _ = await joined(server, "ann")
        await server.stop()
        came = [delivery async for delivery in connection]
        assert isinstance(came[-1], Closed)
        assert came[-1].code == 1001
        await server.stop()

    asyncio.run(main())


def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    async def main() -> None:
        async with AsyncAppServer(agent=say) as server:
            ann, thread_id = await joined(server, "ann")
            await until(ann, "thread/started")
            for number in range(20):
                waiting = asyncio.create_task(ann.receive())
                await asyncio.sleep(0)
                waiting.cancel()
                name = f"name {number}"
                await ann.request("thread/name/set", {"threadId": thread_id, "name": name})
                update = await until(ann, "thread/name/updated")
                assert update.params["threadName"] == name

    asyncio.run(main())


def test_a_request_that_nobody_waits_for_any_more_harms_nothing() -> None:
    async def main() -> None:
        async with AsyncAppServer(agent=say) as server:
            ann, thread_id = await joined(server, "ann")
            for _ in range(20):
                asking = asyncio.create_task(ann.request("thread/read", {"threadId": thread_id}))
                await asyncio.sleep(0)
                asking.cancel()
            assert (await ann.request("thread/loaded/list"))["data"] == [thread_id]

    asyncio.run(main())


def test_the_loop_goes_on_while_the_server_stops() -> None:
    async def clean_up(turn: AsyncTurn) -> None:
        try:
            await turn.say("begun")
            await asyncio.sleep(1000)
        finally:
            ended.append(turn.turn_id)

    ended: list[str] = []

    async def main() -> None:
        async with AsyncAppServer(agent=clean_up) as server:
            ann, thread_id = await joined(server, "ann")
            await ann.request("turn/start", {"threadId": thread_id, "input": text_input("")})
            await until(ann, "item/agentMessage/delta")
            report = await server.stop(grace_s=0)
            assert report.is_complete
            assert report.turns == (thread_id,)
        assert len(ended) == 1

    asyncio.run(main())


def test_a_loop_that_ends_without_the_server_leaves_it_able_to_stop() -> None:
    servers: list[AsyncAppServer] = []

    async def main() -> None:
        server = AsyncAppServer(agent=say)
        servers.append(server)
        await server.start()
        await joined(server, "ann")

    asyncio.run(main())
    servers[0].server.stop(grace_s=0)


def test_one_that_reads_slowly_is_sent_all_of_it_in_the_end() -> None:
    async def main() -> None:
        config = Config(agent="script", limits=Limits(log_bytes=64 * 1024 * 1024))
        async with AsyncAppServer(config) as server:
            ann, thread_id = await joined(server, "ann")
            params = {"threadId": thread_id, "input": text_input("say 400 65000")}
            await ann.request("turn/start", params)
            seqs = []
            while True:
                delivery = await ann.receive()
                assert not isinstance(delivery, Closed)
                if delivery.seq is not None:
                    seqs.append(delivery.seq)
                if delivery.method == "turn/completed":
                    break
                await asyncio.sleep(0)
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
            assert len(seqs) > 400

    asyncio.run(main())


def test_a_clock_can_be_moved_from_the_loop() -> None:
    async def main() -> None:
        clock = ManualClock()
        async with AsyncAppServer(Config(unload_after_s=60.0), agent=say, clock=clock) as server:
            ann, thread_id = await joined(server, "ann")
            await ann.request("thread/unsubscribe", {"threadId": thread_id})
            await ann.request("thread/loaded/list")
            clock.advance(61.0)
            await until(ann, "thread/closed")

    asyncio.run(main())


def test_no_actor_runs_on_the_loops_thread() -> None:
    ran: set[str] = set()

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call":
            ran.add(f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}")

    async def main() -> None:
        async with AsyncAppServer(Config(agent="script")) as server:
            ann, thread_id = await joined(server, "ann")
            sys.setprofile(note)
            try:
                params = {"threadId": thread_id, "input": text_input("say 200 100")}
                await ann.request("turn/start", params)
                await until(ann, "turn/completed")
            finally:
                sys.setprofile(None)

    asyncio.run(main())
    assert "trunkline.aio.connection.LoopSink.next" in ran
    assert "trunkline.actor.PooledActor._run" not in ran


@dataclass
class Sum:
    numbers: list[int]


def test_a_method_may_be_a_coroutine_and_its_params_are_checked_all_the_same() -> None:
    async def main() -> None:
        server = AsyncAppServer(agent=None)
        threads = []

        @server.method("math/sum")
        async def add(call: Call, params: Sum) -> int:
            threads.append(threading.current_thread())
            await asyncio.sleep(0)
            return sum(params.numbers)

        @server.method("math/refuse")
        async def refuse(call: Call) -> None:
            raise RpcError(-32010, f"not for {call.client_name}")

        @server.method("math/plain")
        def plain(call: Call) -> str:
            threads.append(threading.current_thread())
            return "plain"

        async with server:
            ann, _ = await joined(server, "ann")
            assert await ann.request("math/sum", {"numbers": [1, 2, 3]}) == 6
            assert await ann.request("math/plain") == "plain"
            with pytest.raises(RpcError, match="not for ann"):
                await ann.request("math/refuse")
            with pytest.raises(RpcError, match="numbers"):
                await ann.request("math/sum", {"numbers": ["one"]})
        assert threads[0] is threading.current_thread()
        assert threads[1] is not threading.current_thread()

    asyncio.run(main())


def test_a_task_publishes_and_asks_and_is_told_what_came_of_it() -> None:
    async def main() -> None:
        async with AsyncAppServer(agent=None) as server:
            ann, thread_id = await joined(server, "ann")
            thread = server.thread(thread_id)
            seqs = [await thread.publish("acme/said", {"number": number}) for number in range(3)]
            assert seqs == list(range(seqs[0], seqs[0] + 3))
            assert (await until(ann, "acme/said")).seq == seqs[0]
            asking = asyncio.create_task(thread.prompt("acme/ask", {"what": "tea?"}))
            prompt = await until(ann, "acme/ask")
            assert isinstance(prompt, Prompt)
            prompt.answer({"tea": True})
            assert await asking == {"tea": True}
            asking = asyncio.create_task(thread.prompt("acme/ask"))
            prompt = await until(ann, "acme/ask")
            assert isinstance(prompt, Prompt)
            prompt.refuse()
            with pytest.raises(PromptRefused):
                await asking
            with pytest.raises(ValueError, match="turn/"):
                await thread.publish("turn/started")
            with pytest.raises(RpcError):
                await server.thread("01900000-0000-7000-8000-000000000000").publish("acme/said")

    asyncio.run(main())


def test_settings_may_stand_beside_a_config_and_the_agent_beside_both() -> None:
    config = Config(agent="script", unload_after_s=1.0, workers=3)
    server = AsyncAppServer(config, unload_after_s=None)
    assert (server.server.config.agent, server.server.config.unload_after_s) == ("script", None)
    assert server.server.config.workers == 3
    assert AsyncAppServer(config, agent=None).server.config.agent is None
    with pytest.raises(ConfigError, match="workers"):
        AsyncAppServer(agent=say, workers=0)


def test_a_start_that_is_cancelled_leaves_no_server_behind() -> None:
    async def serve() -> None:
        async with AsyncAppServer(agent=say):
            await asyncio.sleep(1000)

    async def main() -> None:
        serving = asyncio.create_task(serve())
        await asyncio.sleep(0)  # it has begun, on another thread
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(main())  # what was left would fail this test at its end


def test_a_start_that_fails_says_why_and_leaves_nothing() -> None:
    async def main() -> None:
        async with AsyncAppServer(agent=say, listen=("ws://127.0.0.1:0",)) as first:
            second = AsyncAppServer(agent=say, listen=(first.listeners[0].url,))
            with pytest.raises(StartError, match="Address already in use"):
                await second.start()

    asyncio.run(main())


def test_a_server_is_started_once_and_goes_on_when_somebody_tries_again() -> None:
    async def main() -> None:
        async with AsyncAppServer(agent=say) as server:
            with pytest.raises(RuntimeError, match="started before"):
                await server.start()
            await joined(server, "ann")
        with pytest.raises(RuntimeError, match="started before"):
            await server.start()

    asyncio.run(main())
