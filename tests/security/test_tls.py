"""`wss://`: TLS on the I/O loop, with everything that holds without it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import Client
from security.doors import Open, head, read_answer
from trunkline import AppServer, Config, ConfigError
from trunkline.transports.base import Link, LinkEvents
from trunkline.transports.entrances import EntranceOptions
from trunkline.transports.loop import IoLoop
from trunkline.transports.tls import TlsSocket, make_tls_context
from trunkline.transports.websocket import WebSocketLimits, WebSocketListener
from wires import PATIENCE_S

Start = Callable[..., AppServer]
Files = tuple[Path, Path]


@pytest.fixture
def url(start: Start, certificate: Files) -> str:
    cert, key = certificate
    server = start("wss://127.0.0.1:0", entrances=EntranceOptions(tls_cert=cert, tls_key=key))
    return server.listeners[0].url


def join(opened: Open, url: str, certificate: Files, name: str = "alice") -> Client:
    return opened.client(url, name, cafile=certificate[0])


def test_clients_share_a_thread_over_tls(url: str, opened: Open, certificate: Files) -> None:
    assert url.startswith("wss://127.0.0.1:")
    alice, bob = join(opened, url, certificate), join(opened, url, certificate, "bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "say 2000 1000")
    for client in (alice, bob):
        client.wait_turn(turn_id)
        deltas = [message for message in client.arrived if message.get("method") == "item/agentMessage/delta"]
        assert [message["params"]["delta"][:8] for message in deltas] == [f"{n:08}" for n in range(2000)]
    alice.close()
    assert bob.run_turn(thread_id, "text still here")["status"] == "completed"


def test_a_client_that_does_not_read_is_held_back_and_gets_all_of_it_later(
    url: str, opened: Open, certificate: Files
) -> None:
    alice, bob = join(opened, url, certificate), join(opened, url, certificate, "bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "say 6000 1000")  # more than the sockets hold
    alice.wait_turn(turn_id)
    bob.wait_turn(turn_id)
    assert alice.events_of(thread_id)[-6000:] == bob.events_of(thread_id)[-6000:]


def test_a_message_of_many_records_arrives(url: str, opened: Open, certificate: Files) -> None:
    alice = join(opened, url, certificate)
    text = "x" * 900_000
    thread_id = alice.start_thread()
    assert alice.run_turn(thread_id, f"text {text}")["status"] == "completed"
    item = alice.wait("item/completed")["params"]["item"]
    assert item["content"][0]["text"] == f"text {text}"


def test_who_speaks_in_the_clear_costs_nobody_anything(url: str, opened: Open, certificate: Files) -> None:
    plain = opened.socket(url.replace("wss:", "ws:"))
    plain.sendall(head())
    silent = opened.socket(url.replace("wss:", "ws:"))
    while data := plain.recv(65_536):  # an alert, and the end
        assert b"HTTP" not in data
    assert join(opened, url, certificate).request("thread/loaded/list")["data"] == []
    silent.close()


def test_who_stops_in_the_middle_of_the_tls_handshake_is_cut(opened: Open, certificate: Files) -> None:
    loop = IoLoop()
    loop.start()
    listener = WebSocketListener(
        "127.0.0.1",
        0,
        _nobody,
        loop,
        limits=WebSocketLimits(handshake_timeout_s=0.05),
        tls=make_tls_context(*certificate),
    )
    listener.start()
    sock = opened.socket(listener.url.replace("wss:", "ws:"))
    sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    assert sock.recv(65_536) == b""
    listener.close()
    loop.stop(PATIENCE_S)


def _nobody(link: Link) -> LinkEvents:
    raise AssertionError(f"{link.name} came in")


def test_an_old_tls_is_refused(url: str, opened: Open) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    sock = opened.socket(url.replace("wss:", "ws:"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(sock, server_hostname="localhost")


def test_a_byte_at_a_time_is_as_good(url: str, opened: Open, certificate: Files) -> None:
    near, far = socket.socketpair()
    with near, far:
        outer = opened.socket(url.replace("wss:", "ws:"))
        threading.Thread(target=_dribble, args=(near, outer), daemon=True).start()
        threading.Thread(target=_copy, args=(outer, near), daemon=True).start()
        context = ssl.create_default_context(cafile=certificate[0])
        far.settimeout(PATIENCE_S)
        with context.wrap_socket(far, server_hostname="localhost") as tls:
            tls.sendall(head())
            assert read_answer(tls).status == 101
    outer.close()


def _dribble(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(65_536):
        for byte in data:
            target.sendall(bytes([byte]))


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
    except OSError:
        pass


def test_no_thread_is_made_for_a_client(url: str, opened: Open, certificate: Files) -> None:
    join(opened, url, certificate)
    before = threading.active_count()
    for number in range(10):
        join(opened, url, certificate, f"client {number}")
    assert threading.active_count() == before


def test_the_server_ends_a_connection_in_the_way_of_tls(url: str, opened: Open, certificate: Files) -> None:
    sock = opened.socket(url, certificate[0])
    sock.sendall(head("/healthz", upgrade=False))
    assert read_answer(sock).status == 200
    assert sock.recv(1) == b"", "and no error, as a connection that was cut would be"


def test_what_is_sent_counts_when_all_of_it_has_left(certificate: Files) -> None:
    """Whatever the socket takes, the bytes come out in order, and none counts as sent before."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        server = TlsSocket(ours, make_tls_context(*certificate))
        context = ssl.create_default_context(cafile=certificate[0])
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        theirs.setblocking(False)
        data = b"".join(number.to_bytes(4, "big") for number in range(60_000))
        rest, received, blocked = data, b"", 0
        while len(received) < len(data):
            try:
                if not client.version():
                    client.do_handshake()
                received += client.read(1 << 20)
            except ssl.SSLWantReadError:
                pass
            with contextlib.suppress(BlockingIOError):
                theirs.send(outgoing.read())
            with contextlib.suppress(BlockingIOError):
                incoming.write(theirs.recv(3000))
            with contextlib.suppress(BlockingIOError):
                server.recv(65_536)
            if client.version() and rest:
                try:
                    rest = rest[server.sendmsg((rest[:7], rest[7:70_000])) :]
                    assert rest or not server.has_leftover
                except BlockingIOError:
                    blocked += 1
        assert received == data
        assert blocked, "the socket was full at times"


def test_files_that_do_not_fit_are_refused_at_start_up(tmp_path: Path, certificate: Files) -> None:
    cert, key = certificate
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for files, text in (
        ((tmp_path / "none.pem", key), "none.pem: No such file"),
        ((cert, tmp_path / "none.pem"), "none.pem: No such file"),
        ((junk, key), "cannot be used"),
        ((cert, junk), "cannot be used"),
    ):
        options = EntranceOptions(tls_cert=files[0], tls_key=files[1])
        with pytest.raises(ConfigError, match=text):
            AppServer(Config(listen=("wss://127.0.0.1:0",), entrances=options))


def test_a_certificate_for_nothing_is_refused(certificate: Files) -> None:
    options = EntranceOptions(tls_cert=certificate[0], tls_key=certificate[1])
    with pytest.raises(ConfigError, match="there is none"):
        AppServer(Config(listen=("ws://127.0.0.1:0",), entrances=options))
