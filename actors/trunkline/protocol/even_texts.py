"""Texts of one length, kept together: a byte for each character, and no object for each text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

__all__ = ["EvenTexts", "join", "pack"]

MAX_SIZE = 32
"""Characters of a text up to which texts are written quicker by columns than one by one."""

MIN_COUNT = 64
"""Texts from which on they are: a column costs as much as some texts do."""

_DIGITS = [bytes([48 + number // 10**place % 10 for number in range(1000)]) for place in range(3)]
"""The digits of the numbers up to 999, by their place from the right, with zeros in front."""


def pack(texts: Sequence[str], joined: str) -> Sequence[str]:
    """Return many short ASCII texts of one length, not empty, as `EvenTexts`, and others as they are.

    Args:
        texts: at least one.
        joined: the texts together.

    """
    if isinstance(texts, EvenTexts):
        return texts
    size = len(texts[0])
    is_worth_it = len(texts) >= MIN_COUNT and 0 < size <= MAX_SIZE
    if not is_worth_it or len(joined) != size * len(texts) or not joined.isascii():
        return texts
    lengths = list(map(len, texts))
    return EvenTexts(joined, size) if lengths.count(size) == len(lengths) else texts


def join(texts: Sequence[str]) -> str:
    """Return the texts together."""
    return texts.joined if isinstance(texts, EvenTexts) else "".join(texts)


class EvenTexts(Sequence[str]):
    """ASCII texts of `size` characters each, which `joined` is made of. Any thread may read it.

    Deltas that an agent has at once are kept so until they are sent.

    Examples:
        >>> texts = EvenTexts("abcdef", 2)
        >>> list(texts), texts[-1], list(texts[1:])
        (['ab', 'cd', 'ef'], 'ef', ['cd', 'ef'])
        >>> bytes(texts.write("<", "|", 97, ">"))
        b'<ab|97><cd|98><ef|99>'

    """

    __slots__ = ("_size", "joined")

    def __init__(self, joined: str, size: int) -> None:
        self.joined = joined
        """All of them together."""
        self._size = size

    def __len__(self) -> int:
        return len(self.joined) // self._size

    def __iter__(self) -> Iterator[str]:
        return map(self._at, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        places = range(len(self))[index]
        if isinstance(places, int):
            return self._at(places)
        if places.step != 1:
            return list(map(self._at, places))
        size = self._size
        return EvenTexts(self.joined[places.start * size : places.stop * size], size)

    def _at(self, place: int) -> str:
        return self.joined[place * self._size : (place + 1) * self._size]

    def write(self, head: str, tail: str, first: int, closing: str) -> bytearray:
        """Return every text, with what is before and behind it: copies of the first, with other columns.

        Args:
            head: what comes before a text. A character of Latin-1 is a byte, here as below.
            tail: what comes behind it.
            first: the number behind the first tail. The others follow, and have as many digits as it.
            closing: what comes behind a number.

        """
        size, count = self._size, len(self)
        row = f"{head}{self.joined[:size]}{tail}{first}{closing}".encode("latin-1")
        length = len(row)
        written = bytearray(row) * count
        joined = self.joined.encode()
        for column in range(size):
            written[len(head) + column :: length] = joined[column::size]
        _count_up(written, length, length - len(closing), first, count)
        return written


def _count_up(written: bytearray, length: int, end: int, first: int, count: int) -> None:
    """Put numbers into rows that all have the first one: by columns, and only where they differ.

    Args:
        written: the rows.
        length: of a row.
        end: where in a row its number ends.
        first: the number of the first row. The others follow, and have as many digits.
        count: how many rows there are.

    """
    thousands, start = divmod(first, 1000)
    turns = (start + count - 1) // 1000
    for place, digits in enumerate(_DIGITS[: len(str(first))], 1):
        written[end - place :: length] = (digits * (turns + 1))[start : start + count]
    leading = str(thousands).encode()
    for turn in range(1, turns + 1):
        before, leading = leading, str(thousands + turn).encode()
        row = turn * 1000 - start
        for place, (old, new) in enumerate(zip(before, leading, strict=True), end - 3 - len(leading)):
            if new != old:
                written[row * length + place :: length] = bytes([new]) * (count - row)
