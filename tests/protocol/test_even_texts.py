"""Texts of one length are kept together, and are the same sequence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.protocol.even_texts import MAX_SIZE, MIN_COUNT, EvenTexts, pack


def packed(texts: Sequence[str]) -> Sequence[str]:
    return pack(texts, "".join(texts))


def many(size: int) -> st.SearchStrategy[list[str]]:
    texts = st.lists(st.text("ab", min_size=size, max_size=size), min_size=1, max_size=8)
    return st.tuples(texts, st.integers(0, 20)).map(lambda drawn: drawn[0] * (MIN_COUNT + drawn[1]))


@given(st.integers(1, MAX_SIZE).flatmap(many))
def test_they_are_the_texts_they_were(texts: list[str]) -> None:
    even = packed(texts)

    assert isinstance(even, EvenTexts)
    assert list(even) == texts
    assert len(even) == len(texts)
    assert [even[place] for place in range(-len(texts), len(texts))] == texts + texts


@given(many(3), st.slices(2 * MIN_COUNT))
def test_a_part_of_them_is_what_it_was_of_a_list(texts: list[str], part: slice) -> None:
    assert list(packed(texts)[part]) == texts[part]


def test_there_is_nothing_behind_the_last() -> None:
    with pytest.raises(IndexError):
        packed(["ab", "cd"] * MIN_COUNT)[2 * MIN_COUNT]


@pytest.mark.parametrize(
    "texts",
    [["", ""], ["a", "bc"], ["ab", "c", "def"], ["é", "x"], ["a" * (MAX_SIZE + 1)]],
    ids=["empty", "of two lengths", "of two lengths, the first is the mean", "not ASCII", "long"],
)
def test_others_are_left_as_they_are(texts: list[str]) -> None:
    many_texts = texts * MIN_COUNT
    assert packed(many_texts) is many_texts


def test_a_few_are_left_as_they_are() -> None:
    texts = ["ab"] * (MIN_COUNT - 1)
    assert packed(texts) is texts
