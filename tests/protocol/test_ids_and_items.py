"""Ids that sort by time, and what is known of each type of item."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from typing import Any
from unittest import mock

import pytest

from children import environment
from trunkline.protocol.ids import is_uuid, parse_uuid, uuid7
from trunkline.protocol.items import item_kind, user_message


def test_ids_made_in_turn_sort_in_that_order() -> None:
    made = [uuid7() for _ in range(3)]
    clock = time.time_ns()
    with mock.patch("time.time_ns", side_effect=range(clock, clock + 2000 * 250, 250)):
        made += [uuid7() for _ in range(2000)]  # each at least a 4096th of a millisecond later
    assert made[3:] == sorted(made[3:])
    assert len(set(made)) == len(made)


def test_an_id_is_a_uuid_of_version_7_that_tells_its_time() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(uuid7())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_of_one_moment_differ() -> None:
    with mock.patch("time.time_ns", return_value=1):
        assert len({uuid7() for _ in range(1000)}) == 1000


def test_a_forked_process_makes_other_ids() -> None:
    code = (
        "import os, time; from trunkline.protocol.ids import uuid7; uuid7(); time.time_ns = lambda: 1\n"
        "child = os.fork(); child and os.wait(); print(uuid7(), flush=True)"
    )
    made = subprocess.run(
        [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()

    assert len(set(made)) == 2


def test_an_id_of_ours_is_known_as_one() -> None:
    made = uuid7()
    assert is_uuid(made)
    for other in (made.upper(), made[:-1], made + "0", f"{{{made}}}", made.replace("-", ""), "", f"{made}\n"):
        assert not is_uuid(other)


def test_another_form_of_an_id_is_read_and_anything_else_is_not() -> None:
    made = uuid7()
    for form in (made, made.upper(), f"{{{made}}}", made.replace("-", ""), f"urn:uuid:{made}"):
        assert parse_uuid(form) == made
    for other in ("", "x", made[:-1], "g" * 32, "é" * 36):
        with pytest.raises(ValueError, match=rf"^not a UUID \({len(other)} characters\)$"):
            parse_uuid(other)


@pytest.mark.parametrize(
    ("item_type", "delta", "member"),
    [
        ("agentMessage", "item/agentMessage/delta", "text"),
        ("commandExecution", "item/commandExecution/outputDelta", "aggregatedOutput"),
        ("plan", "item/plan/delta", "text"),
        ("fileChange", None, None),
        ("userMessage", None, None),
        ("no such", None, None),
    ],
)
def test_deltas_of_an_item_go_by_its_type(item_type: str, delta: str | None, member: str | None) -> None:
    kind = item_kind(item_type)
    assert (kind.delta_method, kind.text_member) == (delta, member)


def test_items_that_are_cut_fail_if_they_have_a_status() -> None:
    types = ("agentMessage", "commandExecution", "fileChange", "dynamicToolCall", "mcpToolCall", "reasoning")
    assert [item_kind(each).has_status for each in types] == [False, True, True, True, True, False]


def test_a_user_message_always_has_text_elements_and_keeps_the_rest() -> None:
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "text_elements": [1]},
        {"type": "image", "url": "x"},
    ]
    item = user_message("i", content, "c")
    assert item == {
        "type": "userMessage",
        "id": "i",
        "content": [
            {"type": "text", "text": "a", "text_elements": []},
            {"type": "text", "text": "b", "text_elements": [1]},
            {"type": "image", "url": "x"},
        ],
        "clientId": "c",
    }
