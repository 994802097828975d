"""`trunkline token`: makes credentials."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import Any

import click

from trunkline.access import Scope
from trunkline.transports.auth import check_secret, read_secret, sign

__all__ = ["token"]

TOKEN_BYTES = 32
"""Of randomness in a capability token: nobody guesses it, and it does for a secret that signs."""

_SIGNED_ONLY = ("subject", "issuer", "audience", "expires_in")

_SCOPES = [scope.value for scope in Scope]


@click.command(short_help="Make a token that lets a client in.")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    help="What it allows; everything, without this. May be given several times.",
)
@click.option(
    "--sign-with",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Sign a token (JWT, HS256) with the secret in this file.",
)
@click.option(
    "--expires-in",
    metavar="SECONDS",
    type=click.IntRange(min=1),
    help="How long a signed token is good for.  [default: 3600]",
)
@click.option("--subject", metavar="NAME", help="Whose a signed token is, for the server's log (`sub`).")
@click.option("--issuer", metavar="TEXT", help="`iss` of a signed token.")
@click.option("--audience", metavar="TEXT", help="`aud` of a signed token.")
def token(path: Path | None, sign_with: Path | None, scopes: tuple[str, ...], **claims: Any) -> None:
    """Make a capability token and write it to a new file at PATH, which only you can read.

    With --sign-with, sign a token that expires: it goes to standard output, or into a file at PATH.

    A file at PATH is for `trunkline serve --ws-token-file`, for `--token-file` of the clients, and one
    without scopes also for `--ws-shared-secret-file` and `--sign-with`.
    """
    if sign_with is None:
        given = [name for name in _SIGNED_ONLY if claims[name] is not None]
        if given:
            raise click.UsageError(f"--{given[0].replace('_', '-')} is for a signed token, with --sign-with.")
        if path is None:
            raise click.UsageError("Say where to write the token, or what to --sign-with.")
        text = secrets.token_urlsafe(TOKEN_BYTES)
        _write_new(path, " ".join([text, *scopes]))
        digest = hashlib.sha256(text.encode()).hexdigest()
        click.echo(f"wrote {path}, for --ws-token-file; or --ws-token-sha256 {digest}", err=True)
        return
    secret = read_secret(sign_with)
    check_secret(sign_with, secret)
    text = sign(secret, _claims(scopes, **claims))
    if path is None:
        click.echo(text)
    else:
        _replace(path, text)


def _claims(
    scopes: tuple[str, ...],
    *,
    expires_in: int | None,
    subject: str | None,
    issuer: str | None,
    audience: str | None,
) -> dict[str, Any]:
    now = int(time.time())
    claims: dict[str, Any] = {"iat": now, "exp": now + (3600 if expires_in is None else expires_in)}
    named = {"sub": subject, "iss": issuer, "aud": audience, "scope": " ".join(scopes) or None}
    return claims | {name: value for name, value in named.items() if value is not None}


def _write_new(path: Path, text: str) -> None:
    """Write a file that nobody else could ever read. One that is there already is somebody's credential."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.ClickException(f"{path} is there already; remove it first if nobody uses it") from None
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")


def _replace(path: Path, text: str) -> None:
    """Put a fresh token in the place of one that will expire; a reader sees either whole."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    _write_new(fresh, text)
    try:
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
