"""How many connections there may be, in all and from one address."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from security.doors import Open, head
from trunkline import AppServer, Limits
from trunkline.transports.crowd import SPARE, Crowd, Welcome
from wires import PATIENCE_S

Start = Callable[..., AppServer]


def test_one_too_many_is_told_to_come_later_and_nobody_else_is_disturbed(start: Start, opened: Open) -> None:
    url = start(limits=Limits(max_connections=2)).listeners[0].url
    alice, bob = opened.client(url, "alice"), opened.client(url, "bob")
    answer = opened.ask(url, head())
    assert (answer.status, answer.body) == (503, "too many connections")
    assert answer.headers["retry-after"] == "5"
    assert opened.ask(url, head("/healthz", upgrade=False)).status == 200
    thread_id = alice.start_thread()
    bob.resume(thread_id)


def test_whoever_leaves_makes_room(start: Start, opened: Open) -> None:
    url = start(limits=Limits(max_connections=1)).listeners[0].url
    opened.client(url, "alice").close()
    deadline = time.monotonic() + PATIENCE_S
    while (status := opened.ask(url, head()).status) == 503:  # the server has not heard of it yet
        assert time.monotonic() < deadline
    assert status == 101


def test_an_address_has_its_share_and_others_have_theirs() -> None:
    crowd = Crowd(max_connections=100, max_per_address=2)
    assert [crowd.enter("192.0.2.1") for _ in range(3)] == [Welcome.IN, Welcome.IN, Welcome.TURNED_AWAY]
    assert crowd.enter("192.0.2.2") is Welcome.IN
    for _ in range(2):
        crowd.leave("192.0.2.1")
    assert crowd.enter("192.0.2.1") is Welcome.IN
    assert (crowd.count, crowd.refused) == (3, 1)


@pytest.mark.parametrize(
    ("first", "second", "are_one"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_what_one_customer_has_is_one_address(first: str, second: str, *, are_one: bool) -> None:
    crowd = Crowd(max_connections=100, max_per_address=1)
    crowd.enter(first)
    assert (crowd.enter(second) is Welcome.TURNED_AWAY) == are_one


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", ""])
def test_those_of_this_machine_share_no_limit_but_that_of_all(address: str) -> None:
    crowd = Crowd(max_connections=3, max_per_address=1)
    welcomes = [crowd.enter(address) for _ in range(4)]
    assert welcomes == [Welcome.IN] * 3 + [Welcome.TURNED_AWAY]


def test_far_too_many_are_closed_without_a_word_and_nothing_is_kept_of_them() -> None:
    crowd = Crowd(max_connections=1)
    crowd.enter("192.0.2.1")
    assert {crowd.enter("192.0.2.2") for _ in range(SPARE)} == {Welcome.TURNED_AWAY}
    assert {crowd.enter("192.0.2.3") for _ in range(1000)} == {Welcome.CLOSED}
    assert crowd.count == 1 + SPARE
    for _ in range(SPARE):
        crowd.leave("192.0.2.2")
    crowd.leave("192.0.2.1")
    assert crowd.count == 0
    assert not crowd._by_origin
