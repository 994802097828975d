"""What several processes have checked, as one account."""

from __future__ import annotations

from collections import Counter

import execnet

from traffic.tally import Kind, Tally

CLOSED = Kind("thread/closed", has_model=True)
SAID = Kind("acme/said", has_model=False)
ONE = Tally(Counter({CLOSED: 2, SAID: 1}), validated=1, senders=3, unreadable=4, meant=4)
OTHER = Tally(Counter({CLOSED: 1_000}), validated=2, senders=1, unreadable=1, meant=0)


def test_what_workers_have_checked_adds_up() -> None:
    assert str(sum([ONE, OTHER], Tally())) == (
        "codex models: 1,007 messages of 1 kinds from 4 processes, "
        "1 unreadable but 4 that are meant not to be: 3 stand for all; 1 more have no model"
    )


def test_it_is_the_same_where_it_is_handed_over() -> None:
    assert Tally.from_plain(execnet.loads(execnet.dumps(ONE.plain()))) == ONE
