"""How much was checked: what the workers of a run have checked adds up to one account of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

__all__ = ["Kind", "Tally"]


class Kind(NamedTuple):
    """What a message is."""

    name: str
    """Such as `turn/started`, or `answer to turn/start`."""
    has_model: bool
    """Whether Codex has a model of it."""


@dataclass
class Tally:
    """What was checked."""

    counts: Counter[Kind] = field(default_factory=Counter)
    """The readable messages, and those that have no model."""
    validated: int = 0
    """How many messages were validated: each of the others had the shape of one of them."""
    senders: int = 0
    """The processes that sent something."""
    unreadable: int = 0
    """The messages that Codex cannot read."""
    meant: int = 0
    """Those of them that their tests say of it."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.counts + other.counts,
            self.validated + other.validated,
            self.senders + other.senders,
            self.unreadable + other.unreadable,
            self.meant + other.meant,
        )

    def plain(self) -> dict[str, Any]:
        """Return it in the types that workers can hand over."""
        counts = [(*kind, number) for kind, number in self.counts.items()]
        return {**vars(self), "counts": counts}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return what `plain` was made of."""
        counts = Counter({Kind(name, has_model): number for name, has_model, number in plain["counts"]})
        return cls(**{**plain, "counts": counts})

    def __str__(self) -> str:
        without = sum(number for kind, number in self.counts.items() if not kind.has_model)
        messages = self.counts.total() - without + self.unreadable
        kinds = sum(kind.has_model for kind in self.counts)
        bad = self.unreadable - self.meant
        verdict = f"{bad:,} unreadable" if bad else "all readable"
        if self.meant:
            verdict += f" but {self.meant} that are meant not to be"
        return (
            f"codex models: {messages:,} messages of {kinds} kinds "
            f"from {self.senders} processes, {verdict}: "
            f"{self.validated:,} stand for all; {without:,} more have no model"
        )
