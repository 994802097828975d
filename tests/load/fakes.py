"""A small app-server that keeps the rules, for tests that have it break one; and how to load it."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from itertools import count
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from trunkline_cli.load import messages
from trunkline_cli.load.client import Wait
from trunkline_cli.load.coordinator import Coordinator
from trunkline_cli.load.model import Scenario
from trunkline_cli.load.parse import parse_scenario
from trunkline_cli.load.result import Result
from trunkline_cli.load.run import Settings, WorkerHandle, run_load
from trunkline_cli.load.worker import Worker

__all__ = ["FakeServer", "JsonObject", "Peer", "run", "running", "scenario", "worker_thread"]

JsonObject = dict[str, Any]

# Clients that misbehave are no news here.
_QUIET = logging.getLogger("load.fakes")
_QUIET.setLevel(logging.CRITICAL)


class Peer:
    """One client of the fake."""

    def __init__(self, ws: ServerConnection) -> None:
        self.ws = ws

    def send(self, message: JsonObject) -> None:
        with suppress(ConnectionClosed):  # it has left, and its handler ends
            self.ws.send(json.dumps(message, separators=(",", ":")))

    def reply(self, request: JsonObject, result: JsonObject) -> None:
        self.send({"id": request["id"], "result": result})


class FakeServer:
    """Answers as an app-server does. What a test wants otherwise it overrides, or sets.

    Everything happens under one lock, so that what one client is sent is in the order of events.
    """

    numbered = True
    """Events carry `seq`, and the answers to start and resume say where it stands."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.subscribers: dict[str, list[Peer]] = {}
        self.everybody: list[Peer] = []
        self.seqs: dict[str, int] = {}
        self.prompts: dict[int, tuple[str, str]] = {}
        self.requests: list[JsonObject] = []
        self.turns = count(1)
        self.prompt_ids = count()
        self.server: Server | None = None
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}"

    def handle(self, ws: ServerConnection) -> None:
        self._threads.append(threading.current_thread())
        peer = Peer(ws)
        try:
            for text in ws:
                message = self.read(text)
                with self.lock:
                    if "error" in message and "id" not in message:
                        peer.send({"id": None, "error": {"code": message["error"], "message": "bad"}})
                    elif "method" in message:
                        self.requests.append(message)
                        self.on_request(peer, message)
                    else:
                        self.on_answer(peer, message)
        except ConnectionClosed:
            pass
        with self.lock:
            self.leave(peer)

    def read(self, text: str | bytes) -> Any:
        """Return the message in a text; or `{"error": CODE}` to answer it with that."""
        return json.loads(text)

    def accept(self) -> bool:
        """Whether the next connection is let in."""
        return True

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        return None if self.accept() else connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "")

    def leave(self, peer: Peer) -> None:
        if peer in self.everybody:
            self.everybody.remove(peer)
        for subscribers in self.subscribers.values():
            if peer in subscribers:
                subscribers.remove(peer)

    def on_request(self, peer: Peer, request: JsonObject) -> None:
        method = request["method"].replace("/", "_")
        handler: Callable[[Peer, JsonObject], None] | None = getattr(self, f"on_{method}", None)
        if handler is not None:
            handler(peer, request)
        else:
            peer.send({"id": request["id"], "error": {"code": -32601, "message": f"no {request['method']}"}})

    def on_initialize(self, peer: Peer, request: JsonObject) -> None:
        self.everybody.append(peer)
        peer.reply(request, {"userAgent": "fake/1"})

    def on_initialized(self, peer: Peer, request: JsonObject) -> None:
        pass

    def on_thread_start(self, peer: Peer, request: JsonObject) -> None:
        thread_id = f"thread-{len(self.seqs) + 1}"
        self.seqs[thread_id] = 0
        self.subscribers[thread_id] = [peer]
        peer.reply(request, self.position(thread_id))

    def on_thread_resume(self, peer: Peer, request: JsonObject) -> None:
        thread_id = request["params"]["threadId"]
        if peer not in self.subscribers[thread_id]:
            self.subscribers[thread_id].append(peer)
        peer.reply(request, self.position(thread_id))

    def position(self, thread_id: str) -> JsonObject:
        where = {"seq": self.seqs[thread_id], "epoch": "e"} if self.numbered else {}
        return {"thread": {"id": thread_id}, **where}

    def on_thread_unsubscribe(self, peer: Peer, request: JsonObject) -> None:
        subscribers = self.subscribers[request["params"]["threadId"]]
        if peer in subscribers:
            subscribers.remove(peer)
        peer.reply(request, {"status": "unsubscribed"})

    def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
        peer.reply(request, {"data": sorted(self.seqs), "nextCursor": None})

    def on_turn_start(self, peer: Peer, request: JsonObject) -> None:
        """Run a turn to its end; the text is `say N`, `ask`, or anything."""
        thread_id, turn_id = request["params"]["threadId"], f"turn-{next(self.turns)}"
        word, _, rest = request["params"]["input"][0]["text"].partition(" ")
        peer.reply(request, {"turn": {"id": turn_id}})
        self.publish(thread_id, "turn/started", {"turn": {"id": turn_id}})
        if word == "ask":
            prompt = next(self.prompt_ids)
            self.prompts[prompt] = thread_id, turn_id
            self.publish(
                thread_id, "item/commandExecution/requestApproval", {"turnId": turn_id}, prompt=prompt
            )
            return
        self.say(thread_id, turn_id, int(rest.split()[0]) if word == "say" else 1)
        self.complete(thread_id, turn_id)

    def say(self, thread_id: str, turn_id: str, deltas: int) -> None:
        item = {"id": f"item-{turn_id}", "type": "agentMessage", "text": ""}
        self.publish(thread_id, "item/started", {"turnId": turn_id, "item": item})
        for number in range(deltas):
            params = {"turnId": turn_id, "itemId": item["id"], "delta": f"{number:04d}"}
            self.publish(thread_id, "item/agentMessage/delta", params)
        text = "".join(f"{number:04d}" for number in range(deltas))
        self.publish(thread_id, "item/completed", {"turnId": turn_id, "item": {**item, "text": text}})

    def complete(self, thread_id: str, turn_id: str) -> None:
        self.publish(thread_id, "turn/completed", {"turn": {"id": turn_id, "status": "completed"}})

    def on_answer(self, peer: Peer, answer: JsonObject) -> None:
        thread_id, turn_id = self.prompts.pop(answer["id"], ("", ""))
        if thread_id:
            self.publish(thread_id, "serverRequest/resolved", {"requestId": answer["id"]})
            self.complete(thread_id, turn_id)

    def publish(self, thread_id: str, method: str, params: JsonObject, *, prompt: int | None = None) -> None:
        message: JsonObject = {} if prompt is None else {"id": prompt}
        message |= {"method": method, "params": {"threadId": thread_id, **params}}
        if prompt is None:
            message["emittedAtMs"] = time.time_ns() // 1_000_000
        if self.numbered:
            self.seqs[thread_id] += 1
            message["seq"] = self.seqs[thread_id]
        for peer in list(self.subscribers[thread_id]):
            self.deliver(peer, message)

    def deliver(self, peer: Peer, message: JsonObject) -> None:
        peer.send(message)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@contextmanager
def running(fake: FakeServer) -> Iterator[FakeServer]:
    """Have the fake listen on a free port."""
    with serve(
        fake.handle,
        "127.0.0.1",
        0,
        compression=None,
        close_timeout=1,
        process_request=fake.process_request,
        logger=_QUIET,
    ) as server:
        fake.server = server
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
            fake.join()


def scenario(text: str, **members: str) -> Scenario:
    """Read a scenario, with times that are said or that no passing run needs."""
    times = {"duration": "30s", "timeout": "5s", "drain": "1s", **members}
    head = "".join(f'{name} = "{value}"\n' for name, value in times.items())
    return parse_scenario(f'name = "test"\n{head}{text}', "test")


class Crew:
    """Workers as threads. Who stays stays until all others are done, however long that takes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._workers: list[Worker] = []
        self._are_done = False

    def thread(self, job: messages.Job, control: Any) -> WorkerHandle:
        """Make one of them."""

        def work() -> None:
            with control:
                worker = Worker(job, control)
                self._workers.append(worker)
                worker.run()

        return threading.Thread(target=work, name=f"load-{job.index}")

    def end_when_done(self, coordinator: Coordinator, _elapsed_s: float) -> None:
        """End the run if nobody takes a step, and nobody did at the last look: events may be on their way."""
        were_done, self._are_done = self._are_done, self._nobody_takes_a_step()
        if were_done and self._are_done:
            coordinator.end(time.monotonic())

    def _nobody_takes_a_step(self) -> bool:
        workers = self._workers[:]
        clients = [client for worker in workers for client in worker._clients]
        return len(workers) == self._size and all(
            client.finished or client.wait is Wait.STAY for client in clients
        )


def worker_thread(job: messages.Job, control: Any) -> WorkerHandle:
    """Run a worker as a thread: it starts in no time, and shares what a test has patched."""
    return Crew(1).thread(job, control)


def run(fake: FakeServer, text: str, workers: int = 1, **members: str) -> Result:
    """Run a scenario against the fake, with workers that are threads: their start takes no time."""
    crew = Crew(workers)
    with running(fake):
        settings = Settings(fake.url, workers=workers, on_progress=crew.end_when_done)
        return run_load(scenario(text, **members), settings, crew.thread)
