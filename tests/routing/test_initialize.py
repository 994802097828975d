"""The handshake: once for each connection, and what it says holds for that connection alone."""

from __future__ import annotations

import pytest

from helpers import Client, Message
from houses import House, LocalHouse
from trunkline.version import COMPATIBLE_VERSION

BAD_NAME = "Invalid clientInfo.name: '{}'. Must be a valid HTTP header value."


def hello(client: Client, name: str = "me", version: str = "1") -> Message:
    return client.request("initialize", clientInfo={"name": name, "version": version})


def test_everything_but_initialize_is_refused_before_it_and_initialize_after_it(any_house: House) -> None:
    client = any_house.open("alice")
    for method, params in (
        ("thread/start", {}),
        ("thread/loaded/list", {}),
        ("turn/start", {"threadId": "x", "input": []}),
    ):
        assert client.refused(method, **params) == {"code": -32600, "message": "Not initialized"}
    hello(client)
    error = client.refused("initialize", clientInfo={"name": "me", "version": "1"})
    assert error == {"code": -32600, "message": "Already initialized"}
    assert client.request("thread/loaded/list")["data"] == []


def test_the_notification_initialized_is_welcome_and_not_waited_for(house: LocalHouse) -> None:
    with_it, without = house.open("with"), house.open("without")
    hello(with_it)
    with_it.send({"method": "initialized"})
    hello(without)
    thread_id = with_it.start_thread()
    assert without.wait("thread/started")["params"]["thread"]["id"] == thread_id
    assert without.resume(thread_id)["id"] == thread_id


def test_each_connection_is_initialized_for_itself(any_house: House) -> None:
    alice, bob = any_house.open("alice"), any_house.open("bob")
    hello(alice)
    assert bob.refused("thread/loaded/list")["message"] == "Not initialized"
    assert alice.request("thread/loaded/list")["data"] == []
    hello(bob)
    assert bob.request("thread/loaded/list")["data"] == []


def test_it_tells_each_client_its_own_name_and_no_other(house: LocalHouse) -> None:
    alice, bob = house.open("alice"), house.open("bob")
    assert hello(alice, "first", "1.5")["userAgent"].endswith(" (first; 1.5)")
    agent = hello(bob, "second", "2")["userAgent"]
    assert agent.startswith("trunkline/")
    assert agent.endswith(" (second; 2)")
    assert "first" not in agent


def test_it_says_what_clients_of_the_reference_look_for_and_what_is_ours(house: LocalHouse) -> None:
    result = hello(house.open("alice"))
    assert {"codexHome", "platformFamily", "platformOs"} <= result.keys()
    assert result["serverInfo"] == {"name": "trunkline", "version": COMPATIBLE_VERSION}
    assert result["threadSequence"] is True


@pytest.mark.parametrize("name", ["two\nlines", "nul\x00", "\x7f"])
def test_a_name_that_is_no_header_value_is_refused_and_may_be_mended(house: LocalHouse, name: str) -> None:
    client = house.open("alice")
    error = client.refused("initialize", clientInfo={"name": name, "version": "1"})
    assert (error["code"], error["message"]) == (-32600, BAD_NAME.format(name))
    hello(client)


def test_capabilities_hold_for_the_connection_that_named_them(house: LocalHouse) -> None:
    careful, bold = house.open("careful"), house.open("bold")
    careful.initialize(experimentalApi=False, optOutNotificationMethods=["thread/started", "no/such"])
    bold.initialize(experimentalApi=True)
    error = careful.refused("thread/start", historyMode="paginated")
    assert error["message"] == "thread/start.historyMode requires experimentalApi capability"
    assert error["code"] == -32600
    thread_id = bold.request("thread/start", historyMode="paginated")["thread"]["id"]
    bold.wait("thread/started")
    careful.expect_nothing()
    assert careful.request("thread/start", historyMode=None)["thread"]["id"] != thread_id
