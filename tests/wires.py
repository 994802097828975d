"""What tests reach a server by: see `trunkline.testing.wires`."""

from __future__ import annotations

import pytest

from trunkline.testing.wires import (
    PATIENCE_S,
    CannotSend,
    InProcessWire,
    StdioWire,
    WebSocketWire,
    Wire,
    WireClosed,
)

__all__ = [
    "PATIENCE_S",
    "InProcessWire",
    "SkippingWire",
    "StdioWire",
    "WebSocketWire",
    "Wire",
    "WireClosed",
]


class SkippingWire(InProcessWire):
    """A client in this process, for tests that run over every transport: what it cannot do is skipped."""

    def send(self, text: str) -> None:
        try:
            super().send(text)
        except CannotSend as error:
            pytest.skip(f"a client in this process cannot send it: {error}")
