"""What each step does. A script is a generator that yields whenever the connection has to wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from trunkline_cli.load import mischief, model
from trunkline_cli.load.client import Client, Lost, Script, TimedOut, Wait
from trunkline_cli.load.pending import OVERLOADED
from trunkline_cli.load.subscription import DELTA

__all__ = ["run_script"]

Request: TypeAlias = Generator[Wait, Any, dict[str, Any] | None]
"""A script that returns the answer."""

_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 2.0
LATE_S = 0.01
"""An open loop's send that this process held up for longer counts as late."""

# What a client still does when the run is over: leave, in the way the scenario says.
_LEAVING = (model.Close, model.Drop, model.Unsubscribe, model.ReadAgain)
# A round that begins with one of these does not need the connection of the round before.
_CONNECTING = (model.Connect, model.Initialize, model.HalfHandshake)

_CLIENT_INFO = {"name": "trunkline_load", "title": "trunkline load", "version": "1"}


def run_script(client: Client) -> Script:
    """Take the steps of the client's group, and leave."""
    try:
        yield from _take(client, client.group.steps)
        if client.session is not None:
            yield from _close(client, model.Close())
    except Lost:
        pass  # counted when it happened
    except TimedOut:
        client.where.interval.errors[f"no answer in time: {client.waiting_for}"] += 1
    client.drop()


def _take(client: Client, steps: tuple[model.Step, ...]) -> Script:
    for step in steps:
        if client.where.over and not isinstance(step, _LEAVING):
            continue
        yield from _ACTIONS[type(step)](client, step)


# Connections


def _connect(client: Client, step: model.Connect) -> Script:
    if client.session is not None:
        client.drop()
    if not step.at_once:
        if not client.where.take_slot(client) and not (yield Wait.MOMENT):
            return
        client.hold_slot()
    began = time.monotonic()
    client.connect()
    yield client.await_answer("connect")
    client.where.interval.record("connect", _us_since(began))


def _initialize(client: Client, step: model.Initialize) -> Script:
    if client.session is None:
        yield from _connect(client, model.Connect())
    if client.session is None:
        return
    client.session.strict = not step.opt_out
    capabilities: dict[str, Any] = {"experimentalApi": step.experimental}
    if step.opt_out:
        capabilities["optOutNotificationMethods"] = step.opt_out
    params = {"clientInfo": _CLIENT_INFO, "capabilities": capabilities}
    yield from _insist(client, "initialize", params)
    if client.session is not None:
        client.session.notify("initialized")


def _close(client: Client, step: model.Close) -> Script:
    if client.session is None:
        return
    for subscription in client.session.subscriptions.values():
        if subscription.active and client.where.over:
            client.session.check_prompts(subscription)
    # Whatever the server sends before its close frame has to be read, or it never comes.
    yield from mischief.read_again(client, model.ReadAgain())
    client.closing = True
    client.session.peer.send_close(step.code)
    if client.session is not None:
        yield client.await_answer("close")


def _drop(client: Client, step: model.Drop) -> Script:
    client.drop(reset=step.reset)
    yield from ()


# Threads and turns


def _start(client: Client, step: model.Start) -> Script:
    def subscribe(result: dict[str, Any]) -> None:
        _subscribed(client, result)
        client.is_first = True

    yield from _insist(client, "thread/start", step.params, subscribe)


def _resume(client: Client, step: model.Resume) -> Script:
    if step.threads is None:
        thread_id = client.thread_id or ""
    else:
        threads = client.where.threads[step.threads]
        if step.pick == "index":
            thread_id, client.is_first = threads[step.index], client.index == 0
        elif step.pick == "random":
            thread_id = client.rng.choice(threads)
        else:
            thread_id = threads[client.index % len(threads)]
            client.is_first = client.index < len(threads)
    params = {"threadId": thread_id, "excludeTurns": True, **step.params}
    after = None
    if step.after_last and thread_id in client.seen:
        params["epoch"], params["afterSeq"] = client.seen[thread_id]
        after = params["afterSeq"]
    yield from _insist(client, "thread/resume", params, lambda result: _subscribed(client, result, after))


def _subscribed(client: Client, result: dict[str, Any], after: int | None = None) -> None:
    """Take note of what an answer to `thread/start` or `thread/resume` means.

    Args:
        client: who asked.
        result: the answer.
        after: the number after which events were asked for, if any.

    """
    if client.session is None:
        return
    client.thread_id = result["thread"]["id"]
    seq = result.get("seq")
    if after is not None:
        # A server may no longer have the events; then it has to say that it sent a snapshot.
        if result.get("delivery") == "events":
            seq = after
        else:
            client.where.interval.expected["thread/resume: a snapshot, as events were no longer kept"] += 1
    client.session.subscribe(
        result["thread"]["id"], seq if isinstance(seq, int) else None, result.get("epoch")
    )


def _unsubscribe(client: Client, _step: model.Unsubscribe) -> Script:
    session, thread_id = client.session, client.thread_id
    if session is None or thread_id is None:
        return
    yield from _request(
        client,
        "thread/unsubscribe",
        {"threadId": thread_id},
        effect=lambda _result: session.unsubscribe(thread_id),
    )


def _turn(client: Client, step: model.Turn) -> Script:
    began = client.planned or time.monotonic()
    params = {"threadId": client.thread_id, "input": _input(_fill(client, step.text)), **step.params}

    def started(result: dict[str, Any]) -> None:
        client.turn_id = result["turn"]["id"]

    reply = yield from _request(client, "turn/start", params, wait=step.wait != "nothing", effect=started)
    session = client.session
    if step.wait != "completed" or reply is None or "error" in reply or session is None:
        return
    subscription = session.subscriptions.get(client.thread_id or "")
    if subscription is None or not subscription.active:
        return
    if subscription.last_turn_completed != client.turn_id:
        client.awaited_turn = client.turn_id
        yield client.await_answer("turn/completed")
    client.where.interval.record("turn", _us_since(began))


def _interrupt(client: Client, _step: model.Interrupt) -> Script:
    yield from _request(client, "turn/interrupt", {"threadId": client.thread_id, "turnId": client.turn_id})


def _steer(client: Client, step: model.Steer) -> Script:
    params = {"threadId": client.thread_id, "expectedTurnId": client.turn_id}
    yield from _request(client, "turn/steer", {**params, "input": _input(_fill(client, step.text))})


def _call(client: Client, step: model.Call) -> Script:
    params = _fill_all(client, step.params)
    yield from _request(client, step.method, params, wait=step.wait, expect_error=step.expect_error)


def _request(
    client: Client,
    method: str,
    params: dict[str, Any],
    *,
    wait: bool = True,
    expect_error: bool = False,
    insists: bool = False,
    effect: Callable[[dict[str, Any]], None] | None = None,
) -> Request:
    """Send a request and, with `wait`, wait for its answer."""
    if client.session is None:
        raise Lost("not connected")
    client.session.request(
        method,
        params,
        since=client.take_planned(),
        awaited=wait,
        expect_error=expect_error,
        insists=insists,
        effect=effect,
    )
    reply: dict[str, Any] | None = (yield client.await_answer(method)) if wait else None
    return reply


def _insist(
    client: Client,
    method: str,
    params: dict[str, Any],
    effect: Callable[[dict[str, Any]], None] | None = None,
) -> Script:
    """Send a request without which the further steps make no sense.

    A server that is overloaded says that it wants to be asked again later: with a growing pause, drawn by
    the seed, so that those it has turned away do not all come back at once.
    """
    deadline = time.monotonic() + client.where.scenario.timeout
    pause = _FIRST_PAUSE_S
    while True:
        reply = yield from _request(client, method, params, insists=True, effect=effect)
        error = None if reply is None else reply.get("error")
        if error is None:
            return
        if error.get("code") != OVERLOADED:
            raise Lost("refused")
        if time.monotonic() > deadline:
            client.where.interval.errors[f"{method}: overloaded to the end"] += 1
            raise Lost("refused")
        client.wake_at(time.monotonic() + client.rng.uniform(0.5, 1.5) * pause)
        yield Wait.MOMENT
        if client.where.over:
            raise Lost("the run is over")
        pause = min(2 * pause, _LAST_PAUSE_S)


# Time


def _pause(client: Client, step: model.Pause) -> Script:
    seconds: float = step.duration
    if step.up_to is not None:
        seconds = client.rng.uniform(seconds, step.up_to)
    client.wake_at(time.monotonic() + seconds)
    yield Wait.MOMENT


def _repeat(client: Client, step: model.Repeat) -> Script:
    began = time.monotonic()
    end = None if step.duration is None else began + step.duration
    rounds = 0
    while not client.where.over and (step.times is None or rounds < step.times):
        if step.rate is not None:
            planned = began + (client.index + rounds * client.group.connections) / step.rate
            yield from _until(client, planned)
            if client.where.over:
                break
        if end is not None and time.monotonic() >= end:
            break
        rounds += 1
        client.iteration += 1
        try:
            yield from _take(client, step.steps)
        except Lost:
            if not isinstance(step.steps[0], _CONNECTING):
                raise
            client.drop()  # a connection that was refused something is still there


def _until(client: Client, planned: float) -> Script:
    """Wait for the moment of an open loop's next round, and take note if this process missed it."""
    interval = client.where.interval
    if planned > time.monotonic():
        client.wake_at(planned)
        yield Wait.MOMENT
        interval = client.where.interval
        if time.monotonic() - planned > LATE_S:
            interval.late_sends += 1
    interval.planned_sends += 1
    client.planned = planned


def _wait(client: Client, step: model.Wait) -> Script:
    if client.session is None:
        return
    client.awaited_event, client.awaited_events = step.method, step.count
    client.session.tell_deltas(step.method == DELTA)
    client.await_answer(step.method)
    yield Wait.MOMENT
    client.awaited_event = None
    if client.session is not None:
        client.session.tell_deltas(False)


def _barrier(client: Client, step: model.Barrier) -> Script:
    yield from _meet(client, step.name)


def _begin(client: Client, _step: model.Begin) -> Script:
    yield from _meet(client, "begin")


def _meet(client: Client, name: str) -> Script:
    generation = client.barriers.get(name, 0)
    client.barriers[name] = generation + 1
    client.where.arrive(client, name, generation)
    yield Wait.MOMENT


def _stay(_client: Client, _step: model.Stay) -> Script:
    yield Wait.STAY


# Manners


def _answer(client: Client, step: model.Answer) -> Script:
    client.answer = step
    yield from ()


def _ignore_pings(client: Client, _step: model.IgnorePings) -> Script:
    if client.session is not None:
        client.session.answers_pings = False
    yield from ()


# Values


def _input(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, "text_elements": []}]


def _fill(client: Client, text: str) -> str:
    """Put values in the places of their names."""
    if "{" not in text:
        return text
    return (
        text.replace("{connection}", str(client.number))
        .replace("{iteration}", str(client.iteration))
        .replace("{thread}", client.thread_id or "")
        .replace("{turn}", client.turn_id or "")
        .replace("{mark}", f"@{time.time_ns()}@")
    )


def _fill_all(client: Client, value: Any) -> Any:
    """Fill in every string of a JSON value."""
    if isinstance(value, str):
        return _fill(client, value)
    if isinstance(value, dict):
        return {key: _fill_all(client, entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_fill_all(client, entry) for entry in value]
    return value


def _us_since(began: float) -> int:
    return int((time.monotonic() - began) * 1_000_000)


_ACTIONS: dict[type, Callable[[Client, Any], Script]] = {
    model.Answer: _answer,
    model.Barrier: _barrier,
    model.Begin: _begin,
    model.Call: _call,
    model.Close: _close,
    model.Connect: _connect,
    model.Drop: _drop,
    model.IgnorePings: _ignore_pings,
    model.HalfHandshake: mischief.half_handshake,
    model.Initialize: _initialize,
    model.Interrupt: _interrupt,
    model.Malformed: mischief.malformed,
    model.Pause: _pause,
    model.ReadAgain: mischief.read_again,
    model.ReadSlowly: mischief.read_slowly,
    model.Repeat: _repeat,
    model.Resume: _resume,
    model.Start: _start,
    model.Stay: _stay,
    model.Steer: _steer,
    model.StopReading: mischief.stop_reading,
    model.Turn: _turn,
    model.Unsubscribe: _unsubscribe,
    model.Wait: _wait,
}
