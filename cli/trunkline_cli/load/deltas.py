"""The deltas of one agent message, told by their bytes.

The deltas that follow each other differ in their text, their number and perhaps their millisecond.
What a full look at one of them has found out about the rest, its thread above all, holds for every
other that begins with the same bytes; what is left to check is the number. Those of one size and one
millisecond are checked together: what they have to be is written down, around the texts they came with,
and compared. Anything that is not exactly as expected is left for a full look.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from itertools import chain
from struct import Struct
from typing import Any, NamedTuple, Self

import orjson

from trunkline_cli.load.read import Buffer, Read
from trunkline_cli.load.subscription import Subscription

__all__ = ["Deltas"]

_TEXT_FRAME = 0x81
_BEFORE_TEXT = b'"delta":"'
_AFTER_TEXT = b'"},"emittedAtMs":'
_BEFORE_NUMBER = b',"seq":'
_LAST_BYTE = ord("}")
_MS_DIGITS = 13
_AFTER = len(_AFTER_TEXT) + _MS_DIGITS

_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
"""What a text may be of that is not looked at in full: what JSON writes as it is, and in one way only."""
_LAST_DIGITS = [bytes(ord("0") + number // power % 10 for number in range(1000)) for power in (100, 10, 1)]
"""Of the numbers up to 999 the hundreds, the tens and the units."""
_FIRST_ALIKE = 100
"""The first number that is checked together with others: all that differ in their last three digits only."""
_UNPACKED = 16
"""Frames whose texts are taken out at once."""
_FEWEST_ALIKE = 8
"""Frames that are worth being checked together."""
_ONE_BY_ONE = 8
"""Frames that are checked one by one before it is tried again to check many together."""


class Deltas:
    """Takes in deltas of one message of one thread.

    Args:
        subscription: the thread's, on this connection.
        item_id: the message.
        prefix: the bytes with which each begins, up to the delta's text.
        numbered: they end in the thread's number.

    """

    __slots__ = ("_item_id", "_numbered", "_prefix", "_subscription")

    def __init__(self, subscription: Subscription, item_id: str, prefix: bytes, *, numbered: bool) -> None:
        self._subscription = subscription
        self._item_id = item_id
        self._prefix = prefix
        self._numbered = numbered

    @classmethod
    def recognize(cls, subscription: Subscription, message: dict[str, Any], text: Buffer) -> Self | None:
        """Return what takes in the deltas after a checked one; None if they are not written that way.

        Args:
            subscription: the thread's, on this connection.
            message: the checked delta.
            text: the same, as it was received.

        """
        prefix = bytes(text[: text.find(_BEFORE_TEXT) + len(_BEFORE_TEXT)])
        params = message["params"]
        try:
            rest = orjson.loads(prefix + b'"}}')
        except orjson.JSONDecodeError:
            return None
        if rest != {"method": message["method"], "params": {**params, "delta": ""}}:
            return None
        item_id = params.get("itemId")
        return None if item_id is None else cls(subscription, item_id, prefix, numbered="seq" in message)

    def take(self, read: Read, position: int) -> int:
        """Take the deltas that begin at `position`, up to the first frame that is anything else.

        Returns:
            The position behind the last one taken.

        """
        if not self._subscription.active:
            return position
        position, count = (self._take_numbered if self._numbered else self._take_plain)(read, position)
        read.interval.deliveries += count
        return position

    def _take_numbered(self, read: Read, position: int) -> tuple[int, int]:
        subscription = self._subscription
        first = subscription.seq
        if first is None:
            return position, 0
        while True:
            before = position
            position = self._take_alike(read, position)
            if position == before:
                position = self._take_each(read, position)
                if position == before:
                    break
        assert subscription.seq is not None
        return position, subscription.seq - first

    def _take_alike(self, read: Read, position: int) -> int:
        """Take the deltas from `position` on that differ from the first in text and number only."""
        subscription, data = self._subscription, read.data
        seq = subscription.seq
        assert seq is not None
        form = self._form(read, position, seq + 1)
        if form is None:
            return position
        expected = form.expected(data, position)
        if expected is None or not data.startswith(expected, position):
            return position  # one by one it will be found where and why
        stop = position + form.frames * form.size
        read.record(form.emitted_ms, form.frames)
        log = subscription.log
        if log.readers > 1 and seq + form.frames >= log.next:
            known = max(log.next - seq - 1, 0)
            begin = position + known * form.size
            log.add_alike(seq + 1 + known, data[begin:stop], form.size, form.emitted_ms)
        subscription.seq = seq + form.frames
        return stop

    def _form(self, read: Read, position: int, number: int) -> _Form | None:
        """Return what the deltas from `position` on look like, if there are enough that seem alike."""
        data, left = read.data, read.end - position
        if number < _FIRST_ALIKE or left < 4 or data[position + 1] > 126:
            return None
        length, start = data[position + 1], position + 2
        if length == 126:
            length, start = data[position + 2] << 8 | data[position + 3], position + 4
        size = start - position + length
        count = min(left // size, 1000 - number % 1000)
        if count < _FEWEST_ALIKE or data[position] != _TEXT_FRAME or not data.startswith(self._prefix, start):
            return None
        lead = bytes(data[position : start + len(self._prefix)])
        ms_end = size - 1 - len(str(number)) - len(_BEFORE_NUMBER)
        ms = bytes(data[position + ms_end - _MS_DIGITS : position + ms_end])
        if not ms.isdigit():
            return None

        def fits(index: int) -> bool:
            at = position + index * size
            return data[at + ms_end - _MS_DIGITS : at + ms_end] == ms and data.startswith(lead, at)

        # Found by bisection, as a run ends where the millisecond does. That all before it fit is seen later.
        last, end = _FEWEST_ALIKE - 1, count
        if not fits(last):
            return None
        while end - last > 1:
            middle = (last + end) // 2
            if fits(middle):
                last = middle
            else:
                end = middle
        text_end = ms_end - _AFTER
        return _Form(number, last + 1, size, lead, text_end, ms) if text_end >= len(lead) else None

    def _take_each(self, read: Read, position: int) -> int:
        """Take a few deltas from `position` on, one by one."""
        subscription, data, end = self._subscription, read.data, read.end
        seq = subscription.seq
        assert seq is not None
        most, prefix = seq + _ONE_BY_ONE, self._prefix
        head = len(prefix)
        log = subscription.log if subscription.log.readers > 1 else None
        shared_ms: Buffer = b""
        run = emitted_ms = 0
        while end - position > 4 and seq < most:
            start = position + 2
            length = data[position + 1]
            if length == 126:
                start = position + 4
                length = data[position + 2] << 8 | data[position + 3]
            elif length > 126:
                break
            stop = start + length
            if stop > end or data[position] != _TEXT_FRAME or not data.startswith(prefix, start):
                break
            # From the end: `"},"emittedAtMs":1795336385341,"seq":123}`.
            number = b"%d}" % (seq + 1)
            tail = stop - len(number)
            if data[tail:stop] != number or not data.startswith(_BEFORE_NUMBER, tail - 7):
                break
            tail -= 7
            if not data.startswith(_AFTER_TEXT, tail - _AFTER):
                break
            if data[start + head : tail - _AFTER].translate(None, _PLAIN):
                break
            ms = data[tail - _MS_DIGITS : tail]
            if not ms.isdigit():
                break
            if ms != shared_ms:
                if run:
                    read.record(emitted_ms, run)
                shared_ms, run, emitted_ms = ms, 0, int(ms)
            run += 1
            seq += 1
            if log is not None and seq >= log.next:
                log.add(seq, data[position:stop], emitted_ms, stop=False)
            position = stop
        if run:
            read.record(emitted_ms, run)
        subscription.seq = seq
        return position

    def _take_plain(self, read: Read, position: int) -> tuple[int, int]:
        """Take deltas without a number. Their order is checked by the text they add up to."""
        data, end = read.data, read.end
        checksums, item_id = self._subscription.checksums, self._item_id
        checksum = checksums.get(item_id)
        prefix, head = self._prefix, len(self._prefix)
        shared_ms: Buffer = b""
        count = run = emitted_ms = 0
        while end - position > 4:
            start = position + 2
            length = data[position + 1]
            if length == 126:
                start = position + 4
                length = data[position + 2] << 8 | data[position + 3]
            elif length > 126:
                break
            stop = start + length
            if stop > end or data[position] != _TEXT_FRAME or not data.startswith(prefix, start):
                break
            tail = stop - 1
            text = data[start + head : tail - _AFTER]
            if not data.startswith(_AFTER_TEXT, tail - _AFTER) or text.translate(None, _PLAIN):
                break
            if data[tail] != _LAST_BYTE:
                break
            ms = data[tail - _MS_DIGITS : tail]
            if not ms.isdigit():
                break
            if ms != shared_ms:
                if run:
                    read.record(emitted_ms, run)
                shared_ms, run, emitted_ms = ms, 0, int(ms)
            run += 1
            if checksum is not None:
                checksum = zlib.crc32(text, checksum)
            count += 1
            position = stop
        if run:
            read.record(emitted_ms, run)
        if checksum is not None:
            checksums[item_id] = checksum
        return position, count


class _Form(NamedTuple):
    """Deltas that are alike but for text and number."""

    number: int
    """Of the first."""
    frames: int
    size: int
    """Bytes of each frame."""
    lead: bytes
    """What each begins with, up to the text."""
    text_end: int
    """Where the text ends, counted from the frame's first byte."""
    ms: bytes
    """The digits of its `emittedAtMs`."""

    @property
    def emitted_ms(self) -> int:
        """When they were emitted."""
        return int(self.ms)

    def expected(self, data: Buffer, position: int) -> memoryview | None:
        """Return the bytes that must be at `position`, with the texts that are there; None if not plain."""
        texts = self._texts(data, position)
        if b"".join(texts).translate(None, _PLAIN):
            return None
        thousands, last = divmod(self.number, 1000)
        before_digits = _AFTER_TEXT + self.ms + _BEFORE_NUMBER + (b"%d" % thousands if thousands else b"")
        between = bytearray(b"%b000}%b" % (before_digits, self.lead))
        # What is between two texts is before the first and behind the last as well, and not looked at there.
        written = between.join([b"", *texts, b""])
        begin = len(between) - len(self.lead)
        digits_at = begin + self.text_end + len(before_digits)
        for place, digits in enumerate(_LAST_DIGITS):
            written[digits_at + place :: self.size] = digits[last : last + self.frames]
        return memoryview(written)[begin : begin + self.frames * self.size]

    def _texts(self, data: Buffer, position: int) -> list[bytes]:
        """Return the texts of the frames at `position`."""
        one, many = _text_places(len(self.lead), self.text_end, self.size)
        stop = position + self.frames * self.size
        middle = stop - self.frames % _UNPACKED * self.size
        view = memoryview(data)
        return [
            *chain.from_iterable(many.iter_unpack(view[position:middle])),
            *chain.from_iterable(one.iter_unpack(view[middle:stop])),
        ]


@lru_cache(maxsize=256)
def _text_places(begin: int, end: int, size: int) -> tuple[Struct, Struct]:
    """Return what takes the text, from `begin` to `end`, out of one frame of a size, and out of many."""
    place = f"{begin}x{end - begin}s{size - end}x"
    return Struct(place), Struct(place * _UNPACKED)
