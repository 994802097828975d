"""Out of descriptors, and standard streams that are closed, full or lost: the server goes on."""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from children import environment
from cli.processes import command
from helpers import Client
from trunkline_cli.logs import Behind
from wires import PATIENCE_S, WebSocketWire

OPTIONS = ("--agent", "script", "--listen", "ws://127.0.0.1:0")


@contextmanager
def serving(*options: str, prepare: Callable[[], Any] | None = None, **streams: Any) -> Iterator[Any]:
    """Run a server as a child; it has to end well."""
    process = subprocess.Popen(
        command("serve", *OPTIONS, *options),
        env=environment(),
        preexec_fn=prepare,  # there is one thread here, and it waits
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, **streams},
    )
    with process:
        try:
            yield process
            process.terminate()
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


def read_url(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    url = process.stderr.readline().split()[-1].decode()
    for _ in range(2):
        process.stderr.readline()
    return url


def is_well(url: str, name: str = "alice") -> None:
    client = Client(WebSocketWire(url), name)
    client.initialize()
    assert client.run_turn(client.start_thread(), "text hello")["status"] == "completed"
    client.close()


def test_without_descriptors_the_others_wait_and_come_in_later() -> None:
    few = 64
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))  # noqa: E731
    with serving("--log-level", "warning", prepare=limit) as process:
        url = read_url(process)
        inside = Client(WebSocketWire(url), "inside")
        inside.initialize()
        with ExitStack() as stack:
            host, port = url.removeprefix("ws://").split(":")
            for _ in range(2 * few):
                stack.enter_context(_connected(host, int(port)))
            noticed = b"cannot accept connections for now: Too many open files"
            while noticed not in (said := process.stderr.readline()):
                assert said
            assert inside.run_turn(inside.start_thread(), "text still here")["status"] == "completed"
        is_well(url)
        inside.close()


@contextmanager
def _connected(host: str, port: int) -> Iterator[None]:
    with socket.create_connection((host, port), PATIENCE_S):
        yield


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_server_whose_streams_are_closed_serves(closed: str, tmp_path: Path) -> None:
    # It cannot say where it listens, so it is told: a path, which nobody else can take meanwhile.
    url = f"unix://{tmp_path}/t.sock"
    line = " ".join(command("serve", "--agent", "script", "--listen", url))
    process = subprocess.Popen(["/bin/sh", "-c", f"exec {line} {closed}"], env=environment(), cwd=tmp_path)
    with process:
        try:
            _retry(lambda: is_well(url))
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


def _retry(do: Callable[[], None]) -> None:
    """Do it once there is somebody who listens, and is ready: until then he answers with 503."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return do()
        except (OSError, InvalidStatus):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def test_a_server_whose_log_nobody_reads_any_more_serves() -> None:
    with serving("--log-level", "debug") as process:
        url = read_url(process)
        process.stderr.close()
        for number in range(3):
            is_well(url, f"client {number}")


@pytest.mark.skipif(sys.platform != "linux", reason="it makes a pipe as small as can be")
def test_a_server_whose_log_is_not_read_serves() -> None:
    with serving("--log-level", "debug") as process:
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        url = read_url(process)
        for number in range(30):  # some 30 lines each: many times what the pipe takes
            is_well(url, f"client {number}")


def test_the_end_of_standard_input_means_nothing_to_a_server_on_sockets() -> None:
    with serving(stdin=subprocess.PIPE) as process:
        url = read_url(process)
        process.stdin.close()
        is_well(url)


def test_a_line_too_many_is_dropped_and_counted() -> None:
    read_fd, write_fd = os.pipe()
    with os.fdopen(read_fd) as reader, os.fdopen(write_fd, "w") as writer:
        release = threading.Event()
        wrote = threading.Event()
        write = writer.write

        class Slow:
            def write(self, text: str) -> None:
                wrote.set()
                assert release.wait(PATIENCE_S)
                write(text)

            def flush(self) -> None:
                writer.flush()

        handler = Behind(Slow(), most=2)  # type: ignore[arg-type]
        handler.emit(logging.makeLogRecord({"msg": "one"}))
        assert wrote.wait(PATIENCE_S)
        for text in ("two", "three", "four", "five"):
            handler.emit(logging.makeLogRecord({"msg": text}))
        release.set()
        handler.close()
        writer.close()
        lines = reader.read().splitlines()
    missing = "2 lines of the log are missing here: it is not read as fast as it is written"
    assert [line for line in lines if line != missing] == ["one", "two", "three"]
    assert missing in lines


def test_a_log_that_cannot_be_written_is_lost_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    stream = os.fdopen(write_fd, "w")
    handler = Behind(stream)
    handler.emit(logging.makeLogRecord({"msg": "to nobody"}))
    handler.close()
    with suppress(OSError):
        stream.close()
    assert capsys.readouterr() == ("", "")
