"""A Flask program with the router inside: HTTP clients start threads, run turns, read events, answer prompts.

Run it: `flask --app docs/examples/flask_app.py run`, and

    curl -X POST localhost:5000/threads
    curl --json '{"text": "text hello"}' localhost:5000/threads/THREAD/turns
    curl 'localhost:5000/threads/THREAD/events?after=0'

Clients on a WebSocket, or of `trunkline attach`, can be on the same threads if the server gets a listener.
"""

from __future__ import annotations

import atexit
import threading
from typing import Any

from flask import Flask, Response, abort, jsonify, request

from trunkline import AppServer, Closed, Delivery, Prompt, RpcError

LONG_POLL_S = 25.0


class Journal:
    """What happened in the threads, for requests that wait for it. Any thread of Flask's may ask."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._prompts: dict[int, Prompt] = {}
        self._is_closed = False

    def note(self, delivery: Delivery) -> None:
        """Take what the connection delivers. On a thread of the server's: quick, and without waiting."""
        with self._changed:
            if isinstance(delivery, Closed):
                self._is_closed = True
            elif delivery.thread_id is not None and delivery.seq is not None:
                event = {"seq": delivery.seq, "method": delivery.method, "params": delivery.params}
                if isinstance(delivery, Prompt):
                    self._prompts[delivery.id] = delivery
                    event["prompt"] = delivery.id
                elif delivery.method == "serverRequest/resolved":
                    self._prompts.pop(delivery.params["requestId"], None)
                self._events.setdefault(delivery.thread_id, []).append(event)
            self._changed.notify_all()

    def after(self, thread_id: str, seq: int) -> list[dict[str, Any]]:
        """Return a thread's events behind `seq`; wait for one if there is none yet."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._behind(thread_id, seq), LONG_POLL_S)
            return self._behind(thread_id, seq)

    def prompt(self, prompt_id: int) -> Prompt | None:
        """Return a prompt that is open."""
        with self._changed:
            return self._prompts.get(prompt_id)

    def _behind(self, thread_id: str, seq: int) -> list[dict[str, Any]]:
        return [event for event in self._events.get(thread_id, []) if event["seq"] > seq]


def create_app(server: AppServer | None = None) -> Flask:
    """Return the program around a running server; None, as `flask run` has it, starts one that stays."""
    if server is None:
        server = AppServer(agent="script")
        server.start()
        atexit.register(server.stop, grace_s=0.0)
    app = Flask(__name__)
    journal = Journal()
    connection = server.connect(journal.note)
    connection.initialize("flask").get()

    # Requests of Flask's run on threads of their own, which may wait for a future.

    @app.post("/threads")
    def start_thread() -> Response:
        return jsonify(connection.request("thread/start").get()["thread"])

    @app.post("/threads/<thread_id>/turns")
    def start_turn(thread_id: str) -> Response:
        text = {"type": "text", "text": request.get_json()["text"]}
        params = {"threadId": thread_id, "input": [text]}
        return jsonify(connection.request("turn/start", params).get()["turn"])

    @app.get("/threads/<thread_id>/events")
    def events(thread_id: str) -> Response:
        return jsonify(journal.after(thread_id, request.args.get("after", 0, int)))

    @app.post("/prompts/<int:prompt_id>")
    def answer(prompt_id: int) -> Response:
        prompt = journal.prompt(prompt_id)
        if prompt is None:
            abort(404, f"prompt {prompt_id} is not open")
        prompt.answer(request.get_json())
        return jsonify({})

    @app.errorhandler(RpcError)
    def refused(error: RpcError) -> tuple[Response, int]:
        return jsonify({"code": error.code, "message": error.message}), 400

    return app
