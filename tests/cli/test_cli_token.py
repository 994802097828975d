"""`trunkline token`, and the commands that send one."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner, Result

from children import environment
from cli.processes import PATIENCE_S, Server, command, run
from security.certificates import make_certificate
from trunkline.access import Scope
from trunkline.transports.auth import read_token
from trunkline_cli.main import main


def token(*args: str) -> Result:
    """Run `trunkline token` in this process: it is quicker, and nothing else of a process matters here."""
    return CliRunner().invoke(main, ["token", *args])


def make(path: Path, *args: str) -> Path:
    ended = token(str(path), *args)
    assert ended.exit_code == 0, ended.output
    return path


def run_with(variables: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*args),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_a_token_is_for_its_owner_alone_and_hard_to_guess(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        path = make(tmp_path / "t", "--scope", "attach")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret, scopes = read_token(path)
    assert len(secret) == 43
    assert scopes == {Scope.ATTACH}
    assert secret != read_token(make(tmp_path / "u"))[0]


def test_the_hash_is_told_and_the_token_is_not(tmp_path: Path) -> None:
    ended = token(str(tmp_path / "t"))
    secret, _ = read_token(tmp_path / "t")
    assert f"--ws-token-sha256 {hashlib.sha256(secret).hexdigest()}" in ended.stderr
    assert secret.decode() not in ended.stdout + ended.stderr


def test_a_token_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = make(tmp_path / "t")
    before = path.read_text()
    ended = token(str(path))
    assert ended.exit_code == 1
    assert "is there already" in ended.stderr
    assert path.read_text() == before


def test_a_signed_token_says_what_it_was_told_to_and_ends(tmp_path: Path) -> None:
    secret = make(tmp_path / "secret")
    ended = token(
        *("--sign-with", str(secret), "--expires-in", "60", "--scope", "attach", "--scope", "drive"),
        *("--subject", "alice", "--issuer", "us", "--audience", "me"),
    )
    key, _ = read_token(secret)
    claims = jwt.decode(ended.stdout.strip(), key, algorithms=["HS256"], audience="me", issuer="us")
    assert claims["exp"] - claims["iat"] == 60
    assert (claims["sub"], claims["scope"]) == ("alice", "attach drive")


def test_a_signed_token_is_renewed_in_its_file(tmp_path: Path) -> None:
    secret, path = make(tmp_path / "secret"), tmp_path / "t"
    path.write_text("old")
    assert token("--sign-with", str(secret), str(path)).exit_code == 0
    assert path.read_text().count(".") == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["secret", "t"]


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        ([], 2, "Say where to write"),
        (["x", "--subject", "alice"], 2, "--subject is for a signed token"),
        (["--sign-with", "nowhere"], 1, "failed to read websocket auth secret nowhere"),
        (["x", "--scope", "all"], 2, "Invalid value for '--scope'"),
        (["/nowhere/t"], 1, "cannot write /nowhere/t: No such file or directory"),
    ],
)
def test_what_makes_no_token_says_why(args: list[str], code: int, text: str) -> None:
    ended = token(*args)
    assert ended.exit_code == code
    assert text in ended.stderr


def test_a_short_secret_signs_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("short")
    ended = token("--sign-with", str(secret))
    assert ended.exit_code == 1
    assert "must be at least 32 bytes" in ended.stderr


def test_commands_get_in_with_a_file_or_the_environment_and_not_without(tmp_path: Path) -> None:
    owner, wall = make(tmp_path / "owner"), make(tmp_path / "wall", "--scope", "attach")
    files = ("--ws-token-file", str(owner), "--ws-token-file", str(wall))
    with Server("--ws-auth", "capability-token", *files, "--agent", "script") as server:
        refused = run("threads", server.url)
        assert refused.returncode == 1
        assert "(401): missing websocket bearer token" in refused.stderr
        assert run_with({"TRUNKLINE_TOKEN_FILE": str(owner)}, "threads", server.url).returncode == 0
        said = run("attach", server.url, "--token-file", str(owner), stdin="text hello\n")
        assert said.stdout == "hello\n"
        secret, _ = read_token(wall)
        watching = run_with({"TRUNKLINE_TOKEN": secret.decode()}, "attach", server.url)
        assert watching.returncode == 1
        assert "cannot start the thread: this connection lacks the scope `drive`" in watching.stderr


def test_a_token_is_not_sent_in_the_clear_to_another_machine() -> None:
    ended = run_with({"TRUNKLINE_TOKEN": "sesame"}, "threads", "ws://192.0.2.1:1")
    assert ended.returncode == 1
    assert "a token is not sent over ws://192.0.2.1:1" in ended.stderr


def test_commands_reach_a_server_over_tls_and_over_a_unix_socket(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    listens = ("--listen", "wss://127.0.0.1:0", "--listen", f"unix://{tmp_path}/t.sock")
    with Server(*listens, "--tls-cert", str(cert), "--tls-key", str(key), announced=7) as server:
        wss, unix = (
            line.removeprefix("listening on: ").strip()
            for line in (server.announcement[3], server.announcement[6])
        )
        assert (wss[:6], unix) == ("wss://", f"unix://{tmp_path}/t.sock")
        trusting = {"SSL_CERT_FILE": str(cert)}
        assert json.loads(run_with(trusting, "threads", wss, "--json").stdout) == []
        assert json.loads(run("threads", unix, "--json").stdout) == []
        few = ("--scenario", "requests", "--connections", "2", "--duration", "50ms", "--quiet")
        for loaded in (run_with(trusting, "load", wss, *few), run("load", unix, *few)):
            assert loaded.stdout.splitlines()[-1] == "passed", loaded.stdout + loaded.stderr
        distrusted = run("threads", wss)
        assert distrusted.returncode == 1
        assert "certificate verify failed" in distrusted.stderr
        nobody = run("threads", f"unix://{tmp_path}/nobody.sock")
        assert nobody.returncode == 1
        assert "no such file or directory" in nobody.stderr


def test_a_token_file_goes_with_a_url() -> None:
    ended = run("attach", "--token-file", "x")
    assert ended.returncode == 2
    assert "--token-file needs the URL" in ended.stderr
