"""WebSocket over a Unix domain socket: who may come in is what the file system says.

The socket is for its owner alone (mode 0600), in a directory that others cannot write to. One that
nobody listens on any more is replaced, one that is in use is not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trunkline.errors import StartError
from trunkline.transports.accept import Acceptor
from trunkline.transports.websocket import WebSocketListener

__all__ = ["UnixListener"]

logger = logging.getLogger(__name__)

LOCK_S = 2.0
"""Seconds that a server waits for another one to have started in the same directory."""

_PRIVATE_DIRECTORY = 0o700
_PRIVATE_SOCKET = 0o600


class UnixAcceptor(Acceptor):
    """Accepts on a Unix socket. See `Acceptor`."""

    def __init__(self, path: Path, accepted: Callable[[socket.socket, Any], None]) -> None:
        self._path = path
        super().__init__(str(path), 0, accepted)
        self.port = 0  # the base has taken a letter of the path for it, and logs it as a number

    def server_bind(self) -> None:
        """Bind. Others have no moment in which the socket is open to them."""
        self.socket.close()  # the base has made one for TCP
        self.address_family = socket.AF_UNIX
        self.socket: socket.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(OSError):  # elsewhere than on Linux it has no effect on the file
            os.fchmod(self.socket.fileno(), _PRIVATE_SOCKET)
        self.socket.bind(str(self._path))
        self._path.chmod(_PRIVATE_SOCKET)
        self.server_address = str(self._path)

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        """Hand a connection on."""
        request.setblocking(False)
        self._accepted(request, client_address)


class UnixListener(WebSocketListener):
    """Listens on a Unix socket. See `WebSocketListener`, whose settings it takes.

    Args:
        path: of the socket; a relative one is taken from where the process is now.
        settings: `opened`, `loop`, `site`, `limits` and `crowd`.

    """

    def __init__(self, path: Path, *settings: Any) -> None:
        super().__init__(str(path), 0, *settings)
        self._path = path.absolute()
        self._numbers = itertools.count(1)
        # Which file is ours: it is not for us to remove another's.
        self._identity: tuple[int, int] | None = None

    @property
    def url(self) -> str:
        """Such as `unix:///run/user/1000/trunkline.sock`."""
        return f"unix://{self._path}"

    def stop_accepting(self) -> None:
        """Take no more connections, and remove the socket. Twice is harmless."""
        super().stop_accepting()
        if self._identity is not None and self._identity == _identity(self._path):
            self._path.unlink(missing_ok=True)
        self._identity = None

    def _bind(self) -> Acceptor:
        _prepare_directory(self._path.parent)
        with _one_at_a_time(self._path.parent):
            _make_room(self._path)
            try:
                acceptor = UnixAcceptor(self._path, self._accepted)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:  # another server was quicker
                    raise _in_use(self._path) from error
                raise StartError(f"cannot listen on {self.url}: {error.strerror or error}") from error
            self._identity = _identity(self._path)
        return acceptor

    def _accepted(self, sock: socket.socket, address: Any) -> None:
        self._loop.call_soon(self._add, sock, f"unix {next(self._numbers)}", "")


def _prepare_directory(directory: Path) -> None:
    """Make the directory if only it is missing; see that nobody else can put something in its place."""
    try:
        directory.mkdir(_PRIVATE_DIRECTORY, exist_ok=True)
        mode = directory.stat().st_mode
    except OSError as error:
        raise StartError(f"cannot use the directory {directory}: {error.strerror}") from error
    # A sticky directory, such as /tmp, lets nobody remove or rename what is not theirs.
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        raise StartError(f"others can write to {directory}; use a directory that is yours alone")


@contextlib.contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Keep out other servers that start in this directory.

    Of two that find the same stale socket the second would remove what the first has put in its place. A
    directory that others can open, such as /tmp, may be held by whoever likes: then nobody waits for long.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StartError(f"cannot use the directory {directory}: {error.strerror}") from error
    try:
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    logger.warning("x somebody holds the directory %s; starting all the same", directory)
                    break
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _make_room(path: Path) -> None:
    """Remove a socket that nobody listens on."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot use {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise StartError(f"app-server control socket path exists and is not a socket: {path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # its queue may be full: then somebody is there
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise StartError(f"cannot use {path}: {error.strerror}") from error
    raise _in_use(path)


def _in_use(path: Path) -> StartError:
    return StartError(f"app-server control socket is already in use at {path}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
