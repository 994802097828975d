"""What the one at the other end of a connection may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

__all__ = ["EVERYTHING", "Access", "Scope", "covers"]


class Scope(Enum):
    """What a credential allows. Each holds what is above it.

    Examples:
        >>> with AppServer(agent="script") as server:
        ...     with server.connect(scopes=[Scope.ATTACH]) as connection:
        ...         _ = connection.initialize("a display").get(timeout=PATIENCE_S)
        ...         try:
        ...             connection.request("thread/start").get(timeout=PATIENCE_S)
        ...         except RpcError as error:
        ...             print(error.code, error.message)
        -32600 this connection lacks the scope `drive`

    """

    ATTACH = "attach"
    """Subscribe to threads, read and list them: watch."""
    DRIVE = "drive"
    """Start and change threads, start turns, answer prompts: what an agent does is decided with this."""
    ADMIN = "admin"
    """Delete threads for good."""


_HOLDS = {
    Scope.ATTACH: frozenset({Scope.ATTACH}),
    Scope.DRIVE: frozenset({Scope.ATTACH, Scope.DRIVE}),
    Scope.ADMIN: frozenset(Scope),
}


def covers(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Return `scopes` and all that they hold."""
    return frozenset().union(*(_HOLDS[scope] for scope in scopes))


@dataclass(frozen=True, slots=True)
class Access:
    """What one connection may do. Made once, where it comes in."""

    who: str = ""
    """What the credential calls its holder, for the log; empty if it does not say."""
    scopes: frozenset[Scope] = frozenset(Scope)

    def named(self, name: str) -> str:
        """Return what a log calls a connection with this name: with whose credential it came in."""
        return f"{name}, {self.who}" if self.who else name


EVERYTHING = Access()
"""What comes in where no credential is asked for may do everything: it could do that without us, too."""
