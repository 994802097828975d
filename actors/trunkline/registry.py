"""Leaving Pykka's registry without a search through all of it.

`pykka.ActorRegistry` keeps the actors of the process in a list, and to remove one it goes through that
list twice: among ten thousand connections the end of one would cost more than everything else it does.
The list is in the order in which actors were started, which `stop_all` relies on. So an actor that knows
its place in that order can be found by bisection, and taken out without a change to the others.

The registry itself stays Pykka's own: nothing of it is replaced, and actors of other kinds, which have no
number, may stand anywhere in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pykka

__all__ = ["unregister"]


def unregister(ref: pykka.ActorRef[Any], number: int) -> None:
    """Take `ref` out of `pykka.ActorRegistry`. Any thread; one that is not in it is ignored.

    Args:
        ref: an actor that `actor_inbox.number` is known of.
        number: that number: the later an actor was made, the higher.

    """
    registry = pykka.ActorRegistry
    with registry._actor_refs_lock:  # noqa: SLF001  # the registry offers no other way than a search
        refs = registry._actor_refs  # noqa: SLF001
        index = _place(refs, number)
        if index < len(refs) and refs[index] is ref:
            del refs[index]
            return
    # Two threads may register in another order than they drew their numbers.
    registry.unregister(ref)


def _place(refs: Sequence[pykka.ActorRef[Any]], number: int) -> int:
    """Return the first place of an actor with this number or a higher one; the end if there is none."""
    low, high = 0, len(refs)
    while low < high:
        middle = probe = (low + high) // 2
        found = _number(refs[probe])
        while found is None and probe > low:
            probe -= 1
            found = _number(refs[probe])
        if found is None or found < number:
            low = middle + 1
        else:
            high = probe
    return low


def _number(ref: pykka.ActorRef[Any]) -> int | None:
    return getattr(ref.actor_inbox, "number", None)
