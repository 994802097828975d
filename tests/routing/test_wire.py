"""The wire: each error of JSON-RPC, and that none of them harms the connection or anybody else's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import Serve
from helpers import UNKNOWN_ID, Client, Message, text_input
from houses import House, LocalHouse
from trunkline import Limits

NOT_JSON = ["", "{", "nonsense", '{"id":1}{"id":2}', "NaN", "{'id':1}", '"\\ud800"', "\x00", "[1,]"]

NO_MESSAGES = [
    "{}",
    "[]",
    '"x"',
    "5",
    "null",
    "true",
    '[{"id":1,"method":"thread/loaded/list"}]',
    '{"id":null,"method":"thread/loaded/list"}',
    '{"id":1.5,"method":"thread/loaded/list"}',
    '{"id":true,"method":"thread/loaded/list"}',
    '{"id":{},"method":"thread/loaded/list"}',
    '{"id":[1],"method":"thread/loaded/list"}',
    '{"id":18446744073709551616,"method":"thread/loaded/list"}',
    '{"id":null,"result":{}}',
    '{"result":{}}',
    '{"error":{"code":1,"message":"x"}}',
    '{"method":5}',
]


def assert_unharmed(client: Client, other: Client) -> None:
    """Check that both connections work and were sent nothing more."""
    for each in (client, other):
        each.expect_nothing()
        assert each.request("thread/loaded/list") == {"data": [], "nextCursor": None}


@pytest.mark.parametrize("text", NOT_JSON)
def test_what_is_not_json_is_answered_under_a_null_id(house: LocalHouse, text: str) -> None:
    client, other = house.connect(), house.connect("other")
    client.send_text(text)
    assert client.response(None)["error"]["code"] == -32700
    assert_unharmed(client, other)


@pytest.mark.parametrize("text", NO_MESSAGES)
def test_json_that_is_no_message_is_an_invalid_request(house: LocalHouse, text: str) -> None:
    client, other = house.connect(), house.connect("other")
    client.send_text(text)
    assert client.response(None)["error"]["code"] == -32600
    assert_unharmed(client, other)


@pytest.mark.parametrize(
    ("text", "request_id"), [('{"id":7}', 7), ('{"id":"a","method":5}', "a"), ('{"id":8,"params":{}}', 8)]
)
def test_what_is_no_message_but_has_an_id_is_answered_under_that(
    any_house: House, text: str, request_id: int | str
) -> None:
    client = any_house.connect()
    client.send_text(text)
    assert client.response(request_id)["error"]["code"] == -32600
    client.expect_nothing()


def test_an_unknown_method_is_refused_by_its_name(any_house: House) -> None:
    client = any_house.connect()
    error = client.refused("thread/fly", threadId=UNKNOWN_ID)
    assert (error["code"], error["message"]) == (-32601, "Method not found: `thread/fly`")


def test_a_long_method_is_not_repeated_in_full(house: LocalHouse) -> None:
    error = house.connect().refused("x" * 100_000)
    assert error["code"] == -32601
    assert len(error["message"]) < 200


@pytest.mark.parametrize(
    ("method", "params", "named"),
    [
        ("thread/resume", {}, "threadId"),
        ("thread/resume", {"threadId": 5}, "threadId"),
        ("thread/resume", [UNKNOWN_ID], "params"),
        ("thread/resume", "x", "params"),
        ("turn/start", {"threadId": UNKNOWN_ID}, "input"),
        ("turn/start", {"threadId": UNKNOWN_ID, "input": "x"}, "input"),
        ("turn/start", {"threadId": UNKNOWN_ID, "input": [{"type": "text"}]}, "input[0].text"),
        ("turn/start", {"threadId": UNKNOWN_ID, "input": [{"type": "smell"}]}, "input[0].type"),
        ("turn/start", {"threadId": UNKNOWN_ID, "input": [], "approvalPolicy": "x"}, "approvalPolicy"),
        ("thread/start", {"sandbox": "open"}, "sandbox"),
        ("thread/loaded/list", {"limit": "x"}, "limit"),
        ("thread/loaded/list", {"limit": -1}, "limit"),
        ("thread/list", {"limit": 1.5}, "limit"),
        ("initialize", {"clientInfo": {"name": "x"}}, "clientInfo.version"),
        ("initialize", {"clientInfo": {"name": "x", "version": "1"}, "capabilities": []}, "capabilities"),
    ],
)
def test_params_that_do_not_fit_are_refused_by_the_member(
    house: LocalHouse, method: str, params: Any, named: str
) -> None:
    client = house.connect()
    client.send({"id": "bad", "method": method, "params": params})
    error = client.response("bad")["error"]
    assert error["code"] == -32602
    assert f"`{named}`" in error["message"]
    client.expect_nothing()


@pytest.mark.parametrize("message", [{}, {"params": None}, {"params": {}}, {"params": {"limit": None}}])
def test_params_that_are_missing_or_null_are_taken_as_empty(house: LocalHouse, message: Message) -> None:
    client = house.connect()
    client.send({"id": "x", "method": "thread/loaded/list", **message})
    assert client.response("x")["result"]["data"] == []


def test_null_for_every_optional_member_is_taken_as_absent(any_house: House) -> None:
    client = any_house.connect()
    nulls = (
        "cwd",
        "model",
        "modelProvider",
        "approvalPolicy",
        "sandbox",
        "config",
        "ephemeral",
        "historyMode",
    )
    thread_id = client.start_thread(**dict.fromkeys(nulls))
    options = dict.fromkeys(
        ("cwd", "model", "approvalPolicy", "sandboxPolicy", "collaborationMode", "effort")
    )
    turn = client.request("turn/start", threadId=thread_id, input=text_input("text hi"), **options)["turn"]
    assert client.wait_turn(turn["id"])["status"] == "completed"
    client.request("thread/resume", threadId=thread_id, excludeTurns=None, history=None, path=None)


def test_unknown_members_are_ignored_at_every_level(any_house: House) -> None:
    client = any_house.connect()
    params = {"limit": 1, "colour": "red"}
    extra = {"jsonrpc": 2, "trace": {"traceparent": 5}, "emittedAtMs": "x", "result": {}}
    client.send({"id": "x", "method": "thread/loaded/list", "params": params, **extra})
    assert client.response("x")["result"]["data"] == []
    thread_id = client.start_thread(colour="red")
    part = {"type": "text", "text": "text hi", "colour": "red"}
    turn = client.request("turn/start", threadId=thread_id, input=[part], colour="red")["turn"]
    client.wait_turn(turn["id"])


def test_notifications_are_never_answered(any_house: House) -> None:
    client = any_house.connect()
    for message in (
        {"method": "initialized"},
        {"method": "thread/start", "params": {}},
        {"method": "no/such"},
        {"method": "thread/resume", "params": 5},
    ):
        client.send(message)
    client.expect_nothing()
    assert client.request("thread/loaded/list")["data"] == []


def test_answers_to_nothing_are_ignored(any_house: House) -> None:
    client = any_house.connect()
    for message in (
        {"id": 5, "result": {}},
        {"id": "5", "result": None},
        {"id": 5, "error": {"code": 1, "message": "x"}},
        {"id": None, "error": {"code": 1, "message": "x"}},
    ):
        client.send(message)
    client.expect_nothing()


# Deeper than orjson writes, but not deeper than it reads.
DEEP = json.loads("[" * 600 + "]" * 600)
NEARLY_AS_DEEP = json.loads("[" * 252 + "]" * 252)


@pytest.mark.parametrize("depth", [DEEP, NEARLY_AS_DEEP], ids=["deep", "nearly as deep"])
@pytest.mark.parametrize("transport", ["websocket", "in-process"])
def test_what_cannot_be_sent_on_to_others_is_not_taken(serve: Serve, transport: str, depth: object) -> None:
    house = serve(transport=transport, limits=Limits(max_json_depth=1024))
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    part = {"type": "text", "text": "text hi", "text_elements": depth}

    error = alice.refused("turn/start", threadId=thread_id, input=[part])
    assert (error["code"], "`input[0]`" in error["message"]) == (-32602, True)
    error = alice.refused("turn/start", threadId=thread_id, input=[], sandboxPolicy={"type": depth})
    assert (error["code"], "sandboxPolicy" in error["message"]) == (-32602, True)
    alice.refused("turn/steer", threadId=thread_id, expectedTurnId="x", input=[part])

    bob.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "text fine")
    bob.wait_turn(turn_id)


def test_what_is_not_sent_on_may_be_as_deep_as_can_be_read(serve: Serve) -> None:
    client = serve(limits=Limits(max_json_depth=1024)).connect()
    thread_id = client.start_thread(config={"deep": DEEP}, other=DEEP)
    client.resume(thread_id)
    client.send({"id": 1, "result": DEEP})
    client.send({"method": "x", "params": DEEP})
    turn_id = client.start_turn(thread_id, "ask ls\nquestion q")
    client.answer(
        client.wait("item/commandExecution/requestApproval")["id"], {"decision": {"acceptWith": DEEP}}
    )
    client.answer(client.wait("item/tool/requestUserInput")["id"], {"answers": DEEP})
    assert client.wait_turn(turn_id)["status"] == "completed"
