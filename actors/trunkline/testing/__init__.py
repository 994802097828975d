"""For those who test a program that embeds trunkline, or an agent, or a client.

    from trunkline.testing import ManualClock, ScriptedAgent, running_server

    def test_an_idle_thread_is_unloaded() -> None:
        clock = ManualClock()
        with running_server(clock=clock, unload_after_s=60.0) as server:
            client = server.connect("alice")
            thread_id = client.start_thread()
            client.request("thread/unsubscribe", threadId=thread_id)
            server.settle()
            clock.advance(60.0)
            client.wait("thread/closed", threadId=thread_id)

Needs no test framework: what fails raises `AssertionError`. Fixtures for pytest are in
`trunkline.testing.fixtures`. This project's own tests are written with it.
"""

from trunkline.testing.agents import Script, ScriptedAgent, ScriptedTurn
from trunkline.testing.client import UNKNOWN_ID, Client, Message, methods, shorten, text_input, thread_of
from trunkline.testing.clock import ManualClock
from trunkline.testing.serving import Clients, RunningServer, Transport, running_server
from trunkline.testing.settling import fence, settle
from trunkline.testing.wires import PATIENCE_S, InProcessWire, StdioWire, WebSocketWire, Wire, WireClosed

__all__ = [
    "PATIENCE_S",
    "UNKNOWN_ID",
    "Client",
    "Clients",
    "InProcessWire",
    "ManualClock",
    "Message",
    "RunningServer",
    "Script",
    "ScriptedAgent",
    "ScriptedTurn",
    "StdioWire",
    "Transport",
    "WebSocketWire",
    "Wire",
    "WireClosed",
    "fence",
    "methods",
    "running_server",
    "settle",
    "shorten",
    "text_input",
    "thread_of",
]
