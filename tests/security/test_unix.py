"""`unix://PATH`: a socket for its owner alone."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from houses import in_parallel
from security.doors import Open, head
from trunkline import AppServer, Config, StartError
from trunkline.transports import unix

Start = Callable[..., AppServer]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "private" / "t.sock"


def test_clients_come_in_over_a_unix_socket(start: Start, opened: Open, path: Path) -> None:
    server = start(f"unix://{path}")
    assert server.listeners[0].url == f"unix://{path}"
    alice, bob = (opened.client(f"unix://{path}", name) for name in ("alice", "bob"))
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "text hello")
    assert bob.wait_turn(turn_id)["status"] == "completed"


def test_the_socket_and_its_directory_are_private(start: Start, path: Path) -> None:
    start(f"unix://{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_directory_that_exists_is_left_as_it_is(start: Start, path: Path) -> None:
    path.parent.mkdir(0o755)
    start(f"unix://{path}")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_a_directory_that_others_write_to_is_refused_unless_it_is_sticky(start: Start, path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(StartError, match="others can write to"):
        start(f"unix://{path}")
    path.parent.chmod(0o1777)
    start(f"unix://{path}")


def test_only_one_level_is_made(start: Start, path: Path) -> None:
    with pytest.raises(StartError, match="No such file"):
        start(f"unix://{path.parent}/deeper/t.sock")


def test_a_stale_socket_is_replaced(start: Start, opened: Open, path: Path) -> None:
    path.parent.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    start(f"unix://{path}")
    opened.client(f"unix://{path}", "alice")


def test_a_live_socket_is_refused_and_lives_on(start: Start, opened: Open, path: Path) -> None:
    start(f"unix://{path}")
    with pytest.raises(StartError) as error:
        start(f"unix://{path}")
    assert str(error.value) == f"app-server control socket is already in use at {path}"
    opened.client(f"unix://{path}", "alice")


def test_what_is_no_socket_is_refused_and_left_alone(start: Start, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(StartError) as error:
        start(f"unix://{path}")
    assert str(error.value) == f"app-server control socket path exists and is not a socket: {path}"
    assert path.read_text() == "mine"


def test_the_socket_goes_with_the_server(start: Start, path: Path) -> None:
    start(f"unix://{path}").stop(grace_s=0)
    assert not path.exists()


def test_a_socket_that_has_taken_its_place_is_left_alone(start: Start, path: Path) -> None:
    server = start(f"unix://{path}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        server.stop(grace_s=0)
        assert path.exists()


def test_a_path_that_is_too_long_is_refused_in_one_line(start: Start, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="too long"):
        start(f"unix://{tmp_path}/{'x' * 200}")


def test_an_origin_is_refused_here_too(start: Start, opened: Open, path: Path) -> None:
    start(f"unix://{path}")
    assert opened.ask(f"unix://{path}", head("/", "Origin: https://a.example")).status == 403


def test_of_servers_that_start_at_once_on_a_stale_socket_one_gets_it(opened: Open, path: Path) -> None:
    path.parent.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    servers = [AppServer(Config(listen=(f"unix://{path}",), agent="script")) for _ in range(4)]
    refused: list[str] = []

    def start(server: AppServer) -> None:
        try:
            server.start()
        except StartError as error:
            refused.append(str(error))

    in_parallel(*(partial(start, server) for server in servers))
    assert refused == [f"app-server control socket is already in use at {path}"] * 3
    opened.client(f"unix://{path}", "alice")
    for server in servers:
        server.stop(grace_s=0)


def test_a_directory_that_somebody_holds_keeps_nobody_from_starting(
    start: Start, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unix, "LOCK_S", 0.0)
    path.parent.mkdir(0o700)
    descriptor = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    start(f"unix://{path}")
    os.close(descriptor)
    assert f"x somebody holds the directory {path.parent}; starting all the same" in caplog.messages
