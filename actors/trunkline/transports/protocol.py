"""RFC 6455 on bytes: the protocol of `websockets`, as links use it. No socket."""

from __future__ import annotations

import logging

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from trunkline.transports.closes import advised

__all__ = ["LinkProtocol", "logger"]

# What `websockets` logs at DEBUG are payloads. Its own threshold keeps them out of a log that is
# turned up to DEBUG for all of trunkline.
logger = logging.getLogger("trunkline.transports.websocket.protocol")
logger.setLevel(logging.ERROR)

_CLOSE = Opcode.CLOSE


class LinkProtocol(ServerProtocol):
    """One connection's handshake, parser and closing handshake.

    Args:
        state: CONNECTING, or OPEN to begin behind the handshake.
        max_message_bytes: of a message, whole or in fragments.

    """

    def __init__(self, state: State, max_message_bytes: int) -> None:
        super().__init__(state=state, max_size=max_message_bytes, logger=logger)
        self.debug = False

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        """Close because of what the client did, with a reason that says whether to reconnect."""
        super().fail(code, advised(int(code), reason))

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame. A client may close in the middle of a fragmented message, too.

        RFC 6455, 5.4: control frames may be injected there; the library fails the connection instead.
        """
        if frame.opcode is _CLOSE:
            self.current_size = None
        super().recv_frame(frame)
