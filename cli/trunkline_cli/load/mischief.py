"""Clients that misbehave on purpose: what they send, and what the server has to do about it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import orjson

from trunkline_cli.load import model, wire
from trunkline_cli.load.client import Client, Script, TimedOut, Wait

__all__ = ["half_handshake", "malformed", "read_again", "read_slowly", "stop_reading"]

_SLICE_S = 0.05
"""A slow reader reads so often."""
_NOISE_S = 0.2
"""Noise may look like the beginning of a frame, for which a server rightly waits."""

# Texts that are wrong, and after which a connection must go on as if nothing had been.
_TEXTS: dict[str, bytes] = {
    "not-json": b'{"id": 1, "method": ',
    "not-a-message": b'[{"id": null}, true]',
    "unknown-method": b'{"id": "unknown-method", "method": "no/such/method", "params": {}}',
    "bad-params": b'{"id": "bad-params", "method": "thread/resume", "params": {"threadId": ["?"]}}',
}


def half_handshake(client: Client, step: model.HalfHandshake) -> Script:
    """Send a part of the upgrade request, hold the connection, and leave it."""
    client.drop()
    whole = len(wire.handshake_request(client.where.target, "0" * 24, client.where.headers))
    client.connect(cut=client.rng.randrange(1, whole - 1))
    client.closing = True
    client.wake_at(time.monotonic() + step.hold)
    yield Wait.MOMENT
    if client.session is None:
        client.where.interval.expected[f"half a handshake: {client.lost_because}"] += 1
    client.drop()


def malformed(client: Client, step: model.Malformed) -> Script:
    """Send something wrong, and see that the server closes the connection, or goes on with it."""
    session = client.session
    if session is None:
        return
    kind: str = step.kind
    if kind == "any":
        kind = client.rng.choice([*_TEXTS, *_FRAMES, "noise"])
    session.provoked.add(kind)
    if kind in _TEXTS:
        session.peer.send(wire.client_frame(wire.TEXT, _TEXTS[kind]))
        # The answer to a request that is in order shows that the connection still is.
        session.request("thread/loaded/list", {})
        yield client.await_answer(f"thread/loaded/list after a text that is {kind}")
        return
    client.closing = True
    session.peer.send(client.rng.randbytes(64) if kind == "noise" else _FRAMES[kind](client.rng))
    if client.session is not None:
        yield from _wait_for_close(client, kind)
    if client.session is None:
        client.where.interval.expected[f"malformed, {kind}: {client.lost_because}"] += 1
    client.drop()


def _wait_for_close(client: Client, kind: str) -> Script:
    if kind == "noise":
        client.wake_at(time.monotonic() + _NOISE_S)
        yield Wait.MOMENT
        return
    try:
        yield client.await_answer("close")
    except TimedOut:
        client.where.interval.errors[f"malformed, {kind}: the server did not close the connection"] += 1


def stop_reading(client: Client, _step: model.StopReading) -> Script:
    """Read nothing from now on."""
    if client.session is not None:
        client.session.read_slowly(True)
        client.session.peer.pause(True)
    yield from ()


def read_slowly(client: Client, step: model.ReadSlowly) -> Script:
    """Read a slice of so many bytes every now and then from now on."""
    session = client.session
    if session is not None:
        session.read_slowly(True)
        session.peer.pause(True)
        limit = max(1, int(step.bytes_per_second * _SLICE_S))
        loop = client.where.loop

        def read() -> None:
            if client.session is session and session.reads_slowly:
                session.peer.read(limit)
                loop.call_in(_SLICE_S, read)

        loop.call_in(_SLICE_S, read)
    yield from ()


def read_again(client: Client, _step: model.ReadAgain) -> Script:
    """Read as usual from now on."""
    if client.session is not None:
        client.session.read_slowly(False)
        client.session.peer.pause(False)
    yield from ()


def _unmasked(rng: random.Random) -> bytes:
    text = orjson.dumps({"id": rng.randrange(1000), "method": "thread/loaded/list", "params": {}})
    return bytes((0x81, len(text))) + text


def _empty(first: int) -> bytes:
    """Return an empty, masked frame that begins with this byte."""
    return bytes((first, 0x80, 0, 0, 0, 0))


# Frames for which RFC 6455 has the server fail the connection.
_FRAMES: dict[str, Callable[[random.Random], bytes]] = {
    "unmasked": _unmasked,
    "reserved-opcode": lambda rng: _empty(0x80 | rng.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15))),
    "reserved-bits": lambda rng: _empty(0x81 | rng.choice((0x40, 0x20, 0x10))),
    "too-long": lambda _rng: b"\x81\xff" + (1 << 62).to_bytes(8) + bytes(4),
    "bad-utf8": lambda rng: wire.client_frame(wire.TEXT, b'{"id": "\xff' + rng.randbytes(4) + b'"}'),
}
