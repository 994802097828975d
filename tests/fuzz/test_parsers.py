"""The short form of the fuzz runs of the parsers; the long one is `python tests/fuzz/run.py`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.drawn import damaged
from fuzz.parsers import SEEDS, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_takes_anything(name: str) -> None:
    seeds = SEEDS[name]
    for seed in seeds:
        TARGETS[name](seed)

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(st.sampled_from(seeds).flatmap(damaged), st.binary(max_size=200)))
    def feed(data: bytes) -> None:
        TARGETS[name](data)

    feed()
