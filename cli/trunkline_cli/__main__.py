"""`python -m trunkline_cli` is `trunkline`."""

from __future__ import annotations

import os
import sys

from trunkline_cli.exits import EXIT_INTERRUPTED

__all__ = ["run"]


def run() -> None:
    """Run the command line. Ctrl-C ends it in the same way while it is still being loaded."""
    try:
        _fill_streams()
        from trunkline_cli.main import main  # takes a moment, in which somebody may have second thoughts

        main(prog_name="trunkline")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _fill_streams() -> None:
    """Open standard streams that our caller has closed, or the first socket takes the place of one."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


if __name__ == "__main__":
    run()
