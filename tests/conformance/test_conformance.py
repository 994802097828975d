"""The short form of the conformance run: cases of each group, after the list of the Autobahn Testsuite.

The real suite is run by `run.py`. These are our own words for cases of its list, by its numbers, few
enough for every run of the tests. What a message violates is answered with its code in
tests/transports/test_websocket_close.py.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from conformance.echo import echo_server
from transports.raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, Frame, RawClient, close_payload, frame
from trunkline.transports.websocket import WebSocketListener

KUHN = "κόσμε \U0010ffff\U0001f600\x00퟿\U00010000"

Case = tuple[str, bytes, list[Frame]]


def pieces(opcode: int, payload: bytes, size: int) -> bytes:
    """Return a message in fragments of a size."""
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    return b"".join(
        frame(opcode if number == 0 else CONT, part, fin=number == len(parts) - 1)
        for number, part in enumerate(parts)
    )


BYE = [Frame(CLOSE, close_payload(1000))]
WRONG = [Frame(CLOSE, close_payload(1002))]
NOT_UTF8 = [Frame(CLOSE, close_payload(1007))]

CASES: list[Case] = [
    *(
        (f"1.{kind}: {length} bytes", frame(opcode, b"*" * length), [Frame(opcode, b"*" * length)])
        for kind, opcode in ((1, TEXT), (2, BINARY))
        for length in (0, 125, 126, 127, 128, 65_535, 65_536)
    ),
    ("2.1: an empty ping", frame(PING), [Frame(PONG, b"")]),
    ("2.4: a ping of 125 bytes", frame(PING, b"\xfe" * 125), [Frame(PONG, b"\xfe" * 125)]),
    ("2.7: a pong that nobody asked for", frame(PONG, b"x") + frame(PING, b"y"), [Frame(PONG, b"y")]),
    (
        "2.10: ten pings",
        b"".join(frame(PING, bytes([n])) for n in range(10)),
        [Frame(PONG, bytes([n])) for n in range(10)],
    ),
    ("3.1: a reserved bit", frame(TEXT, b"x", rsv=4), WRONG),
    ("3.7: all reserved bits of a close", frame(CLOSE, b"", rsv=7), WRONG),
    *(
        (f"4: opcode {opcode}", frame(opcode, b"x"), WRONG)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    ),
    ("5.1: a fragmented ping", frame(PING, b"x", fin=False) + frame(CONT, b"y"), WRONG),
    ("5.3: two fragments", pieces(TEXT, b"fragment1fragment2", 9), [Frame(TEXT, b"fragment1fragment2")]),
    (
        "5.6: a ping between fragments",
        frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(CONT, b"b"),
        [Frame(PONG, b"p"), Frame(TEXT, b"ab")],
    ),
    ("5.9: a continuation of nothing", frame(CONT, b"x"), WRONG),
    (
        "5.18: a text within a text",
        frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
        WRONG,
    ),
    ("6.2: fragments cut within characters", pieces(TEXT, KUHN.encode(), 1), [Frame(TEXT, KUHN.encode())]),
    *(
        (f"6: {bad.hex()}", frame(TEXT, "κ".encode() + bad, fin=False), NOT_UTF8)
        for bad in (
            *(b"\x80", b"\xbf", b"\xfe", b"\xff", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf"),
            *(b"\xc1\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80"),
        )
    ),
    ("7.1.1: a message and a close", frame(TEXT, b"x") + frame(CLOSE, close_payload(1000)), BYE),
    ("7.1.5: a close within a message", frame(TEXT, b"x", fin=False) + frame(CLOSE, b"\x03\xe8"), BYE),
    ("7.3.1: an empty close", frame(CLOSE), [Frame(CLOSE, b"")]),
    ("7.3.2: half a code", frame(CLOSE, b"x"), WRONG),
    ("7.5.1: a reason that is not UTF-8", frame(CLOSE, close_payload(1000, b"\xff")), NOT_UTF8),
    *(
        (f"7.7: code {code}", frame(CLOSE, close_payload(code)), [Frame(CLOSE, close_payload(code))])
        for code in (1000, 1003, 1007, 1011, 3000, 4999)
    ),
    *(
        (f"7.9: code {code}", frame(CLOSE, close_payload(code)), WRONG)
        for code in (0, 999, 1004, 1005, 1006, 1016, 2999, 5000, 65_535)
    ),
    ("9.1: a megabyte of text", frame(TEXT, b"*" * 2**20), [Frame(TEXT, b"*" * 2**20)]),
    ("9.3: in fragments of 64 bytes", pieces(TEXT, b"*" * 2**17, 64), [Frame(TEXT, b"*" * 2**17)]),
    ("10.1: in uneven fragments", pieces(TEXT, b"*" * 65_536, 1300), [Frame(TEXT, b"*" * 65_536)]),
]  # fmt: skip


@pytest.fixture
def listener() -> Iterator[WebSocketListener]:
    with echo_server() as listener:
        yield listener


@pytest.mark.parametrize("chop", [None, 1], ids=["at once", "byte by byte"])
def test_the_listener_conforms(listener: WebSocketListener, chop: int | None) -> None:
    for name, sent, expected in CASES:
        with RawClient(listener).upgrade() as client:
            if chop is None:
                client.send(sent)
            else:
                for byte in sent[:2000]:
                    client.send(bytes([byte]))
                client.send(sent[2000:])
            came = [client.read_frame() for _ in expected]
            # A close may be answered before what came in the same read is echoed: then it is not.
            if came != expected and name.startswith("7.1.1"):
                came = [client.read_frame()]
            assert [(got.opcode, _code_or_payload(got)) for got in came] == [
                (wanted.opcode, _code_or_payload(wanted)) for wanted in expected
            ], name
            if expected[-1].opcode == CLOSE:
                client.sock.shutdown(socket.SHUT_WR)
                assert client.read_to_eof() == b"", name


def _code_or_payload(frame: Frame) -> bytes:
    """Return what counts: of a close that answers a violation the reason is free."""
    return frame.payload[:2] if frame.opcode == CLOSE else frame.payload
