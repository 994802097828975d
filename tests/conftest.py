from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from houses import House, LocalHouse, Puppets, running_child, running_server
from trunkline.testing.fixtures import nothing_left
from watchdog import Watchdog, watching

__all__ = ["Serve", "nothing_left"]

pytest_plugins = ["traffic.plugin"]

Serve = Callable[..., LocalHouse]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Have no workers for what somebody runs by hand: its output and its debugger belong on the terminal."""
    is_broad = all(Path(each).is_dir() for each in config.args)
    return None if is_broad and config.getoption("capture") != "no" else 0


@pytest.fixture(autouse=True, scope="session")
def _servers_keep_out_of_the_users_files() -> None:
    os.environ["TRUNKLINE_STORE"] = "memory"  # for commands, and for child processes


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard() -> None:
    # What a script runs in the background ignores it, and so would all children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_actor_and_no_thread_of_ours_is_left(nothing_left: None) -> None:
    pass


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is the test's alone: whoever else takes a free one passes it by, listened on or not."""
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: so they may share it
        keeper.bind(("127.0.0.1", 0))
        number: int = keeper.getsockname()[1]
        yield number


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers with settings of the test's choice."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running_server(**settings))


@pytest.fixture
def house(serve: Serve) -> LocalHouse:
    """A server with the script agent, reached over WebSockets."""
    return serve()


@pytest.fixture
def puppets() -> Puppets:
    """Agents that do what the test says."""
    return Puppets()


@pytest.fixture
def stage(serve: Serve, puppets: Puppets) -> LocalHouse:
    """A server whose agents are the `puppets`."""
    return serve(agent=puppets)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where threads are kept, in each of the ways: the second one holds events back until they are."""
    return tmp_path / "threads.sqlite" if request.param == "sqlite" else "memory"


@pytest.fixture(params=["websocket", "in-process", "stdio"])
def any_house(request: pytest.FixtureRequest) -> Iterator[House]:
    """A server with the script agent, over each of the transports in turn."""
    if request.param == "stdio":
        with running_child() as child:
            yield child
    else:
        with running_server(transport=request.param) as local:
            yield local


@pytest.fixture
def watchdog(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    """A watchdog over every pooled actor of the process."""
    with watching(monkeypatch) as dog:
        yield dog
