"""How a run is going: a line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
from typing import TextIO

from trunkline_cli.load.coordinator import Coordinator
from trunkline_cli.load.table import count

__all__ = ["Progress"]

_BAR = 24
_PLAIN_EVERY_S = 2.0


class Progress:
    """Writes the progress of one run.

    Args:
        stream: where to; a terminal gets one line that changes.

    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._next_plain_s = 0.0

    def show(self, coordinator: Coordinator, elapsed_s: float) -> None:
        """Write how it is going, if it is time to."""
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write("\r\x1b[K" + self._line(coordinator, bar=True)[:width])
        elif elapsed_s >= self._next_plain_s:
            self._next_plain_s = elapsed_s + _PLAIN_EVERY_S
            self._stream.write(f"{elapsed_s:5.1f} s  {self._line(coordinator, bar=False)}\n")
        self._stream.flush()

    def end(self) -> None:
        """Take the changing line away."""
        if self._is_terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _line(self, coordinator: Coordinator, *, bar: bool) -> str:
        parts = [f"{_PHASES[coordinator.phase]:<10}"]
        if bar and coordinator.phase == "measured":
            filled = round(_BAR * coordinator.share_done)
            parts.append("█" * filled + "░" * (_BAR - filled))
        parts.append(f"{count(coordinator.open_connections)}/{count(coordinator.connections)} connections")
        if coordinator.points:
            point = coordinator.points[-1]
            parts.append(f"{count(point.requests_per_s)} requests/s")
            parts.append(f"{count(point.deliveries_per_s)} deliveries/s")
        errors = sum(interval.errors.total() for interval in coordinator.phases.values())
        breaches = sum(
            breach.count for interval in coordinator.phases.values() for breach in interval.breaches.values()
        )
        if errors:
            parts.append(f"{count(errors)} errors")
        if breaches:
            parts.append(f"{count(breaches)} broken promises")
        return "  ".join(parts)


_PHASES = {"setup": "connecting", "measured": "measuring", "closing": "closing"}
