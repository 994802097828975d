"""Checkpoints: what is in the write-ahead log goes into the file, on a thread that nobody waits for.

A checkpoint waits for the disk, twice. One that is made beside the writer holds up no commit.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trunkline.store.base import SaveEvents, SaveItem
from trunkline.store.schema import open_checkpointer

__all__ = ["Checkpoints"]

logger = logging.getLogger(__name__)

CHECKPOINT_BYTES = 8 * 1024 * 1024
"""About what may be written until the next checkpoint."""

LOG_BYTES = 4 * CHECKPOINT_BYTES
"""What the log may grow to before writing waits."""

PAGE_BYTES = 4096
"""SQLite's pages: what a write costs at least."""


class Checkpoints:
    """Makes checkpoints of a store file.

    Args:
        path: the file, which is there.

    """

    def __init__(self, path: Path) -> None:
        self._connection = open_checkpointer(path)
        self._due: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="trunkline-store-checkpoints", daemon=True)
        self._written = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Blocks until that is done."""
        self._due.put(False)
        if self._thread.ident is not None:
            self._thread.join()
        self._connection.close()

    def written(self, messages: Sequence[Any]) -> None:
        """Note what was written. For the thread that writes; never blocks."""
        for message in messages:
            self._written += PAGE_BYTES
            if isinstance(message, SaveItem):
                self._written += len(message.item.payload)
            elif isinstance(message, SaveEvents):
                self._written += len(message.events.data)
        if self._written >= CHECKPOINT_BYTES:
            self._written = 0
            self._due.put(True)

    def _run(self) -> None:
        while self._due.get():
            try:
                # PASSIVE: as much as can be done without holding up anybody.
                row = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if row[1] * PAGE_BYTES > LOG_BYTES:
                    # Writes come faster than that, and the log begins anew only behind the last of them:
                    # now they wait, for what is left.
                    self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            except sqlite3.Error as error:
                # Nothing is lost: it stays in the log, and the next one takes it along.
                logger.warning("x store: no checkpoint can be made: %s", error)
