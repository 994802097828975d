"""Who is told what is for everybody."""

from __future__ import annotations

from recorders import Recorder
from trunkline.audience import Audience
from trunkline.log import Chunk, Event
from trunkline.messages import Broadcast
from trunkline.types import ConnectionId, ThreadId

ALICE, BOB, CAROL = (ConnectionId(number) for number in (1, 2, 3))


def broadcast(*methods: str) -> Broadcast:
    events = [Event(number, method, b"{}", 2) for number, method in enumerate(methods)]
    return Broadcast(ThreadId("x"), chunk := Chunk(events), chunk.frames())


def test_a_broadcast_goes_to_whoever_wants_any_of_it() -> None:
    alice, bob, carol = Recorder("alice"), Recorder("bob"), Recorder("carol")
    audience = Audience()
    audience.add(ALICE, alice.ref, frozenset())
    audience.add(BOB, bob.ref, frozenset({"a"}))
    audience.add(CAROL, carol.ref, frozenset({"a", "b"}))
    for_alice, for_bob, for_all = broadcast("a"), broadcast("a", "b"), broadcast("b", "c")

    for message in (for_alice, for_bob, for_all):
        audience.tell(message)

    assert alice.heard == [for_alice, for_bob, for_all]
    assert bob.heard == [for_bob, for_all]
    assert carol.heard == [for_all]


def test_whoever_has_gone_is_told_nothing_more() -> None:
    alice, bob = Recorder("alice"), Recorder("bob")
    audience = Audience()
    audience.add(ALICE, alice.ref, frozenset({"b"}))
    audience.add(BOB, bob.ref, frozenset({"b"}))
    message = broadcast("a")

    audience.remove(ALICE)
    audience.remove(CAROL)
    audience.tell(message)
    audience.remove(BOB)
    audience.tell(message)

    assert alice.heard == []
    assert bob.heard == [message]
    assert not audience._groups
