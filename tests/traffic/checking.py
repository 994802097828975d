"""Validates recorded traffic against Codex's models: every message that a server has sent."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

import codex_models
from traffic.reading import Record, Recording, texts_of
from traffic.recording import RECEIVED
from traffic.shapes import SUBJECTS, shape_of
from traffic.tally import Kind, Tally

__all__ = ["Checker", "Unreadable"]

_REMEMBERED = 64
"""Sends that are told again: what is sent to all subscribers is sent in a row."""


class Unreadable(NamedTuple):
    """A message that Codex cannot read."""

    method: str
    """Its own, or the one that it is the answer to; empty if there is none."""
    reason: str
    program: str
    """The command line of the process that sent it."""

    def __str__(self) -> str:
        return f"{self.reason}\n  sent by: {self.program}"


class Checker:
    """Checks recordings, and counts what was in them."""

    def __init__(self) -> None:
        self.tally = Tally()
        """What was checked so far."""
        # The recordings in which something was sent.
        self._senders: set[Recording] = set()
        # The shapes that are readable; of answers also the methods, one of which has that answer.
        self._shapes: set[tuple[tuple[str, ...], bytes]] = set()
        # The last sends without an answer in them, and what they consist of.
        self._sends: dict[bytes, Counter[Kind]] = {}

    def check(self, recording: Recording, records: Iterable[Record]) -> list[Unreadable]:
        """Check what is new in a recording, and return what is not readable in it."""
        unreadable: list[Unreadable] = []
        for record in records:
            if record.kind == RECEIVED:
                _note_request(recording, record)
                continue
            self._senders.add(recording)
            if (known := self._sends.get(record.data)) is not None:
                self.tally.counts.update(known)
            else:
                unreadable += self._check_send(recording, record)
        self.tally.senders = len(self._senders)
        self.tally.unreadable += len(unreadable)
        return unreadable

    def _check_send(self, recording: Recording, record: Record) -> list[Unreadable]:
        unreadable: list[Unreadable] = []
        kinds: Counter[Kind] = Counter()
        has_answer = False
        for text in texts_of(record):
            methods: tuple[str, ...] = ()
            try:
                message = orjson.loads(text)
                assert isinstance(message, dict), f"no message: {text.decode()[:200]}"
                if "method" in message:
                    methods = (str(message["method"]),)
                else:
                    has_answer = True
                    methods = _answered(recording, record.connection, message)
                kinds[self._check_message(message, methods, text)] += 1
            except (AssertionError, ValueError) as error:  # a ValueError if it is not even JSON
                unreadable.append(Unreadable(methods[0] if methods else "", str(error), recording.program))
        self.tally.counts.update(kinds)
        if not has_answer and not unreadable:
            self._remember(record.data, kinds)
        return unreadable

    def _check_message(self, message: dict[str, Any], methods: tuple[str, ...], text: bytes) -> Kind:
        """Fail if the message is not readable; return what it is."""
        key: tuple[str, ...] = ()
        if "method" in message:
            name = methods[0]
        elif "error" in message:
            name, methods = "error", ()
        else:
            assert methods, f"an answer to nothing that was asked: {text.decode()[:200]}"
            name, key = f"answer to {methods[0]}", methods
        if not all(map(_has_model, methods)):
            return Kind(name, has_model=False)
        if not all(map(_has_shape, methods)):
            self._validate(text, methods)
        elif (whole := (key, shape_of(message))) not in self._shapes:
            self._validate(text, methods)
            self._shapes.add(whole)
        return Kind(name, has_model=True)

    def _validate(self, text: bytes, methods: tuple[str, ...]) -> None:
        self.tally.validated += 1
        codex_models.check_message(json.loads(text), methods)

    def _remember(self, data: bytes, kinds: Counter[Kind]) -> None:
        self._sends[data] = kinds
        if len(self._sends) > _REMEMBERED:
            del self._sends[next(iter(self._sends))]


@functools.cache
def _has_model(method: str) -> bool:
    return not codex_models.has_no_model(method)


@functools.cache
def _has_shape(method: str) -> bool:
    return method.partition("/")[0] in SUBJECTS


def _note_request(recording: Recording, record: Record) -> None:
    """Keep what a client asks, by the connection and the id."""
    try:
        message = orjson.loads(record.data)
    except ValueError:
        return
    if isinstance(message, dict) and isinstance(message.get("method"), str):
        request_id = message.get("id")
        if type(request_id) is int or type(request_id) is str:
            recording.asked.setdefault((record.connection, request_id), []).append(message["method"])


def _answered(recording: Recording, connection: int, message: dict[str, Any]) -> tuple[str, ...]:
    """Return the methods that a message may be the answer to: several, if an id was used again."""
    key = (connection, message.get("id"))
    assert type(key[1]) in (int, str, type(None)), f"not the id of an answer: {key[1]!r}"
    methods = tuple(recording.asked.get(key, ()))
    if len(methods) == 1:
        del recording.asked[key]
    return methods
