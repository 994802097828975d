"""A chat room: a thread without any agent, into which those who are there publish.

Run it: `python docs/examples/chat_room.py`. With `--listen ws://127.0.0.1:4500` it goes on until it is
interrupted, for clients on a WebSocket: they send `thread/resume` with the room's id to join, and `chat/say`.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass

from trunkline import AppServer, Call, Future, Notification


@dataclass
class SayParams:
    """What a client sends with `chat/say`."""

    room: str
    text: str


def make_server(*listen: str) -> AppServer:
    """Return a server whose threads are rooms."""
    server = AppServer(agent=None, listen=listen, unload_after_s=None)

    @server.method("chat/say")
    def say(call: Call, params: SayParams) -> Future[int]:
        # The event has a number, is kept for who comes back, and reaches those who are in the room. The
        # answer is sent when the room has taken it: who says too much waits, and no thread waits with it.
        said = {"who": call.client_name, "text": params.text}
        return server.thread(params.room).publish("chat/said", said)

    return server


def main() -> None:
    """Have three meet, and print what each of them hears."""
    with make_server() as server:
        members = {name: server.connect() for name in ("ann", "ben", "eve")}
        for name, member in members.items():
            member.initialize(name).get(timeout=10)
        room = members["ann"].request("thread/start").get(timeout=10)["thread"]["id"]
        members["ann"].request("chat/say", {"room": room, "text": "nobody here yet"}).get(timeout=10)
        for name in ("ben", "eve"):
            members[name].request("thread/resume", {"threadId": room}).get(timeout=10)
        for name in ("ann", "ben", "eve"):
            members[name].request("chat/say", {"room": room, "text": f"hello from {name}"}).get(timeout=10)
        for member in members.values():
            # The answer comes behind all that was said before: nobody leaves with something unheard.
            member.request("thread/loaded/list").get(timeout=10)
            member.close()
        for name, member in members.items():
            heard = [
                f"{delivery.params['who']}: {delivery.params['text']}"
                for delivery in member
                if isinstance(delivery, Notification) and delivery.method == "chat/said"
            ]
            print(f"{name} heard {heard}")


def serve(listen: str) -> None:
    """Open one room for clients on a WebSocket, until Ctrl-C."""
    with make_server(listen) as server, server.connect(lambda _: None) as host:
        host.initialize("host").get()
        room = host.request("thread/start").get()["thread"]["id"]
        print(f"room {room} at {server.listeners[0].url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.wait_closed()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--listen"]:
        serve(sys.argv[2])
    else:
        main()
