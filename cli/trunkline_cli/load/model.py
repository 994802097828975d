"""What a scenario is: groups of connections and the steps they take. The reference is docs/load.md.

Plain values, checked on the way in (`parse`), the same in every process of a run.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

__all__ = [
    "Answer",
    "Barrier",
    "Begin",
    "Call",
    "Close",
    "Connect",
    "Drop",
    "Group",
    "HalfHandshake",
    "IgnorePings",
    "Initialize",
    "Interrupt",
    "Malformed",
    "Pause",
    "ReadAgain",
    "ReadSlowly",
    "Repeat",
    "Resume",
    "Scenario",
    "Seconds",
    "Start",
    "Stay",
    "Steer",
    "Step",
    "StopReading",
    "ThreadSet",
    "Threshold",
    "Turn",
    "Unsubscribe",
    "Wait",
    "barrier_name",
    "walk",
]

Count: TypeAlias = Annotated[int, Meta(ge=0)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
Pick: TypeAlias = Literal["round-robin", "random", "index"]
Decision: TypeAlias = Literal["accept", "acceptForSession", "decline", "cancel", "error"]


class Seconds(float):
    """A length of time. In a file: a number of seconds, or text such as `250ms`, `10s`, `2m`, `1h`."""


class _Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do"):
    """One step; `do` says which."""


class Connect(_Step, frozen=True, tag="connect"):
    """Open a WebSocket. `initialize` does it too if there is none."""

    at_once: bool = False
    """Do not wait for a place among the handshakes under way: for storms."""


class Initialize(_Step, frozen=True, tag="initialize"):
    """`initialize`, then the `initialized` notification."""

    experimental: bool = True
    opt_out: tuple[str, ...] = ()
    """`optOutNotificationMethods`."""


class Start(_Step, frozen=True, tag="start"):
    """`thread/start`: a thread of its own, which becomes the connection's current one."""

    params: dict[str, Any] = {}


class Resume(_Step, frozen=True, tag="resume"):
    """`thread/resume` one of a shared set, which becomes the current one; or the current one again."""

    threads: str | None = None
    """Name of the set; absent: the current thread."""
    pick: Pick = "round-robin"
    """Which of the set: by the number of the connection in its group, by the seed, or `index`."""
    index: Count = 0
    after_last: bool = False
    """Ask for the events after the last one this client has received of the thread, over this connection
    or an earlier one. Then no event may be missing or come twice across the two."""
    params: dict[str, Any] = {}


class Unsubscribe(_Step, frozen=True, tag="unsubscribe"):
    """`thread/unsubscribe` the current thread. After its answer no event of it may come."""


class Turn(_Step, frozen=True, tag="turn"):
    """`turn/start` on the current thread."""

    text: str
    """The input; `{connection}`, `{iteration}`, `{thread}` and `{mark}` are filled in."""
    wait: Literal["completed", "answer", "nothing"] = "completed"
    params: dict[str, Any] = {}


class Interrupt(_Step, frozen=True, tag="interrupt"):
    """`turn/interrupt` the turn that this connection started last."""


class Steer(_Step, frozen=True, tag="steer"):
    """`turn/steer` the turn that this connection started last."""

    text: str


class Answer(_Step, frozen=True, tag="answer"):
    """From now on answer the prompts of this connection's threads. Without it prompts are only watched."""

    decision: Decision = "accept"
    """For approvals; `error` answers with a JSON-RPC error. Questions are answered with `text`."""
    text: str = "yes"
    after: Seconds = Seconds(0)
    by: Literal["all", "one"] = "all"
    """`one`: only the first connection of the group that has the thread answers."""


class Wait(_Step, frozen=True, tag="wait"):
    """Wait for a notification, or for the prompt, with this method."""

    method: str
    count: Positive = 1


class Call(_Step, frozen=True, tag="call"):
    """Send any request."""

    method: str
    params: dict[str, Any] = {}
    """The same placeholders as in a turn's text are filled in, in every string."""
    wait: bool = True
    expect_error: bool = False
    """An error is what is wanted, and a result is an error."""


class Pause(_Step, frozen=True, tag="pause"):
    """Do nothing for a time."""

    duration: Seconds = field(name="for")
    up_to: Seconds | None = None
    """If given: a time between the two, drawn by the seed."""


class Close(_Step, frozen=True, tag="close"):
    """Close with the closing handshake, and wait for the server's part of it."""

    code: Annotated[int, Meta(ge=1000, le=4999)] = 1000


class Drop(_Step, frozen=True, tag="drop"):
    """End the connection without a close frame."""

    reset: bool = False
    """With a TCP reset, as from a machine that crashed."""


class ReadSlowly(_Step, frozen=True, tag="read-slowly"):
    """From now on read at most this many bytes a second."""

    bytes_per_second: Positive


class StopReading(_Step, frozen=True, tag="stop-reading"):
    """From now on read nothing."""


class ReadAgain(_Step, frozen=True, tag="read-again"):
    """Read as usual again."""


class IgnorePings(_Step, frozen=True, tag="ignore-pings"):
    """From now on answer no ping."""


class HalfHandshake(_Step, frozen=True, tag="half-handshake"):
    """Open a TCP connection, send a part of the upgrade request (cut by the seed), and hold it."""

    hold: Seconds = field(name="for", default=Seconds(1))


class Malformed(_Step, frozen=True, tag="malformed"):
    """Send something that is wrong: a frame (the server must close) or a text (it must answer)."""

    kind: Literal[
        "any",
        "unmasked",
        "reserved-opcode",
        "reserved-bits",
        "too-long",
        "bad-utf8",
        "not-json",
        "not-a-message",
        "unknown-method",
        "bad-params",
        "noise",
    ] = "any"
    """`any` is drawn by the seed."""


class Repeat(_Step, frozen=True, tag="repeat"):
    """Take steps again and again: `times` times, `for` a time, or until the duration of the run is over."""

    steps: tuple[Step, ...]
    times: Positive | None = None
    duration: Seconds | None = field(name="for", default=None)
    rate: Annotated[float, Meta(gt=0)] | None = None
    """Begin this many rounds a second, in the whole group together, whether or not the server keeps up:
    an open loop. Latencies of the steps inside then count from the moment each was planned for."""


class Barrier(_Step, frozen=True, tag="barrier"):
    """Wait until every connection of the groups that have this barrier has come to it, or has ended."""

    name: str


class Begin(_Step, frozen=True, tag="begin"):
    """A barrier, behind which the measured time begins."""


class Stay(_Step, frozen=True, tag="stay"):
    """Stay, and receive, until the run is over and everything under way has ended."""


Step: TypeAlias = (
    Answer
    | Barrier
    | Begin
    | Call
    | Close
    | Connect
    | Drop
    | HalfHandshake
    | IgnorePings
    | Initialize
    | Interrupt
    | Malformed
    | Pause
    | ReadAgain
    | ReadSlowly
    | Repeat
    | Resume
    | Start
    | Stay
    | Steer
    | StopReading
    | Turn
    | Unsubscribe
    | Wait
)
"""Everything a connection can be told to do."""


class ThreadSet(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Threads that are made before the run, for connections to share."""

    name: str
    count: Positive = 1
    prepare: str | None = None
    """A first turn for each, as some servers let nobody resume a thread that was never used."""
    params: dict[str, Any] = {}
    """For `thread/start`."""


class Group(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Connections that do the same."""

    name: str
    steps: tuple[Step, ...]
    connections: Positive = 1
    fixed: bool = False
    """`--connections` leaves this group as it is."""
    start_delay: Seconds = Seconds(0)
    ramp_up: Seconds = Seconds(0)
    """The connections start one after the other, spread over this time."""
    may_be_closed: bool = False
    """That the server closes one of these connections is no error."""
    receive_buffer: Positive | None = None
    """SO_RCVBUF, for connections that read slowly."""


class Threshold(Struct, frozen=True):
    """A condition on the result, such as `request p99 < 50ms`."""

    text: str
    metric: str
    operator: Literal["<", "<=", ">", ">=", "=="]
    limit: float


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole run."""

    name: str
    groups: tuple[Group, ...]
    description: str = ""
    duration: Seconds = Seconds(10)
    """Length of the measured time."""
    seed: int = 1
    timeout: Seconds = Seconds(30)
    """How long a connection waits for any answer."""
    drain: Seconds = Seconds(10)
    """How long what is under way may take to end when the duration is over."""
    latency_from: Literal["emittedAtMs", "mark"] = "emittedAtMs"
    """Where delivery latency counts from: the server's clock or the `{mark}` in a turn's text."""
    threads: tuple[ThreadSet, ...] = ()
    thresholds: tuple[Threshold, ...] = ()

    @property
    def connections(self) -> int:
        """Connections of all groups."""
        return sum(group.connections for group in self.groups)


def walk(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return every step, those inside a `repeat` included."""
    found: list[Step] = []
    for step in steps:
        found.append(step)
        if isinstance(step, Repeat):
            found.extend(walk(step.steps))
    return tuple(found)


def barrier_name(step: Step) -> str | None:
    """Return the name of the barrier that a step is; None if it is none."""
    if isinstance(step, Barrier):
        return step.name
    return "begin" if isinstance(step, Begin) else None
