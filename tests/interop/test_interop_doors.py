"""The Codex terminal client at the doors of this server: a token, TLS, a Unix socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.tui import CodexTerminal, needs_codex
from security.certificates import make_certificate
from trunkline import AppServer, Config
from trunkline.transports.auth import AuthOptions
from trunkline.transports.entrances import EntranceOptions

pytestmark = needs_codex

VARIABLE = "TRUNKLINE_TEST_TOKEN"


@pytest.mark.parametrize("scheme", ["ws", "wss", "unix"])
def test_it_gets_in(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("sesame drive")
    (tmp_path / "t").chmod(0o600)
    auth = AuthOptions(mode="capability-token", token_files=(tmp_path / "t",))
    args: tuple[str, ...] = ("--remote-auth-token-env", VARIABLE)
    variables = {VARIABLE: "sesame"}
    entrances = EntranceOptions(auth=auth)
    listen = "ws://127.0.0.1:0"
    if scheme == "wss":
        listen = "wss://127.0.0.1:0"
        cert, key = make_certificate(tmp_path)
        entrances = EntranceOptions(auth=auth, tls_cert=cert, tls_key=key)
        variables["SSL_CERT_FILE"] = str(cert)
    elif scheme == "unix":
        listen, args = f"unix://{tmp_path}/t.sock", ()
    server = AppServer(Config(listen=(listen,), agent="script", entrances=entrances))
    with server, CodexTerminal(server.listeners[0].url, tmp_path, *args, variables=variables) as terminal:
        terminal.wait_for("Ask Codex to do anything", "script default")
        terminal.send("text hello from behind the door")
        terminal.wait_for("hello from behind the door")
