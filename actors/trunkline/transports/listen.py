"""The `--listen` URLs: where the server is to be reached.

Text in, frozen values out; nothing is opened here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TypeAlias

from trunkline.errors import ConfigError, ListenUrlError

__all__ = [
    "ACCEPTED",
    "ListenUrl",
    "OffListen",
    "StdioListen",
    "UnixListen",
    "WebSocketListen",
    "format_address",
    "is_loopback",
    "parse_listen_url",
    "require_auth",
]

ACCEPTED = "`stdio://`, `ws://IP:PORT`, `wss://IP:PORT`, `unix://PATH`, `off`"
"""What `--listen` takes, for messages and help texts."""

_SCHEMES = ("ws", "wss")
_UNIX_PREFIX = "unix://"
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
    is_secure: bool = False
    """Whether TLS is spoken: `wss://`."""

    @property
    def address(self) -> str:
        """Such as `127.0.0.1:4500` or `[::1]:4500`."""
        return format_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class UnixListen:
    """Listen for WebSocket clients of this user, on a Unix socket."""

    path: Path


ListenUrl: TypeAlias = StdioListen | WebSocketListen | UnixListen | OffListen


class _WebSocketUrlError(ListenUrlError):
    """A `ws://` URL that is not an IP address and a port."""

    def __str__(self) -> str:
        return f"invalid websocket --listen URL `{self.url}`; expected {self.accepted}"


def parse_listen_url(url: str) -> ListenUrl:
    """Read a listen URL: `stdio://`, `ws://IP:PORT` (IPv6 in brackets), `wss://`, `unix://PATH` or `off`.

    Raises:
        ListenUrlError: It is none of these. Its text says what was given and what is accepted.

    """
    if url == "stdio://":
        return StdioListen()
    if url == "off":
        return OffListen()
    scheme, separator, rest = url.partition("://")
    if separator and scheme in _SCHEMES:
        return _parse_websocket(url, scheme, rest)
    if url.startswith(_UNIX_PREFIX) and rest and "\0" not in rest:
        return UnixListen(Path(rest))
    raise ListenUrlError(url, ACCEPTED)


def _parse_websocket(url: str, scheme: str, rest: str) -> WebSocketListen:
    match = _ADDRESS.fullmatch(rest)
    if match is None or int(match["port"]) > 65_535:
        raise _WebSocketUrlError(url, f"`{scheme}://IP:PORT`")
    try:
        host = IPv4Address(match["v4"]) if match["v6"] is None else IPv6Address(match["v6"])
    except ValueError:
        raise _WebSocketUrlError(url, f"`{scheme}://IP:PORT`") from None
    return WebSocketListen(str(host), int(match["port"]), scheme == "wss")


def format_address(host: str, port: int) -> str:
    """Join an address and a port as in a URL: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether `host`, an IP address, is reachable from this machine only.

    Raises:
        ValueError: `host` is not an IP address.

    """
    return ip_address(host).is_loopback


def require_auth(listen: WebSocketListen, *, has_auth: bool) -> None:
    """Refuse an address that others can reach, unless there is something by which to tell who they are.

    Raises:
        ConfigError: The address is not a loopback address, and no credential is asked for.

    """
    if not has_auth and not is_loopback(listen.host):
        raise ConfigError(
            f"refusing to start non-loopback websocket listener {listen.address} without auth; "
            "configure `--ws-auth capability-token` or `--ws-auth signed-bearer-token`"
        )
