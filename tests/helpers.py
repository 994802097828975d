"""The client that tests speak through: see `trunkline.testing.client`."""

from __future__ import annotations

from trunkline.testing.client import UNKNOWN_ID, Client, Message, methods, shorten, text_input, thread_of
from trunkline.testing.wires import PATIENCE_S

__all__ = ["PATIENCE_S", "UNKNOWN_ID", "Client", "Message", "methods", "shorten", "text_input", "thread_of"]
