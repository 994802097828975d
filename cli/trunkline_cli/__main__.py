"""`python -m trunkline_cli` is `trunkline`."""

from __future__ import annotations

import sys

from trunkline_cli.exits import EXIT_INTERRUPTED

__all__ = ["run"]


def run() -> None:
    """Run the command line. Ctrl-C ends it in the same way while it is still being loaded."""
    try:
        from trunkline_cli.main import main  # takes a moment, in which somebody may have second thoughts

        main(prog_name="trunkline")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    run()
