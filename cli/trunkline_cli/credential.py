"""The bearer token that a command sends to a server: where it comes from, and where it may go.

It comes from a file or the environment, never from the command line, where every user of the machine
could read it.
"""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

import click

from trunkline.errors import ConfigError
from trunkline.transports.auth import read_token
from trunkline_cli.client import ClientError
from trunkline_cli.options import FC, is_local, setting

__all__ = ["TOKEN_VARIABLE", "BadToken", "find_token", "token_setting"]

TOKEN_VARIABLE = "TRUNKLINE_TOKEN"
"""The environment variable that holds a token itself."""


class BadToken(ClientError):
    """The token that was named cannot be sent."""

    def __str__(self) -> str:
        return str(self.args[0])


def token_setting(command: FC) -> FC:
    """Give a command the option `--token-file`."""
    option = setting(
        "--token-file",
        metavar="PATH",
        type=click.Path(path_type=Path),
        default=None,
        help=f"A file with the token that the server asks for; or the token itself in ${TOKEN_VARIABLE}.",
    )
    return option(command)


def find_token(url: str, token_file: Path | None) -> str | None:
    """Return the token for the server at `url`; None if there is none to send.

    Raises:
        BadToken: the file cannot be used, or the token would be sent in the clear to another machine.

    """
    token = _read(token_file) if token_file is not None else os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        return None
    if not token.isascii() or not token.isprintable() or " " in token:
        raise BadToken("the token has characters that no bearer token has")
    if urllib.parse.urlsplit(url).scheme == "ws" and not is_local(url):
        raise BadToken(
            f"a token is not sent over {url}, where others could read it on its way; "
            "use wss://, or a tunnel to this machine"
        )
    return token


def _read(path: Path) -> str:
    try:
        token, _ = read_token(path)
        return token.decode()
    except ConfigError as error:
        raise BadToken(str(error)) from error
    except UnicodeDecodeError as error:
        raise BadToken(f"{path} holds no token: it is not text") from error
