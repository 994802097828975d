"""The options of `trunkline serve` that say who may come in over a socket.

Secrets are named by file, never on the command line, where every user of the machine could read them.
What does not fit together is for the server to refuse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from trunkline.transports.auth import AuthMode, AuthOptions
from trunkline.transports.entrances import EntranceOptions
from trunkline_cli.options import FC, setting

__all__ = ["entrance_settings", "take_entrances"]

_FILE = click.Path(path_type=Path)

_SETTINGS = (
    setting(
        "--ws-auth",
        type=click.Choice(get_args(AuthMode)),
        default=None,
        help="Ask clients for a credential: a token of ours, or one that somebody has signed.",
    ),
    setting(
        "--ws-token-file",
        metavar="PATH",
        type=_FILE,
        multiple=True,
        default=(),
        help="A file with a capability token and its scopes. May be given several times.",
    ),
    setting(
        "--ws-token-sha256",
        metavar="HEX",
        default=None,
        help="The SHA-256 of a capability token, in the place of a file.",
    ),
    setting(
        "--ws-shared-secret-file",
        metavar="PATH",
        type=_FILE,
        default=None,
        help="A file with the secret that signed tokens (JWT, HS256) are checked with; 32 bytes or more.",
    ),
    setting("--ws-issuer", metavar="TEXT", default=None, help="What `iss` of a signed token must be."),
    setting(
        "--ws-audience", metavar="TEXT", default=None, help="What `aud` of a signed token must be or hold."
    ),
    setting(
        "--ws-max-clock-skew-seconds",
        metavar="SECONDS",
        type=click.IntRange(min=0),
        default=None,
        show_default="30",
        help="By how much the clock of who signs tokens may differ.",
    ),
    setting(
        "--allow-origin",
        metavar="ORIGIN",
        multiple=True,
        default=(),
        help="A web origin whose pages may connect, such as https://example.com. May be given several times.",
    ),
    setting(
        "--tls-cert",
        metavar="PATH",
        type=_FILE,
        default=None,
        help="The certificate (chain) of wss:// listeners, PEM.",
    ),
    setting("--tls-key", metavar="PATH", type=_FILE, default=None, help="Its private key, PEM, unencrypted."),
    setting(
        "--metrics-listen",
        metavar="IP:PORT",
        default=None,
        help="A port that shows /metrics and nothing else; the other ports show it, too.",
    ),
)


def entrance_settings(command: FC) -> FC:
    """Give a command these options."""
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


def take_entrances(settings: dict[str, Any]) -> EntranceOptions:
    """Take the values of these options out of all of a command's."""
    take = settings.pop
    return EntranceOptions(
        auth=AuthOptions(
            mode=take("ws_auth"),
            token_files=take("ws_token_file"),
            token_sha256=take("ws_token_sha256"),
            shared_secret_file=take("ws_shared_secret_file"),
            issuer=take("ws_issuer"),
            audience=take("ws_audience"),
            max_clock_skew_s=take("ws_max_clock_skew_seconds"),
        ),
        allow_origins=take("allow_origin"),
        tls_cert=take("tls_cert"),
        tls_key=take("tls_key"),
        metrics_listen=take("metrics_listen"),
    )
