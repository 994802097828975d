"""The exit codes of the commands, which people and scripts go by. docs/commands.md lists them."""

from __future__ import annotations

__all__ = ["EXIT_FAILURE", "EXIT_INTERRUPTED", "EXIT_OK"]

EXIT_OK = 0

EXIT_FAILURE = 1
"""What was asked for could not be done. Click gives usage errors 2."""

EXIT_INTERRUPTED = 130
"""The user left with Ctrl-C: what shells report of a program that SIGINT (2) has ended, 128 + 2."""
