"""Draws docs/codex-terminal.svg: Codex's terminal client attached to an agent of this server.

    PYTHONPATH=actors:cli:tests python -m interop.picture docs/codex-terminal.svg

Needs the packages of the extras `test` and `interop`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

from pyte.screens import Char

from houses import running_server
from interop.tui import CodexTerminal

COLUMNS, ROWS = 92, 21
CELL, LINE, MARGIN, BAR = 8.0, 18, 14, 30
COLOURS = {
    "black": "#5b6470",
    "red": "#f47067",
    "green": "#57ab5a",
    "brown": "#e3b341",
    "blue": "#539bf5",
    "magenta": "#b083f0",
    "cyan": "#56d4dd",
    "white": "#d5dbe3",
    "default": "",
}
FONTS = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
WIDTH = COLUMNS * CELL + 2 * MARGIN
HEIGHT = ROWS * LINE + BAR + MARGIN


def main() -> None:
    """Play the scene, and draw two moments of it."""
    [target] = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        work = place / "app"
        work.mkdir()
        (work / "test_sums.py").write_text(
            "import unittest\n\n\nclass Sums(unittest.TestCase):\n    def test_small(self):\n"
            "        self.assertEqual(1 + 1, 2)\n\n    def test_large(self):\n"
            "        self.assertEqual(2**64 - 2**63, 2**63)\n"
        )
        frames = list(scene(place, work))
    title = "Codex's terminal client at the shell agent: a command waits for its approval, and has run."
    Path(target).write_text(svg(title, frames), encoding="utf-8")


def scene(place: Path, work: Path) -> Iterator[tuple[str, list[list[Char]]]]:
    """Return moments, each with what to write above it."""
    with (
        running_server(agent="shell", cwd=work) as house,
        CodexTerminal(house.url, place, columns=COLUMNS, rows=ROWS) as terminal,
    ):
        terminal.wait_for("Ask Codex to do anything", "shell")
        terminal.send("python3 -m unittest -v")
        terminal.wait_for("Would you like to run the following command?")
        yield "codex --remote ws://127.0.0.1:4500", cells(terminal, work)
        terminal.decide("y")
        terminal.wait_for("OK", "Worked for")
        yield "the same, a second later", cells(terminal, work)


def cells(terminal: CodexTerminal, work: Path) -> list[list[Char]]:
    """Return what is on the screen, with another name for the directory."""
    with terminal._changed:
        buffer = terminal._screen.buffer
        rows = [[buffer[row][column] for column in range(COLUMNS)] for row in range(ROWS)]
    for row in rows:
        start = "".join(char.data for char in row).find(str(work))
        if start >= 0:
            for column, letter in enumerate("/srv/app".ljust(len(str(work))), start):
                row[column] = row[column]._replace(data=letter)
    return rows


def svg(title: str, frames: Sequence[tuple[str, list[list[Char]]]]) -> str:
    """Return the frames, one below the other."""
    height = len(frames) * (HEIGHT + MARGIN) - MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" width="{WIDTH:g}" '
        f'height="{height:g}" role="img" fill="#d5dbe3" font-size="13.3" font-family="{FONTS}">',
        f"<title>{escape(title)}</title>",
    ]
    for number, (caption, rows) in enumerate(frames):
        lines.append(f'<g transform="translate(0 {number * (HEIGHT + MARGIN):g})">')
        lines += [
            f'<rect width="{WIDTH:g}" height="{HEIGHT:g}" rx="8" fill="#14181f"/>',
            f'<path d="M0 {BAR}V8a8 8 0 0 1 8-8H{WIDTH - 8:g}a8 8 0 0 1 8 8V{BAR}z" fill="#20262f"/>',
            *(f'<circle cx="{18 + 18 * dot}" cy="15" r="5" fill="#4a5361"/>' for dot in range(3)),
            f'<text x="{WIDTH / 2:g}" y="19.5" fill="#9aa4b1" text-anchor="middle">{escape(caption)}</text>',
        ]
        for row, line in enumerate(rows):
            lines += runs(line, BAR + 6 + LINE * (row + 1) - 5)
        lines.append("</g>")
    return "\n".join([*lines, "</svg>\n"])


def runs(line: Sequence[Char], y: float) -> Iterator[str]:
    """Return a line, a text for each run of cells that look the same."""
    column = 0
    for (colour, is_bold), group in groupby(line, key=lambda char: (char.fg, char.bold)):
        text = "".join(char.data for char in group)
        fill = COLOURS.get(colour, f"#{colour}")
        style = (f' fill="{fill}"' if fill else "") + (' font-weight="bold"' if is_bold else "")
        for word in re.finditer(r"\S+(?: \S+)*", text):  # no wider gaps: a picture may not keep them
            x, length = MARGIN + (column + word.start()) * CELL, len(word[0]) * CELL
            yield f'<text x="{x:g}" y="{y:g}" textLength="{length:g}"{style}>{escape(word[0])}</text>'
        column += len(text)


if __name__ == "__main__":
    main()
