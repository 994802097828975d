"""A thread's newest events in one log that all its subscribers share.

An event is turned into bytes when a client needs bytes, and not before: those in this process take it
as it is. Events that were published together make a chunk; a chunk is what a subscription's cursor
steps over. Its framed bytes are shared by all who are sent it, and kept as long as one of them is on the
way, so that a fan-out costs one join for all subscribers and one send for each. Deltas that were told at
once stay together in it, as one thing that is written at once; they are made an `Event` each only for who
has to look at each.
"""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeAlias

import msgspec

from trunkline.protocol.deltas import Deltas
from trunkline.protocol.envelope import encode_notification, encode_server_request
from trunkline.transports.base import Framing
from trunkline.types import Buffer, Json

__all__ = ["MAX_KEPT_BYTES", "Chunk", "Event", "EventLog", "Frames", "Part"]

_NOTHING: frozenset[str] = frozenset()

MAX_KEPT_BYTES = 16 * 1024
"""An event keeps its payload, once made, up to this size; a larger one is made again when it is needed."""

_RESTORED_CHUNK = 64
"""Events that make a chunk when they were read again: a subscription goes by whole chunks."""


class Event(msgspec.Struct, eq=False, gc=False):
    """One notification or prompt of a thread. Any thread may read it.

    It is there as bytes, as params, or as both; `encode` makes the bytes. Nothing else of it changes. A large
    one whose params hold what is kept elsewhere as well, such as an item, is there as params alone.
    """

    seq: int
    """Its place in the thread, from 1; 0 if it has none."""
    method: str
    payload: bytes | None
    """The message as it goes over the wire, without framing; None if nobody needed that or it is not kept."""
    size: int
    """Bytes of the payload: exactly, or about if it is not encoded yet. It counts as these for ever."""
    params: Json = None
    """Its params, never to be changed; None if nobody in this process had a use for them."""
    at_ms: int = 0
    """When it was published, in Unix milliseconds."""
    to_everybody: bool = False
    """Whether every initialized connection is sent it, or the thread's subscribers only."""
    prompt_id: int | None = None
    """The request id, if it is a prompt."""
    resolves: int | None = None
    """The id of the prompt that it tells the end of."""
    is_terminal: bool = False
    """Whether it tells of something completed, which must be kept before anybody is told."""

    @property
    def first_seq(self) -> int:
        """Its number, as of a part of a chunk."""
        return self.seq

    @property
    def last_seq(self) -> int:
        """Its number, as of a part of a chunk."""
        return self.seq

    def encode(self) -> bytes:
        """Return the payload, made at the first call, and at each if it is larger than what is kept."""
        payload = self.payload
        if payload is None:
            # Two threads may do this at the same moment with equal results: no harm, no lock.
            if self.prompt_id is not None:
                payload = encode_server_request(self.prompt_id, self.method, self.params, self.seq)
            else:
                payload = encode_notification(self.method, self.params, self.at_ms, self.seq or None)
            if len(payload) <= MAX_KEPT_BYTES:
                self.payload = payload
        return payload


class Frames(dict[tuple[Framing, frozenset[str]], Buffer]):
    """A chunk as bytes, by framing and the methods that are left out.

    Two connections may fill it in at the same moment with equal values: no harm, no lock.
    """

    __slots__ = ("__weakref__",)


Part: TypeAlias = Event | Deltas
"""What a chunk is made of."""


class Chunk:
    """Events that are next to each other in a thread, never changed. Any thread may read it."""

    __slots__ = (
        "_events",
        "_frames",
        "first_seq",
        "last_seq",
        "methods",
        "parts",
        "prompts",
        "resolved",
        "size",
    )

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self.first_seq = self.parts[0].first_seq
        self.last_seq = self.parts[-1].last_seq
        self.size = sum([part.size for part in self.parts])
        """Bytes of the payloads, as they count."""
        self.methods = frozenset([part.method for part in self.parts])
        single = [part for part in self.parts if isinstance(part, Event)]
        self.prompts = tuple([event.prompt_id for event in single if event.prompt_id is not None])
        self.resolved = tuple([event.resolves for event in single if event.resolves is not None])
        # The log keeps chunks for a long time, and their framed bytes only as long as somebody holds them.
        self._frames: weakref.ref[Frames] | None = None
        # Two connections may make these at the same moment with equal values: no harm, no lock.
        self._events: tuple[Event, ...] | None = None

    @property
    def events(self) -> tuple[Event, ...]:
        """The events one by one, made at the first call."""
        events = self._events
        if events is None:
            events = self._events = tuple([event for part in self.parts for event in _each(part)])
        return events

    def framed(self, framing: Framing, unwanted: frozenset[str]) -> Buffer:
        """Return the events as one run of bytes.

        It is made at the first call for each kind of connection, and again if nobody holds the `frames`.

        Args:
            framing: what marks the ends of a message.
            unwanted: methods of notifications that are left out; a prompt never is.

        """
        left_out = _NOTHING if unwanted.isdisjoint(self.methods) else unwanted & self.methods
        frames = self._held_frames()
        data = None if frames is None else frames.get((framing, left_out))
        if data is None:
            framed = [
                _frame(part, framing)
                for part in self.parts
                if part.method not in left_out or (isinstance(part, Event) and part.prompt_id is not None)
            ]
            data = framed[0] if len(framed) == 1 else b"".join(framed)
            if frames is not None:
                frames[framing, left_out] = data
        return data

    def frames(self) -> Frames:
        """Return what the framed bytes are kept in, for holding them. For the one who sends the chunk out."""
        frames = self._held_frames()
        if frames is None:
            frames = Frames()
            self._frames = weakref.ref(frames)
        return frames

    def _held_frames(self) -> Frames | None:
        return None if self._frames is None else self._frames()

    def after(self, seq: int) -> Chunk:
        """Return the part behind `seq`, which is one of the chunk's but not its last."""
        return Chunk(
            [
                part.after(seq) if isinstance(part, Deltas) and part.first_seq <= seq else part
                for part in self.parts
                if part.last_seq > seq
            ]
        )


def _frame(part: Part, framing: Framing) -> Buffer:
    if isinstance(part, Deltas):
        return part.framed(framing.header, framing.trailer)
    return framing.frame(part.payload or part.encode())


def _each(part: Part) -> Sequence[Event]:
    """Return the events that a part is."""
    if not isinstance(part, Deltas):
        return (part,)
    seqs = range(part.first_seq, part.last_seq + 1)
    return [
        Event(seq, part.method, None, size, params, part.at_ms)
        for seq, size, params in zip(seqs, part.sizes(), part.params(), strict=True)
    ]


class EventLog:
    """The newest chunks of a thread, bounded in events and in bytes of payload.

    Args:
        max_events: events to keep, 1 or more.
        max_bytes: bytes of payload to keep, 1 or more. The newest chunk is kept whatever its size, and an
            event counts with an eighth of this at most: one long message, which comes once more when it
            is complete, must not push out what nobody can have read yet.
        last_seq: the number of the last event before this log began.

    """

    def __init__(self, *, max_events: int, max_bytes: int, last_seq: int = 0) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._max_weight = max_bytes // 8
        self._chunks: list[Chunk] = []
        self._firsts: list[int] = []  # first_seq of each chunk, for bisect
        self._offsets: list[int] = []  # bytes that ever counted before each chunk
        self._evicted = 0  # chunks at the front of the lists that are no longer in the log
        self._size = 0
        self._total = 0  # bytes that ever counted
        self.last_seq = last_seq

    @property
    def first_seq(self) -> int:
        """The oldest event that is still here; one more than `last_seq` if there is none."""
        return self._firsts[self._evicted] if self._evicted < len(self._firsts) else self.last_seq + 1

    @property
    def size(self) -> int:
        """Bytes of payload in the log, as they count."""
        return self._size

    def append(self, chunk: Chunk) -> None:
        """Add the newest events, and let go of the oldest ones that are over a limit."""
        self._chunks.append(chunk)
        self._firsts.append(chunk.first_seq)
        self._offsets.append(self._total)
        weight = self._weight(chunk)
        self._size += weight
        self._total += weight
        self.last_seq = chunk.last_seq
        while self._is_over_limit():
            self._size -= self._weight(self._chunks[self._evicted])
            self._chunks[self._evicted] = chunk  # lets go of the evicted one
            self._evicted += 1
        if self._evicted > 64 and self._evicted * 2 > len(self._chunks):
            del self._chunks[: self._evicted]
            del self._firsts[: self._evicted]
            del self._offsets[: self._evicted]
            self._evicted = 0

    def restore(self, events: Sequence[Event]) -> None:
        """Begin with events that lead up to `last_seq`. Nothing may have been added yet."""
        if events:
            self.last_seq = events[0].seq - 1
            for index in range(0, len(events), _RESTORED_CHUNK):
                self.append(Chunk(events[index : index + _RESTORED_CHUNK]))

    def newest_after(self, seq: int, max_bytes: int) -> list[Event]:
        """Return the newest of the events behind `seq` that are here, as many as `max_bytes` hold."""
        newest_first: list[Event] = []
        for chunk in reversed(list(self.chunks_after(max(seq, self.first_seq - 1)))):
            for event in reversed(chunk.events):
                max_bytes -= event.size
                if max_bytes < 0:
                    return newest_first[::-1]
                newest_first.append(event)
        return newest_first[::-1]

    def __contains__(self, seq: int) -> bool:
        return self.first_seq <= seq <= self.last_seq

    def is_half_full_after(self, seq: int) -> bool:
        """Whether what is behind `seq` takes more than half of the log, by count or by bytes."""
        if seq >= self.last_seq:
            return False
        if (self.last_seq - seq) * 2 > self._max_events or seq < self.first_seq - 1:
            return True
        offset = self._offsets[max(bisect_right(self._firsts, seq, self._evicted) - 1, self._evicted)]
        return (self._total - offset) * 2 > self._max_bytes

    def chunks_after(self, seq: int) -> Iterator[Chunk]:
        """Go through the events behind `seq`, at least `first_seq - 1`; the first chunk may be cut."""
        index = max(bisect_right(self._firsts, seq, self._evicted) - 1, self._evicted)
        while index < len(self._chunks):
            chunk = self._chunks[index]
            index += 1
            if chunk.last_seq > seq:
                yield chunk.after(seq) if chunk.first_seq <= seq else chunk

    def _weight(self, chunk: Chunk) -> int:
        if chunk.size <= self._max_weight:
            return chunk.size
        sizes = chain.from_iterable(
            part.sizes() if isinstance(part, Deltas) else (part.size,) for part in chunk.parts
        )
        return sum([min(size, self._max_weight) for size in sizes])

    def _is_over_limit(self) -> bool:
        if len(self._chunks) - self._evicted <= 1:
            return False
        return self._size > self._max_bytes or self.last_seq - self.first_seq + 1 > self._max_events
