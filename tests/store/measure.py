"""Measures the store, and prints the tables of docs/durability.md.

    python tests/store/measure.py cost     a server with a file, and one with `--store memory`
    python tests/store/measure.py threads  lists and resumes among 100,000 stored threads

The two servers of `cost` are measured in turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "actors")]

import msgspec  # noqa: E402  # the path has to be there before

from helpers import Client  # noqa: E402
from load.measure import load, ours  # noqa: E402
from trunkline.protocol.ids import uuid7  # noqa: E402
from trunkline.store import schema  # noqa: E402
from trunkline.store.base import ThreadRecord, TurnRecord  # noqa: E402
from trunkline.types import ThreadId, TurnId  # noqa: E402
from wires import WebSocketWire  # noqa: E402

TURNS = """
name = "turns"
duration = "{duration}"
timeout = "60s"
[[groups]]
name = "clients"
connections = {connections}
steps = [
  {{ do = "initialize" }},
  {{ do = "start" }},
  {{ do = "begin" }},
  {{ do = "repeat", steps = [{{ do = "turn", text = "say 20 8" }}] }},
  {{ do = "close" }},
]
"""


# What it costs


def turns(store: str | None, connections: int, duration: str) -> dict[str, float]:
    """Measure turns of clients that each have a thread of their own."""
    with ours(store) as target:
        result = load(target, TURNS.format(connections=connections, duration=duration))
    turn = result["latencies"]["turn"]
    return {
        f"{connections}: p50 of a turn, µs": turn["p50Us"],
        f"{connections}: server CPU of a turn, µs": result["server"]["cpuSeconds"] / turn["count"] * 1e6,
    }


def fanout(store: str | None, duration: str) -> dict[str, float]:
    """Measure one thread with 256 subscribers."""
    with ours(store) as target:
        result = load(target, "fanout", "--connections", "256", "--duration", duration)
    return {
        "fan-out: deliveries/s": result["deliveries"]["perSecond"],
        "fan-out: server CPU of a delivery, µs": result["server"]["cpuUsPerDelivery"],
    }


def cost(duration: str, rounds: int) -> None:
    """Measure both kinds of store and print medians and their ratio."""
    found: dict[str, list[dict[str, float]]] = {"file": [], "memory": []}
    for _ in range(rounds):
        for name, each in found.items():
            store = None if name == "file" else "memory"
            each.append(fanout(store, duration) | turns(store, 1, duration) | turns(store, 16, duration))
    print("| | memory | file | ratio |\n|---|---|---|---|")
    for key in found["file"][0]:
        file, memory = (statistics.median(one[key] for one in found[name]) for name in ("file", "memory"))
        print(f"| {key} | {memory:,.4g} | {file:,.4g} | {file / memory:.2f} |")


# Many threads

DIRECTORIES = 100


def make_threads(path: Path, count: int) -> list[str]:
    """Write a store with this many threads of two turns into a file; return their ids, oldest first."""
    ids = []
    with closing(schema.open_writer(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for number in range(count):
            thread_id = ThreadId(uuid7())
            ids.append(str(thread_id))
            record = ThreadRecord(
                thread_id,
                thread_id,
                cwd=f"/srv/{number % DIRECTORIES}",
                created_at=1_700_000_000 + number,
                updated_at=1_800_000_000 - number,
                preview=f"question number {number} about something that takes a line or two to ask",
                is_archived=number % 10 == 0,
                model_provider="rare" if number % 1_000 == 1 else "local",
                epoch=uuid7(),
                seq_bound=20,
            )
            connection.execute(
                "INSERT INTO threads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    thread_id,
                    record.created_at,
                    record.updated_at,
                    record.is_archived,
                    record.cwd,
                    record.model_provider,
                    None,
                    record.preview,
                    msgspec.json.encode(record),
                ),
            )
            for _ in range(2):
                turn_id = TurnId(uuid7())
                turn = msgspec.json.encode(TurnRecord(turn_id, "completed", 1, 2, 3))
                connection.execute("INSERT INTO turns VALUES (?, ?, ?)", (thread_id, turn_id, turn))
                payload = b'{"type":"agentMessage","id":"%d","text":"an answer of some length"}' % number
                connection.execute(
                    "INSERT INTO items (thread_id, turn_id, position, id, payload) VALUES (?, ?, 0, ?, ?)",
                    (thread_id, turn_id, str(number), payload),
                )
        connection.execute("COMMIT")
    return ids


LISTS: dict[str, dict[str, Any]] = {
    "all, newest first": {},
    "all, oldest first": {"sortDirection": "asc"},
    "by update, newest first": {"sortKey": "updated_at"},
    "by update, oldest first": {"sortKey": "updated_at", "sortDirection": "asc"},
    "archived": {"archived": True},
    "one directory of 100": {"cwd": "/srv/7"},
    "three directories of 100": {"cwd": ["/srv/7", "/srv/8", "/srv/9"], "sortKey": "updated_at"},
    "a directory that is not there": {"cwd": "/nowhere"},
    "a provider of one thread in 1,000": {"modelProviders": ["rare"]},
    "a search term in every thread": {"searchTerm": "question"},
    "a search term in no thread": {"searchTerm": "nothing like that"},
}


def timed_ms(client: Client, method: str, times: int, **params: object) -> tuple[float, Any]:
    """Return the median of some requests, in milliseconds, and the last answer."""
    took: list[float] = []
    answer = None
    for _ in range(times):
        start = time.perf_counter()
        answer = client.request(method, **params)
        took.append((time.perf_counter() - start) * 1e3)
    return statistics.median(took), answer


def threads(count: int) -> None:
    """Measure lists and resumes among many threads, as a client sees them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "threads.sqlite3"
        ids = make_threads(path, count)
        with ours(str(path)) as target:
            client = Client(WebSocketWire(target.url), "client")
            client.initialize()
            print(
                f"| {count:,} threads, {path.stat().st_size / 1e6:.0f} MB | first page, ms | 100th page, ms |"
            )
            print("|---|---|---|")
            for name, params in LISTS.items():
                first, answer = timed_ms(client, "thread/list", 20, **params)
                deep, page = "", answer
                for _ in range(98):
                    if page["nextCursor"] is None:
                        break
                    page = client.request("thread/list", cursor=page["nextCursor"], **params)
                else:
                    took, _ = timed_ms(client, "thread/list", 20, cursor=page["nextCursor"], **params)
                    deep = f"{took:.2f}"
                print(f"| {name} | {first:.2f} | {deep} |")
            resumes: list[float] = []
            for number in range(1, count, max(count // 200, 1)):
                if number % 10:  # the others are archived
                    resumes.append(timed_ms(client, "thread/resume", 1, threadId=ids[number])[0])
            middle, longest = statistics.median(resumes), max(resumes)
            print(f"| `thread/resume`, median and longest of {len(resumes)} | {middle:.2f} | {longest:.2f} |")
            client.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cost", "threads"))
    parser.add_argument("--duration", default="5s", help="of each measurement of `cost`")
    parser.add_argument("--rounds", type=int, default=3, help="of `cost`; the median counts")
    parser.add_argument("--count", type=int, default=100_000, help="threads of `threads`")
    arguments = parser.parse_args()
    if arguments.what == "cost":
        cost(arguments.duration, arguments.rounds)
    else:
        threads(arguments.count)


if __name__ == "__main__":
    main()
