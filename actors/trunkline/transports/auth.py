"""Who may come in: bearer credentials, checked before the upgrade.

Pure functions over frozen settings. A capability token is a secret whose holder gets in; only its hash
is kept here. A signed bearer token is a JWT (RFC 7519) signed with HS256, which has an end and may name
its holder. Either may carry scopes. The texts are those of the reference server.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import importlib
import logging
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from trunkline.access import EVERYTHING, Access, Scope, covers
from trunkline.errors import ConfigError

__all__ = [
    "MIN_SECRET_BYTES",
    "AuthError",
    "AuthMode",
    "AuthOptions",
    "Authenticator",
    "CapabilityToken",
    "CapabilityTokens",
    "SignedBearer",
    "authenticate",
    "check_secret",
    "make_authenticator",
    "read_secret",
    "read_token",
    "sign",
]

logger = logging.getLogger(__name__)

AuthMode: TypeAlias = Literal["capability-token", "signed-bearer-token"]

MIN_SECRET_BYTES = 32
"""RFC 7518, 3.2: a key for HS256 has at least the 256 bits of the hash."""

DEFAULT_CLOCK_SKEW_S = 30

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_INT64 = 2**63
_MODES = "`--ws-auth capability-token` or `--ws-auth signed-bearer-token`"


class AuthError(Exception):
    """The credential does not let its bearer in. The text is the body of the 401, and has no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthOptions:
    """The options as they were given; `make_authenticator` sees whether they make sense together.

    Examples:
        >>> import hashlib
        >>> digest = hashlib.sha256(b"a secret nobody guesses").hexdigest()
        >>> auth = AuthOptions(mode="capability-token", token_sha256=digest)
        >>> with running_server(entrances=EntranceOptions(auth=auth)) as server:
        ...     headers = {"Authorization": "Bearer a secret nobody guesses"}
        ...     client = server.add(WebSocketWire(server.url, headers=headers), "alice")
        ...     client.initialize()["platformFamily"]
        'unix'

    """

    mode: AuthMode | None = None
    """`--ws-auth`; None asks nobody for a credential, which only loopback addresses may do."""
    token_files: tuple[Path, ...] = ()
    """Files with a capability token each; behind it may be the scopes it carries: see `read_token`."""
    token_sha256: str | None = None
    """The SHA-256 of the capability token, as 64 hexadecimal digits."""
    shared_secret_file: Path | None = None
    """A file with the secret that tokens are signed with, of 32 bytes or more."""
    issuer: str | None = None
    """What `iss` must be; blank or None takes any."""
    audience: str | None = None
    """What `aud` must be or hold; blank or None takes any."""
    max_clock_skew_s: int | None = None
    """Seconds by which clocks may differ; None is 30."""


@dataclass(frozen=True, slots=True)
class CapabilityToken:
    """A token that is known by its hash."""

    digest: bytes
    """Its SHA-256."""
    access: Access = EVERYTHING


@dataclass(frozen=True, slots=True)
class CapabilityTokens:
    """Whoever has one of these gets in."""

    tokens: tuple[CapabilityToken, ...]


@dataclass(frozen=True, slots=True)
class SignedBearer:
    """Tokens that are signed with a shared secret."""

    secret: bytes
    issuer: str | None
    audience: str | None
    max_clock_skew_s: int

    def __repr__(self) -> str:
        return "SignedBearer(…)"  # a secret is not for a log or a traceback


Authenticator: TypeAlias = CapabilityTokens | SignedBearer


def make_authenticator(options: AuthOptions) -> Authenticator | None:
    """Read the secrets and return what checks credentials; None if none is to be asked for.

    Raises:
        ConfigError: the options do not go together, or a secret cannot be read or is too weak.

    """
    if options.mode is None:
        if options != AuthOptions():
            raise ConfigError(f"websocket auth flags require {_MODES}")
        return None
    if options.mode == "capability-token":
        return _capability_tokens(options)
    return _signed_bearer(options)


def _capability_tokens(options: AuthOptions) -> CapabilityTokens:
    _refuse_others(
        {
            "--ws-shared-secret-file": options.shared_secret_file,
            "--ws-issuer": options.issuer,
            "--ws-audience": options.audience,
            "--ws-max-clock-skew-seconds": options.max_clock_skew_s,
        },
        "`--ws-auth signed-bearer-token`",
    )
    if options.token_files and options.token_sha256 is not None:
        raise ConfigError("`--ws-token-file` and `--ws-token-sha256` are mutually exclusive")
    if options.token_sha256 is not None:
        if not _DIGEST.fullmatch(options.token_sha256):
            raise ConfigError("--ws-token-sha256 must be a 64-character hex SHA-256 digest")
        return CapabilityTokens((CapabilityToken(bytes.fromhex(options.token_sha256)),))
    if not options.token_files:
        raise ConfigError(
            "`--ws-token-file` or `--ws-token-sha256` is required when `--ws-auth capability-token` is set"
        )
    return CapabilityTokens(tuple(_capability_token(path) for path in options.token_files))


def _capability_token(path: Path) -> CapabilityToken:
    token, scopes = read_token(path)
    return CapabilityToken(hashlib.sha256(token).digest(), Access(path.stem, scopes))


def _signed_bearer(options: AuthOptions) -> SignedBearer:
    _refuse_others(
        {"--ws-token-file": options.token_files or None, "--ws-token-sha256": options.token_sha256},
        "`--ws-auth capability-token`, not `signed-bearer-token`",
    )
    if options.shared_secret_file is None:
        raise ConfigError("`--ws-shared-secret-file` is required when `--ws-auth signed-bearer-token` is set")
    skew = DEFAULT_CLOCK_SKEW_S if options.max_clock_skew_s is None else options.max_clock_skew_s
    if skew >= _INT64:
        raise ConfigError("websocket auth clock skew must fit in a signed 64-bit integer")
    if skew < 0:
        raise ConfigError("websocket auth clock skew must not be negative")
    secret = read_secret(options.shared_secret_file)
    check_secret(options.shared_secret_file, secret)
    _jwt()  # now, and not with the first client
    return SignedBearer(secret, _given(options.issuer), _given(options.audience), skew)


def _refuse_others(options: dict[str, object], needs: str) -> None:
    given = [f"`{name}`" for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"{' and '.join(given)} {'require' if len(given) > 1 else 'requires'} {needs}")


def _given(text: str | None) -> str | None:
    return text.strip() or None if text is not None else None


def read_secret(path: Path) -> bytes:
    """Return the content of a secret's file, white space at its ends left out.

    Raises:
        ConfigError: it cannot be read, or is empty.

    """
    try:
        secret = path.read_bytes().strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"failed to read websocket auth secret {path}: {error.strerror}") from error
    if not secret:
        raise ConfigError(f"websocket auth secret {path} must not be empty")
    if mode & stat.S_IROTH:
        logger.warning("x everybody on this machine can read the secret in %s", path)
    return secret


def check_secret(path: Path, secret: bytes) -> None:
    """See that the secret in a file can sign tokens.

    Raises:
        ConfigError: it is too short.

    """
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(f"signed websocket bearer secret {path} must be at least {MIN_SECRET_BYTES} bytes")


def read_token(path: Path) -> tuple[bytes, frozenset[Scope]]:
    """Return the token in a file, and what it allows.

    The file holds one line: the token, then the scopes that it carries, with spaces between. With none
    it allows everything.

    Raises:
        ConfigError: it cannot be read, or what is behind the token is no scope.

    """
    token, *words = read_secret(path).split()
    scopes = []
    for word in words:
        try:
            scopes.append(Scope(word.decode()))
        except ValueError:  # the word is not shown: it may be part of a token
            known = ", ".join(scope.value for scope in Scope)
            raise ConfigError(
                f"{path} has something behind its token that is no scope; expected {known}"
            ) from None
    return token, covers(scopes) if words else EVERYTHING.scopes


def authenticate(settings: Authenticator, headers: Sequence[str], now_s: float) -> Access:
    """Return what the bearer of a credential may do.

    Args:
        settings: what the server asks for.
        headers: the values of all `Authorization` headers of the request.
        now_s: the time, in Unix seconds.

    Raises:
        AuthError: the credential is missing or does not do.

    """
    if not headers:
        raise AuthError("missing websocket bearer token")
    token = _bearer(headers)
    if isinstance(settings, CapabilityTokens):
        return _check_capability(settings, token)
    return _check_signed(settings, token, now_s)


def _bearer(headers: Sequence[str]) -> bytes:
    scheme, _, token = headers[0].strip().partition(" ")
    token = token.strip()
    if len(headers) > 1 or scheme.lower() != "bearer" or not token:
        raise AuthError("invalid authorization header")
    return token.encode(errors="surrogateescape")


def _check_capability(settings: CapabilityTokens, token: bytes) -> Access:
    # Hashes of one length are compared, all of them, in a time that tells nothing of where they differ.
    digest = hashlib.sha256(token).digest()
    fitting = [each.access for each in settings.tokens if hmac.compare_digest(each.digest, digest)]
    if not fitting:
        raise AuthError("invalid websocket bearer token")
    return fitting[0]


def _check_signed(settings: SignedBearer, token: bytes, now_s: float) -> Access:
    claims = _read_claims(settings, token)
    expires, not_before = claims.get("exp"), claims.get("nbf", 0)
    if not (_is_time(expires) and _is_time(not_before)):
        raise AuthError("invalid websocket jwt")
    assert expires is not None
    if now_s > expires + settings.max_clock_skew_s:
        raise AuthError("expired websocket jwt")
    if now_s < not_before - settings.max_clock_skew_s:
        raise AuthError("websocket jwt is not valid yet")
    if settings.issuer is not None and claims.get("iss") != settings.issuer:
        raise AuthError("websocket jwt issuer mismatch")
    if settings.audience is not None and not _is_for(settings.audience, claims.get("aud")):
        raise AuthError("websocket jwt audience mismatch")
    return Access(str(claims.get("sub", "")), _scopes(claims))


def _read_claims(settings: SignedBearer, token: bytes) -> dict[str, Any]:
    """Check the signature. What the claims say is checked here and not by the library, for the texts."""
    try:
        claims: dict[str, Any] = _jwt().decode(
            token, settings.secret, algorithms=["HS256"], options=_NO_CLAIM_CHECKS
        )
    except Exception as error:  # whatever a hostile token makes of the library: it is not let in
        raise AuthError("invalid websocket jwt") from error
    return claims


_NO_CLAIM_CHECKS: Any = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def _is_time(value: object) -> bool:
    return type(value) is int and -_INT64 <= value < _INT64  # a bool is none


def _is_for(audience: str, claim: object) -> bool:
    return audience in claim if isinstance(claim, list) else claim == audience


def _scopes(claims: dict[str, Any]) -> frozenset[Scope]:
    """Read `scope`, which is as in OAuth (RFC 8693, 4.2): words with spaces between them.

    A token without it may do everything, as tokens for the reference server have none. Words that are
    no scopes are those of other services.
    """
    if "scope" not in claims:
        return EVERYTHING.scopes
    text = claims["scope"]
    if not isinstance(text, str):
        raise AuthError("invalid websocket jwt")
    known = {scope.value: scope for scope in Scope}
    return covers(known[word] for word in text.split() if word in known)


def sign(secret: bytes, claims: dict[str, Any]) -> str:
    """Return a token with these claims, signed with HS256."""
    token: str = _jwt().encode(claims, secret, algorithm="HS256")
    return token


@functools.cache
def _jwt() -> Any:
    """Return PyJWT. Its import takes a fifth of the time of all the rest: only who signs tokens waits."""
    return importlib.import_module("jwt")
