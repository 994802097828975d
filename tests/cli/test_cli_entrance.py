"""Who gets in, as the options of `trunkline serve` say it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cli.processes import Server, run
from security.doors import SECRET, Open, head, sign_for

REFUSED = [
    (["--listen", "ws://0.0.0.0:0"], "without auth; configure `--ws-auth capability-token` or"),
    (["--listen", "ws://127.0.0.1:0", "--ws-issuer", "us"], "websocket auth flags require `--ws-auth"),
    (["--ws-auth", "capability-token"], "`--ws-token-file` or `--ws-token-sha256` is required"),
    (["--listen", "wss://127.0.0.1:0"], "`--tls-cert` and `--tls-key` are required"),
    (["--listen", "ws://127.0.0.1:0", "--tls-cert", "x"], "given together or not at all"),
    (["--listen", "ws://127.0.0.1:0", "--allow-origin", "*"], "invalid --allow-origin `*`"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "text"), REFUSED)
def test_what_makes_no_sense_is_refused_in_one_line_that_says_why(args: list[str], text: str) -> None:
    ended = run("serve", *args)
    assert ended.returncode == 1
    assert text in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.fixture
def opened() -> Iterator[Open]:
    with ExitStack() as stack:
        yield Open(stack)


def test_every_option_reaches_the_door(tmp_path: Path, opened: Open) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    options = (
        *("--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", str(secret), "--ws-issuer", "us"),
        *("--ws-audience", "me", "--ws-max-clock-skew-seconds", "0"),
        *("--allow-origin", "https://a.example"),
    )
    with Server(*options) as server:
        soon = 2**40
        for line, status in (
            ("X-Nothing: x", 401),
            ("Origin: https://b.example", 403),
            ("Origin: https://a.example", 401),
            (f"Authorization: Bearer {sign_for(soon)}", 401),
            (f"Authorization: Bearer {sign_for(soon, iss='us')}", 401),
            (f"Authorization: Bearer {sign_for(soon, iss='us', aud='me')}", 101),
        ):
            assert opened.ask(server.url, head("/", line)).status == status, line


def test_the_limit_on_connections_reaches_the_door(opened: Open) -> None:
    with Server("--max-connections", "1") as server:
        opened.client(server.url, "alice")  # and stays
        assert opened.ask(server.url, head()).status == 503


def test_several_token_files_are_taken(tmp_path: Path, opened: Open) -> None:
    for name, token in (("a", "aaa"), ("b", "bbb attach")):
        path = tmp_path / name
        path.write_text(token)
        path.chmod(0o600)
    files = ("--ws-token-file", str(tmp_path / "a"), "--ws-token-file", str(tmp_path / "b"))
    with Server("--ws-auth", "capability-token", *files) as server:
        for token, status in (("aaa", 101), ("bbb", 101), ("ccc", 401)):
            assert opened.ask(server.url, head("/", f"Authorization: Bearer {token}")).status == status
