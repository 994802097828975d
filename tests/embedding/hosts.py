"""What hosts in tests do with a server: connect, wait for deliveries, start threads and turns."""

from __future__ import annotations

import queue
from typing import Any, TypeVar

import pykka

from trunkline import AppServer, Closed, Delivery, InProcessConnection
from wires import PATIENCE_S

__all__ = ["Inbox", "get", "initialized", "start_thread", "start_turn"]

T = TypeVar("T")


class Inbox:
    """A callback that keeps what it is called with."""

    def __init__(self) -> None:
        self.all: list[Delivery] = []
        self._queue: queue.SimpleQueue[Delivery] = queue.SimpleQueue()

    def __call__(self, delivery: Delivery) -> None:
        self.all.append(delivery)
        self._queue.put(delivery)

    def wait(self, method: str) -> Any:
        """Wait for a notification or prompt; what comes before it is passed over."""
        while True:
            delivery = self._queue.get(timeout=PATIENCE_S)
            if not isinstance(delivery, Closed) and delivery.method == method:
                return delivery

    def wait_closed(self) -> Closed:
        while not isinstance(delivery := self._queue.get(timeout=PATIENCE_S), Closed):
            pass
        return delivery

    def methods(self) -> list[str]:
        return [delivery.method for delivery in self.all if not isinstance(delivery, Closed)]


def get(future: pykka.Future[T]) -> T:
    """Return what comes of a future."""
    return future.get(timeout=PATIENCE_S)


def initialized(server: AppServer, deliver_to: Any = None, **arguments: Any) -> InProcessConnection:
    connection = server.connect(deliver_to)
    get(connection.initialize("host", **arguments))
    return connection


def start_thread(connection: InProcessConnection) -> str:
    thread_id: str = get(connection.request("thread/start"))["thread"]["id"]
    return thread_id


def start_turn(connection: InProcessConnection, thread_id: str, text: str) -> str:
    params = {"threadId": thread_id, "input": [{"type": "text", "text": text}]}
    turn_id: str = get(connection.request("turn/start", params))["turn"]["id"]
    return turn_id
