"""What is found in recorded traffic. That it is recorded is tested in tests/interop/test_codex_models.py."""

from __future__ import annotations

import json

import pytest

import codex_models
from traffic.checking import Checker
from traffic.reading import Record, Recording
from traffic.recording import LINES, RECEIVED
from traffic.tally import Kind

pytestmark = pytest.mark.skipif(
    not codex_models.are_installed(), reason="needs the packages of the extra: pip install '.[interop]'"
)

UNSUBSCRIBED = {"status": "unsubscribed"}


def asked(method: str, request_id: object = 1, connection: int = 1) -> Record:
    return Record(RECEIVED, connection, json.dumps({"id": request_id, "method": method}).encode())


def sent(*messages: object, connection: int = 1) -> Record:
    return Record(LINES, connection, b"".join(json.dumps(each).encode() + b"\n" for each in messages))


def closed(thread_id: object = "t") -> dict[str, object]:
    return {"method": "thread/closed", "params": {"threadId": thread_id}, "emittedAtMs": 1}


def answered(result: object, request_id: object = 1) -> dict[str, object]:
    return {"id": request_id, "result": result}


def methods_of(*records: Record) -> list[str]:
    """Return what is unreadable."""
    return [each.method for each in Checker().check(Recording(), records)]


def test_every_message_is_counted_and_of_those_of_a_shape_one_is_validated() -> None:
    checker = Checker()
    records = [sent(closed("a")), sent(closed("b"), closed("c")), sent(closed("a"))]

    assert checker.check(Recording(), records) == []
    assert checker.tally.counts == {Kind("thread/closed", has_model=True): 4}
    assert checker.tally.validated == 1


def test_each_unreadable_message_is_found_also_among_others_and_again() -> None:
    assert methods_of(sent(closed(), closed(5), closed()), sent(closed(5))) == ["thread/closed"] * 2


def test_an_answer_is_checked_by_the_method_of_its_request() -> None:
    assert methods_of(asked("thread/unsubscribe"), sent(answered(UNSUBSCRIBED))) == []
    assert methods_of(asked("thread/list"), sent(answered(UNSUBSCRIBED))) == ["thread/list"]


def test_the_same_answer_to_another_request_is_another_one() -> None:
    assert methods_of(
        *(asked("thread/unsubscribe"), sent(answered(UNSUBSCRIBED))),
        *(asked("thread/list"), sent(answered(UNSUBSCRIBED))),
    ) == ["thread/list"]


def test_equal_ids_of_two_connections_and_of_two_types_are_different() -> None:
    records = [asked("thread/list"), asked("thread/unsubscribe", "1"), asked("thread/unsubscribe", 1, 2)]

    assert methods_of(*records, sent(answered(UNSUBSCRIBED, "1"))) == []
    assert methods_of(*records, sent(answered(UNSUBSCRIBED), connection=2)) == []
    assert methods_of(*records, sent(answered(UNSUBSCRIBED))) == ["thread/list"]


def test_an_id_that_is_used_twice_may_be_answered_for_either() -> None:
    assert methods_of(asked("thread/list"), asked("thread/unsubscribe"), sent(answered(UNSUBSCRIBED))) == []


@pytest.mark.parametrize("before", [(), (asked("thread/list"), sent(answered({"data": []})))])
def test_an_answer_to_nothing_that_was_asked_is_unreadable(before: tuple[Record, ...]) -> None:
    assert methods_of(*before, sent(answered({}))) == [""]


def test_an_error_may_answer_what_could_not_be_read() -> None:
    error = {"error": {"code": -32700, "message": "Parse error"}, "id": None}

    assert methods_of(Record(RECEIVED, 1, b"{"), sent(error)) == []


@pytest.mark.parametrize("text", ["{", "[]", "5", '{"id":[1],"result":{}}', '{"result":{}}', "\\ud800"])
def test_what_is_no_message_is_unreadable(text: str) -> None:
    assert methods_of(Record(LINES, 1, text.encode() + b"\n")) == [""]


def test_what_codex_has_no_model_of_is_counted_apart() -> None:
    checker = Checker()
    own = {"method": "acme/said", "params": {}}

    assert checker.check(Recording(), [asked("acme/say"), sent(own, answered([]))]) == []
    assert checker.tally.counts == {
        Kind("acme/said", has_model=False): 1,
        Kind("answer to acme/say", has_model=False): 1,
    }
