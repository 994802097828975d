"""A cable between a client and a server: a port that passes everything on, until it is cut."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import urllib.parse
from types import TracebackType
from typing import Self

from cli.processes import PATIENCE_S

__all__ = ["Cable"]


class Cable:
    """A port of this machine that leads to a server's. Made whole; `cut` and `mend` as often as wanted."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._far = (parts.hostname, parts.port)
        self._is_whole = True
        self._ends: list[socket.socket] = []
        self._all_ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for end in self._all_ends:
            end.close()

    def cut(self) -> None:
        """End all connections at once, on both sides, without a word; those that come meanwhile too."""
        with self._lock:
            self._is_whole = False
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                # What is still unsent is thrown away, and the other side gets a reset.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._is_whole = True

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="cable")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: the test is over
            while True:
                near, _ = self._listener.accept()
                with self._lock:
                    if not self._is_whole:
                        near.close()
                        continue
                    try:
                        far = socket.create_connection(self._far)
                    except OSError:  # the server is not there
                        near.close()
                        continue
                    self._ends += [near, far]
                    self._all_ends += [near, far]
                self._start(self._pass_on, near, far)
                self._start(self._pass_on, far, near)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
