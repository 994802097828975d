"""The `--listen` URLs: where the server is to be reached.

Text in, frozen values out; nothing is opened here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from trunkline.errors import ConfigError, ListenUrlError

__all__ = [
    "ACCEPTED",
    "ListenUrl",
    "OffListen",
    "StdioListen",
    "WebSocketListen",
    "format_address",
    "is_loopback",
    "parse_listen_url",
    "require_loopback",
]

ACCEPTED = "`stdio://`, `ws://IP:PORT`, `off`"
"""What `--listen` takes, for messages and help texts."""

_WEBSOCKET_PREFIX = "ws://"
# ASCII digits only: `\d` and int() would take those of other scripts too.
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class StdioListen:
    """Speak with the one client that started the process, over standard input and output."""


@dataclass(frozen=True, slots=True)
class OffListen:
    """Open nothing; clients are in the same process."""


@dataclass(frozen=True, slots=True)
class WebSocketListen:
    """Listen for WebSocket clients."""

    host: str
    """An IPv4 or IPv6 address, without brackets."""
    port: int
    """0 takes a free port."""

    @property
    def address(self) -> str:
        """Such as `127.0.0.1:4500` or `[::1]:4500`."""
        return format_address(self.host, self.port)


ListenUrl: TypeAlias = StdioListen | WebSocketListen | OffListen


class _WebSocketUrlError(ListenUrlError):
    """A `ws://` URL that is not an IP address and a port."""

    def __str__(self) -> str:
        return f"invalid websocket --listen URL `{self.url}`; expected {self.accepted}"


def parse_listen_url(url: str) -> ListenUrl:
    """Read a listen URL: `stdio://`, `ws://IP:PORT` (IPv6 in brackets) or `off`.

    Raises:
        ListenUrlError: It is none of these. Its text says what was given and what is accepted.

    """
    if url == "stdio://":
        return StdioListen()
    if url == "off":
        return OffListen()
    if url.startswith(_WEBSOCKET_PREFIX):
        return _parse_websocket(url)
    raise ListenUrlError(url, ACCEPTED)


def _parse_websocket(url: str) -> WebSocketListen:
    match = _ADDRESS.fullmatch(url.removeprefix(_WEBSOCKET_PREFIX))
    if match is None or int(match["port"]) > 65_535:
        raise _WebSocketUrlError(url, "`ws://IP:PORT`")
    try:
        host = IPv4Address(match["v4"]) if match["v6"] is None else IPv6Address(match["v6"])
    except ValueError:
        raise _WebSocketUrlError(url, "`ws://IP:PORT`") from None
    return WebSocketListen(str(host), int(match["port"]))


def format_address(host: str, port: int) -> str:
    """Join an address and a port as in a URL: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether `host`, an IP address, is reachable from this machine only.

    Raises:
        ValueError: `host` is not an IP address.

    """
    return ip_address(host).is_loopback


def require_loopback(listen: WebSocketListen) -> None:
    """Refuse an address that others can reach: there is nothing yet by which to tell who they are.

    Raises:
        ConfigError: The address is not a loopback address.

    """
    if not is_loopback(listen.host):
        raise ConfigError(
            f"refusing to start non-loopback websocket listener {listen.address} without auth; "
            "use a loopback address such as `127.0.0.1` or `[::1]`"
        )
