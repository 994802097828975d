from __future__ import annotations

import os
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


@pytest.fixture(autouse=True, scope="session")
def _servers_keep_out_of_the_users_files() -> None:
    os.environ["TRUNKLINE_STORE"] = "memory"  # for commands, and for child processes


@pytest.fixture(autouse=True)
def _no_actor_and_no_thread_of_ours_is_left(nothing_left: None) -> None:
    pass


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
