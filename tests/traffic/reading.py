"""Reads the recordings of servers, those of processes that still write and those that are complete."""

from __future__ import annotations

import fcntl
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from traffic.recording import HEAD, PROGRAM, SUFFIX, TEXT_FRAMES

__all__ = ["Record", "Recording", "Recordings", "texts_of"]

_MEDIUM = Struct("!H")
_LARGE = Struct("!Q")


class Record(NamedTuple):
    """One send, or one message that came."""

    kind: bytes
    connection: int
    data: bytes


class Recording:
    """What one process has recorded, as far as it has been read."""

    def __init__(self) -> None:
        self.program = ""
        """The command line of the process."""
        self.asked: dict[tuple[int, object], list[str]] = {}
        """For whoever reads it: what was asked and not answered, by connection and id."""
        # Of the file that is being read. What is behind it and no whole record yet is the rest.
        self._offset = 0
        self._rest = b""

    def read(self, path: Path, *, is_complete: bool) -> Iterator[Record]:
        """Go through the records that have come to its newest file since the last time."""
        with path.open("rb") as file:
            file.seek(self._offset)
            data = self._rest + file.read()
            self._offset = 0 if is_complete else file.tell()
        at = 0
        while at + HEAD.size <= len(data):
            kind, connection, length = HEAD.unpack_from(data, at)
            start = at + HEAD.size
            if start + length > len(data):
                break
            at = start + length
            if kind == PROGRAM:
                self.program = data[start:at].decode()
            else:
                yield Record(kind, connection, data[start:at])
        self._rest = data[at:]


class Recordings:
    """The recordings in a directory.

    Args:
        directory: where processes record.

    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: defaultdict[str, Recording] = defaultdict(Recording)

    def read(self) -> Iterator[tuple[Recording, Iterator[Record]]]:
        """Go through what is new in each, which the caller does. What is complete is removed behind it."""
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            recording = self._known[path.name.rpartition("-")[0]]
            is_complete = _is_complete(path)  # before it is read to its end
            yield recording, recording.read(path, is_complete=is_complete)
            if is_complete:
                path.unlink()


def _is_complete(path: Path) -> bool:
    """Tell whether nobody writes it any more: who does holds a lock."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def texts_of(record: Record) -> list[bytes]:
    """Return the messages of one send."""
    if record.kind != TEXT_FRAMES:
        return record.data[:-1].split(b"\n")
    texts = []
    data, at = record.data, 0
    while at < len(data):
        length, start = data[at + 1], at + 2
        if length == 126:
            [length] = _MEDIUM.unpack_from(data, start)
            start += 2
        elif length == 127:
            [length] = _LARGE.unpack_from(data, start)
            start += 8
        at = start + length
        texts.append(data[start:at])
    return texts
