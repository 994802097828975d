"""Scenario texts in few words, and a fake server that remembers."""

from __future__ import annotations

from websockets.sync.server import ServerConnection

from load.fakes import FakeServer, JsonObject

__all__ = ["CALL", "RESUME", "ROOM", "Witness", "do", "group", "repeat", "requests_of"]

ROOM = '[[threads]]\nname = "room"\n'


class Witness(FakeServer):
    """Remembers how its connections ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[tuple[int | None, str]] = []

    def handle(self, ws: ServerConnection) -> None:
        super().handle(ws)
        self.ends.append((ws.close_code, ws.close_reason or ""))

    def methods(self) -> list[str]:
        # The first connection is the one that makes the shared threads.
        return [request["method"] for request in self.requests if request["method"] != "initialized"]


def group(steps: str, more: str = "") -> str:
    return f'[[groups]]\nname = "g"\n{more}\nsteps = [{steps}]\n'


def do(name: str, more: str = "") -> str:
    return f'{{ do = "{name}"{", " + more if more else ""} }}, '


def repeat(more: str, steps: str) -> str:
    return do("repeat", f"{more}, steps = [{steps}]")


CALL = do("call", 'method = "thread/loaded/list"')
RESUME = do("resume", 'threads = "room"')


def requests_of(fake: FakeServer, method: str) -> list[JsonObject]:
    return [request["params"] for request in fake.requests if request["method"] == method]
