"""The door of a listener: which requests may come in at all, and with which rights.

Pure: a request's headers in, a refusal or an `Access` out. No sockets, no clock of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import NamedTuple

from websockets.datastructures import Headers

from trunkline.access import EVERYTHING, Access
from trunkline.errors import ConfigError
from trunkline.transports.auth import Authenticator, AuthError, authenticate

__all__ = ["OPEN_DOOR", "Door", "Refusal", "parse_origin"]


class Refusal(NamedTuple):
    """The answer to a request that is not let in."""

    status: HTTPStatus
    body: str = ""
    retry_after_s: int | None = None
    """When to try again; None says nothing about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Who may come in at one listener."""

    authenticator: Authenticator | None = None
    """What checks credentials; None asks for none."""
    origins: frozenset[str] = frozenset()
    """Origins whose pages may connect, as `parse_origin` returns them."""
    needs_loopback_host: bool = False
    """Whether the `Host` must name this machine: so that a page whose name was made to point here after
    it was loaded (DNS rebinding) is not taken for a local program."""

    def refuse_request(self, headers: Headers) -> Refusal | None:
        """Return why a request is refused, whatever it asks for; None if it is not."""
        # A page on any site can open a WebSocket to this machine, and nothing but the Origin, which
        # only browsers send, tells it from a program of the user's own.
        origins = headers.get_all("Origin")
        if origins and (len(origins) > 1 or origins[0].lower() not in self.origins):
            return Refusal(HTTPStatus.FORBIDDEN)
        hosts = headers.get_all("Host")
        if len(hosts) != 1:  # RFC 9112, 3.2
            return Refusal(HTTPStatus.BAD_REQUEST)
        if self.needs_loopback_host and not _names_loopback(hosts[0]):
            return Refusal(HTTPStatus.FORBIDDEN, "the Host header does not name this machine")
        return None

    def admit(self, headers: Headers, now_s: float) -> Access | Refusal:
        """Return what the sender of a request may do, or why it is not let in."""
        if self.authenticator is None:
            return EVERYTHING
        try:
            return authenticate(self.authenticator, headers.get_all("Authorization"), now_s)
        except AuthError as error:
            return Refusal(HTTPStatus.UNAUTHORIZED, str(error))


OPEN_DOOR = Door()
"""Lets in everybody but pages in browsers."""

_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def parse_origin(text: str) -> str:
    """Return an origin in the form that browsers send it.

    Raises:
        ConfigError: it is none. `*` and `null` are not taken: every page can have those.

    """
    origin = text.lower()
    if not _ORIGIN.fullmatch(origin):
        raise ConfigError(f"invalid --allow-origin `{text}`; expected `https://HOST` or `https://HOST:PORT`")
    scheme, _, rest = origin.partition("://")
    # RFC 6454, 6.1: the default port is left out.
    return f"{scheme}://{rest.removesuffix(':443' if scheme == 'https' else ':80')}"


_HOST = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::[0-9]*)?")


def _names_loopback(host: str) -> bool:
    match = _HOST.fullmatch(host.strip())
    if match is None:
        return False
    name = (match["v6"] or match["name"] or "").lower()
    if name == "localhost" and match["v6"] is None:
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
