"""The `trunkline` command: what is common to its commands, which are one file each."""

from __future__ import annotations

import errno
import importlib
import os
from typing import Any

import click

from trunkline.errors import TrunklineError
from trunkline.version import VERSION
from trunkline_cli.client import ClientError
from trunkline_cli.exits import EXIT_INTERRUPTED

__all__ = ["main"]

_COMMANDS = ("attach", "load", "serve", "status", "threads", "token")
"""Each is the function of this name in the module of this name."""

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a write to a file fails with. Every other file than the output has its own errors."""


class _Commands(click.Group):
    """Imports a command when it is used, so that `trunkline threads` does not load a server or an editor."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"trunkline_cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        # Known failures are one line. Whatever else comes this far is a bug, and a traceback.
        except (ClientError, TrunklineError) as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            _drop_output()
            raise click.ClickException(f"cannot write the output: {error.strerror}") from error


def _drop_output() -> None:
    """Give up on standard output: what is still to be written to it must not fail once more at the exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="trunkline")
def main() -> None:
    """One agent, many clients: an app-server whose threads any number of clients share."""
