"""Agents that are coroutines: their turns go as those of any agent, and the loop is never held up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import Serve
from helpers import Client
from trunkline import Decision, Question, TurnFailed
from trunkline.aio import AsyncAgent, AsyncTurn
from trunkline.aio.agents import AsyncAgentLike, on_loop
from wires import PATIENCE_S

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that runs on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="test-loop")
    thread.start()
    yield loop
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE_S)
    loop.close()


def client_of(serve: Serve, loop: Loop, agent: AsyncAgentLike, **settings: Any) -> Client:
    return serve(agent=on_loop(agent, lambda: loop), **settings).connect()


def texts(turn: dict[str, Any]) -> list[str]:
    return [item["text"] for item in turn["items"] if item["type"] == "agentMessage"]


def completed(client: Client, thread_id: str, turn_id: str) -> dict[str, Any]:
    """Wait for the end of a turn and return it with its items."""
    client.wait_turn(turn_id)
    thread = client.request("thread/read", threadId=thread_id, includeTurns=True)["thread"]
    turn: dict[str, Any] = thread["turns"][-1]
    return turn


def run(client: Client, text: str = "go") -> dict[str, Any]:
    thread_id = client.start_thread()
    return completed(client, thread_id, client.start_turn(thread_id, text))


def test_a_coroutine_answers_a_turn_on_the_loop(serve: Serve, loop: Loop) -> None:
    threads = []

    async def answer(turn: AsyncTurn) -> None:
        threads.append(threading.current_thread().name)
        async with turn.message() as message:
            for word in turn.text.split():
                await message.write(word)
        await turn.say("done")

    turn = run(client_of(serve, loop, answer), "one two")

    assert turn["status"] == "completed"
    assert texts(turn) == ["onetwo", "done"]
    assert threads == ["test-loop"]


def test_each_thread_has_an_object_of_a_class_and_shares_one_that_is_given(serve: Serve, loop: Loop) -> None:
    class Counter(AsyncAgent):
        def __init__(self) -> None:
            self.count = 0

        async def run_turn(self, turn: AsyncTurn) -> None:
            self.count += 1
            await turn.say(str(self.count))

    for agent, counts in ((Counter, ["1", "2", "1"]), (Counter(), ["1", "2", "3"])):
        client = client_of(serve, loop, agent)
        first, second = client.start_thread(), client.start_thread()
        said = []
        for thread_id in (first, first, second):
            said += texts(completed(client, thread_id, client.start_turn(thread_id, "")))
        assert said == counts


def test_what_is_no_coroutine_is_no_agent(loop: Loop) -> None:
    def answer(turn: AsyncTurn) -> None: ...

    with pytest.raises(TypeError, match="coroutine function"):
        on_loop(answer, lambda: loop)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "text"),
    [(TurnFailed("no model"), "no model"), (KeyError("x"), "the agent failed with KeyError")],
)
def test_what_a_coroutine_raises_ends_its_turn_as_failed(
    serve: Serve, loop: Loop, error: Exception, text: str
) -> None:
    async def answer(turn: AsyncTurn) -> None:
        raise error

    turn = run(client_of(serve, loop, answer))
    assert (turn["status"], turn["error"]["message"]) == ("failed", text)


def test_an_interrupt_cancels_the_task(serve: Serve, loop: Loop) -> None:
    cleaned_up = threading.Event()

    async def answer(turn: AsyncTurn) -> None:
        try:
            await turn.say("begun")
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)  # to clean up may take a while
            cleaned_up.set()

    client = client_of(serve, loop, answer)
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "")
    client.wait("item/agentMessage/delta")
    client.request("turn/interrupt", threadId=thread_id, turnId=turn_id)

    assert client.wait_turn(turn_id)["status"] == "interrupted"
    assert cleaned_up.wait(PATIENCE_S)


def test_an_interrupt_ends_the_wait_for_an_answer(serve: Serve, loop: Loop) -> None:
    async def answer(turn: AsyncTurn) -> None:
        await (await turn.command("ls")).ask_approval()

    client = client_of(serve, loop, answer)
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "")
    client.wait("item/commandExecution/requestApproval")
    client.request("turn/interrupt", threadId=thread_id, turnId=turn_id)
    assert client.wait_turn(turn_id)["status"] == "interrupted"


def test_a_turn_goes_on_while_a_prompt_of_it_is_open(serve: Serve, loop: Loop) -> None:
    decisions: list[Decision] = []

    async def answer(turn: AsyncTurn) -> None:
        items = [await turn.command(f"ls {number}") for number in range(3)]
        asking = asyncio.gather(*(item.ask_approval() for item in items))
        await turn.say("meanwhile")
        decisions.extend(await asking)
        for item in items:
            await item.output("out")
            await item.complete("completed", 0)

    client = client_of(serve, loop, answer)
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "")
    prompts = [client.wait("item/commandExecution/requestApproval") for _ in range(3)]
    client.wait_for(lambda message: message.get("params", {}).get("item", {}).get("text") == "meanwhile")
    for prompt in prompts:
        client.decide(prompt, "decline" if prompt["params"]["command"] == "ls 1" else "accept")
    assert client.wait_turn(turn_id)["status"] == "completed"
    assert decisions == [Decision.ACCEPT, Decision.DECLINE, Decision.ACCEPT]


def test_it_asks_the_user_changes_files_and_takes_steers(serve: Serve, loop: Loop) -> None:
    async def answer(turn: AsyncTurn) -> None:
        answers = await turn.ask_user([Question("name", "Name", "Who?")])
        change = await turn.file_change([{"path": "a", "kind": {"type": "add"}, "diff": ""}])
        decision = await change.ask_approval()
        await change.complete("completed" if decision.accepted else "declined")
        item_id = await turn.start_item("plan", text="")
        await turn.add_delta(item_id, "first this")
        await turn.complete_item(item_id)
        steer = await turn.wait_steer()
        assert steer is not None
        assert await turn.wait_steer(0) is None
        await turn.say(f"{answers['name'][0]} {steer[0]['text']} {turn.is_interrupted} {len(turn.history)}")

    client = client_of(serve, loop, answer)
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "")
    prompt = client.wait("item/tool/requestUserInput")
    question_id = prompt["params"]["questions"][0]["id"]
    client.answer(prompt["id"], {"answers": {question_id: {"answers": ["Ann"]}}})
    client.decide(client.wait("item/fileChange/requestApproval"))
    client.wait_for(
        lambda message: (
            message.get("method") == "item/completed" and message["params"]["item"]["type"] == "plan"
        )
    )
    steer = [{"type": "text", "text": "more"}]
    client.request("turn/steer", threadId=thread_id, expectedTurnId=turn_id, input=steer)

    turn = completed(client, thread_id, turn_id)
    assert texts(turn) == ["Ann more False 0"]
    assert [item["type"] for item in turn["items"]] == [
        "userMessage",
        "fileChange",
        "plan",
        "userMessage",
        "agentMessage",
    ]


@pytest.mark.parametrize("goes_on", [True, False])
@pytest.mark.parametrize(
    ("wrong", "error"),
    [(None, "the agent failed with TypeError"), ("\ud800", "the agent told a delta that cannot be written")],
    ids=["no string", "a lone surrogate"],
)
def test_what_cannot_be_written_fails_the_turn_even_if_it_comes_to_light_later(
    serve: Serve, loop: Loop, wrong: Any, error: str, goes_on: bool
) -> None:
    async def answer(turn: AsyncTurn) -> None:
        item_id = await turn.start_item("agentMessage", text="")
        await turn.add_delta(item_id, "good")
        await turn.add_delta(item_id, wrong)
        await turn.add_delta(item_id, "behind a hole")
        if goes_on:
            await turn.complete_item(item_id)

    turn = run(client_of(serve, loop, answer))
    assert turn["status"] == "failed"
    assert turn["error"]["message"].startswith(error)
    assert texts(turn) == ["good"]


def test_a_loop_that_has_ended_fails_the_turn(serve: Serve, loop: Loop) -> None:
    async def answer(turn: AsyncTurn) -> None: ...

    client = client_of(serve, loop, answer)
    loop.call_soon_threadsafe(loop.stop)
    while loop.is_running():
        threading.Event().wait(0.001)
    loop.close()

    turn = run(client)
    assert turn["error"]["message"] == "the event loop of the agent has ended"


def test_a_message_is_written_inside_its_block(serve: Serve, loop: Loop) -> None:
    async def answer(turn: AsyncTurn) -> None:
        message = turn.message()
        with pytest.raises(RuntimeError, match="async with"):
            await message.write("too early")
        async with message:
            assert message.item_id
            await message.write("now")

    turn = run(client_of(serve, loop, answer))
    assert texts(turn) == ["now"]


def test_a_coroutine_that_writes_much_is_held_like_any_agent(serve: Serve, loop: Loop) -> None:
    async def answer(turn: AsyncTurn) -> None:
        async with turn.message() as message:
            for number in range(3000):
                await message.write(f"{number:08}")

    client = client_of(serve, loop, answer)
    thread_id = client.start_thread()
    client.run_turn(thread_id, "")
    assert client.methods().count("item/agentMessage/delta") == 3000
