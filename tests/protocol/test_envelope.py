"""Text to message and back."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from trunkline.errors import RpcError
from trunkline.protocol import errors
from trunkline.protocol.envelope import (
    IncomingNotification,
    IncomingRequest,
    IncomingResponse,
    MalformedMessage,
    encode_error,
    encode_notification,
    encode_result,
    encode_server_request,
    parse,
)
from trunkline.protocol.errors import ErrorCode


def malformed(text: str | bytes) -> MalformedMessage:
    with pytest.raises(MalformedMessage) as raised:
        parse(text)
    return raised.value


@pytest.mark.parametrize("request_id", [0, -1, 5, 2**63, 2**64 - 1, -(2**63), "", "5", "é"])
@pytest.mark.parametrize("params", [{}, {"a": 1}, [], None, 5, "x"])
def test_a_request_is_read_as_it_is(request_id: int | str, params: object) -> None:
    text = json.dumps({"id": request_id, "method": "m", "params": params})
    assert parse(text) == IncomingRequest(request_id, "m", params)


def test_params_that_are_missing_are_null() -> None:
    assert parse('{"id":1,"method":"m"}') == IncomingRequest(1, "m", None)


def test_a_call_without_an_id_is_a_notification() -> None:
    assert parse('{"method":"m","params":{}}') == IncomingNotification("m")


@pytest.mark.parametrize("result", [{}, None, [], 0, False, "x"])
def test_a_result_is_an_answer_whatever_it_is(result: object) -> None:
    assert parse(json.dumps({"id": 0, "result": result})) == IncomingResponse(0, result, failed=False)


@pytest.mark.parametrize("error", [{}, None, {"code": 1}, "x"])
def test_an_error_is_an_answer_whatever_it_says(error: object) -> None:
    assert parse(json.dumps({"id": "a", "error": error})) == IncomingResponse("a", None, failed=True)


def test_an_error_under_a_null_id_answers_nothing() -> None:
    assert parse('{"id":null,"error":{}}') == IncomingResponse(None, None, failed=True)


def test_members_decide_in_the_order_request_notification_response_error() -> None:
    everything = {"id": 1, "method": "m", "result": 1, "error": {}}
    assert isinstance(parse(json.dumps(everything)), IncomingRequest)
    del everything["id"]
    assert isinstance(parse(json.dumps(everything)), IncomingNotification)
    assert parse('{"id":1,"result":1,"error":{}}') == IncomingResponse(1, 1, failed=False)


@pytest.mark.parametrize("extra", [{"jsonrpc": "2.0"}, {"jsonrpc": 5}, {"trace": {}}, {"x": None}])
def test_unknown_members_are_ignored(extra: dict[str, Any]) -> None:
    assert parse(json.dumps({"id": 1, "method": "m", **extra})) == IncomingRequest(1, "m", None)


@pytest.mark.parametrize("text", ["", " ", "{", "x", "{}{}", "nan", b"\xff", '"\x00"', "[" * 2000])
def test_what_is_not_json_is_a_parse_error_without_an_id(text: str | bytes) -> None:
    error = malformed(text)
    assert (error.error.code, error.id) == (-32700, None)


@pytest.mark.parametrize("text", [" {} ", "[]", "5", '"x"', "null", '[{"id":1,"method":"m"}]'])
def test_json_that_is_no_message_is_an_invalid_request(text: str) -> None:
    error = malformed(text)
    assert (error.error.code, error.id) == (-32600, None)


@pytest.mark.parametrize("request_id", ["null", "1.5", "true", "false", "{}", "[]", str(2**64), "1e3"])
def test_an_id_that_is_none_is_refused_under_a_null_id(request_id: str) -> None:
    for rest in ('"method":"m"', '"result":1'):
        error = malformed(f'{{"id":{request_id},{rest}}}')
        assert (error.error.code, error.id) == (-32600, None)


@pytest.mark.parametrize(
    ("text", "request_id"),
    [
        ('{"id":5}', 5),
        ('{"id":"a"}', "a"),
        ('{"id":5,"method":null}', 5),
        ('{"id":1.5,"method":null}', None),
        ('{"method":5}', None),
    ],
)
def test_an_id_that_can_be_read_is_the_one_that_is_answered(text: str, request_id: object) -> None:
    error = malformed(text)
    assert (error.error.code, error.id) == (-32600, request_id)


def test_whitespace_around_a_message_is_accepted() -> None:
    assert parse(' {"method":"m"}\r\n') == IncomingNotification("m")


def test_messages_are_written_as_the_protocol_has_them() -> None:
    assert encode_result(7, {"a": orjson.Fragment(b"[1]")}) == b'{"id":7,"result":{"a":[1]}}'
    assert encode_result("7", None) == b'{"id":"7","result":null}'
    assert encode_notification("m", {}, 5) == b'{"method":"m","params":{},"emittedAtMs":5}'
    assert encode_notification("m", {}, 5, 9) == b'{"method":"m","params":{},"emittedAtMs":5,"seq":9}'
    assert encode_server_request(0, "m", {}, 9) == b'{"id":0,"method":"m","params":{},"seq":9}'


def test_an_error_is_written_with_its_data_if_there_is_any() -> None:
    error = json.loads(encode_error(1, errors.invalid_request("no")))
    assert error == {"error": {"code": -32600, "message": "no"}, "id": 1}
    error = json.loads(encode_error(None, errors.overloaded()))
    assert error["id"] is None
    assert error["error"]["data"] == {"codexErrorInfo": "server_overloaded"}


def test_what_is_written_has_no_newline() -> None:
    assert b"\n" not in encode_notification("m", {"text": "a\nb\r\n\u2028"}, 5)


ID = "019"
TEXTS = [
    (errors.parse_error(), -32700, "Parse error: the message is not valid JSON"),
    (errors.invalid_request("why"), -32600, "why"),
    (errors.method_not_found("m"), -32601, "Method not found: `m`"),
    (errors.invalid_params("why"), -32602, "Invalid params: why"),
    (errors.internal(), -32603, "Internal error"),
    (errors.overloaded(), -32001, "Server overloaded; retry later."),
    (errors.not_kept("why"), -32603, "the thread cannot be stored: why"),
    (errors.too_many_threads(9), -32001, "Server overloaded: 9 threads are loaded; retry later."),
    (
        errors.too_many_subscriptions(9),
        -32600,
        "this connection is subscribed to 9 threads, the most it may be; unsubscribe from one first",
    ),
    (errors.forbidden("drive"), -32600, "this connection lacks the scope `drive`"),
    (errors.needs_experimental("m.f"), -32600, "m.f requires experimentalApi capability"),
    (errors.draining(), -32600, "Server is draining; retry after reconnecting"),
    (errors.thread_not_found(ID), -32600, "thread not found: 019"),
    (errors.thread_not_loaded(ID), -32600, "thread not loaded: 019"),
    (errors.no_rollout(ID), -32600, "no rollout found for thread id 019"),
    (errors.not_archived(ID), -32600, "no archived rollout found for thread id 019"),
    (errors.active_writer(ID), -32600, "thread 019 already has an active writer"),
    (
        errors.archived(ID),
        -32600,
        "session 019 is archived. Run `codex unarchive 019` to unarchive it first.",
    ),
    (
        errors.thread_closing(ID),
        -32600,
        "thread 019 is closing; retry thread/resume after the thread is closed",
    ),
    (errors.input_too_long(9), -32602, "Input exceeds the maximum length of 1048576 characters."),
]


@pytest.mark.parametrize(("error", "code", "text"), TEXTS)
def test_an_error_has_the_text_that_clients_match_on(error: RpcError, code: int, text: str) -> None:
    assert (error.code, error.message) == (code, text)
    assert str(error) == f"{text} ({code})"


def test_every_error_of_the_protocol_is_in_the_table_above() -> None:
    functions = {name for name in errors.__all__ if name[0].islower()}
    assert len(TEXTS) == len(functions)
    assert {error.code for error, _, _ in TEXTS} == set(ErrorCode)


def test_errors_that_programs_act_on_carry_data() -> None:
    assert errors.draining().data == {"reason": "serverShuttingDown"}
    assert errors.input_too_long(9).data == {
        "input_error_code": "input_too_large",
        "max_chars": 1048576,
        "actual_chars": 9,
    }
