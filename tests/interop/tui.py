"""The Codex terminal client on a pseudo-terminal, attached to a server."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from cli.processes import PATIENCE_S
from cli.screens import CTRL_C, Terminal
from codex_stand_in import codex_binary

__all__ = ["ESCAPE", "SAID", "CodexTerminal", "needs_codex"]

ESCAPE = "\x1b"

SAID = "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "
"""Stands before what the user says, in the field and above it."""

needs_codex = pytest.mark.skipif(
    codex_binary() is None, reason="needs the package openai-codex-cli-bin: pip install '.[interop]'"
)

_NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there: what the client would fetch from elsewhere, it shall not."""


class CodexTerminal(Terminal):
    """`codex --remote URL` in a directory of its own.

    Args:
        url: of the server.
        place: an empty directory, for the client's configuration.
        args: more arguments of `codex`.
        variables: more of its environment.

    """

    def __init__(
        self,
        url: str,
        place: Path,
        *args: str,
        columns: int = 100,
        rows: int = 32,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        binary = codex_binary()
        assert binary is not None
        home, work = place / "home", place / "work"
        home.mkdir()
        work.mkdir()
        (home / "config.toml").write_text(
            "check_for_update_on_startup = false\n"
            "[analytics]\nenabled = false\n"
            "[tui]\nanimations = false\nshow_tooltips = false\n"
            f'[projects."{work}"]\ntrust_level = "trusted"\n'
        )
        super().__init__(
            program=[str(binary), "--remote", url, *args],
            is_talking=True,
            columns=columns,
            rows=rows,
            cwd=work,
            env={
                "CODEX_HOME": str(home),
                "HTTP_PROXY": _NOWHERE,
                "HTTPS_PROXY": _NOWHERE,
                "NO_PROXY": "127.0.0.1,localhost",
                **(variables or {}),
            },
        )

    def leave(self) -> int:
        """Leave with Ctrl-C, with nothing typed and nothing running. Returns the exit code."""
        self.type(CTRL_C)
        return self.wait_end()

    def decide(self, key: str) -> None:
        """Answer the question on the screen.

        A key that comes as the question does is taken for a slip, so it is pressed until it is heeded.
        """
        question = self.wait_for("Would you like to")
        deadline = time.monotonic() + PATIENCE_S
        while "Would you like to" in question:
            assert time.monotonic() < deadline, f"it does not take {key!r}; it shows\n{question}"
            self.type(key)
            with self._changed:
                self._changed.wait_for(lambda: "Would you like to" not in self._text(), 0.25)
                question = self._text()

    def send(self, text: str) -> None:
        """Type a message and press Enter once it is in the field: what comes at once is a paste."""
        self.type(text)
        self.wait_for(f"{SAID}{text}")
        self.type("\r")
