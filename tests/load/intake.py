"""Measures the load side itself: how many frames a second one worker takes in, with its checks on.

    python tests/load/intake.py

The frames come over real sockets from a process that does nothing but send bytes made beforehand. What is
told is frames per second of the worker's own CPU time, so that the sender's speed does not matter.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import socket
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2] / "cli")]

from trunkline_cli.load import wire  # noqa: E402  # the path has to be there before
from trunkline_cli.load.parse import parse_scenario  # noqa: E402
from trunkline_cli.load.run import Settings, run_load  # noqa: E402

FRAMES = 200_000
THREAD = "0190aaaa-1111-7222-8333-{:012d}"
SHARED = THREAD.format(1_000_000)


def frame(message: dict[str, Any]) -> bytes:
    text = json.dumps(message, separators=(",", ":")).encode()
    size = len(text)
    return b"\x81" + (bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2)) + text


@cache
def stream(thread_id: str, *, numbered: bool) -> bytes:
    """Return the deltas of one turn, about 230 bytes each, and its end."""
    item = "msg-" + thread_id[4:]
    frames = []
    for number in range(FRAMES):
        params = {"threadId": thread_id, "turnId": thread_id, "itemId": item, "delta": "x" * 8}
        event: dict[str, Any] = {"method": "item/agentMessage/delta", "params": params}
        event["emittedAtMs"] = 1_795_336_385_341 + number // 64
        if numbered:
            event["seq"] = number + 1
        frames.append(frame(event))
    turn = {"threadId": thread_id, "turn": {"id": "turn", "status": "completed"}}
    last: dict[str, Any] = {"method": "turn/completed", "params": turn}
    frames.append(frame({**last, "seq": FRAMES + 1} if numbered else last))
    return b"".join(frames)


def messages(client: socket.socket) -> Any:
    """Go through what a client sends: masked text frames of up to 64 KB."""
    data = b""
    while True:
        while len(data) >= 8:
            size, start = data[1] & 0x7F, 6
            if size == 126:
                size, start = data[2] << 8 | data[3], 8
            if len(data) < start + size:
                break
            mask, payload = data[start - 4 : start], data[start : start + size]
            data = data[start + size :]
            yield bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        more = client.recv(65536)
        if not more:
            return
        data += more


def serve_one(client: socket.socket, number: int, *, numbered: bool, shared: bool) -> None:
    head = client.recv(4096)
    key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
    client.sendall(b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: " + wire.accept_value(key) + b"\r\n\r\n")
    thread_id = SHARED if shared else THREAD.format(number)
    data = stream(thread_id, numbered=numbered)
    for text in messages(client):
        if text[:1] != b"{":
            client.sendall(b"\x88\x02\x03\xe8")  # the answer to a close frame
            break
        request = json.loads(text)
        if "id" not in request:
            continue
        thread = {"thread": {"id": thread_id}, **({"seq": 0} if numbered else {})}
        result = {"turn/start": {"turn": {"id": "turn"}}}.get(request["method"], thread)
        client.sendall(frame({"id": request["id"], "result": result}))
        if request["method"] == "turn/start":
            client.sendall(data)
    client.close()


def hose(pipe: multiprocessing.connection.Connection, numbered: bool, shared: bool) -> None:
    """Be a server whose every connection is sent a stream when it asks for a turn."""
    listening = socket.create_server(("127.0.0.1", 0))
    pipe.send(listening.getsockname()[1])
    number = 0
    while True:
        client, _ = listening.accept()
        number += 1
        options = {"numbered": numbered, "shared": shared}
        threading.Thread(target=serve_one, args=(client, number), kwargs=options, daemon=True).start()


SCENARIO = """
name = "intake"
duration = "60s"
[[groups]]
name = "readers"
connections = {connections}
steps = [
  {{ do = "initialize" }}, {{ do = "start" }}, {{ do = "begin" }}, {{ do = "turn", text = "go" }},
]
"""


def measure(title: str, connections: int, *, numbered: bool, shared: bool) -> None:
    pipe, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=hose, args=(theirs, numbered, shared), daemon=True)
    process.start()
    try:
        url = f"ws://127.0.0.1:{pipe.recv()}"
        result = run_load(parse_scenario(SCENARIO.format(connections=connections), "intake"), Settings(url))
    finally:
        process.kill()
        process.join()
    frames = sum(interval.deliveries for interval in result.phases.values())
    cpu_s = result.measured.cpu_s
    assert result.passed, (result.errors, result.breaches)
    assert frames == connections * (FRAMES + 1)
    print(f"| {title} | {frames / cpu_s:,.0f} | {cpu_s / frames * 1e6:.2f} µs |", flush=True)


def main() -> None:
    print("| frames of ~230 bytes, checked | a second of CPU | each |\n|---|---|---|")
    measure("one connection, numbered events", 1, numbered=True, shared=False)
    measure("4 connections, a thread each, numbered events", 4, numbered=True, shared=False)
    measure("4 connections, a thread each, events without a number", 4, numbered=False, shared=False)
    measure("4 connections on one thread", 4, numbered=True, shared=True)
    measure("32 connections on one thread", 32, numbered=True, shared=True)


if __name__ == "__main__":
    main()
