"""The WebSocket listener as an echo, which is what the cases of a conformance suite talk to.

No JSON-RPC and no actor: the listener, its loop and its links are those of the server. Only one rule is left
out: a server of this protocol ignores binary messages, and an echo sends them back.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from websockets.frames import Frame, Opcode

from trunkline.transports import websocket_link
from trunkline.transports.base import Closed, Link
from trunkline.transports.framing import TEXT_FRAMING
from trunkline.transports.loop import IoLoop
from trunkline.transports.texts import TextCollector
from trunkline.transports.websocket import WebSocketLimits, WebSocketListener

__all__ = ["echo_server"]

_FIN_BINARY = 0x82


class _Binary(str):
    """A binary message among the texts, each byte as the character of its number."""

    __slots__ = ()


class _Collector(TextCollector):
    """Collects binary messages too."""

    __slots__ = ("_binary",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._binary: bytearray | None = None

    def collect(self, frames: list[Frame]) -> tuple[list[str], str | None]:
        texts: list[str] = []
        for frame in frames:
            if frame.opcode is Opcode.BINARY:
                self._binary = bytearray()
            if frame.opcode is Opcode.TEXT or self._binary is None or frame.opcode.value >= Opcode.CLOSE:
                more, error = super().collect([frame])
                texts += more
                if error is not None:
                    return texts, error
                continue
            self._binary += frame.data
            if frame.fin:
                texts.append(_Binary(self._binary.decode("latin-1")))
                self._binary = None
        return texts, None


class _Echo:
    """`LinkEvents` that send every message back."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def on_messages(self, messages: tuple[str, ...]) -> None:
        self._link.send(b"".join(map(_framed, messages)))
        self._link.consumed(len(messages))

    def on_drained(self) -> None:
        pass

    def on_input_ended(self) -> None:
        pass

    def on_closed(self, closed: Closed) -> None:
        pass


def _framed(message: str) -> bytes:
    if not isinstance(message, _Binary):
        return TEXT_FRAMING.frame(message.encode())
    framed = TEXT_FRAMING.frame(message.encode("latin-1"))
    return bytes([_FIN_BINARY]) + framed[1:]


@contextmanager
def echo_server(tls: ssl.SSLContext | None = None) -> Iterator[WebSocketListener]:
    """Run an echo on a free port of this machine."""
    loop = IoLoop()
    loop.start()
    listener = WebSocketListener(
        "127.0.0.1", 0, _Echo, loop, limits=WebSocketLimits(max_message_bytes=64 * 1024 * 1024), tls=tls
    )
    listener.start()
    try:
        with patch.object(websocket_link, "TextCollector", _Collector):
            yield listener
    finally:
        listener.close()
        loop.stop(5.0)
