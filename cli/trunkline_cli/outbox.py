"""What was typed and is not known to have reached the server.

A message stays here until the server has answered the request that brought it, or until it is seen on the
thread, by the id that we gave it. So after a lost connection it is known what has to be sent again, and what
came through is not sent twice.

A plain object that belongs to one session and is called by it alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Outbox", "Typed"]


@dataclass(slots=True)
class Typed:
    """One line, or one text that was pasted."""

    id: str
    """The client id of the message, which comes back with its item."""
    text: str
    was_sent: bool = False
    """Whether a request with it was written to a connection."""


class Outbox:
    """Messages on their way, oldest first."""

    def __init__(self) -> None:
        self._messages: dict[str, Typed] = {}
        self.own_ids: set[str] = set()
        """The ids of all that was ever typed here."""

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Typed]:
        return iter(list(self._messages.values()))

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._messages

    def add(self, text: str) -> Typed:
        """Take what was typed."""
        message = Typed(str(uuid.uuid4()), text)
        self._messages[message.id] = message
        self.own_ids.add(message.id)
        return message

    def arrived(self, message_id: object) -> bool:
        """Note that the server has it, or has refused it. Returns whether that is news."""
        return self._messages.pop(str(message_id), None) is not None

    def drop_sent(self) -> list[Typed]:
        """Take out, and return, what a request was written with and nothing is known of."""
        sent = [message for message in self._messages.values() if message.was_sent]
        for message in sent:
            del self._messages[message.id]
        return sent
