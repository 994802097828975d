"""JSON values that have no bytes: what a host in this process gives us, and what it is given.

The wire's values are what `orjson` reads. A host's may be anything that looks like them; `plain` makes
them such values, and a copy, so that neither side can change what the other one holds.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from trunkline.types import Json, JsonObject

__all__ = [
    "Encoded",
    "check_value",
    "fragment",
    "given",
    "is_too_deep",
    "measure",
    "plain",
    "plain_object",
]

MOST_LEVELS = 254
"""Levels that `orjson` writes, though it reads 1,024."""

OUTER_LEVELS = 16
"""Levels of our own, at most, around what a client or a host gave."""

_TOO_DEEP = "nested too deeply"
_MOST = 2**64
_LEAST = -(2**63)


class Encoded:
    """A value that may be needed as bytes and as what it is: each is made at the first need.

    Args:
        value: what it is, never to be changed; or None.
        data: its bytes; or None. One of the two is given.

    """

    __slots__ = ("_data", "_value")

    def __init__(self, value: Json = None, data: bytes | None = None) -> None:
        self._value = value
        self._data = data

    @property
    def data(self) -> bytes:
        """Its bytes."""
        data = self._data
        if data is None:
            # A copy: what orjson returns occupies the 4 KB it was written into, however short.
            data = self._data = b"%b" % orjson.dumps(self._value)
        return data

    @property
    def value(self) -> Json:
        """What it is: not to be changed. Decoded each time, if it is only there as bytes."""
        return orjson.loads(self.data) if self._value is None else self._value

    @property
    def size(self) -> int:
        """Bytes: exactly, or about if it is not encoded."""
        return measure(self._value) if self._data is None else len(self._data)

    def lean(self) -> Encoded:
        """Return it in one form, for keeping: as bytes, if it was needed so."""
        return self if self._data is None or self._value is None else Encoded(data=self._data)


def fragment(value: Any) -> orjson.Fragment:
    """Write an `Encoded` inside another value: for `orjson.dumps`, as its `default`."""
    if type(value) is not Encoded:
        raise TypeError(f"no JSON for a {type(value).__name__}")
    return orjson.Fragment(value.data)


def measure(value: Json) -> int:
    """Return about how many bytes `value` takes as JSON.

    Raises:
        TypeError: it cannot be written as JSON.

    """
    return _measure(value, MOST_LEVELS - 1)


def _measure(value: Json, levels: int) -> int:
    kind = type(value)
    if kind is str:
        return 2 + (len(value) if value.isascii() else len(_utf8(value)))
    if kind is dict:
        if not levels:
            raise TypeError(_TOO_DEEP)
        size = 2
        for key, each in value.items():
            if type(key) is not str:
                raise TypeError(f"the keys of an object must be strings, not {type(key).__name__}")
            size += (len(key) if key.isascii() else len(_utf8(key))) + 4 + _measure(each, levels - 1)
        return size
    if kind is list or kind is tuple:
        if not levels:
            raise TypeError(_TOO_DEEP)
        return 2 + sum([1 + _measure(each, levels - 1) for each in value])
    if value is None or kind is bool:
        return 5
    if kind is int:
        if not _LEAST <= value < _MOST:
            raise TypeError("an integer of more than 64 bits")
        return 8
    if kind is float:
        return 16
    if kind is Encoded:
        encoded: Encoded = value
        return encoded.size
    return len(orjson.dumps(value))  # dates, enums and the like, which it knows how to write


def check_value(value: Json) -> None:
    """See that `value` can be written as JSON, inside what others are sent.

    Raises:
        TypeError: it cannot. The text says why.

    """
    _measure(value, MOST_LEVELS - OUTER_LEVELS)


def plain(value: object) -> Json:
    """Return a copy of `value` made of dicts, lists, strings, numbers, bools and None. Any thread.

    Dataclasses, `msgspec.Struct`s, named tuples, enums, dates, UUIDs and sets become what `msgspec` makes
    of them.

    Raises:
        TypeError: it, or something in it, has no such form. The text says what.

    """
    try:
        copy = msgspec.to_builtins(value)
    except RecursionError:
        raise TypeError(_TOO_DEEP) from None
    check_value(copy)
    return copy


def plain_object(value: object) -> JsonObject:
    """Do the same with what must become a JSON object; None is an empty one.

    Raises:
        TypeError: it becomes something else, or nothing that JSON has.

    """
    if value is None:
        return {}
    copy = plain(value)
    if type(copy) is not dict:
        raise TypeError(f"params must be an object (a dict, struct or dataclass), not {type(value).__name__}")
    return copy


def is_too_deep(value: Json) -> bool:
    """Whether what a client gave can be read but not be written again, inside what others are sent."""
    level = [value] if type(value) is dict or type(value) is list else []
    for _ in range(MOST_LEVELS - OUTER_LEVELS):
        level = [
            each
            for container in level
            for each in (container.values() if type(container) is dict else container)
            if type(each) is dict or type(each) is list
        ]
        if not level:
            return False
    return True


def given(value: Json) -> Json:
    """Return a copy of what the server holds, for a host to keep and change."""
    return msgspec.to_builtins(value, enc_hook=_decode)


def _decode(value: Any) -> Json:
    """Return what an `Encoded` is; take apart what came to the server as JSON and was never looked into."""
    return value.value if type(value) is Encoded else orjson.loads(orjson.dumps(value))


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X} at {error.start}"
        raise TypeError(f"a string with a lone surrogate ({found}), which is no text") from None
