"""The README keeps what it shows."""

from __future__ import annotations

import queue
import re
import threading
from pathlib import Path
from typing import Any

from helpers import Client
from wires import PATIENCE_S, WebSocketWire

README = Path(__file__).parents[2] / "README.md"


def _python_example() -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    return str(code)


def test_the_example_of_embedding_runs_as_it_is_written() -> None:
    printed: queue.SimpleQueue[str] = queue.SimpleQueue()
    names: dict[str, Any] = {"print": printed.put}
    host = threading.Thread(target=exec, args=(_python_example(), names), daemon=True)
    host.start()
    client = Client(WebSocketWire(printed.get(timeout=PATIENCE_S)), "reader")
    try:
        client.initialize()
        turn = client.run_turn(client.start_thread(), "text it runs")
    finally:
        client.wire.cut()
        names["server"].stop(grace_s=0)
    host.join(PATIENCE_S)

    assert [item["text"] for item in turn["items"]] == ["it runs"]
    assert not host.is_alive(), "wait_closed() does not return"
