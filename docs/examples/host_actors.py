"""A host with Pykka actors of its own: one lets commands run by a rule, one keeps the minutes.

Run it: `python docs/examples/host_actors.py`
"""

from __future__ import annotations

from typing import Any

import pykka

from trunkline import AppServer, Closed, Delivery, Notification, Prompt

HARMLESS = {"date", "df", "ls", "uptime"}


class Gatekeeper(pykka.ThreadingActor):
    """Answers approvals. Is told what a connection delivers, as any message."""

    def __init__(self, minutes: pykka.ActorRef[Minutes]) -> None:
        super().__init__()
        self._minutes = minutes

    def on_receive(self, message: Delivery) -> None:
        match message:
            case Prompt(method="item/commandExecution/requestApproval", params={"command": command}):
                decision = "accept" if command.split()[0] in HARMLESS else "decline"
                message.answer({"decision": decision})
                self._minutes.tell(f"{command}: {decision}")
            case Notification(method="turn/completed", params={"turn": turn}):
                self._minutes.tell(f"turn {turn['status']}")
            case Notification():
                pass
            case Prompt():
                message.refuse()  # a question: nobody is here to ask
            case Closed(code=code):
                self._minutes.tell(f"closed with {int(code)}")


class Minutes(pykka.ThreadingActor):
    """Writes down what happened, and tells it to who asks for a line that is to come."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._awaited: dict[str, pykka.Future[list[str]]] = {}

    def on_receive(self, message: Any) -> None:
        self._lines.append(message)
        if message in self._awaited:
            self._awaited.pop(message).set(list(self._lines))

    def when_written(self, line: str) -> pykka.Future[list[str]]:
        """Return a future of all the lines up to `line`. An actor never waits: whoever asked does."""
        future: pykka.Future[list[str]] = pykka.ThreadingFuture()
        if line in self._lines:
            future.set(list(self._lines))
        else:
            self._awaited[line] = future
        return future


def main() -> None:
    """Have an agent ask for two commands, and print what came of it."""
    minutes = Minutes.start()
    gatekeeper = Gatekeeper.start(minutes)
    try:
        with AppServer(agent="script") as server:
            connection = server.connect(deliver_to=gatekeeper)
            connection.initialize("host").get(timeout=10)
            thread_id = connection.request("thread/start").get(timeout=10)["thread"]["id"]
            text = {"type": "text", "text": "ask df -h\nask rm -rf /"}
            connection.request("turn/start", {"threadId": thread_id, "input": [text]}).get(timeout=10)
            lines = minutes.proxy().when_written("turn completed").get(timeout=10).get(timeout=10)
        print("\n".join(lines))
    finally:
        gatekeeper.stop()
        minutes.stop()


if __name__ == "__main__":
    main()
