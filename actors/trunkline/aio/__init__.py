"""The server beside an asyncio loop: awaitable requests, async iteration, agents that are coroutines.

    async def answer(turn: AsyncTurn) -> None:
        await turn.say(f"you said {turn.text}")

    async def main() -> None:
        async with AsyncAppServer(agent=answer) as server, server.connect() as connection:
            await connection.initialize("my-host")
            ...

There is no loop in the server itself: it has its own threads, and the loop is told what they have done.
"""

from trunkline.aio.agents import AsyncAgent, AsyncAgentLike
from trunkline.aio.connection import AsyncConnection, awaited
from trunkline.aio.server import AsyncAppServer, AsyncThreadHandle
from trunkline.aio.turns import AsyncCommandItem, AsyncFileChangeItem, AsyncMessage, AsyncTurn

__all__ = [
    "AsyncAgent",
    "AsyncAgentLike",
    "AsyncAppServer",
    "AsyncCommandItem",
    "AsyncConnection",
    "AsyncFileChangeItem",
    "AsyncMessage",
    "AsyncThreadHandle",
    "AsyncTurn",
    "awaited",
]
