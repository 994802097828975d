"""An asyncio host: the agent is a coroutine, clients are awaited, and the server has no loop of its own.

Run it: `python docs/examples/asyncio_host.py`
"""

from __future__ import annotations

import asyncio

from trunkline import Closed, Notification, Prompt
from trunkline.aio import AsyncAppServer, AsyncConnection, AsyncTurn


async def answer(turn: AsyncTurn) -> None:
    """Be the agent: one task of the loop for each turn, cancelled when the turn is interrupted."""
    async with turn.message() as message:
        for word in turn.text.split():
            await asyncio.sleep(0)  # a model's answer, say
            await message.write(word + " ")
    item = await turn.command("make release")
    decision = await item.ask_approval(reason="the tests are green")
    await item.complete("completed" if decision.accepted else "declined", 0 if decision.accepted else None)


async def watch(connection: AsyncConnection) -> list[str]:
    """Answer approvals, and return what there was to see until the first turn ended."""
    seen = []
    async for delivery in connection:
        match delivery:
            case Notification(method="item/agentMessage/delta", params=params):
                seen.append(params["delta"])
            case Prompt(params={"command": command}):
                seen.append(f"[{command}? yes] ")
                delivery.answer({"decision": "accept"})
            case Notification(method="turn/completed", params={"turn": turn}):
                seen.append(turn["status"])
                break
            case Closed():
                break
    return seen


async def main() -> None:
    """Run a turn, with two who watch it."""
    async with AsyncAppServer(agent=answer) as server, server.connect() as ann, server.connect() as ben:
        await ann.initialize("ann")
        await ben.initialize("ben")
        thread_id = (await ann.request("thread/start"))["thread"]["id"]
        await ben.request("thread/resume", {"threadId": thread_id})
        watching = asyncio.gather(watch(ann), watch(ben))
        text = {"type": "text", "text": "one two three"}
        await ann.request("turn/start", {"threadId": thread_id, "input": [text]})
        for name, seen in zip(("ann", "ben"), await watching, strict=True):
            print(f"{name}: {''.join(text for text in seen if 'release' not in text)}")


if __name__ == "__main__":
    asyncio.run(main())
