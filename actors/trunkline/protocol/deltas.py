"""Deltas: what streams is nearly all that a server sends, so many of one item are written at a time.

They differ in their text and their number only. A `Deltas` keeps these and nothing else, and writes the
messages out when a transport asks for them: one string for all, of pieces that are put in place by slices,
which costs a fraction of writing each on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from trunkline.protocol.even_texts import EvenTexts, join
from trunkline.protocol.values import measure
from trunkline.types import Buffer, JsonObject

__all__ = ["DeltaHead", "Deltas"]

_NUMBERS = [str(number) for number in range(1000)]
_LAST_DIGITS = [f"{number:03}" for number in range(1000)]


class DeltaHead:
    """What the deltas of one item have in common: all that comes before the text.

    Args:
        method: the notification.
        ids: its params but for `delta`, at least one.

    """

    __slots__ = ("_data", "ids", "measured", "method")

    def __init__(self, method: str, ids: dict[str, str]) -> None:
        self.method = method
        self.ids = ids
        self.measured = measure(self.params(""))
        """About how many bytes the params of an empty delta take."""
        self._data = b""

    def params(self, text: str) -> JsonObject:
        """Return the params of the delta that adds `text`."""
        return {**self.ids, "delta": text}

    @property
    def data(self) -> bytes:
        """Its bytes, made at the first call."""
        if not self._data:
            self._data = orjson.dumps({"method": self.method, "params": self.ids})[:-2] + b',"delta":'
        return self._data


class Deltas:
    """Deltas of one item that were told at once. Any thread may read it; nothing that shows changes.

    Args:
        head: of the item's deltas.
        texts: what each adds, at least one. Those of one length are written quicker as `EvenTexts`.
        at_ms: when they were published, in Unix milliseconds.
        first_seq: the number of the first; those of the others follow.
        joined: the texts together, if that is known.
        is_for_wire: whether clients want them as bytes, as far as that is known. If not, no JSON is made.

    """

    __slots__ = (
        "_is_measured",
        "_is_plain",
        "_tail",
        "at_ms",
        "first_seq",
        "head",
        "last_seq",
        "size",
        "texts",
    )

    def __init__(
        self,
        head: DeltaHead,
        texts: Sequence[str],
        at_ms: int,
        first_seq: int,
        *,
        joined: str | None = None,
        is_for_wire: bool = True,
    ) -> None:
        self.head = head
        self.texts = texts
        self.at_ms = at_ms
        self.first_seq = first_seq
        self.last_seq = first_seq + len(texts) - 1
        self._tail = f'}},"emittedAtMs":{at_ms},"seq":'
        # Whether the texts are ASCII and nothing that JSON writes in another way: they are what is sent then.
        # None while nobody had to know.
        self._is_plain: bool | None = None
        self._is_measured = not is_for_wire
        self.size = sum(self.sizes()) if self._is_measured else self._write_size(joined)
        """Bytes of the messages without framing: exactly, or about if they were not meant for the wire."""

    @property
    def method(self) -> str:
        """The notification."""
        return self.head.method

    @property
    def _around(self) -> int:
        """Bytes of a message that are neither its text nor its number."""
        return len(self.head.data) + len('""') + len(self._tail) + len("}")

    def _write_size(self, joined: str | None = None) -> int:
        """Return the exact size, and learn whether the texts are plain."""
        joined = join(self.texts) if joined is None else joined
        written = len(orjson.dumps(joined)) - len('""')
        self._is_plain = written == len(joined)
        return len(self.texts) * self._around + written + self._digits()

    def _digits(self) -> int:
        """Return how many digits all numbers have together."""
        digits = len(str(self.first_seq))
        if self.last_seq < 10**digits:
            return digits * len(self.texts)
        return sum([len(str(seq)) for seq in range(self.first_seq, self.last_seq + 1)])

    def sizes(self) -> list[int]:
        """Return the bytes of each, as they count in `size`."""
        if self._is_measured:
            empty = self.head.measured
            return [empty + measure(text) - len('""') for text in self.texts]
        if not self._is_plain:
            return [len(payload) for payload in self.payloads()]
        around = self._around
        return [around + len(text) + len(str(seq)) for seq, text in enumerate(self.texts, self.first_seq)]

    def params(self) -> list[JsonObject]:
        """Return the params of each."""
        return list(map(self.head.params, self.texts))

    def payloads(self) -> list[bytes]:
        """Return each as the notification that it is."""
        dumps, head, tail = orjson.dumps, self.head.data, self._tail.encode()
        numbered = enumerate(self.texts, self.first_seq)
        return [b"%b%b%b%d}" % (head, dumps(text), tail, seq) for seq, text in numbered]

    def framed(self, header: Callable[[int], bytes], trailer: bytes) -> Buffer:
        """Return all of them, each in its frame.

        Args:
            header: returns what comes before a message of so many bytes.
            trailer: what comes behind each.

        """
        if self._is_plain is None:
            # Two threads may do this at the same moment with equal results: no harm, no lock.
            self._write_size()
        # A character of Latin-1 stands for each byte: joining strings is what is quick.
        heads = _FramedHeads(self.head.data.decode("latin-1") + '"', self._around, header)
        closing = "}" + trailer.decode("latin-1")
        texts, seq = self.texts if self._is_plain else self._written(), self.first_seq
        write, end_of_section = self._section, _same_leading_digits
        if isinstance(texts, EvenTexts):
            write, end_of_section = self._even_section, _same_length
        parts: list[Buffer] = []
        while texts:
            count = end_of_section(seq) - seq
            parts.append(write(heads, texts[:count], seq, closing))
            texts, seq = texts[count:], seq + count
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _written(self) -> list[str]:
        """Return the texts as JSON has them, a character for each byte."""
        dumps = orjson.dumps
        return [dumps(text)[1:-1].decode("latin-1") for text in self.texts]

    def _even_section(self, heads: _FramedHeads, texts: Sequence[str], seq: int, closing: str) -> Buffer:
        """Write some of one length whose numbers have as many digits."""
        assert isinstance(texts, EvenTexts)
        head = heads[len(texts[0]) + len(str(seq))]
        return texts.write(head, f'"{self._tail}', seq, closing)

    def _section(self, heads: _FramedHeads, texts: Sequence[str], seq: int, closing: str) -> Buffer:
        """Write some whose numbers have the same digits but for the last three."""
        thousands, first = divmod(seq, 1000)
        count, digits = len(texts), len(str(seq))
        pieces = ["", "", f'"{self._tail}{thousands or ""}', "", closing] * count
        pieces[0::5] = [heads[len(text) + digits] for text in texts]
        pieces[1::5] = texts
        pieces[3::5] = (_LAST_DIGITS if thousands else _NUMBERS)[first : first + count]
        return "".join(pieces).encode("latin-1")

    def after(self, seq: int) -> Deltas:
        """Return those behind `seq`, which is one of them but not the last."""
        texts = self.texts[seq - self.first_seq + 1 :]
        return Deltas(self.head, texts, self.at_ms, seq + 1, is_for_wire=not self._is_measured)


class _FramedHeads(dict[int, str]):
    """The frame's header and the head, by the length of the text and the number together."""

    def __init__(self, head: str, around: int, header: Callable[[int], bytes]) -> None:
        super().__init__()
        self._head = head
        self._around = around
        self._header = header

    def __missing__(self, length: int) -> str:
        value = self[length] = self._header(self._around + length).decode("latin-1") + self._head
        return value


def _same_length(seq: int) -> int:
    """Return the first number behind `seq` that has more digits."""
    longer: int = 10 ** len(str(seq))
    return longer


def _same_leading_digits(seq: int) -> int:
    """Return the first number behind `seq` that has other digits than it, not counting the last three."""
    return (seq // 1000 + 1) * 1000 if seq >= 1000 else _same_length(seq)
