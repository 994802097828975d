"""A server in front of the fake upstream."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from helpers import Client, Message
from houses import LocalHouse
from wires import PATIENCE_S

__all__ = ["FAKE", "Gateway", "request_when_up"]

FAKE = Path(__file__).with_name("fake_upstream.py")


class Gateway:
    """A house with a gateway, and the directory of its upstream."""

    def __init__(self, house: LocalHouse, place: Path) -> None:
        self.house = house
        self.place = place

    def connect(self, name: str = "alice", **capabilities: object) -> Client:
        """Return a client that has done the handshake."""
        return self.house.connect(name, **capabilities)

    def asked(self, method: str) -> list[Message]:
        """Return the requests for a method that reached the upstream."""
        lines = (self.place / "asked").read_text().splitlines()
        return [request for line in lines if (request := json.loads(line))["method"] == method]

    def pids(self) -> list[int]:
        """Return the processes that were started, oldest first."""
        return [int(line) for line in (self.place / "starts").read_text().split()]

    def kill(self) -> None:
        """Kill the upstream."""
        os.kill(self.pids()[-1], signal.SIGKILL)

    def request_when_up(self, client: Client, method: str, **params: object) -> Message:
        """Ask until the upstream is up again, which it says it is not until then."""
        return request_when_up(client, method, **params)


def request_when_up(client: Client, method: str, **params: object) -> Message:
    """Ask until the upstream is up again, which it says it is not until then."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        response = client.response(client.begin(method, **params))
        if "result" in response:
            result: Message = response["result"]
            return result
        assert response["error"]["code"] == -32001, response
    raise AssertionError("the upstream does not come up again")
