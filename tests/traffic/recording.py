"""Recordings of what servers send and are sent: files that outlive the process that writes them.

A process appends to files of its own, one write for each send, before what is sent is on its way: a process
that is killed has written down all that anybody can have received. See `reading` for the other end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from itertools import count
from pathlib import Path
from struct import Struct

__all__ = ["HEAD", "LINES", "PROGRAM", "RECEIVED", "SUFFIX", "TEXT_FRAMES", "Recorder"]

HEAD = Struct("=cIQ")
"""Stands before each record: what it is, the number of the connection, and how many bytes follow."""

PROGRAM = b"p"
"""The command line of the process. The first record."""
RECEIVED = b"<"
"""A message of a client's, as it came."""
TEXT_FRAMES = b"t"
"""Messages to a client, each in a WebSocket frame."""
LINES = b"l"
"""Messages to a client, each on a line."""

SUFFIX = ".traffic"

_FIRST_FREE = 10
"""A process may have been started without standard streams, and open their descriptors as it likes."""


class Recorder:
    """Writes the recording of this process. Any thread.

    It is one run of bytes over any number of files. Each is locked as long as it is written to, so that it
    can be told from one that is complete.

    Args:
        directory: where.
        program: the command line of this process.

    """

    def __init__(self, directory: Path, program: str) -> None:
        self._lock = threading.Lock()
        name = f"{time.time_ns()}-{os.getpid()}"
        self._paths = (directory / f"{name}-{number:06}" for number in count())
        self._fd = self._open()
        self.record(PROGRAM, 0, program.encode(errors="replace"))

    def record(self, kind: bytes, connection: int, data: bytes) -> None:
        """Append a record."""
        whole = HEAD.pack(kind, connection, len(data)) + data
        with self._lock:
            written = self._write(whole)
            while written < len(whole):
                # Tests limit the size of the files that a process may write: it goes on in another.
                self._begin()
                written += self._write(whole[written:])

    def begin(self) -> None:
        """Go on in another file: what is recorded so far is complete."""
        with self._lock:
            self._begin()

    def close(self) -> None:
        """End the recording."""
        os.close(self._fd)

    def _write(self, data: bytes) -> int:
        """Write as much as the file may take, and return how much that is."""
        try:
            return os.write(self._fd, data)
        except OSError as error:
            if error.errno != errno.EFBIG or os.fstat(self._fd).st_size == 0:
                raise
            return 0

    def _begin(self) -> None:
        before, self._fd = self._fd, self._open()
        os.close(before)

    def _open(self) -> int:
        path = next(self._paths)
        low = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
        os.close(low)
        fcntl.flock(fd, fcntl.LOCK_SH)
        path.rename(path.with_suffix(SUFFIX))  # only now: a reader that sees it finds it locked
        return fd
