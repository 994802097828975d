"""What a client in this process is given: notifications, prompts, and the end, as typed values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from trunkline.protocol.values import plain_object
from trunkline.transports.base import Closed
from trunkline.types import JsonObject, ThreadId

__all__ = ["Closed", "Delivery", "Notification", "Prompt"]


class Notification(msgspec.Struct, frozen=True):
    """Something happened. It needs no answer.

    Examples:
        >>> Notification("acme/said", {"text": "hello"}).params["text"]
        'hello'

    """

    method: str
    """Such as `turn/completed`, or a name of the host's own."""
    params: JsonObject
    """As the wire has them. A copy, which is the receiver's to keep and to change."""
    thread_id: ThreadId | None = None
    """The thread whose event it is; None if it is about the connection."""
    seq: int | None = None
    """Its place among the thread's events, from 1; None if it has none."""
    emitted_at_ms: int = 0
    """When it was made, in Unix milliseconds."""


class Prompt(msgspec.Struct, frozen=True, eq=False):
    """The server asks something. The first answer of all subscribers counts.

    Whoever has answered, a notification `serverRequest/resolved` with the prompt's id as `requestId`
    tells everybody that it is settled.

    Examples:
        >>> def on_delivery(delivery: Delivery) -> None:
        ...     match delivery:
        ...         case Prompt(method="item/commandExecution/requestApproval", params={"command": "ls"}):
        ...             delivery.answer({"decision": "accept"})
        ...         case Prompt():
        ...             delivery.refuse()
        >>> with AppServer(Config(agent="script")) as server:
        ...     with server.connect(on_delivery) as connection:
        ...         _ = connection.initialize("my-host").get(timeout=PATIENCE_S)

    """

    id: int
    """One count for the whole server, from 0."""
    method: str
    """Such as `item/commandExecution/requestApproval`, or a name of the host's own."""
    params: JsonObject
    """As the wire has them. A copy, which is the receiver's to keep and to change."""
    thread_id: ThreadId
    seq: int
    """Its place among the thread's events."""
    _reply: Callable[[int, JsonObject | None], None]

    def answer(self, result: object) -> None:
        """Answer it. Any thread; never blocks. An answer that comes too late is ignored.

        Args:
            result: an object (a dict, struct or dataclass), such as `{"decision": "accept"}`. One that
                does not fit the prompt is ignored as long as somebody else may answer, and refuses it
                otherwise.

        Raises:
            TypeError: `result` cannot be written as a JSON object.

        """
        self._reply(self.id, plain_object(result))

    def refuse(self) -> None:
        """Answer it with an error: the one who asked sees it as refused. Any thread; never blocks."""
        self._reply(self.id, None)


Delivery: TypeAlias = Notification | Prompt | Closed
"""All that a client in this process is given. `Closed` comes once, and last."""
