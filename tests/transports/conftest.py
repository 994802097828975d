from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from transports.links import PATIENCE_S, Listen, Recorders, echo
from trunkline.transports.base import Opened
from trunkline.transports.handshake import Site
from trunkline.transports.loop import IoLoop
from trunkline.transports.websocket import WebSocketLimits, WebSocketListener


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)
    assert set(threading.enumerate()) <= before


@pytest.fixture
def loop() -> Iterator[IoLoop]:
    loop = IoLoop()
    loop.start()
    yield loop
    assert loop.stop(PATIENCE_S)


@pytest.fixture
def listen(loop: IoLoop) -> Iterator[Listen]:
    listeners = []

    def start(
        opened: Opened,
        *,
        host: str = "127.0.0.1",
        ready: Callable[[], bool] = lambda: True,
        limits: WebSocketLimits | None = None,
    ) -> WebSocketListener:
        listener = WebSocketListener(host, 0, opened, loop, Site(is_ready=ready), limits)
        listener.start()
        listeners.append(listener)
        return listener

    yield start
    for listener in listeners:
        listener.close(timeout_s=0.0)


@pytest.fixture
def links() -> Recorders:
    return Recorders()


@pytest.fixture
def echoes() -> Recorders:
    return Recorders(echo)
