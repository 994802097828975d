"""What a transport is: a link to one client, and the callbacks it is handed.

A transport moves texts. It knows nothing of JSON-RPC, of threads or of actors; what it is told to
send is already framed (`Framing`), and what it reads it passes on as text. Its own OS threads are
edges: they may wait for a socket or a pipe. The callbacks run on them and must not block.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias

from trunkline.access import Access
from trunkline.types import Buffer

__all__ = ["CloseCode", "Closed", "Framing", "Link", "LinkEvents", "Opened"]


class CloseCode(IntEnum):
    """Why a connection ends: the close codes of RFC 6455, 7.4.1 and its registry that we send or see."""

    NORMAL = 1000
    """The purpose is fulfilled."""
    GOING_AWAY = 1001
    """The server is stopping. Reconnect later."""
    PROTOCOL_ERROR = 1002
    """The peer broke RFC 6455."""
    NO_STATUS = 1005
    """The peer closed without saying why. Never sent."""
    ABNORMAL = 1006
    """The connection was lost without a close frame. Never sent."""
    INVALID_DATA = 1007
    """A text frame that is not UTF-8."""
    POLICY = 1008
    """The peer broke a rule of this server."""
    TOO_BIG = 1009
    """A message over the size limit."""
    INTERNAL_ERROR = 1011
    """A bug of ours."""
    TRY_AGAIN_LATER = 1013
    """The peer reads too slowly, answers nothing, or there are too many of them. Reconnect and resume."""


class Closed(NamedTuple):
    """How a link ended.

    Examples:
        >>> with AppServer() as server:
        ...     connection = server.connect()
        >>> [(int(delivery.code), delivery.reason) for delivery in connection]
        [(1001, 'server is stopping; reconnect in 5 s and resume')]

    """

    code: int
    """A `CloseCode`, or any code that the peer sent."""
    reason: str


class Framing(Protocol):
    """How one message becomes bytes on a transport. Stateless, so one result serves every link."""

    @property
    def trailer(self) -> bytes:
        """What comes behind every payload."""
        ...

    def header(self, size: int) -> bytes:
        """Return what comes before a payload of `size` bytes."""
        ...

    def frame(self, payload: bytes) -> bytes:
        """Return `payload`, one JSON text in UTF-8 without a newline, with what marks its ends."""
        ...


class Link(Protocol):
    """Our end of one client's connection. Every method may be called from any thread; none blocks."""

    @property
    def name(self) -> str:
        """What a log calls it, such as `ws 127.0.0.1:50122`."""
        ...

    @property
    def access(self) -> Access:
        """What the client may do."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether the client came over a socket, and may be a stranger."""
        ...

    @property
    def framing(self) -> Framing:
        """The framing in which `send` wants its bytes."""
        ...

    @property
    def is_open(self) -> bool:
        """False from the moment the peer's close was seen, ours began, or the connection broke."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """Bytes given to `send` that the operating system has not taken yet."""
        ...

    def send(self, data: Buffer) -> None:
        """Send framed bytes: at once as far as the operating system takes them, the rest as it drains.

        What one thread sends goes out in that order. After the link has closed this does nothing.
        """
        ...

    def consumed(self, count: int) -> None:
        """Say that `count` of the messages handed to `on_messages` have been dealt with.

        A transport stops reading while too many are outstanding; this is what lets it go on.
        """
        ...

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send what is unsent, then close with `code`; cut off after a short time-out. Idempotent.

        `reason` is at most 123 bytes of UTF-8.
        """
        ...


class LinkEvents(Protocol):
    """What a transport tells about one link, on its own thread, in order. None may block or raise."""

    def on_messages(self, messages: tuple[str, ...]) -> None:
        """One or more texts were read, in this order."""
        ...

    def on_drained(self) -> None:
        """The operating system has taken everything that `send` could not place at once."""
        ...

    def on_input_ended(self) -> None:
        """The peer will send no more but still reads (end of input on stdio)."""
        ...

    def on_closed(self, closed: Closed) -> None:
        """The link is gone. Called exactly once, and last."""
        ...


Opened: TypeAlias = Callable[[Link], LinkEvents]
"""Called when a link is ready for messages (for WebSocket: after the handshake)."""
