from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from security.certificates import make_certificate
from security.doors import SECRET, Open, sign_for
from trunkline import AppServer, Config
from trunkline.transports.auth import AuthOptions
from trunkline.transports.entrances import EntranceOptions


@pytest.fixture
def start() -> Iterator[Callable[..., AppServer]]:
    """Starts servers with the script agent, on a loopback port unless said otherwise."""
    with ExitStack() as stack:

        def make(*listen: str, **settings: object) -> AppServer:
            urls = listen or ("ws://127.0.0.1:0",)
            config = Config(listen=urls, agent="script", **settings)  # type: ignore[arg-type]
            server = AppServer(config)
            stack.callback(server.stop, grace_s=0.0)
            server.start()
            return server

        yield make


@pytest.fixture
def signed(tmp_path: Path) -> EntranceOptions:
    """Lets in who has a token that is signed with `SECRET`."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return EntranceOptions(auth=AuthOptions(mode="signed-bearer-token", shared_secret_file=path))


@pytest.fixture
def token() -> Callable[..., str]:
    """Signs tokens that are good for a while."""
    return lambda **claims: sign_for(int(time.time()) + 3600, **claims)


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens raw connections, and closes them at the end."""
    with ExitStack() as stack:
        yield Open(stack)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))
