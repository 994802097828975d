"""What tests reach a server by: see `trunkline.testing.wires`."""

from __future__ import annotations

from trunkline.testing.wires import PATIENCE_S, InProcessWire, StdioWire, WebSocketWire, Wire, WireClosed

__all__ = ["PATIENCE_S", "InProcessWire", "StdioWire", "WebSocketWire", "Wire", "WireClosed"]
