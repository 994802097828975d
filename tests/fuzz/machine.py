"""Hostile clients beside a peaceful one, on real sockets, in every order that hypothesis thinks of.

What hostile clients may not bring about: a traceback on the wire, an error in the log, a close with 1011,
a request without an answer on a connection that is in order, and anything at all at the peaceful client.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fuzz.drawn import SCRIPTS, THREADS, UNKNOWN, answers, damaged, json_values, mutated, requests
from helpers import Client
from houses import LocalHouse, running_server
from transports.raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, frame, request
from wires import PATIENCE_S

__all__ = ["Hostile", "Strangers", "house_for_strangers", "quiet_log"]

HOSTILE = 3

ALLOWED_CODES = {1000, 1001, 1002, 1003, 1007, 1009, 1013, *range(3000, 5000)}
"""How a connection to a hostile client may end. What it sends itself is echoed, 1011 too: then it says so."""


class Hostile:
    """A connection whose owner sends whatever it likes.

    Args:
        url: where to.
        upgrades: whether to do the handshake as it should be.

    """

    def __init__(self, url: str, *, upgrades: bool = True) -> None:
        host, _, port = url.removeprefix("ws://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_in_order = upgrades
        """Only whole messages in whole frames have been sent."""
        self.is_over = False
        """Nothing more comes."""
        self.has_closed = False
        """It has sent a close frame, or ended its side."""
        self.messages: list[dict[str, Any]] = []
        self._unread = b""
        self._probes = 0
        if upgrades:
            self.send(request())
            while b"\r\n\r\n" not in self._unread:
                self._receive()
            head, _, self._unread = self._unread.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head

    def send(self, data: bytes) -> None:
        """Send bytes, if the server still takes any."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.has_closed = True

    def send_junk(self, data: bytes) -> None:
        """Send bytes that may be no frames."""
        self.is_in_order = False
        self.send(data)

    def say(self, message: Any) -> None:
        """Send a message."""
        self.send(frame(TEXT, json.dumps(message).encode()))

    def look(self) -> None:
        """Take in what has come, without waiting."""
        self.socket.setblocking(False)
        try:
            while not self.is_over:
                self._receive()
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(PATIENCE_S)
        self._take_frames()

    def probe(self) -> None:
        """See that a request is answered, or that the connection ends for a good reason."""
        self._probes += 1
        probe = f"probe {self._probes}"
        self.say({"id": probe, "method": "thread/loaded/list"})
        while not self.is_over and not any(message.get("id") == probe for message in self.messages):
            self._receive()
            self._take_frames()

    def close(self, *, reset: bool = False) -> None:
        """Leave."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()
        self.is_over = True

    def _receive(self) -> None:
        try:
            data = self.socket.recv(1 << 20)
        except (BlockingIOError, TimeoutError):  # nothing yet; or neither an answer nor the end
            raise
        except OSError:
            data = b""
        self.is_over = not data
        self._unread += data

    def _take_frames(self) -> None:
        while len(self._unread) >= 2 and not self._unread.startswith(b"HTTP"):
            first, length, start = self._unread[0], self._unread[1], 2
            if length > 125:
                start = 4 if length == 126 else 10
                length = int.from_bytes(self._unread[2:start], "big")
            if len(self._unread) < start + length:
                return
            payload = self._unread[start : start + length]
            self._unread = self._unread[start + length :]
            self._on_frame(first, payload)
        assert b"Traceback" not in self._unread

    def _on_frame(self, first: int, payload: bytes) -> None:
        assert first in (0x81, 0x88, 0x8A), f"the server sent a frame that begins with {first:#x}"
        if first == 0x81:
            message = json.loads(payload)
            assert isinstance(message, dict)
            text = payload.decode()
            assert "Traceback" not in text
            assert 'File "' not in text
            assert message.get("error", {}).get("code") != -32603, text
            self.messages.append(message)
        elif first == 0x88 and payload and not self.has_closed:
            code = int.from_bytes(payload[:2], "big")
            assert code in ALLOWED_CODES, f"closed with {code} {payload[2:]!r}"


class Strangers(RuleBasedStateMachine):
    """Hostile clients do what they like; a peaceful one, and a thread of its own, must not notice."""

    house: ClassVar[LocalHouse]
    peaceful: ClassVar[Client]
    thread_id: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.hostile = [Hostile(self.house.url) for _ in range(HOSTILE)]
        self.thread_ids: list[str] = []

    def teardown(self) -> None:
        for hostile in self.hostile:
            if hostile.is_in_order and not hostile.has_closed and not hostile.is_over:
                hostile.probe()
            hostile.close()
        turn = self.peaceful.run_turn(self.thread_id, "text all is well")
        assert turn["status"] == "completed"
        self.peaceful.arrived.clear()
        self.peaceful.unread.clear()

    numbers = st.integers(0, HOSTILE - 1)

    # Messages

    @rule(number=numbers)
    def initialize(self, number: int) -> None:
        info = {"name": "hostile", "version": "1"}
        self._say(number, {"id": 0, "method": "initialize", "params": {"clientInfo": info}})

    @rule(number=numbers)
    def start_a_thread(self, number: int) -> None:
        self._say(number, {"id": "start", "method": "thread/start", "params": {}})

    @rule(number=numbers, thread_id=st.sampled_from(THREADS), text=st.sampled_from(SCRIPTS))
    def start_a_turn(self, number: int, thread_id: str, text: str) -> None:
        params = {"threadId": thread_id, "input": [{"type": "text", "text": text}]}
        self._say(number, {"id": "turn", "method": "turn/start", "params": params})

    @rule(number=numbers, message=requests())
    def ask_anything(self, number: int, message: Any) -> None:
        self._say(number, message)

    @rule(number=numbers, message=answers())
    def answer_anything(self, number: int, message: Any) -> None:
        self._say(number, message)

    @rule(number=numbers, message=mutated(st.one_of(requests(), answers())))
    def ask_nearly(self, number: int, message: Any) -> None:
        self._say(number, message)

    @rule(number=numbers, message=json_values)
    def say_any_json(self, number: int, message: Any) -> None:
        self._say(number, message)

    @rule(number=numbers, data=st.data())
    def say_what_was_json(self, number: int, data: st.DataObject) -> None:
        text = data.draw(damaged(json.dumps(data.draw(requests())).encode()))
        self._present(number).send(frame(TEXT, self._filled_in(text).decode(errors="ignore").encode()))

    @rule(number=numbers, text=st.text(max_size=200))
    def say_anything(self, number: int, text: str) -> None:
        self._present(number).send(frame(TEXT, text.encode(errors="ignore")))

    @rule(number=numbers, count=st.integers(1, 300))
    def ask_much_at_once(self, number: int, count: int) -> None:
        listing = {"id": 1, "method": "thread/list", "params": {}}
        self._present(number).send(frame(TEXT, json.dumps(listing).encode()) * count)

    # Frames and bytes

    @rule(number=numbers, payload=st.binary(max_size=125), opcode=st.sampled_from([PING, PONG, BINARY]))
    def send_another_frame(self, number: int, payload: bytes, opcode: int) -> None:
        self._present(number).send(frame(opcode, payload))

    @rule(number=numbers, size=st.integers(1, 40), data=st.data())
    def send_in_fragments(self, number: int, size: int, data: st.DataObject) -> None:
        text = self._filled_in(json.dumps(data.draw(requests())).encode())
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        last = len(parts) - 1
        sent = [frame(CONT if at else TEXT, part, fin=at == last) for at, part in enumerate(parts)]
        self._present(number).send(frame(PING, b"between").join(sent))

    @rule(number=numbers, data=st.data())
    def send_a_broken_frame(self, number: int, data: st.DataObject) -> None:
        text = json.dumps(data.draw(requests())).encode()
        opcode = data.draw(st.integers(0, 15))
        fin, masked, rsv = data.draw(st.tuples(st.booleans(), st.booleans(), st.integers(0, 7)))
        whole = frame(opcode, text, fin=fin, masked=masked, rsv=rsv)
        self._present(number).send_junk(data.draw(damaged(whole)))

    @rule(number=numbers, junk=st.binary(max_size=300))
    def send_any_bytes(self, number: int, junk: bytes) -> None:
        self._present(number).send_junk(junk)

    @rule(data=st.data())
    def knock_wrongly(self, data: st.DataObject) -> None:
        stranger = Hostile(self.house.url, upgrades=False)
        stranger.send_junk(data.draw(damaged(request())))
        stranger.look()
        stranger.close()

    @rule(number=numbers, payload=st.binary(max_size=20))
    def send_a_close(self, number: int, payload: bytes) -> None:
        hostile = self._present(number)
        hostile.has_closed = True
        hostile.send(frame(CLOSE, payload))

    # Connections

    @rule(number=numbers)
    def end_one_side(self, number: int) -> None:
        hostile = self._present(number)
        hostile.has_closed = True
        hostile.socket.shutdown(socket.SHUT_WR)

    @rule(number=numbers, reset=st.booleans())
    def come_back(self, number: int, *, reset: bool) -> None:
        self.hostile[number].close(reset=reset)
        self.hostile[number] = Hostile(self.house.url)

    @rule(number=numbers)
    def expect_an_answer(self, number: int) -> None:
        hostile = self._present(number)
        if hostile.is_in_order and not hostile.has_closed:
            hostile.probe()
            self._note_threads(hostile)

    @invariant()
    def nobody_else_is_disturbed(self) -> None:
        assert self.peaceful.request("thread/read", threadId=self.thread_id)["thread"]["id"] == self.thread_id
        for hostile in self.hostile:
            if not hostile.is_over:
                hostile.look()
                self._note_threads(hostile)

    def _say(self, number: int, message: Any) -> None:
        self._present(number).send(frame(TEXT, self._filled_in(json.dumps(message).encode())))

    def _filled_in(self, text: bytes) -> bytes:
        """Put the ids of threads that hostile clients have made into their places."""
        for number, place in enumerate(THREADS):
            thread_id = self.thread_ids[-1 - number] if number < len(self.thread_ids) else UNKNOWN
            text = text.replace(place.encode(), thread_id.encode())
        return text

    def _present(self, number: int) -> Hostile:
        """Return a hostile client that the server has not got rid of."""
        if self.hostile[number].is_over or self.hostile[number].has_closed:
            self.hostile[number].close()
            self.hostile[number] = Hostile(self.house.url)
        return self.hostile[number]

    def _note_threads(self, hostile: Hostile) -> None:
        """Let all know of the threads that hostile clients have made; the peaceful one's is its own."""
        for message in hostile.messages:
            result = message.get("result")
            thread = result.get("thread") if isinstance(result, dict) else None
            thread_id = thread.get("id") if isinstance(thread, dict) else None
            if isinstance(thread_id, str) and thread_id not in (self.thread_id, *self.thread_ids):
                self.thread_ids.append(thread_id)
        hostile.messages.clear()


@contextmanager
def house_for_strangers() -> Iterator[type[Strangers]]:
    """Run a server, with a peaceful client that has a thread, and return the machine that attacks it."""
    with ExitStack() as stack:
        house = stack.enter_context(running_server(unload_after_s=1.0, turn_timeout_s=5.0))
        peaceful = house.connect("peaceful")
        thread_id = peaceful.start_thread()
        told = {"house": house, "peaceful": peaceful, "thread_id": thread_id}
        yield type("Strangers", (Strangers,), told)


@contextmanager
def quiet_log() -> Iterator[None]:
    """Fail if anything is logged that says that something of ours went wrong."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR or record.exc_info:
                found.append(self.format(record))

    handler = Keep()
    root = logging.getLogger("trunkline")
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
    assert not found, "\n".join(found)
