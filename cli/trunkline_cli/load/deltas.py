"""The deltas of one agent message, told by their bytes.

The deltas that follow each other differ in their text, their number and perhaps their millisecond.
What a full look at one of them has found out about the rest, its thread above all, holds for every
other that begins with the same bytes; what is left to check is the number. Anything that is not
exactly as expected is left for a full look.
"""

from __future__ import annotations

import zlib
from typing import Any, Self

import orjson

from trunkline_cli.load.stats import Interval
from trunkline_cli.load.subscription import Subscription

__all__ = ["Deltas"]

_TEXT_FRAME = 0x81
_BEFORE_TEXT = b'"delta":"'
_AFTER_TEXT = b'"},"emittedAtMs":'
_BEFORE_NUMBER = b',"seq":'
_MS_DIGITS = 13
_AFTER = len(_AFTER_TEXT) + _MS_DIGITS


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
    def recognize(cls, subscription: Subscription, message: dict[str, Any], text: bytes) -> Self | None:
        """Return what takes in the deltas after a checked one; None if they are not written that way.

        Args:
            subscription: the thread's, on this connection.
            message: the checked delta.
            text: the same, as it was received.

        """
        prefix = text[: text.find(_BEFORE_TEXT) + len(_BEFORE_TEXT)]
        params = message["params"]
        try:
            rest = orjson.loads(prefix + b'"}}')
        except orjson.JSONDecodeError:
            return None
        if rest != {"method": message["method"], "params": {**params, "delta": ""}}:
            return None
        return cls(subscription, params["itemId"], prefix, numbered="seq" in message)

    def take(self, data: bytes, position: int, interval: Interval, name: str, now_ms: float) -> int:
        """Take the deltas that begin at `position`, up to the first frame that is anything else.

        Returns:
            The position behind the last one taken.

        """
        if not self._subscription.active:
            return position
        begin = position
        if self._numbered:
            position, count = self._take_numbered(data, position, interval, name, now_ms)
        else:
            position, count = self._take_plain(data, position, interval, name, now_ms)
        if position > begin:
            interval.deliveries += count
        return position

    def _take_numbered(
        self, data: bytes, position: int, interval: Interval, name: str, now_ms: float
    ) -> tuple[int, int]:
        subscription = self._subscription
        seq = subscription.seq
        if seq is None:
            return position, 0
        first, prefix, end = seq, self._prefix, len(data)
        log = subscription.log if subscription.log.readers > 1 else None
        shared_ms, run, emitted_ms = b"", 0, 0
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
            # From the end: `"},"emittedAtMs":1795336385341,"seq":123}`.
            number = b"%d" % (seq + 1)
            tail = stop - 1 - len(number)
            if data[tail : stop - 1] != number or not data.startswith(_BEFORE_NUMBER, tail - 7):
                break
            tail -= 7
            if not data.startswith(_AFTER_TEXT, tail - _AFTER):
                break
            ms = data[tail - _MS_DIGITS : tail]
            if ms != shared_ms:
                if run:
                    interval.record(name, int((now_ms - emitted_ms) * 1000), run)
                shared_ms, run, emitted_ms = ms, 0, int(ms)
            run += 1
            seq += 1
            if log is not None and seq >= log.next:
                log.add(seq, data[position:stop], emitted_ms, stop=False)
            position = stop
        if run:
            interval.record(name, int((now_ms - emitted_ms) * 1000), run)
        subscription.seq = seq
        return position, seq - first

    def _take_plain(
        self, data: bytes, position: int, interval: Interval, name: str, now_ms: float
    ) -> tuple[int, int]:
        """Take deltas without a number. Their order is checked by the text they add up to."""
        checksums, item_id = self._subscription.checksums, self._item_id
        checksum = checksums.get(item_id)
        prefix, head, end, count = self._prefix, len(self._prefix), len(data), 0
        shared_ms, run, emitted_ms = b"", 0, 0
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
            # An escape is written in more than one way: the text is not what its bytes are.
            if not data.startswith(_AFTER_TEXT, tail - _AFTER) or b"\\" in text:
                break
            ms = data[tail - _MS_DIGITS : tail]
            if ms != shared_ms:
                if run:
                    interval.record(name, int((now_ms - emitted_ms) * 1000), run)
                shared_ms, run, emitted_ms = ms, 0, int(ms)
            run += 1
            if checksum is not None:
                checksum = zlib.crc32(text, checksum)
            count += 1
            position = stop
        if run:
            interval.record(name, int((now_ms - emitted_ms) * 1000), run)
        if checksum is not None:
            checksums[item_id] = checksum
        return position, count
