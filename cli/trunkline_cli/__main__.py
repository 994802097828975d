"""`python -m trunkline_cli` is `trunkline`."""

from __future__ import annotations

from trunkline_cli.main import main

if __name__ == "__main__":
    main(prog_name="trunkline")
