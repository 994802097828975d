"""The listening side: addresses, its start and its end, and what it must not touch."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from children import environment
from transports.links import PATIENCE_S, Listen, Recorders, echo, get
from transports.raw import CLOSE, TEXT, RawClient, close_payload, fence, frame, request
from trunkline.errors import StartError
from trunkline.transports import accept
from trunkline.transports.accept import Acceptor
from trunkline.transports.base import CloseCode
from trunkline.transports.framing import TEXT_FRAMING
from trunkline.transports.loop import IoLoop
from trunkline.transports.websocket import WebSocketLimits, WebSocketListener


def descriptors() -> set[str]:
    return {f"{fd.name} {fd.readlink()}" for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}


def run_python(code: str) -> str:
    """Run a program of its own that can import what this one can; return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(*sys.path),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_port_0_takes_a_free_port_and_says_which(listen: Listen, links: Recorders) -> None:
    listener = listen(links)
    host, port = listener.address

    assert host == "127.0.0.1"
    assert port > 0
    assert listener.url == f"ws://127.0.0.1:{port}"


def test_an_ipv6_address_is_listened_on(listen: Listen, echoes: Recorders) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    listener = listen(echoes, host="::1")
    assert listener.url == f"ws://[::1]:{listener.address[1]}"
    with connect(listener.url) as client:
        client.send("six")
        assert client.recv(PATIENCE_S) == "six"
        assert echoes.next().link.name.startswith("ws [::1]:")


def test_an_address_in_use_is_one_clear_error(listen: Listen, links: Recorders, loop: IoLoop) -> None:
    taken = listen(links)
    host, port = taken.address
    with pytest.raises(StartError) as error:
        WebSocketListener(host, port, links, loop).start()

    assert str(error.value) == f"cannot listen on ws://{host}:{port}: Address already in use (os error 98)"


def test_the_address_is_not_known_before_the_start(loop: IoLoop, links: Recorders) -> None:
    listener = WebSocketListener("127.0.0.1", 0, links, loop)
    with pytest.raises(RuntimeError):
        listener.address  # noqa: B018
    assert listener.close()


def test_a_listener_that_stopped_accepting_keeps_its_clients(listen: Listen, echoes: Recorders) -> None:
    listener = listen(echoes)
    with RawClient(listener).upgrade() as client:
        listener.stop_accepting()
        listener.stop_accepting()

        with pytest.raises(ConnectionRefusedError):
            RawClient(listener)
        client.send(frame(TEXT, b"still here"))
        assert client.read_text() == "still here"


def test_a_listener_that_closes_says_so_to_every_client(listen: Listen, links: Recorders) -> None:
    listener = listen(links)
    closed_with = []

    def read(url: str) -> None:
        with connect(url) as client:
            try:
                client.recv(PATIENCE_S)
            except ConnectionClosed as closed:
                closed_with.append(closed.rcvd.code if closed.rcvd else None)

    clients = [threading.Thread(target=read, args=(listener.url,)) for _ in range(20)]
    for client in clients:
        client.start()
    recorders = [links.next() for _ in clients]
    assert listener.close(CloseCode.GOING_AWAY, "bye")
    for client in clients:
        client.join(PATIENCE_S)

    assert closed_with == [1001] * 20
    assert [get(recorder.closed) for recorder in recorders] == [(1001, "bye")] * 20
    assert listener.close()


def test_a_listener_that_closes_cuts_who_does_not_take_part(listen: Listen, links: Recorders) -> None:
    listener = listen(links, limits=WebSocketLimits(close_timeout_s=3600.0))
    with (
        RawClient(listener, receive_buffer=4096).upgrade(),
        RawClient(listener) as half,
        RawClient(listener).upgrade() as client,
    ):
        stalled, other = links.next(), links.next()
        stalled.link.send(TEXT_FRAMING.frame(b"x" * 20_000_000))
        half.send(b"GET")

        assert not listener.close(CloseCode.GOING_AWAY, timeout_s=0.05)

        assert get(stalled.closed).code == 1001
        assert get(other.closed).code == 1001
        half.wait_for_cut()
        assert client.read_frame().code == 1001


def test_a_listener_that_closes_does_not_wait_for_a_handshake(listen: Listen, echoes: Recorders) -> None:
    listener = listen(echoes, limits=WebSocketLimits(handshake_timeout_s=3600.0))
    with RawClient(listener) as client:
        fence(listener, echoes)
        assert listener.close(timeout_s=PATIENCE_S)
        client.wait_for_cut()


def test_a_connection_that_comes_after_the_close_is_closed(listen: Listen, links: Recorders) -> None:
    listener = listen(links)
    assert listener.close()
    late, _ = pair = socket.socketpair()
    listener._add(late, "late", "")
    for sock in pair:
        sock.close()

    assert not listener._links


def test_the_end_of_the_loop_closes_what_is_left_and_is_told(links: Recorders) -> None:
    loop = IoLoop()
    loop.start()
    listener = WebSocketListener("127.0.0.1", 0, links, loop)
    listener.start()
    with RawClient(listener).upgrade() as client:
        recorder = links.next()
        assert loop.stop(PATIENCE_S)

        assert get(recorder.closed).code == 1001
        assert client.read_to_eof() == b""
        recorder.link.send(b"nobody is there")
        recorder.link.consumed(1)
        recorder.link.close(CloseCode.NORMAL)
    assert listener.close()


def test_no_descriptor_and_no_thread_is_left(links: Recorders) -> None:
    before = descriptors(), set(threading.enumerate())
    loop = IoLoop()
    loop.start()
    listener = WebSocketListener("127.0.0.1", 0, links, loop)
    listener.start()
    clients = [RawClient(listener).upgrade() for _ in range(10)]
    half = [RawClient(listener) for _ in range(10)]
    for client in half:
        client.send(b"GET")
    for client in clients[:5]:
        client.send(frame(CLOSE, close_payload(1000)))
        client.read_to_eof()
    clients[5].reset()
    listener.close(timeout_s=0.0)
    assert loop.stop(PATIENCE_S)
    for client in clients + half:
        client.sock.close()

    assert (descriptors(), set(threading.enumerate())) == before


def test_many_clients_may_connect_at_once(listen: Listen, echoes: Recorders) -> None:
    listener = listen(echoes)
    clients = [RawClient(listener) for _ in range(400)]
    for client in clients:
        client.send(request())
    for client in clients:
        assert client.read_status() == 101
        client.sock.close()


EMFILE_SERVER = """
import resource, sys, logging
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
from transports.links import Listen, echo
from trunkline.transports.loop import IoLoop
from trunkline.transports.websocket import WebSocketListener
loop = IoLoop()
loop.start()
listener = WebSocketListener("127.0.0.1", 0, echo, loop)
listener.start()
print(listener.address[1], flush=True)
sys.stdin.read()
listener.close(timeout_s=0.0)
assert loop.stop(10)
"""


def test_out_of_descriptors_the_listener_waits_and_goes_on() -> None:
    env = environment(*sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", EMFILE_SERVER],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        address = ("127.0.0.1", int(server.stdout.readline()))
        socks = [socket.create_connection(address, PATIENCE_S) for _ in range(60)]
        for sock in socks:
            sock.sendall(request() + frame(TEXT, b"hello"))
        assert "cannot accept connections for now: Too many open files" in server.stdout.readline()
        for sock in socks[:30]:
            sock.close()
        answer = b""
        while not answer.endswith(b"hello"):
            answer += socks[-1].recv(4096)
        for sock in socks[30:]:
            sock.close()
        rest, _ = server.communicate(timeout=PATIENCE_S)
        assert server.returncode == 0
        assert "Traceback" not in rest


def test_out_of_descriptors_the_accept_loop_waits_before_it_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acceptor = Acceptor("127.0.0.1", 0, lambda _sock, _address: None)
    waits: list[float] = []
    monkeypatch.setattr(acceptor._stop_requested, "wait", waits.append)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())
    spare = [os.dup(0) for _ in range(highest)]  # no gap is left below the limit
    try:
        with socket.socket() as client:
            client.connect(acceptor.server_address)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            with pytest.raises(OSError, match="Too many open files") as error:
                acceptor.get_request()
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            acceptor.get_request()[0].close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in spare:
            os.close(fd)
        acceptor.stop()

    assert error.value.errno == errno.EMFILE
    assert waits == [accept.RESOURCE_PAUSE_S]


def test_the_import_leaves_the_logging_of_the_host_alone() -> None:
    printed = run_python(
        "import logging\n"
        "from trunkline.transports.loop import IoLoop\n"
        "from trunkline.transports.websocket import WebSocketListener\n"
        "listener = WebSocketListener('127.0.0.1', 0, lambda link: None, IoLoop())\n"
        "listener.start()\n"
        "listener.stop_accepting()\n"
        "print(logging.getLogger().handlers, logging.getLogger().level, logging.basicConfig.__module__)\n"
    )

    assert printed == "[] 30 logging\n"


def test_another_thread_may_configure_logging_during_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configures_logging.py").write_text(
        "import logging, threading\n"
        "logging.basicConfig(level='importer')\n"
        "thread = threading.Thread(target=logging.basicConfig, kwargs={'level': 'another'})\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    calls: list[str] = []

    def record(*, level: str) -> None:
        calls.append(level)

    monkeypatch.setattr(logging, "basicConfig", record)
    accept._import_quietly("configures_logging")

    assert calls == ["another"]
    assert logging.basicConfig is record


def test_a_level_that_the_host_set_for_the_accept_loop_stays(loop: IoLoop) -> None:
    log = logging.getLogger("websocket_server.websocket_server")
    before = log.level
    try:
        log.setLevel(logging.CRITICAL)
        Acceptor("127.0.0.1", 0, lambda _sock, _address: None).stop()
        assert log.level == logging.CRITICAL
    finally:
        log.setLevel(before)


def test_limits_are_per_client(listen: Listen) -> None:
    listener = listen(echo, limits=WebSocketLimits(max_message_bytes=3))
    with RawClient(listener).upgrade() as one, RawClient(listener).upgrade() as other:
        one.send(frame(TEXT, b"four"))
        other.send(frame(TEXT, b"abc"))

        assert one.read_frame().code == 1009
        assert other.read_text() == "abc"
