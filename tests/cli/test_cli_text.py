from __future__ import annotations

import io

import pytest

from trunkline_cli.text import Cleaner, Palette, shorten, visible, visible_lines, wants_colour


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2Jwiped\x1b[10;20H", "wiped"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]52;c;aGk=\x1b\\text", "text"),
        ("\x1bP device \x1b\\text", "text"),
        ("\x1bctext", "text"),
        ("bell\x07 back\x08space\x00", "bell backspace"),
        ("\x9b31mC1", "31mC1"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        ("50%\r100%", "50%\r100%"),
        ("żółć 日本 👍", "żółć 日本 👍"),
    ],
)
def test_nothing_that_acts_on_a_terminal_is_left_of_other_peoples_text(text: str, left: str) -> None:
    assert Cleaner().feed(text) == left


@pytest.mark.parametrize(
    "text", ["a\x1b[31mb\x1b[0mc", "a\x1b]0;title\x07bc", "a\x1b]0;x\x1b\\bc", "a\r\nbc"]
)
def test_a_sequence_is_recognized_wherever_a_delta_cuts_it(text: str) -> None:
    whole = Cleaner().feed(text)
    for cut in range(len(text)):
        cleaner = Cleaner()
        assert cleaner.feed(text[:cut]) + cleaner.feed(text[cut:]) == whole


def test_a_sequence_that_never_ends_does_not_hold_back_text_for_ever() -> None:
    cleaner = Cleaner()
    cleaner.feed("\x1b]0;")
    shown = "".join(cleaner.feed("x" * 1000) for _ in range(20))
    assert len(shown) > 1000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rm -rf /", "rm -rf /"),
        ("a\nb", r"a\nb"),
        ("\x1b[2K", r"\x1b[2K"),
        ("safe\u202efdp", r"safe\u202efdp"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
    ],
)
def test_what_is_approved_shows_every_character(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_lines_stay_lines_and_tabs_become_spaces() -> None:
    assert visible_lines("a\tb\n\x07") == ["a   b", r"\x07"]


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("short", 10, "short"),
        ("exactly 10", 10, "exactly 10"),
        ("a bit longer", 10, "a bit lon…"),
        ("first\nsecond", 20, "first…"),
        ("  padded\n", 20, "padded"),
    ],
)
def test_a_shortened_text_says_that_it_was_cut(text: str, width: int, short: str) -> None:
    assert shorten(text, width) == short


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),  # set and empty is not set: no-color.org
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals_that_have_it_and_users_who_want_it(
    environ: dict[str, str], wanted: bool
) -> None:
    assert wants_colour(FakeTerminal(), environ) is wanted
    assert not wants_colour(io.StringIO(), environ)


def test_a_palette_that_is_off_changes_nothing() -> None:
    palette = Palette(is_on=False)
    assert palette.bad("text") == palette.ask("text") == "text"
    assert Palette(is_on=True).bad("text") == "\x1b[31mtext\x1b[0m"
