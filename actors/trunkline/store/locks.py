"""Which process may write a thread: one at a time.

A lock is a byte of a file beside the store, at a place made from the thread's id. The operating system
lets go of it when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

from trunkline.types import ThreadId

__all__ = ["ThreadLocks"]


class ThreadLocks:
    """The locks of one process on the threads of a store. For one thread of the operating system.

    Two stores of one process do not keep each other out: the locks are the process's.

    Args:
        path: the lock file; made if it is not there.

    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._held: set[ThreadId] = set()

    def take(self, thread_id: ThreadId) -> bool:
        """Take the lock of a thread, or keep it; False if another process has it. Does not wait."""
        if thread_id in self._held:
            return True
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(thread_id))
        except OSError:
            return False
        self._held.add(thread_id)
        return True

    def release(self, thread_id: ThreadId) -> None:
        """Let go of the lock of a thread. Harmless if it is not held."""
        if thread_id in self._held:
            self._held.discard(thread_id)
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _place(thread_id))

    def close(self) -> None:
        """Let go of all. The file stays."""
        os.close(self._fd)


def _place(thread_id: ThreadId) -> int:
    # The random end of a UUIDv7, which fits the offset of a file. Two threads that met in it would
    # keep each other out: with 62 random bits they do not.
    return uuid.UUID(thread_id).int & ((1 << 62) - 1)
