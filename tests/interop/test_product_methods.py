"""What clients of the reference ask about products that this server does not have."""

from __future__ import annotations

import pytest

from conftest import Serve
from helpers import text_input
from houses import LocalHouse
from trunkline.protocol.product import PRODUCT_METHODS

NAMES = [method.name for method in PRODUCT_METHODS]
EXPERIMENTAL = [method.name for method in PRODUCT_METHODS if method.experimental]


@pytest.mark.parametrize("method", NAMES)
def test_a_product_method_is_answered_with_what_codex_reads(house: LocalHouse, method: str) -> None:
    client = house.connect(experimentalApi=True)  # which checks what it receives

    client.request(method)


@pytest.mark.parametrize("method", ["configRequirements/read", "account/logout"])
def test_a_product_method_needs_no_params(house: LocalHouse, method: str) -> None:
    client = house.connect()

    client.send({"id": 1000, "method": method})
    client.send({"id": 1001, "method": method, "params": None})

    assert "result" in client.response(1000)
    assert "result" in client.response(1001)


@pytest.mark.parametrize("method", EXPERIMENTAL)
def test_an_experimental_product_method_needs_the_capability(house: LocalHouse, method: str) -> None:
    error = house.connect().refused(method)

    assert error == {"code": -32600, "message": f"{method} requires experimentalApi capability"}


def test_a_product_method_is_refused_before_the_handshake(house: LocalHouse) -> None:
    error = house.open("early").refused("account/read")

    assert error["message"] == "Not initialized"


def test_the_one_model_there_is_bears_the_name_of_the_agent(serve: Serve) -> None:
    client = serve(agent="shell").connect()

    [model] = client.request("model/list", includeHidden=True)["data"]

    assert (model["id"], model["model"], model["isDefault"]) == ("shell", "shell", True)
    assert client.request("thread/start")["model"] == "shell"


def test_a_method_about_a_product_that_is_not_listed_is_unknown(house: LocalHouse) -> None:
    error = house.connect().refused("plugin/install", pluginName="x")

    assert error["code"] == -32601


def test_a_thread_that_is_to_make_up_a_title_is_not_started(serve: Serve) -> None:
    """The terminal client starts one: the instructions it gives are not for a shell to run."""
    alice, bob = (house := serve(agent="shell")).connect("alice"), house.connect("bob")

    error = alice.refused("thread/start", ephemeral=True, threadSource="thread_title")

    assert error == {
        "code": -32600,
        "message": "titles are not supported: name the thread with thread/name/set",
    }
    assert alice.request("thread/loaded/list")["data"] == []
    bob.expect_nothing()


def test_a_turn_whose_answer_is_to_have_a_form_is_not_begun(serve: Serve) -> None:
    client = serve(agent="shell").connect(experimentalApi=True)
    thread_id = client.start_thread(approvalPolicy="never")

    error = client.refused(
        "turn/start",
        threadId=thread_id,
        input=text_input("echo {}"),
        outputSchema={"type": "object", "properties": {"title": {"type": "string"}}},
    )

    assert error["code"] == -32600
    assert error["message"].startswith("outputSchema is not supported")
    client.expect_nothing(thread_id)


def test_a_form_that_is_null_is_none(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread()

    turn = client.request("turn/start", threadId=thread_id, input=text_input("text yes"), outputSchema=None)

    assert client.wait_turn(turn["turn"]["id"])["items"][0]["text"] == "yes"
