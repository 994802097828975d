"""Connect, subscribe, stream, drop, over and over again, against a server in a process of its own.

    python tests/survival/soak.py [--connections 100000] [--at-a-time 4]

Prints what the server has after each twentieth of the way, and ends with 1 if anything is left over: memory
that grew in the second half, a descriptor, an OS thread, a connection, a loaded thread, a subscription, a
message in a mailbox. Linux only: it looks into /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tests", "actors", "cli")]

# The path has to be there before.
from children import environment  # noqa: E402
from cli.processes import command  # noqa: E402
from trunkline.testing import Client  # noqa: E402
from trunkline.testing.wires import WebSocketWire  # noqa: E402

PATIENCE_S = 60.0
LOOKS = 20
STREAMS_EVERY = 5
"""One life in so many starts a turn, whose events everybody in the room is sent."""
ROOM_LIVES = 50
"""Lives after which a room is deleted, and another is started: threads come and go as well."""
LONG = 100_000
"""Connections of a run that is long enough for its memory to be judged.

It reaches its level half way: a closed connection is part of a cycle until the collector looks at everything,
which `serve` lets it do rarely.
"""
GROWTH = 0.05
SLACK_KIB = 8 * 1024
"""Growth that counts as none: a part of what there was half way, and the allocator's whims."""

UNWANTED = ("thread/started", "thread/status/changed", "thread/deleted")

MASK = b"\0\0\0\0"  # a mask that changes nothing: the frames are made once, and cost the client nothing
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
INITIALIZE = {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "soak", "version": "1"}}}


def frame(message: dict[str, Any]) -> bytes:
    payload = json.dumps(message).encode()
    length = len(payload)
    head = bytes([0x81, 0x80 | length]) if length < 126 else struct.pack("!BBH", 0x81, 0x80 | 126, length)
    return head + MASK + payload


class Usage(NamedTuple):
    """What the server's process takes."""

    rss_kib: int
    descriptors: int
    os_threads: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        status = Path(f"/proc/{pid}/status").read_text()
        rss = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        # But for the store's, of which SQLite opens some only when they are needed.
        names = [_target(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
        descriptors = len([name for name in names if "threads.sqlite" not in name])
        return cls(int(rss), descriptors, len(list(Path(f"/proc/{pid}/task").iterdir())))


def _target(descriptor: Path) -> str:
    with contextlib.suppress(OSError):  # it may be closed by now
        return str(descriptor.readlink())
    return ""


class Life:
    """One connection: it comes, subscribes, maybe has a turn run, and is gone."""

    def __init__(self, address: tuple[str, int], thread_id: str, number: int) -> None:
        self._address = address
        self._thread_id = thread_id
        self._number = number

    def run(self) -> None:
        resume = {"id": 2, "method": "thread/resume", "params": {"threadId": self._thread_id}}
        with socket.create_connection(self._address, PATIENCE_S) as sock:
            sock.sendall(UPGRADE + frame(INITIALIZE) + frame(resume))
            seen = self._read_until(sock, b'"delivery"', b"")
            if self._number % STREAMS_EVERY == 0:
                text = [{"type": "text", "text": "say 50 40"}]
                params = {"threadId": self._thread_id, "input": text}
                sock.sendall(frame({"id": 3, "method": "turn/start", "params": params}))
                self._read_until(sock, b'"turn/completed"', seen[-64:])
            if self._number % 2:  # without a word, and what was not read makes it a reset
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                sock.sendall(b"\x88\x82" + MASK + struct.pack("!H", 1000))

    @staticmethod
    def _read_until(sock: socket.socket, what: bytes, seen: bytes) -> bytes:
        while what not in seen:
            data = sock.recv(65_536)
            if not data:
                raise ConnectionError(f"the server has closed: {seen[-200:]!r}")
            seen = seen[-64:] + data
        return seen


class Soak:
    """The whole of it."""

    def __init__(self, url: str, pid: int, connections: int, at_a_time: int) -> None:
        self._url = url
        self._pid = pid
        self._connections = connections
        self._at_a_time = at_a_time
        host, port = url.removeprefix("ws://").split(":")
        self._address = (host, int(port))
        self._numbers: Iterator[int] = itertools.count()
        self._failures: list[BaseException] = []
        self._done = 0
        self._watcher = self._client("watcher")

    def _client(self, name: str) -> Client:
        client = Client(WebSocketWire(self._url), name)
        client.initialize(
            optOutNotificationMethods=["thread/started", "thread/status/changed", "thread/deleted"]
        )
        return client

    def run(self) -> bool:
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self._at_a_time)]
        before = Usage.of(self._pid)
        usages: list[Usage] = []
        self._say(before, 0.0)
        began = time.monotonic()
        for worker in workers:
            worker.start()
        for look in range(1, LOOKS + 1):
            while self._done < self._connections * look // LOOKS and not self._failures:
                time.sleep(0.05)
            self._watcher.drain()
            usages.append(Usage.of(self._pid))
            self._say(usages[-1], time.monotonic() - began)
        for worker in workers:
            worker.join(PATIENCE_S)
        if self._failures:
            raise self._failures[0]
        return self._is_clean(before, usages)

    def _work(self) -> None:
        try:
            keeper = self._client("keeper")
            while True:
                thread_id = keeper.request("thread/start")["thread"]["id"]
                for _ in range(ROOM_LIVES):
                    number = next(self._numbers)
                    if number >= self._connections:
                        break
                    Life(self._address, thread_id, number).run()
                    self._done += 1  # the odd one that is lost among threads is made up for at the end
                keeper.request("turn/start", threadId=thread_id, input=[{"type": "text", "text": "text bye"}])
                keeper.wait("turn/completed", threadId=thread_id)
                keeper.request("thread/delete", threadId=thread_id)
                keeper.unread.clear()
                keeper.arrived.clear()
                if number >= self._connections:
                    break
            keeper.close()
            self._done = max(self._done, self._connections)
        except BaseException as error:
            self._failures.append(error)

    def _is_clean(self, before: Usage, usages: list[Usage]) -> bool:
        """Wait until all is as it was, and say what is not."""
        deadline = time.monotonic() + PATIENCE_S
        while (left := self._left(before)) and time.monotonic() < deadline:
            time.sleep(0.2)
        half, last = usages[LOOKS // 2 - 1].rss_kib, usages[-1].rss_kib
        if self._connections >= LONG and last > half * (1 + GROWTH) + SLACK_KIB:
            left.append(f"memory grew from {half:,} to {last:,} KiB")
        status = self._watcher.request("trunkline/status")
        print(f"came in: {status['connections']['opened']:,}; deliveries: {status['deliveries']:,}")
        print(f"memory half way and at the end: {half:,} and {last:,} KiB")
        print("left over: " + ("; ".join(left) or "nothing"))
        self._watcher.close()
        return not left

    def _left(self, before: Usage) -> list[str]:
        usage = Usage.of(self._pid)
        status = self._watcher.request("trunkline/status")
        waiting = sum(each["messages"] for each in status["mailboxes"].values())
        counts = {
            "descriptors": usage.descriptors - before.descriptors,
            "OS threads": usage.os_threads - before.os_threads,
            "connections": status["connections"]["open"] - 1,
            "loaded threads": status["threads"]["loaded"],
            "subscriptions": status["subscriptions"],
            "messages in mailboxes": waiting,
        }
        return [f"{count} {name}" for name, count in counts.items() if count > 0]

    def _say(self, usage: Usage, seconds: float) -> None:
        print(
            f"{self._done:>9,} connections  {seconds:7.1f} s  {usage.rss_kib:>9,} KiB"
            f"  {usage.descriptors:>4} descriptors  {usage.os_threads:>3} OS threads",
            flush=True,
        )


@contextmanager
def running_server() -> Iterator[tuple[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "threads.sqlite")
        options = (
            "--listen",
            "ws://127.0.0.1:0",
            "--agent",
            "script",
            "--store",
            store,
            "--log-level",
            "error",
        )
        child = subprocess.Popen(
            command("serve", *options),
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=environment(),
            text=True,
        )
        assert child.stderr is not None
        try:
            yield child.stderr.readline().split()[-1], child.pid
        finally:
            child.terminate()
            _, said = child.communicate(timeout=PATIENCE_S)
            errors = [line for line in said.splitlines() if not line.startswith(("readyz", "healthz"))]
            if errors or child.returncode:
                raise AssertionError(f"the server ended with {child.returncode}: {errors}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--at-a-time", type=int, default=4)
    options = parser.parse_args()
    with running_server() as (url, pid):
        return 0 if Soak(url, pid, options.connections, options.at_a_time).run() else 1


if __name__ == "__main__":
    sys.exit(main())
