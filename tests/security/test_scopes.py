"""What a credential does not allow is answered with the missing scope, and is never done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers import UNKNOWN_ID, Client, Message, text_input
from security.doors import Open
from trunkline import AppServer
from trunkline.access import Scope
from trunkline.gateway.methods import read_call as read_gateway_call
from trunkline.protocol.methods import METHODS
from trunkline.transports.entrances import EntranceOptions

Start = Callable[..., AppServer]
Join = Callable[[str], Client]

NEEDS = {
    "thread/start": "drive",
    "thread/fork": "drive",
    "thread/revert": "drive",
    "thread/archive": "drive",
    "thread/unarchive": "drive",
    "thread/name/set": "drive",
    "turn/start": "drive",
    "turn/steer": "drive",
    "turn/interrupt": "drive",
    "thread/delete": "admin",
    "trunkline/status": "admin",
}
"""Everything else needs `attach`."""

PARAMS: dict[str, Message] = {
    "thread/revert": {"beforeTurnId": UNKNOWN_ID},
    "thread/name/set": {"name": "x"},
    "turn/start": {"input": text_input("x")},
    "turn/steer": {"input": text_input("x"), "expectedTurnId": UNKNOWN_ID},
    "turn/interrupt": {"turnId": UNKNOWN_ID},
}


@pytest.fixture
def join(start: Start, signed: EntranceOptions, token: Callable[..., str], opened: Open) -> Join:
    """Lets clients in with a scope."""
    url = start(entrances=signed).listeners[0].url

    def make(scope: str) -> Client:
        line = f"Authorization: Bearer {token(scope=scope, sub=scope or 'nobody')}"
        return opened.client(url, scope or "nobody", line)

    return make


def lacks(error: Message, scope: str) -> None:
    assert error == {
        "code": -32600,
        "message": f"this connection lacks the scope `{scope}`",
        "data": {"missingScope": scope},
    }


def params_of(method: str) -> Message:
    named = (
        {} if method in ("thread/start", "thread/list", "thread/loaded/list") else {"threadId": UNKNOWN_ID}
    )
    return {**named, **PARAMS.get(method, {})}


def test_every_method_needs_a_scope_and_says_which(join: Join) -> None:
    clients = {scope: join(scope) for scope in ("", "attach", "drive", "admin")}
    for method in sorted(METHODS.keys() - {"initialize"}):
        scope = NEEDS.get(method, "attach")
        below = {"attach": "", "drive": "attach", "admin": "drive"}[scope]
        lacks(clients[below].refused(method, **params_of(method)), scope)
        client = clients[scope]
        answer = client.response(client.begin(method, **params_of(method)))
        assert "lacks the scope" not in str(answer)


def test_a_method_that_nobody_has_thought_about_needs_the_most() -> None:
    assert METHODS["initialize"].scope is Scope.ADMIN  # and is let through before scopes are looked at


def test_who_may_watch_sees_everything_and_changes_nothing(join: Join) -> None:
    driver, watcher = join("drive"), join("attach")
    thread_id = driver.start_thread()
    before = watcher.resume(thread_id)
    for method in ("turn/start", "thread/name/set", "thread/archive", "thread/delete"):
        watcher.refused(method, threadId=thread_id, **PARAMS.get(method, {}))
    after = watcher.request("thread/read", threadId=thread_id)["thread"]
    assert {**after, "turns": before["turns"]} == before
    driver.run_turn(thread_id, "text hello")
    assert watcher.wait("item/completed")["params"]["item"]["type"] == "userMessage"


def test_a_resume_by_who_may_watch_changes_no_setting(join: Join) -> None:
    driver, watcher = join("drive"), join("attach")
    thread_id = driver.start_thread()
    result = watcher.request("thread/resume", threadId=thread_id, approvalPolicy="never", cwd="/")
    assert result["approvalPolicy"] == "untrusted"
    assert driver.request("thread/resume", threadId=thread_id)["approvalPolicy"] == "untrusted"


def test_the_answer_of_who_may_only_watch_settles_no_prompt(join: Join) -> None:
    driver, watcher = join("drive"), join("attach")
    thread_id = driver.start_thread()
    watcher.resume(thread_id)
    turn_id = driver.start_turn(thread_id, "ask rm -r /")
    prompt = watcher.wait("item/commandExecution/requestApproval")
    watcher.decide(prompt)
    refusal = watcher.wait_for(lambda message: "error" in message and message["id"] is None)
    lacks(refusal["error"], "drive")
    assert driver.request("thread/read", threadId=thread_id)["thread"]["status"]["activeFlags"] == [
        "waitingOnApproval"
    ]
    driver.decide(driver.wait("item/commandExecution/requestApproval"), "decline")
    assert driver.wait_turn(turn_id)["status"] == "completed"


def test_who_may_only_watch_is_not_waited_for_when_an_answer_does_not_fit(join: Join) -> None:
    driver, watcher = join("drive"), join("attach")
    thread_id = driver.start_thread()
    watcher.resume(thread_id)
    turn_id = driver.start_turn(thread_id, "ask ls")
    prompt = driver.wait("item/commandExecution/requestApproval")

    driver.answer(prompt["id"], {})

    assert watcher.wait("serverRequest/resolved")["params"]["requestId"] == prompt["id"]
    assert driver.wait_turn(turn_id)["status"] == "completed"


def test_the_log_says_who_gave_an_answer(join: Join, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="trunkline.prompts")
    driver = join("drive")
    turn_id = driver.start_turn(driver.start_thread(), "ask ls")
    driver.decide(driver.wait("item/commandExecution/requestApproval"))
    driver.wait_turn(turn_id)
    record = next(record for record in caplog.records if "has answered" in record.getMessage())
    assert vars(record)["who"].endswith(", drive")


# In front of another server


@pytest.mark.parametrize(
    ("method", "params", "scope"),
    [
        ("thread/read", {"threadId": UNKNOWN_ID}, Scope.ATTACH),
        ("thread/resume", {"threadId": UNKNOWN_ID, "excludeTurns": True, "cwd": None}, Scope.ATTACH),
        ("thread/resume", {"threadId": UNKNOWN_ID, "approvalPolicy": "never"}, Scope.DRIVE),
        ("thread/resume", {"threadId": UNKNOWN_ID, "path": "/etc/passwd"}, Scope.DRIVE),
        ("thread/resume", {"path": "/etc/passwd"}, Scope.DRIVE),
        ("turn/start", {"threadId": UNKNOWN_ID}, Scope.DRIVE),
        ("thread/delete", {"threadId": UNKNOWN_ID}, Scope.ADMIN),
        ("model/list", {}, Scope.ATTACH),
        ("config/read", {}, Scope.DRIVE),
        ("getAuthStatus", {"includeToken": False}, Scope.DRIVE),
        ("getAuthStatus", {"includeToken": True}, Scope.ADMIN),
        ("account/logout", None, Scope.ADMIN),
        ("thread/shellCommand", {"threadId": UNKNOWN_ID}, Scope.ADMIN),
        ("brand/new", [], Scope.ADMIN),
    ],
)
def test_what_an_upstream_would_do_needs_its_scope(method: str, params: Any, scope: Scope) -> None:
    call, _ = read_gateway_call(method, params)
    assert call.scope is scope
