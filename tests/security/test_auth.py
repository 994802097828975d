"""Credentials: what lets one in, with the texts of the reference, and what is refused at start-up."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from trunkline.access import Scope, covers
from trunkline.errors import ConfigError
from trunkline.transports.auth import (
    Authenticator,
    AuthError,
    AuthOptions,
    CapabilityToken,
    CapabilityTokens,
    SignedBearer,
    authenticate,
    make_authenticator,
    sign,
)

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000
CAPABILITY = CapabilityTokens((CapabilityToken(hashlib.sha256(b"sesame").digest()),))
SIGNED = SignedBearer(SECRET, None, None, 30)
GOOD: dict[str, Any] = {"exp": NOW + 60}


def bearer(claims: dict[str, Any], secret: bytes = SECRET) -> str:
    return f"Bearer {sign(secret, claims)}"


def refusal(settings: Authenticator, *headers: str) -> str:
    with pytest.raises(AuthError) as error:
        authenticate(settings, headers, NOW)
    return str(error.value)


@pytest.mark.parametrize("settings", [CAPABILITY, SIGNED])
def test_a_credential_is_needed(settings: Authenticator) -> None:
    assert refusal(settings) == "missing websocket bearer token"


@pytest.mark.parametrize("settings", [CAPABILITY, SIGNED])
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dXNlcg==", "sesame", "Bearer\topen"])
def test_it_comes_as_a_bearer_token(settings: Authenticator, header: str) -> None:
    assert refusal(settings, header) == "invalid authorization header"


def test_two_credentials_are_none() -> None:
    good = "Bearer sesame"
    assert refusal(CAPABILITY, good, good) == "invalid authorization header"


@pytest.mark.parametrize("header", ["Bearer sesame", "bearer sesame", "  BEARER   sesame  "])
def test_the_capability_token_lets_in_and_allows_everything(header: str) -> None:
    assert authenticate(CAPABILITY, [header], NOW).scopes == frozenset(Scope)


@pytest.mark.parametrize("token", ["sesam", "sesame!", "SESAME", "é", "\udcff"])
def test_another_token_does_not(token: str) -> None:
    assert refusal(CAPABILITY, f"Bearer {token}") == "invalid websocket bearer token"


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return False

    monkeypatch.setattr("trunkline.transports.auth.hmac.compare_digest", compare)
    refusal(CAPABILITY, "Bearer x")
    assert compared == [(CAPABILITY.tokens[0].digest, hashlib.sha256(b"x").digest())]


def test_a_signed_token_lets_in() -> None:
    access = authenticate(SIGNED, [bearer({**GOOD, "sub": "alice"})], NOW)
    assert (access.who, access.scopes) == ("alice", frozenset(Scope))


def encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "header",
    [
        "Bearer x",
        "Bearer a.b.c",
        "Bearer ..",
        f"Bearer {encode({'alg': 'none'})}.{encode(GOOD)}.",
        f"Bearer {encode({'alg': 'HS256'})}.{encode(GOOD)}.",
        bearer(GOOD, b"another secret, of enough bytes!"),
        f"Bearer {jwt.encode(GOOD, SECRET * 2, algorithm='HS512')}",
        bearer(GOOD)[:-2] + ("AA" if not bearer(GOOD).endswith("AA") else "BB"),
        bearer({}),
        bearer({"exp": None}),
        bearer({"exp": str(NOW + 60)}),
        bearer({"exp": NOW + 60.5}),
        bearer({"exp": True}),
        bearer({"exp": 2**63}),
        bearer({**GOOD, "nbf": "now"}),
        bearer({**GOOD, "scope": ["drive"]}),
        bearer({**GOOD, "scope": None}),
        "Bearer \udcff.\udcff.\udcff",
    ],
)
def test_a_token_that_is_not_right_does_not(header: str) -> None:
    assert refusal(SIGNED, header) == "invalid websocket jwt"


@pytest.mark.parametrize(
    ("settings", "claims", "why"),
    [
        (SIGNED, {"exp": NOW - 31}, "expired websocket jwt"),
        (SIGNED, {**GOOD, "nbf": NOW + 31}, "websocket jwt is not valid yet"),
        (replace(SIGNED, issuer="us"), GOOD, "websocket jwt issuer mismatch"),
        (replace(SIGNED, issuer="us"), {**GOOD, "iss": "them"}, "websocket jwt issuer mismatch"),
        (replace(SIGNED, audience="me"), GOOD, "websocket jwt audience mismatch"),
        (replace(SIGNED, audience="me"), {**GOOD, "aud": "men"}, "websocket jwt audience mismatch"),
        (replace(SIGNED, audience="me"), {**GOOD, "aud": ["you"]}, "websocket jwt audience mismatch"),
    ],
)
def test_a_token_for_another_time_or_place_does_not(
    settings: SignedBearer, claims: dict[str, Any], why: str
) -> None:
    assert refusal(settings, bearer(claims)) == why


@pytest.mark.parametrize(
    ("settings", "claims"),
    [
        (SIGNED, {"exp": NOW - 30}),
        (SIGNED, {**GOOD, "nbf": NOW + 30}),
        (SIGNED, {**GOOD, "iat": NOW + 1000, "jti": 5, "iss": "any", "aud": 8}),
        (replace(SIGNED, issuer="us"), {**GOOD, "iss": "us"}),
        (replace(SIGNED, audience="me"), {**GOOD, "aud": "me"}),
        (replace(SIGNED, audience="me"), {**GOOD, "aud": ["you", "me"]}),
    ],
)
def test_a_token_within_its_bounds_does(settings: SignedBearer, claims: dict[str, Any]) -> None:
    authenticate(settings, [bearer(claims)], NOW)


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("attach", {Scope.ATTACH}),
        ("drive", {Scope.ATTACH, Scope.DRIVE}),
        ("admin", set(Scope)),
        ("openid attach email", {Scope.ATTACH}),
        ("attach drive", {Scope.ATTACH, Scope.DRIVE}),
        ("ADMIN", set()),
        ("", set()),
    ],
)
def test_a_token_carries_scopes(scope: str, scopes: set[Scope]) -> None:
    assert authenticate(SIGNED, [bearer({**GOOD, "scope": scope})], NOW).scopes == scopes


def test_no_scope_holds_more_than_those_below_it() -> None:
    assert covers([]) == frozenset()
    assert covers([Scope.ATTACH]) < covers([Scope.DRIVE]) < covers([Scope.ADMIN])


def test_a_secret_is_in_no_text_of_the_settings() -> None:
    assert SECRET.decode() not in repr(SIGNED)
    assert SECRET.decode() not in str(SIGNED)


# Start-up


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_without_options_nobody_is_asked() -> None:
    assert make_authenticator(AuthOptions()) is None


def test_the_token_is_read_from_a_file_or_known_by_its_hash(tmp_path: Path) -> None:
    file = write(tmp_path / "token", b"  sesame\n")
    digest = CAPABILITY.tokens[0].digest.hex()
    for options in (
        AuthOptions(mode="capability-token", token_files=(file,)),
        AuthOptions(mode="capability-token", token_sha256=digest),
        AuthOptions(mode="capability-token", token_sha256=digest.upper()),
    ):
        settings = make_authenticator(options)
        assert settings is not None
        assert authenticate(settings, ["Bearer sesame"], NOW).scopes == frozenset(Scope)


def test_each_of_several_tokens_carries_the_scopes_behind_it_and_the_name_of_its_file(tmp_path: Path) -> None:
    files = (
        write(tmp_path / "owner.token", b"aaa\n"),
        write(tmp_path / "wall.token", b"bbb attach\n"),
        write(tmp_path / "phone.token", b"ccc attach drive"),
    )
    settings = make_authenticator(AuthOptions(mode="capability-token", token_files=files))
    assert settings is not None
    accesses = [authenticate(settings, [f"Bearer {token}"], NOW) for token in ("aaa", "bbb", "ccc")]
    assert [(access.who, access.scopes) for access in accesses] == [
        ("owner", covers([Scope.ADMIN])),
        ("wall", covers([Scope.ATTACH])),
        ("phone", covers([Scope.DRIVE])),
    ]
    assert refusal(settings, "Bearer attach") == "invalid websocket bearer token"


def test_what_is_no_scope_behind_a_token_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = write(tmp_path / "token", b"open sesame")
    with pytest.raises(ConfigError) as error:
        make_authenticator(AuthOptions(mode="capability-token", token_files=(file,)))
    assert str(error.value) == (
        f"{file} has something behind its token that is no scope; expected attach, drive, admin"
    )


def test_a_secret_that_everybody_can_read_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "token", b"sesame")
    options = AuthOptions(mode="capability-token", token_files=(file,))
    file.chmod(0o640)
    make_authenticator(options)
    assert not caplog.records
    file.chmod(0o644)
    make_authenticator(options)
    assert caplog.messages == [f"x everybody on this machine can read the secret in {file}"]


def test_a_blank_issuer_or_audience_is_none(tmp_path: Path) -> None:
    options = AuthOptions(
        mode="signed-bearer-token",
        shared_secret_file=write(tmp_path / "secret", SECRET + b"\n"),
        issuer="  ",
        audience="",
    )
    assert make_authenticator(options) == SIGNED


REQUIRED = "is required when `--ws-auth"
NEITHER = "websocket auth flags require `--ws-auth capability-token` or `--ws-auth signed-bearer-token`"
OTHER_WAY = "requires `--ws-auth capability-token`, not `signed-bearer-token`"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"token_sha256": "0" * 64}, NEITHER),
        ({"issuer": "us"}, NEITHER),
        ({"max_clock_skew_s": 5}, NEITHER),
        (
            {"mode": "capability-token"},
            f"`--ws-token-file` or `--ws-token-sha256` {REQUIRED} capability-token` is set",
        ),
        (
            {"mode": "capability-token", "token_files": (Path("x"),), "token_sha256": "0" * 64},
            "`--ws-token-file` and `--ws-token-sha256` are mutually exclusive",
        ),
        (
            {"mode": "capability-token", "token_sha256": "0" * 63},
            "--ws-token-sha256 must be a 64-character hex SHA-256 digest",
        ),
        (
            {"mode": "capability-token", "token_sha256": "0" * 64, "audience": "me"},
            "`--ws-audience` requires `--ws-auth signed-bearer-token`",
        ),
        (
            {"mode": "signed-bearer-token"},
            f"`--ws-shared-secret-file` {REQUIRED} signed-bearer-token` is set",
        ),
        (
            {"mode": "signed-bearer-token", "token_sha256": "0" * 64},
            f"`--ws-token-sha256` {OTHER_WAY}",
        ),
        (
            {"mode": "signed-bearer-token", "shared_secret_file": Path("x"), "max_clock_skew_s": 2**63},
            "websocket auth clock skew must fit in a signed 64-bit integer",
        ),
        (
            {"mode": "capability-token", "token_files": (Path("/nowhere/token"),)},
            "failed to read websocket auth secret /nowhere/token: No such file or directory",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_authenticator(AuthOptions(**options))
    assert str(error.value) == text


def test_an_empty_secret_and_a_short_one_are_refused(tmp_path: Path) -> None:
    empty, short = write(tmp_path / "empty", b" \n"), write(tmp_path / "short", b"x" * 31 + b"\n")
    for path, text in (
        (empty, f"websocket auth secret {empty} must not be empty"),
        (short, f"signed websocket bearer secret {short} must be at least 32 bytes"),
    ):
        with pytest.raises(ConfigError) as error:
            make_authenticator(AuthOptions(mode="signed-bearer-token", shared_secret_file=path))
        assert str(error.value) == text
