"""A small app-server on its standard input and output, for races and failures that a real one does not stage.

Usage: fake_upstream.py DIRECTORY [deaf | shy]

Threads outlive it in the directory, and so does what it was asked (`asked`, one JSON request a line).
A turn's text is what it does, a word and its arguments:

    say N M       N deltas of M bytes of one message
    begin TEXT    starts a message, says TEXT, and leaves the turn running; `more TEXT` and `end` go on,
                  sent as turns or steers
    ask TEXT      asks for an approval and says what came of it
    elicit TEXT   does the same as a server of tools
    withdraw      asks for an approval and drops it itself
    die           says half a message and ends the process
    orphan        the same, and leaves a process behind that holds its standard output

Methods: `later/…` is answered when `fake/now` comes; `refuse/…` is refused; `fake/shout` sends a notification
of no thread; `fake/spoil` sends one that is not as it should be; `fake/complain` writes to standard error;
`fake/spawn` starts a thread that nobody asked for, and asks for an approval in it; `fake/seen` tells the
methods that came. Every other one is answered with itself. `deaf` does not heed the end of its input, `shy`
refuses to be initialized.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

JsonObject = dict[str, Any]

_FIELDS = {
    "approvalPolicy": "on-request",
    "approvalsReviewer": "user",
    "cwd": "/",
    "model": "fake",
    "modelProvider": "fake",
    "sandbox": {"type": "dangerFullAccess"},
}


class Upstream:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loaded: set[str] = set()
        self.turns: dict[str, JsonObject] = {}
        self.messages: dict[str, str] = {}
        self.prompts: dict[int, tuple[str, str]] = {}
        self.later: list[JsonObject] = []
        self.seen: list[str] = []
        self.held_resumes: list[JsonObject] = []

    # Out

    def write(self, message: JsonObject) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    def notify(self, method: str, **params: object) -> None:
        self.write({"method": method, "params": params, "emittedAtMs": int(time.time() * 1000)})

    def reply(self, request: JsonObject, result: object) -> None:
        self.write({"id": request["id"], "result": result})

    def refuse(self, request: JsonObject, message: str, data: object = None) -> None:
        self.write({"id": request["id"], "error": {"code": -32600, "message": message, "data": data}})

    # Threads

    def thread(self, thread_id: str) -> JsonObject:
        turn = self.turns.get(thread_id)
        return {
            "id": thread_id,
            "sessionId": thread_id,
            "preview": "",
            "ephemeral": False,
            "modelProvider": "fake",
            "createdAt": 1,
            "updatedAt": 1,
            "status": {"type": "idle"} if turn is None else {"type": "active", "activeFlags": []},
            "cwd": "/",
            "cliVersion": "1",
            "source": "appServer",
            "projectId": None,
            # As the one it stands for: items that are not complete are left out.
            "turns": [] if turn is None else [{"id": turn["id"], "items": [], "status": "inProgress"}],
        }

    def started(self, request: JsonObject, thread_id: str) -> None:
        self.reply(request, {"thread": self.thread(thread_id), **_FIELDS})

    def stored(self, thread_id: str) -> Path:
        return self.directory / thread_id

    # In

    def take(self, message: JsonObject) -> None:
        if "method" not in message:
            self.answered(message)
            return
        if "id" not in message:
            return
        self.seen.append(message["method"])
        with (self.directory / "asked").open("a") as file:
            file.write(json.dumps(message) + "\n")
        name = message["method"]
        handler = getattr(self, "on_" + name.replace("/", "_"), None)
        if handler is not None:
            handler(message, message.get("params") or {})
        elif name.startswith("later/"):
            self.later.append(message)
        elif name.startswith("refuse/"):
            self.refuse(message, "no", {"why": name})
        else:
            self.reply(message, {key: message[key] for key in ("method", "params") if key in message})

    def on_initialize(self, request: JsonObject, params: JsonObject) -> None:
        if "shy" in sys.argv:
            self.refuse(request, "not today")
            return
        self.reply(request, {"userAgent": "fake/1", "codexHome": "/", "platformFamily": "unix"})

    def on_fake_seen(self, request: JsonObject, params: JsonObject) -> None:
        self.reply(request, {"seen": self.seen})

    def on_fake_now(self, request: JsonObject, params: JsonObject) -> None:
        later, self.later = self.later, []
        for each in reversed(later):
            self.reply(each, {"method": each["method"], "params": each["params"]})
        held, self.held_resumes = self.held_resumes, []
        for each in held:
            self.started(each, each["params"]["threadId"])
        self.reply(request, {})

    def on_fake_spoil(self, request: JsonObject, params: JsonObject) -> None:
        self.notify("thread/closed", threadId=5)
        self.reply(request, {})

    def on_fake_complain(self, request: JsonObject, params: JsonObject) -> None:
        sys.stderr.write(params["text"] + "\n")
        sys.stderr.flush()
        self.reply(request, {})

    def on_fake_shout(self, request: JsonObject, params: JsonObject) -> None:
        self.notify("skills/changed")
        self.reply(request, {})

    def on_thread_start(self, request: JsonObject, params: JsonObject) -> None:
        thread_id = str(uuid.uuid4())
        self.loaded.add(thread_id)
        self.started(request, thread_id)
        self.notify("thread/started", thread=self.thread(thread_id))

    def on_thread_resume(self, request: JsonObject, params: JsonObject) -> None:
        thread_id = params["threadId"]
        if (self.directory / "odd").exists():
            self.reply(request, {"thread": None})
        elif (self.directory / "hold").exists():
            self.held_resumes.append(request)
        elif self.stored(thread_id).exists():
            self.loaded.add(thread_id)
            self.started(request, thread_id)
            for prompt_id, (owner, _) in self.prompts.items():
                if owner == thread_id:
                    self.prompt(prompt_id, thread_id)
        else:
            self.refuse(request, f"no rollout found for thread id {thread_id}")

    def on_fake_spawn(self, request: JsonObject, params: JsonObject) -> None:
        thread_id = str(uuid.uuid4())
        self.loaded.add(thread_id)
        self.stored(thread_id).touch()
        self.notify("thread/started", thread=self.thread(thread_id))
        self.turns[thread_id] = {"id": str(uuid.uuid4()), "items": [], "status": "inProgress"}
        self.do_ask(thread_id, "nobody in particular")
        self.reply(request, {"threadId": thread_id})

    def on_thread_read(self, request: JsonObject, params: JsonObject) -> None:
        self.reply(request, {"thread": self.thread(params["threadId"])})

    def on_thread_loaded_list(self, request: JsonObject, params: JsonObject) -> None:
        self.reply(request, {"data": sorted(self.loaded), "nextCursor": None})

    def on_thread_unsubscribe(self, request: JsonObject, params: JsonObject) -> None:
        self.reply(request, {"status": "unsubscribed"})

    def on_thread_archive(self, request: JsonObject, params: JsonObject) -> None:
        thread_id = params["threadId"]
        if not self.stored(thread_id).exists():
            self.refuse(request, f"no rollout found for thread id {thread_id}")
            return
        self.notify("thread/status/changed", threadId=thread_id, status={"type": "notLoaded"})
        self.reply(request, {})
        self.notify("thread/archived", threadId=thread_id)

    def on_turn_start(self, request: JsonObject, params: JsonObject) -> None:
        thread_id = params["threadId"]
        if thread_id not in self.loaded:
            self.refuse(request, f"thread not found: {thread_id}")
            return
        self.stored(thread_id).touch()
        turn = self.turns.get(thread_id)
        word, _, rest = params["input"][0]["text"].partition(" ")
        if turn is None:
            turn = self.turns[thread_id] = {"id": str(uuid.uuid4()), "items": [], "status": "inProgress"}
            self.reply(request, {"turn": turn})
            self.notify(
                "thread/status/changed", threadId=thread_id, status={"type": "active", "activeFlags": []}
            )
            self.notify("turn/started", threadId=thread_id, turn=turn)
        else:
            self.reply(request, {"turn": turn})
        getattr(self, "do_" + word)(thread_id, rest)

    def on_turn_interrupt(self, request: JsonObject, params: JsonObject) -> None:
        self.reply(request, {})
        self.end(params["threadId"], "interrupted")

    def answered(self, message: JsonObject) -> None:
        thread_id, _ = self.prompts.pop(message["id"])
        self.notify("serverRequest/resolved", threadId=thread_id, requestId=message["id"])
        self.do_begin(thread_id, json.dumps(message.get("result", "refused")))
        self.do_end(thread_id, "")

    # What turns do

    def do_say(self, thread_id: str, rest: str) -> None:
        count, size = rest.split()
        self.do_begin(thread_id, "")
        for number in range(int(count)):
            self.delta(thread_id, f"{number:07d} ".ljust(int(size), "x")[: int(size)])
        self.do_end(thread_id, "")

    def do_begin(self, thread_id: str, text: str) -> None:
        turn = self.turns[thread_id]
        turn["item"] = {"type": "agentMessage", "id": str(uuid.uuid4()), "text": ""}
        self.messages[thread_id] = ""
        self.notify(
            "item/started", threadId=thread_id, turnId=turn["id"], startedAtMs=1, item=dict(turn["item"])
        )
        if text:
            self.delta(thread_id, text)

    def do_more(self, thread_id: str, text: str) -> None:
        self.delta(thread_id, text)

    def do_end(self, thread_id: str, _: str) -> None:
        turn = self.turns[thread_id]
        item = {**turn["item"], "text": self.messages[thread_id]}
        self.notify("item/completed", threadId=thread_id, turnId=turn["id"], completedAtMs=1, item=item)
        self.end(thread_id, "completed")

    def do_ask(self, thread_id: str, text: str) -> None:
        prompt_id = 1000 + len(self.seen)
        self.prompts[prompt_id] = (thread_id, text)
        self.prompt(prompt_id, thread_id)

    def do_elicit(self, thread_id: str, text: str) -> None:
        prompt_id = 1000 + len(self.seen)
        self.prompts[prompt_id] = (thread_id, text)
        form = {"mode": "form", "message": text, "requestedSchema": {"type": "object", "properties": {}}}
        params = {"threadId": thread_id, "turnId": self.turns[thread_id]["id"], "serverName": "s", **form}
        self.write({"id": prompt_id, "method": "mcpServer/elicitation/request", "params": params})

    def do_withdraw(self, thread_id: str, _: str) -> None:
        self.do_ask(thread_id, "nothing")
        [prompt_id] = self.prompts
        self.prompts.clear()
        self.notify("serverRequest/resolved", threadId=thread_id, requestId=prompt_id)
        self.end(thread_id, "completed")

    def do_die(self, thread_id: str, _: str) -> None:
        self.do_begin(thread_id, "half a mess")
        os._exit(3)

    def do_orphan(self, thread_id: str, _: str) -> None:
        subprocess.Popen(["sleep", "1000"])
        self.do_die(thread_id, "")

    def prompt(self, prompt_id: int, thread_id: str) -> None:
        ids = {"threadId": thread_id, "turnId": self.turns[thread_id]["id"], "itemId": "i"}
        params = {**ids, "startedAtMs": 1, "command": self.prompts[prompt_id][1], "kind": "command"}
        self.write({"id": prompt_id, "method": "item/commandExecution/requestApproval", "params": params})

    def delta(self, thread_id: str, text: str) -> None:
        turn = self.turns[thread_id]
        self.messages[thread_id] += text
        self.notify(
            "item/agentMessage/delta",
            threadId=thread_id,
            turnId=turn["id"],
            itemId=turn["item"]["id"],
            delta=text,
        )

    def end(self, thread_id: str, status: str) -> None:
        turn = self.turns.pop(thread_id)
        self.notify("thread/status/changed", threadId=thread_id, status={"type": "idle"})
        done = {"id": turn["id"], "items": [], "status": status}
        self.notify("turn/completed", threadId=thread_id, turn=done)


def main() -> None:
    directory = Path(sys.argv[1])
    with (directory / "starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    upstream = Upstream(directory)
    for line in sys.stdin:
        upstream.take(json.loads(line))
    if "deaf" in sys.argv:
        threading.Event().wait()
    (directory / "ended").touch()


if __name__ == "__main__":
    main()
