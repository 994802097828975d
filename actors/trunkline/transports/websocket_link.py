"""One WebSocket client's connection: a non-blocking socket that belongs to the I/O loop.

The loop's thread reads, and it alone touches the protocol (the handshake, the parser, the closing
handshake). Every thread may send: see `Outbox`.

A close goes one way through the states below. `on_closed` is told when it is certain how the
connection ended, the socket may live on a little longer in LINGERING: closing it while the peer's
bytes are unread would send a reset, which can overtake our close frame.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import cast

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State as ProtocolState

from trunkline.access import EVERYTHING, Access
from trunkline.transports.base import CloseCode, Closed, LinkEvents, Opened
from trunkline.transports.closes import BUG, MAX_REASON_BYTES, SILENT, advised
from trunkline.transports.framing import TEXT_FRAMING, TextFraming
from trunkline.transports.handshake import TIMED_OUT, Handshake, Site
from trunkline.transports.keepalive import bytes_taken
from trunkline.transports.loop import READ, WRITE, IoLoop, Timer
from trunkline.transports.outbox import Outbox
from trunkline.transports.protocol import LinkProtocol
from trunkline.transports.serial import Window
from trunkline.transports.short_cut import Boundary, whole_text
from trunkline.transports.texts import TextCollector
from trunkline.types import Buffer

__all__ = ["State", "WebSocketLimits", "WebSocketLink"]

logger = logging.getLogger(__name__)

RECEIVE_BYTES = 65_536
"""Bytes read at a time. It bounds how long one connection's frames keep the loop from the others."""

_PING = Frame(Opcode.PING, b"").serialize(mask=False)

_PROTOCOL_OPEN = ProtocolState.OPEN


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """What one client may cost."""

    max_message_bytes: int = 16 * 1024 * 1024
    """The size of a message, whole or in fragments. Over it: 1009."""
    handshake_timeout_s: float = 10.0
    """Seconds from the connect to the end of the request's head. Over it: 408."""
    ping_interval_s: float = 20.0
    """Seconds without a sign of life after which a ping is sent. 0 sends none."""
    ping_timeout_s: float = 40.0
    """Seconds without one after that. Over it: 1013."""
    close_timeout_s: float = 2.0
    """Seconds for the closing handshake, what is unsent included. After that the socket is cut."""
    max_outstanding_messages: int = 1024
    """Messages handed out and not consumed, over which nothing more is read."""
    max_outstanding_bytes: int = 1024 * 1024
    """The same in bytes."""
    max_unsent_bytes_to_read: int = 256 * 1024
    """Unsent bytes over which nothing more is read: who does not take answers need not ask on."""


class State(Enum):
    """The life of a link. See `MOVES` for what follows what."""

    HANDSHAKE = "the HTTP request is being read"
    OPEN = "messages go both ways"
    CLOSING = "our close has begun, or writing failed; only the peer's close is of interest"
    LINGERING = "all is said; what is unsent goes out, and input is dropped until the peer closes"
    CLOSED = "the socket is closed"


MOVES = {
    State.HANDSHAKE: {State.OPEN, State.LINGERING, State.CLOSED},
    State.OPEN: {State.CLOSING, State.LINGERING, State.CLOSED},
    State.CLOSING: {State.LINGERING, State.CLOSED},
    State.LINGERING: {State.CLOSED},
    State.CLOSED: set[State](),
}
"""The states that may follow each state."""


class WebSocketLink:
    """A `Link` over one socket. The methods of `Link` are for any thread, the rest for the loop's.

    Args:
        sock: connected and non-blocking; the link closes it.
        name: what a log calls it.
        loop: whose thread reads.
        limits: what the client may cost.
        site: what is offered to whom.
        is_full: whether there are too many connections for this one.
        opened: called after the handshake, on the loop's thread.
        gone: called once when the socket has been closed, on the loop's thread.

    """

    __slots__ = (
        "_acknowledged",
        "_boundary",
        "_events",
        "_gone",
        "_handshake",
        "_interest",
        "_is_heard",
        "_is_paused",
        "_limits",
        "_loop",
        "_opened",
        "_outbox",
        "_protocol",
        "_put",
        "_received",
        "_sock",
        "_state",
        "_texts",
        "_timer",
        "_wants_write",
        "_window",
        "access",
        "is_open",
        "name",
        "silence",
    )

    def __init__(
        self,
        sock: socket.socket,
        name: str,
        loop: IoLoop,
        *,
        limits: WebSocketLimits,
        site: Site,
        is_full: bool,
        opened: Opened,
        gone: Callable[[WebSocketLink], None],
    ) -> None:
        self.name = name
        self.is_open = False
        self.access: Access = EVERYTHING
        self._sock = sock
        self._loop = loop
        self._limits = limits
        self._opened = opened
        self._gone = gone
        self._events: LinkEvents | None = None
        self._state = State.HANDSHAKE
        self._protocol = LinkProtocol(ProtocolState.CONNECTING, limits.max_message_bytes)
        self._handshake: Handshake | None = Handshake(self._protocol, site, is_full=is_full)
        self._outbox = Outbox(
            sock, on_blocked=self._on_blocked, on_drained=self._on_drained, on_broken=self._on_broken
        )
        self._put = self._outbox.put
        self._window = Window(
            max_messages=limits.max_outstanding_messages, max_bytes=limits.max_outstanding_bytes
        )
        self._interest = 0
        self._wants_write = False
        self._is_paused = False
        self._received = 0
        self._texts = TextCollector(name)
        self._boundary = Boundary()
        self._timer: Timer | None = None
        # For the keepalive: something was read; what the peer had taken at the last look.
        self._is_heard = False
        self._acknowledged: int | None = None
        self.silence = 0
        """See `Pinged`."""

    # The Link, for any thread.

    @property
    def is_remote(self) -> bool:
        """True."""
        return True

    @property
    def framing(self) -> TextFraming:
        """Text frames, unmasked."""
        return TEXT_FRAMING

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait for the socket to take more. If not 0, `on_drained` or `on_closed` follows."""
        return self._outbox.unsent

    def send(self, data: Buffer) -> None:
        """Send framed bytes. Any thread; never blocks. After the link has closed this does nothing."""
        if self.is_open:
            self._put(data)

    def consumed(self, count: int) -> None:
        """Say that `count` messages have been dealt with. Any thread; never blocks."""
        self._window.consumed(count)
        if self._is_paused:
            self._loop.call_soon(self._update_interest)

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send what is unsent, then close. Any thread; never blocks; the first call counts.

        The codes that are never sent, 1005 and 1006, cut the connection without a close frame.
        """
        self.is_open = False
        self._loop.call_soon(self._begin_close, code, reason)

    # The loop's thread.

    def start(self) -> None:
        """Begin to read the handshake."""
        self._timer = self._loop.call_later(self._limits.handshake_timeout_s, self._on_handshake_timeout)
        self._update_interest()

    def on_ready(self, mask: int) -> None:
        """Read or write, as the loop says. An error of ours closes this connection and no other."""
        try:
            if mask & WRITE and self._state is not State.CLOSED:
                self._wants_write = False
                self._outbox.writable()
            if mask & READ and self._state is not State.CLOSED:
                self._read()
            self._update_interest()
        except Exception:
            logger.exception("x %s: closed because of an error of ours", self.name)
            self._fail(*BUG)

    def take_sign_of_life(self) -> bool:
        """Tell whether something has come from the peer, or was taken by it, since the last call."""
        if self._state is not State.OPEN:
            return True  # other deadlines run
        if self._is_heard:
            self._is_heard = False
            return True
        before, self._acknowledged = self._acknowledged, bytes_taken(self._sock)
        return self._acknowledged not in (None, before)

    def ping(self) -> None:
        """Ask the peer for a sign of life. One that has not taken what waits for it would not see it."""
        if self._outbox.unsent == 0:
            self._put(_PING)

    def give_up(self) -> None:
        """Close: the peer is dead, or as good as dead."""
        logger.info("- %s: no answer to a ping", self.name)
        self.close(*SILENT)

    def on_loop_stop(self) -> None:
        """Cut the connection: nobody will read it any more."""
        self._cut(Closed(CloseCode.GOING_AWAY, "the server has stopped"))

    def end(self, code: CloseCode, reason: str) -> None:
        """Close with `code`; before the end of the handshake there is nobody to tell it to."""
        if self._state is State.HANDSHAKE:
            self.cut()
        else:
            self.close(code, reason)

    def cut(self) -> None:
        """Close the socket now, without a close frame."""
        self._cut(Closed(CloseCode.ABNORMAL, ""))

    def _update_interest(self) -> None:
        """Have the loop tell what this link waits for now."""
        if self._state is State.CLOSED:
            return
        mask = WRITE if self._wants_write else 0
        if self._state is not State.OPEN or self._may_read():
            mask |= READ
        if mask != self._interest:
            self._interest = mask
            self._loop.watch(self._sock, self, mask)

    def _may_read(self) -> bool:
        # Paused first, then the look: a `consumed` that comes in between is either seen by this look
        # or sees the pause, and has it looked at again. Unsent bytes end with `_on_drained`.
        half = self._is_paused
        self._is_paused = True
        limit = self._limits.max_unsent_bytes_to_read
        self._is_paused = self._window.is_over(half=half) or self._outbox.unsent > (
            limit // 2 if half else limit
        )
        return not self._is_paused

    def _read(self) -> None:
        self._is_heard = True
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._cut(Closed(CloseCode.ABNORMAL, ""))
        elif self._state is State.OPEN or self._state is State.CLOSING:
            self._receive(data)
        elif self._state is State.HANDSHAKE:
            self._receive_handshake(data)

    def _receive_handshake(self, data: bytes) -> None:
        assert self._handshake is not None
        handshake = self._handshake
        rest = handshake.feed(data)
        if not handshake.is_done:
            return
        self._handshake = None
        response = b"".join(self._protocol.data_to_send())
        if self._protocol.state is not _PROTOCOL_OPEN:
            answer = handshake.refuse(response)
            self._outbox.put_last(answer)
            self._linger()
            if answer[9:10] in (b"4", b"5"):
                # The status, and what the body says of it: words of ours alone.
                head, _, body = answer.partition(b"\r\n\r\n")
                logger.info(
                    "- %s: refused with %s", self.name, b" ".join((head[9:12], body)).decode().strip()
                )
            return
        self._put(response)
        # A fresh one, as the old one's parser keeps the request alive as long as itself.
        self._protocol = LinkProtocol(_PROTOCOL_OPEN, self._limits.max_message_bytes)
        self._stop_timer()
        self._move(State.OPEN)
        self.is_open = True
        self.access = handshake.access
        self._events = self._opened(self)
        if rest:
            self._receive(rest)

    def _receive(self, data: bytes) -> None:
        """Parse what was read, hand on its texts, and see whether it ends the connection."""
        if self._boundary.is_here and self._state is State.OPEN:
            text = whole_text(data, self._limits.max_message_bytes)
            if text is not None:
                self._received += len(data)
                self._hand_on([text])
                return
        protocol = self._protocol
        protocol.receive_data(data)
        frames = cast("list[Frame]", protocol.events_received())
        self._boundary.note(len(data), frames)
        texts, error = self._texts.collect(frames)
        if error is not None and protocol.state is _PROTOCOL_OPEN:
            protocol.fail(CloseCode.INVALID_DATA, error)
        self._received += len(data)
        writes = protocol.data_to_send()
        if protocol.state is _PROTOCOL_OPEN:
            if writes:
                self._put(b"".join(writes))
            if texts and self._state is State.OPEN:
                self._hand_on(texts)
        elif protocol.eof_sent:
            if error is not None and self._state is State.OPEN:
                # The parser is ahead of the check for UTF-8 by what came in the same read. What else
                # it met there, a close frame or another violation, is not what is to be answered.
                closed = Closed(CloseCode.INVALID_DATA, advised(CloseCode.INVALID_DATA, error))
                *pongs, _ = filter(None, writes)
                self._on_ended(texts, b"".join(pongs) + _close_frame(closed), closed)
            else:
                self._on_ended(texts, b"".join(writes), self._how_it_ended())
        # Else our close has begun, and the peer has not answered it yet.

    def _hand_on(self, texts: list[str]) -> None:
        assert self._events is not None
        self._window.hand_out(len(texts), self._received)
        self._received = 0
        self._events.on_messages(tuple(texts))

    def _on_ended(self, texts: list[str], last: bytes, closed: Closed) -> None:
        """Finish, as the peer has closed, answered our close, or broken the rules."""
        was_open = self._state is State.OPEN
        self.is_open = False
        self._outbox.put_last(last)
        self._linger()
        if texts and was_open:
            self._hand_on(texts)
        self._tell_closed(closed)

    def _how_it_ended(self) -> Closed:
        protocol = self._protocol
        close = protocol.close_sent
        if protocol.parser_exc is None and protocol.close_rcvd_then_sent:
            close = protocol.close_rcvd
        if close is None:
            return Closed(CloseCode.ABNORMAL, "")
        return Closed(int(close.code), close.reason)

    def _begin_close(self, code: CloseCode, reason: str) -> None:
        if self._state is not State.OPEN:
            return
        if code in (CloseCode.NO_STATUS, CloseCode.ABNORMAL):
            self._cut(Closed(code, reason))
            return
        self._protocol.send_close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
        self._move(State.CLOSING)
        self._outbox.put_last(b"".join(self._protocol.data_to_send()))
        self._start_close_timer()
        self._update_interest()

    def _fail(self, code: CloseCode, reason: str) -> None:
        if self._state is State.OPEN and self._protocol.state is _PROTOCOL_OPEN:
            self._protocol.fail(code, reason)
            self._on_ended([], b"".join(self._protocol.data_to_send()), Closed(code, reason))
            self._update_interest()
        else:
            self._cut(Closed(code, reason))

    def _linger(self) -> None:
        """Let what is unsent go out, end our direction, and wait for the peer to end its own."""
        self._outbox.end()
        if self._state is not State.CLOSING:  # then the time runs already: one deadline for all of it
            self._start_close_timer()
        self._move(State.LINGERING)

    def _start_close_timer(self) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(self._limits.close_timeout_s, self.cut)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_handshake_timeout(self) -> None:
        logger.info("- %s: no handshake within %s s", self.name, self._limits.handshake_timeout_s)
        assert self._handshake is not None
        self._outbox.put_last(self._handshake.refuse(TIMED_OUT))
        self._handshake = None
        self._linger()

    def _cut(self, closed: Closed) -> None:
        """Close the socket now. What is certain by now about the end comes before `closed`."""
        if self._state is State.CLOSED:
            return
        self.is_open = False
        was_closing = self._state is State.CLOSING
        self._move(State.CLOSED)
        self._stop_timer()
        self._loop.unwatch(self._sock)
        self._outbox.close()
        self._tell_closed(self._how_it_ended() if was_closing else closed)
        self._gone(self)

    def _tell_closed(self, closed: Closed) -> None:
        events, self._events = self._events, None
        if events is not None:
            events.on_closed(closed)

    def _move(self, state: State) -> None:
        assert state in MOVES[self._state], f"{self._state.name} to {state.name}"
        logger.debug("= %s: %s", self.name, state.name)
        self._state = state

    # The outbox calls these on any thread.

    def _on_blocked(self) -> None:
        self._loop.call_soon(self._watch_writable)

    def _watch_writable(self) -> None:
        self._wants_write = True
        self._update_interest()

    def _on_drained(self) -> None:
        self._loop.call_soon(self._tell_drained)

    def _tell_drained(self) -> None:
        self._update_interest()
        if self._events is not None and self._state is State.OPEN:
            self._events.on_drained()

    def _on_broken(self) -> None:
        self.is_open = False
        self._loop.call_soon(self._read_to_the_end)

    def _read_to_the_end(self) -> None:
        """Nothing can be written any more; what was read until now says how the connection ended."""
        if self._state is State.OPEN:
            self._move(State.CLOSING)
            self._start_close_timer()
        elif self._state is State.LINGERING:  # nothing is read here, and nothing is left to protect
            self.cut()
        self._update_interest()


def _close_frame(closed: Closed) -> bytes:
    payload = Close(closed.code, closed.reason).serialize()
    return Frame(Opcode.CLOSE, payload).serialize(mask=False)
