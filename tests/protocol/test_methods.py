"""The table of methods, their params, and what needs the experimental capability."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline.errors import RpcError
from trunkline.protocol.methods import METHODS, Answerer, check_experimental, read_call
from trunkline.protocol.params import (
    EmptyParams,
    InitializeParams,
    ThreadResumeParams,
    ThreadStartParams,
    TurnStartParams,
    convert_params,
)

ID = "01900000-0000-7000-8000-000000000000"

SMALLEST: dict[str, dict[str, Any]] = {
    "initialize": {"clientInfo": {"name": "", "version": ""}},
    "thread/resume": {"threadId": ID},
    "thread/fork": {"threadId": ID},
    "thread/revert": {"threadId": ID, "beforeTurnId": ID},
    "thread/archive": {"threadId": ID},
    "thread/unarchive": {"threadId": ID},
    "thread/delete": {"threadId": ID},
    "thread/turns/list": {"threadId": ID},
    "thread/items/list": {"threadId": ID},
    "thread/unsubscribe": {"threadId": ID},
    "thread/read": {"threadId": ID},
    "thread/name/set": {"threadId": ID, "name": ""},
    "turn/start": {"threadId": ID, "input": []},
    "turn/steer": {"threadId": ID, "expectedTurnId": "", "input": []},
    "turn/interrupt": {"threadId": ID, "turnId": ""},
}
"""The params that a method requires; none for those that are not here."""

EXPERIMENTAL = [(name, field) for name, method in METHODS.items() for field in method.experimental_fields]


def refusal(name: str, params: object) -> RpcError:
    with pytest.raises(RpcError) as raised:
        read_call(name, params)
    return raised.value


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_the_smallest_params_and_needs_each_of_them(name: str) -> None:
    required = SMALLEST.get(name, {})
    assert read_call(name, required)[0].name == name
    for member in required:
        error = refusal(name, {key: value for key, value in required.items() if key != member})
        assert (error.code, error.message) == (-32602, f"Invalid params: missing field `{member}`")


@pytest.mark.parametrize("name", [name for name in METHODS if name not in SMALLEST])
def test_a_method_without_required_params_takes_none_at_all(name: str) -> None:
    assert read_call(name, None) == read_call(name, {})


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("params", [[], [ID], "x", 5, True])
def test_params_are_an_object(name: str, params: object) -> None:
    error = refusal(name, params)
    assert (error.code, error.message) == (-32602, "Invalid params: `params` must be an object")


@pytest.mark.parametrize("name", METHODS)
def test_null_for_an_optional_member_is_as_if_it_were_absent(name: str) -> None:
    required = SMALLEST.get(name, {})
    members = {_camel(field): None for field in METHODS[name].params.__struct_fields__}
    assert read_call(name, {**members, **required}) == read_call(name, required)


def _camel(field: str) -> str:
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)


@pytest.mark.parametrize("name", METHODS)
def test_unknown_members_are_ignored(name: str) -> None:
    required = SMALLEST.get(name, {})
    assert read_call(name, {**required, "colour": {"red": 1}}) == read_call(name, required)


@pytest.mark.parametrize("name", ["", "x", "thread", "Thread/start", "thread/start/", "initialized"])
def test_an_unknown_method_is_named(name: str) -> None:
    error = refusal(name, {})
    assert (error.code, error.message) == (-32601, f"Method not found: `{name}`")


def test_a_method_that_subscribes_or_starts_work_names_it() -> None:
    subscribing = {name for name, method in METHODS.items() if method.subscribes}
    assert subscribing == {"thread/start", "thread/resume", "thread/revert"}  # a fork: to the new thread
    working = {name for name, method in METHODS.items() if method.starts_work}
    assert working == subscribing | {"thread/fork", "turn/start"}


def test_only_methods_that_name_a_thread_are_answered_by_threads() -> None:
    for method in METHODS.values():
        assert ("thread_id" in method.params.__struct_fields__) == (method.answerer is Answerer.THREAD)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"threadId": 5}, "`threadId`: Expected `str`, got `int`"),
        ({"threadId": ID, "excludeTurns": 1}, "`excludeTurns`: Expected `bool | null`, got `int`"),
        ({"threadId": ID, "sandbox": "x"}, "`sandbox`: Invalid enum value 'x'"),
    ],
)
def test_a_member_that_does_not_fit_is_named_with_the_reason(params: object, reason: str) -> None:
    with pytest.raises(RpcError) as raised:
        convert_params(params, ThreadResumeParams)
    assert raised.value.message == f"Invalid params: {reason}"


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "text"}, "missing field `input[1].text`"),
        ({"text": "x"}, "missing field `input[1].type`"),
        ({"type": "image", "url": 5}, "`input[1].url`: Expected `str`, got `int`"),
        ({"type": "smell"}, "`input[1].type`: Invalid value 'smell'"),
        ({}, "missing field `input[1].type`"),
    ],
)
def test_a_part_of_the_input_that_does_not_fit_is_named(part: object, reason: str) -> None:
    params = {"threadId": ID, "input": [{"type": "text", "text": ""}, part]}
    with pytest.raises(RpcError) as raised:
        convert_params(params, TurnStartParams)
    assert raised.value.message == f"Invalid params: {reason}"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "x", "text_elements": []},
        {"type": "image", "url": "https://x/y.png"},
        {"type": "localImage", "path": "/x"},
        {"type": "audio", "data": "x"},
        {"type": "localAudio", "path": "/x"},
        {"type": "skill", "name": "x", "path": "/x"},
        {"type": "mention", "name": "x", "path": "/x"},
    ],
)
def test_every_kind_of_input_is_given_on_as_it_came(part: dict[str, Any]) -> None:
    part = {**part, "colour": {"deep": [1]}}
    params = convert_params({"threadId": ID, "input": [part]}, TurnStartParams)
    assert params.input == [part]


@pytest.mark.parametrize("policy", ["untrusted", "on-request", "never", {"granular": {"x": 1}}])
def test_an_approval_policy_is_one_of_the_protocols(policy: object) -> None:
    assert convert_params({"approvalPolicy": policy}, ThreadStartParams).approval_policy == policy


@pytest.mark.parametrize("policy", ["always", "", 5, {"other": {}}, []])
def test_another_approval_policy_is_refused(policy: object) -> None:
    with pytest.raises(RpcError, match="approvalPolicy"):
        convert_params({"approvalPolicy": policy}, ThreadStartParams)


def test_capabilities_may_be_null_or_hold_nulls() -> None:
    info = {"name": "x", "version": "1", "title": None}
    nulls = {"experimentalApi": None, "optOutNotificationMethods": None, "requestAttestation": True}
    for capabilities in (None, {}, nulls):
        convert_params({"clientInfo": info, "capabilities": capabilities}, InitializeParams)


@pytest.mark.parametrize(("name", "field"), EXPERIMENTAL)
def test_an_experimental_field_needs_the_capability_unless_it_is_null(name: str, field: str) -> None:
    method = METHODS[name]
    check_experimental(method, {field: None})
    values: tuple[object, ...] = ([], {}, False, "x")
    for value in values:
        with pytest.raises(RpcError) as raised:
            check_experimental(method, {field: value})
        assert raised.value.code == -32600
        assert raised.value.message == f"{name}.{field} requires experimentalApi capability"


def test_the_fields_that_the_protocol_calls_experimental_are_so() -> None:
    for name, field in (
        ("thread/start", "historyMode"),
        ("turn/start", "collaborationMode"),
        ("thread/list", "parentThreadId"),
        ("thread/resume", "initialTurnsPage"),
        ("thread/fork", "beforeTurnId"),
    ):
        assert (name, field) in EXPERIMENTAL


def test_a_granular_approval_policy_is_an_experimental_variant() -> None:
    for name in ("thread/start", "turn/start", "thread/resume"):
        check_experimental(METHODS[name], {"approvalPolicy": "never"})
        with pytest.raises(RpcError, match=r"^askForApproval.granular requires experimentalApi capability"):
            check_experimental(METHODS[name], {"approvalPolicy": {"granular": {}}})


def test_an_experimental_method_needs_the_capability_whatever_its_params_are() -> None:
    method = METHODS["mock/experimentalMethod"]
    assert method.params is EmptyParams
    with pytest.raises(RpcError, match=r"^mock/experimentalMethod requires experimentalApi capability"):
        check_experimental(method, None)
