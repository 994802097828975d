"""Every exception of the library, under one root.

    TrunklineError
     +-- ConfigError            a setting or argument does not fit (we refuse to start)
     |    +-- ListenUrlError    a listen URL does not fit
     +-- StartError             a part could not come up (an address in use, a file not readable)
     +-- ServerStopped          the server was asked for something after stop()
     +-- RpcError               a request failed and is answered with an error (see protocol.errors)
     +-- Overloaded             a host publishes faster than a thread's subscribers read
     +-- PromptRefused          a host's prompt was answered by nobody who agreed to answer
     +-- Disconnected           an in-process connection ended before a request of it was answered
     +-- TurnInterrupted        raised inside an agent whose turn was interrupted
     +-- TurnFailed             raised by an agent to end its turn as failed, with a reason for the client

Exceptions hold facts and make their text from them.
"""

from __future__ import annotations

from trunkline.types import Json

__all__ = [
    "ConfigError",
    "Disconnected",
    "ListenUrlError",
    "Overloaded",
    "PromptRefused",
    "RpcError",
    "ServerStopped",
    "StartError",
    "TrunklineError",
    "TurnFailed",
    "TurnInterrupted",
]


class TrunklineError(Exception):
    """The root of the library's exceptions."""


class ConfigError(TrunklineError):
    """A setting does not fit; nothing was started."""


class ListenUrlError(ConfigError):
    """A listen URL does not fit; nothing was started."""

    def __init__(self, url: str, accepted: str) -> None:
        super().__init__(url, accepted)
        self.url = url
        self.accepted = accepted

    def __str__(self) -> str:
        return f"unsupported --listen URL `{self.url}`; expected {self.accepted}"


class StartError(TrunklineError):
    """A part of the server could not come up, for a reason outside the program."""


class ServerStopped(TrunklineError):
    """The server has been stopped, or was never started."""


class RpcError(TrunklineError):
    """A request failed. Its `code`, `message` and `data` are what the client is sent."""

    def __init__(self, code: int, message: str, data: Json = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class Overloaded(TrunklineError):
    """So much that was published into a thread is not confirmed that no more is taken for now."""

    def __init__(self, thread_id: str, unconfirmed: int) -> None:
        super().__init__(thread_id, unconfirmed)
        self.thread_id = thread_id
        self.unconfirmed = unconfirmed
        """Events that are not confirmed, about."""

    def __str__(self) -> str:
        return f"thread {self.thread_id} takes no more for now: {self.unconfirmed} events are not confirmed"


class PromptRefused(TrunklineError):
    """A prompt of the host's has ended without an answer. The text says why."""


class Disconnected(TrunklineError):
    """An in-process connection has ended. Whether the request was carried out is not known."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        """As in `Closed`."""
        self.reason = reason

    def __str__(self) -> str:
        return f"the connection was closed with {int(self.code)}{f': {self.reason}' if self.reason else ''}"


class TurnInterrupted(TrunklineError):
    """The turn was interrupted. Raised inside an agent; let it pass, or clean up and return."""


class TurnFailed(TrunklineError):
    """Raise this in an agent to end the turn as failed. The text is sent to the clients."""
