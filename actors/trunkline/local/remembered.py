"""Events of a thread that outlive its actor: how they are written down, and which are told again."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from trunkline.log import Event
from trunkline.store.base import StoredEvents

__all__ = ["read_events", "write_events"]

logger = logging.getLogger(__name__)


class _Written(msgspec.Struct, frozen=True, array_like=True):
    """An event in the store."""

    seq: int
    method: str
    payload: bytes
    at_ms: int
    to_everybody: bool
    prompt_id: int | None
    resolves: int | None
    is_terminal: bool


class _Page(msgspec.Struct, frozen=True, array_like=True):
    """Events that were written together."""

    run_id: str
    """Names the run of the server that published them: the ids of prompts mean nothing in another one."""
    events: list[_Written]


def write_events(events: list[Event], run_id: str) -> StoredEvents:
    """Write down events that are next to each other, at least one."""
    page = _Page(
        run_id,
        [
            _Written(
                event.seq,
                event.method,
                event.encode(),
                event.at_ms,
                event.to_everybody,
                event.prompt_id,
                event.resolves,
                event.is_terminal,
            )
            for event in events
        ],
    )
    return StoredEvents(events[0].seq, events[-1].seq, msgspec.msgpack.encode(page))


def read_events(stored: Iterable[StoredEvents], run_id: str) -> list[Event]:
    """Return the events that may be told again: the newest ones, without a gap.

    A prompt of another run of the server is not told again, nor is anything before it: its id may be that
    of another prompt by now. Nor is anything up to what cannot be read: who asks for it gets a snapshot.
    """
    events: list[Event] = []
    for each in stored:
        try:
            page = msgspec.msgpack.decode(each.data, type=_Page)
        except msgspec.MsgspecError as error:
            logger.warning("x store: some events cannot be read, and are not told again: %s", error)
            events.clear()
            continue
        for written in page.events:
            is_of_prompt = written.prompt_id is not None or written.resolves is not None
            if is_of_prompt and page.run_id != run_id:
                events.clear()
            else:
                events.append(_event(written))
    return events


def _event(written: _Written) -> Event:
    return Event(
        written.seq,
        written.method,
        written.payload,
        len(written.payload),
        None,
        written.at_ms,
        written.to_everybody,
        written.prompt_id,
        written.resolves,
        written.is_terminal,
    )
