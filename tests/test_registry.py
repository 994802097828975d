"""Leaving Pykka's registry: what is left in it, and in which order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from actor_kinds import Diary, Pooled, Threaded
from trunkline.actor import Dispatcher
from trunkline.registry import unregister
from wires import PATIENCE_S

Ref = pykka.ActorRef[Any]


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(workers=1, name="trunkline-test")
    dispatcher.start()
    yield dispatcher
    pykka.ActorRegistry.stop_all(timeout=PATIENCE_S)
    assert dispatcher.stop(PATIENCE_S)


@pytest.fixture
def slow_ways(monkeypatch: pytest.MonkeyPatch) -> list[Ref]:
    """What was taken out by Pykka's own search."""
    taken: list[Ref] = []
    search = pykka.ActorRegistry.unregister

    def note(ref: Ref) -> None:
        taken.append(ref)
        search(ref)

    monkeypatch.setattr(pykka.ActorRegistry, "unregister", note)
    return taken


@pytest.mark.parametrize("seed", range(5))
def test_actors_that_stop_leave_the_others_in_the_order_of_their_start(
    dispatcher: Dispatcher, slow_ways: list[Ref], seed: int
) -> None:
    draw = random.Random(seed)
    kinds = [Pooled] * 40 + [Threaded] * 10
    draw.shuffle(kinds)
    started: list[Ref] = [kind.start(Diary(), dispatcher) for kind in kinds]
    leaving = draw.sample(started, 30)

    for ref in leaving:
        ref.stop(timeout=PATIENCE_S)

    assert pykka.ActorRegistry.get_all() == [ref for ref in started if ref not in leaving]
    # A pooled actor is found without a search; Pykka's own kind looks for itself.
    assert slow_ways == [ref for ref in leaving if ref.actor_class is Threaded]


def test_an_actor_that_was_registered_out_of_turn_is_found_all_the_same(dispatcher: Dispatcher) -> None:
    started: list[Ref] = [Pooled.start(Diary(), dispatcher) for _ in range(4)]
    out_of_turn = started[0]
    pykka.ActorRegistry.unregister(out_of_turn)
    pykka.ActorRegistry.register(out_of_turn)

    out_of_turn.stop(timeout=PATIENCE_S)

    assert pykka.ActorRegistry.get_all() == started[1:]


def test_an_actor_that_is_not_registered_is_ignored(dispatcher: Dispatcher) -> None:
    others: list[Ref] = [Pooled.start(Diary(), dispatcher) for _ in range(2)]
    unknown = Pooled(Diary(), dispatcher)

    unregister(unknown.actor_ref, unknown._inbox.number)

    assert pykka.ActorRegistry.get_all() == others
