"""Ids: UUIDv7, which sort by the time they were made."""

from __future__ import annotations

import os
import re
import time
import uuid

__all__ = ["is_uuid", "parse_uuid", "uuid7"]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)


_AT_ONCE = 256
"""Random numbers that are got at once: to ask for some lets go of the interpreter, and others take it."""

_random_numbers: list[int] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random_numbers.clear)  # else it would take the same ones


def uuid7(after: str | None = None) -> str:
    """Return a new UUIDv7 (RFC 9562, 5.7) as lower-case text. Any thread may call this.

    48 bits of Unix milliseconds, then 12 bits of the fraction of the millisecond (method 3 of 6.2),
    then 62 random bits: ids that one process makes in turn sort in that order.

    Args:
        after: a UUIDv7 behind which the new one is to sort, even if the clock has been set back since.

    """
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    value = (
        (milliseconds & 0xFFFF_FFFF_FFFF) << 80
        | 0x7 << 76
        | (rest * 4096 // 1_000_000) << 64
        | 0b10 << 62
        | _random_64() >> 2
    )
    if after is not None and value <= (earlier := uuid.UUID(after).int):
        value += ((earlier >> 80) + 1 << 80) - (value >> 80 << 80)  # a millisecond later than that one
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _random_64() -> int:
    while True:
        try:
            return _random_numbers.pop()  # atomic: no two threads get the same
        except IndexError:
            _random_numbers.extend(memoryview(os.urandom(8 * _AT_ONCE)).cast("Q"))


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in the lower-case form that every id of ours has."""
    return _UUID.fullmatch(text) is not None


def parse_uuid(text: str) -> str:
    """Return the UUID that `text` is in another of its forms (upper case, braces, no hyphens).

    Raises:
        ValueError: it is none; the text of the error says so without repeating a stranger's text.

    """
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ValueError(f"not a UUID ({len(text)} characters)") from None
