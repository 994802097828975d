"""Text on its way to a terminal: our colours, and what of other people's text must not get there.

What an agent says or a command prints is somebody else's text. On a terminal it may begin lines and
columns; what moves the cursor, sets the title, writes the clipboard or hides half of a command must not
act. Into a pipe it goes as it came: there it is data.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from typing import TextIO

__all__ = ["Cleaner", "Palette", "shorten", "visible", "visible_lines", "wants_colour"]

# ECMA-48. A control sequence is ESC [, parameters, intermediates, a final character; the string sequences
# (OSC, DCS, SOS, PM, APC) run to ST or BEL; then the short escapes, and the controls that stand alone.
_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[]PX^_][^\x07\x1b]*(?:\x1b\\|\x07)?"
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]"
)

# A sequence that the end of the text may have cut off, or a carriage return that a newline may follow.
_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-?]*[ -/]*|[]PX^_][^\x07\x1b]*\x1b?|[ -/]*)|\r)\Z")

MAX_HELD_CHARS = 4096
"""How much of an unfinished sequence is held back for its end; a longer one is no sequence."""

# Characters without a shape of their own: controls, and the format characters, some of which turn the
# reading direction round. Joiners are needed to write some languages, and emoji.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")


class Palette:
    """The few styles we use, as SGR sequences, or as nothing where colour is not wanted."""

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on

    def bold(self, text: str) -> str:
        """What the eye should find."""
        return self._style("1", text)

    def dim(self, text: str) -> str:
        """What may be passed over."""
        return self._style("2", text)

    def good(self, text: str) -> str:
        """What was added."""
        return self._style("32", text)

    def bad(self, text: str) -> str:
        """What failed, or was removed."""
        return self._style("31", text)

    def ask(self, text: str) -> str:
        """What waits for an answer."""
        return self._style("1;33", text)

    def user(self, text: str) -> str:
        """What somebody typed."""
        return self._style("36", text)

    def _style(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_on and text else text


class Cleaner:
    """Makes a stream of other people's text fit for a terminal: lines and tabs are left, nothing that acts.

    Deltas cut the text anywhere, so an unfinished sequence is held back until its end comes. A lone
    carriage return stays, for whoever knows the line that it begins again.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what can be shown after one more piece of text."""
        text = self._held + text
        self._held = ""
        unfinished = _UNFINISHED.search(text, max(0, len(text) - MAX_HELD_CHARS))
        if unfinished is not None:
            self._held = unfinished.group()
            text = text[: unfinished.start()]
        return _SEQUENCE.sub("", text.replace("\r\n", "\n"))


def wants_colour(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to write colours to `stream`: it is a terminal that has them, and NO_COLOR is not set.

    See https://no-color.org.
    """
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def visible(text: str) -> str:
    r"""Return `text` on one line with everything in it to be seen: a newline as `\n`, an escape as `\x1b`.

    For what the user judges by, such as the path that an approval is about.
    """
    return "".join(_shown(character) for character in text)


def visible_lines(text: str) -> list[str]:
    """Return the lines of `text`, each `visible`. Tabs become spaces."""
    return [visible(line) for line in text.expandtabs(4).split("\n")]


def shorten(text: str, width: int) -> str:
    """Return the first line of `text`, cut to `width` characters with a sign that it was cut."""
    first, _, rest = text.strip().partition("\n")
    first = first.rstrip()
    return f"{first[: width - 1]}…" if rest or len(first) > width else first


def _shown(character: str) -> str:
    if unicodedata.category(character) in _HIDDEN_CATEGORIES and character not in _JOINERS:
        return character.encode("unicode_escape").decode()
    return character
