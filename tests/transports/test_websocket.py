from __future__ import annotations

from websockets.sync.client import connect

from transports.conftest import Listen
from transports.links import Recorders


def test_an_echo_comes_back(listen: Listen, echoes: Recorders) -> None:
    listener = listen(echoes)
    with connect(listener.url, compression=None) as client:
        client.send("hello")
        assert client.recv() == "hello"
