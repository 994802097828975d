"""Measures this server, and beside it `codex app-server`, and prints the table of docs/performance.md.

    python tests/load/compare.py             the table
    python tests/load/compare.py --curves    what a delivery and a visit cost, over four sizes

With `--svg FILE` the curves are drawn too.

`codex app-server` is measured if the package `openai-codex-cli-bin` is installed; its model is the
stand-in of tests/codex_stand_in.py. Every measurement has a server of its own, and both servers are
driven by the same scenarios with the same settings.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "cli")]

from codex_stand_in import codex_binary  # noqa: E402  # the path has to be there before
from load.curves import draw  # noqa: E402
from load.measure import Target, codex, embedded, load, ours  # noqa: E402

JsonObject = dict[str, Any]
Server = Callable[[], AbstractContextManager[Target]]

GROUP = """
[[groups]]
name = "{name}"
connections = {connections}
{more}
steps = [{steps}]
"""
JOIN = '{ do = "initialize" }, { do = "resume", threads = "rooms" }, { do = "begin" }, '
QUIET = JOIN.replace('"initialize"', '"initialize", opt_out = ["thread/started", "thread/status/changed"]')
STAY = '{ do = "stay" }, { do = "close" }'
STREAM = '{ do = "repeat", steps = [{ do = "turn", text = "say 10000 8" }] }, { do = "close" }'


def group(name: str, connections: int, steps: str, more: str = "") -> str:
    return GROUP.format(name=name, connections=connections, steps=steps, more=more)


def scenario(name: str, *groups: str, threads: int = 1, duration: str = "5s") -> str:
    sets = f'[[threads]]\nname = "rooms"\ncount = {threads}\nprepare = "text ready"\n' if threads else ""
    patience = 'timeout = "300s"\ndrain = "120s"'
    return f'name = "{name}"\nduration = "{duration}"\n{patience}\n{sets}' + "".join(groups)


# The table


def fanout(server: Server, duration: str) -> dict[str, float]:
    with server() as target:
        result = load(target, "fanout", "--connections", "256", "--duration", duration)
    return {
        "deliveries/s": result["deliveries"]["perSecond"],
        "CPU per delivery": result["server"]["cpuUsPerDelivery"],
    }


def requests(server: Server, connections: int, duration: str) -> dict[str, float]:
    """Return the requests a second: answered with a result, answered at all; and the median latency."""
    with server() as target:
        result = load(target, "requests", "--connections", str(connections), "--duration", duration)
    answers = result["requests"]["count"]
    return {
        "results/s": (answers - result["requests"]["refused"]) / result["measuredSeconds"],
        "answers/s": answers / result["measuredSeconds"],
        "p50": result["latencies"]["thread/loaded/list"]["p50Us"],
    }


def measure_once(server: Server, duration: str) -> dict[str, float]:
    """Measure what both servers are measured by."""
    with server() as target:
        idle = load(target, "idle", "--connections", "1000")
    many = requests(server, 256, duration)
    return {
        **fanout(server, duration),
        "results/s": many["results/s"],
        "answers/s": many["answers/s"],
        "p50": requests(server, 1, duration)["p50"],
        "memory": idle["server"]["bytesPerConnection"],
    }


def measure(servers: dict[str, Server], duration: str, rounds: int) -> dict[str, dict[str, float]]:
    """Measure servers in turn, so that what else the machine does meets all of them; return medians."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            found[name].append(measure_once(server, duration))
    return {
        name: {key: statistics.median(one[key] for one in each) for key in each[0]}
        for name, each in found.items()
    }


def ten_thousand(duration: str) -> str:
    result = embedded("fanout", "--connections", "10000", "--duration", duration)
    found = []
    for problem in ("errors", "expected"):
        if result[problem]:
            found.append(f"{sum(result[problem].values()):,} {problem}")
    found += [f"{check} broken" for check in result["breaches"]] + result["leftOver"]
    rate = f"{result['deliveries']['perSecond']:,.0f} deliveries/s"
    return f"{'; '.join(found) or 'no error, nothing left after 2 s'}; {rate}"


def stalled(duration: str, rounds: int) -> str:
    """Measure the events a second of each healthy subscriber, with and without a stalled one."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    peaks: dict[bool, float] = {False: 0.0, True: 0.0}
    for number in range(2 * rounds):
        stalls = number % 2 == 1
        text = scenario(
            "stalled",
            group("healthy", 62, JOIN + STAY),
            group("driver", 1, JOIN + STREAM),
            group(
                "one",
                1,
                JOIN + ('{ do = "stop-reading" }, { do = "stay" }, { do = "drop" }' if stalls else STAY),
                "may_be_closed = true\nreceive_buffer = 4096",
            ),
            duration=duration,
        )
        with ours() as target:
            result = load(target, text)
        rates[stalls].append(result["deliveries"]["perSecond"] / (63 if stalls else 64))
        peaks[stalls] = max(peaks[stalls], result["server"]["rssPeak"] / 1e6)
    slower = 1 - statistics.median(rates[True]) / statistics.median(rates[False])
    return f"{slower:+.1%}; server memory at most {peaks[True]:.0f} MB, without it {peaks[False]:.0f} MB"


def many_threads(rounds: int) -> dict[str, str]:
    """Measure 1,000 threads x 10, all the time in one turn each and in turn after turn, and one thread x 256.

    All for as long, so that what else the machine does meets them alike: a turn of 10,000 deltas in every
    thread is a hundred million deliveries.
    """
    found: dict[str, list[tuple[float, float]]] = {"fanout": [], "streams": [], "threads": []}
    for _ in range(rounds):
        for name, results in found.items():
            with ours() as target:
                result = load(target, name, "--duration", "20s")
            results.append((result["deliveries"]["perSecond"], result["server"]["cpuUsPerDelivery"]))
    one = statistics.median(rate for rate, _ in found.pop("fanout"))
    told = {}
    for name, results in found.items():
        rate, each = (statistics.median(values) for values in zip(*results, strict=True))
        told[name] = (
            f"{rate:,.0f} deliveries/s, {rate / one:.0%} of one thread x 256; {each:.3f} µs of CPU each"
        )
    return told


def table(duration: str, rounds: int) -> JsonObject:
    """Measure and print the table."""
    servers: dict[str, Server] = {"trunkline": ours}
    if codex_binary() is not None:
        servers["codex"] = codex
    busy = os.getloadavg()[0]
    found: JsonObject = dict(measure(servers, duration, rounds))
    us, them = found["trunkline"], found.get("codex", {})
    print(f"medians of {rounds} rounds; processors: {os.cpu_count()}, load average before: {busy:.1f}\n")
    print("| | codex app-server | trunkline | ratio |\n|---|---|---|---|")
    for name, title, form in (
        ("deliveries/s", "deliveries/s, one thread, 256 subscribers, ~230-byte events", "{:,.0f}"),
        ("CPU per delivery", "server CPU per delivery, the same", "{:.2f} µs"),
        ("results/s", "`thread/loaded/list`, 256 connections, closed loop, results/s", "{:,.0f}"),
        ("answers/s", "the same, refusals counted as answers", "{:,.0f}"),
        ("p50", "`thread/loaded/list`, one connection, p50", "{:,.0f} µs"),
        ("memory", "memory per idle initialized connection", "{:,.0f} B"),
    ):
        theirs = form.format(them[name]) if name in them else "not measured"
        ratio = f"{us[name] / them[name]:.3g}" if them.get(name) else ""
        print(f"| {title} | {theirs} | {form.format(us[name])} | {ratio} |", flush=True)
    rest: list[tuple[str, str, Callable[[], str]]] = [
        (
            "10,000",
            "10,000 connections: open, hold, fan out to all, close",
            lambda: ten_thousand(duration),
        ),
        ("stalled", "a stalled reader among 64: slowdown of the others", lambda: stalled(duration, rounds)),
    ]
    for key, title, value in rest:
        found[key] = value()
        print(f"| {title} | | {found[key]} | |", flush=True)
    found |= many_threads(rounds)
    print(f"| 1,000 threads x 10 subscribers, all streaming | | {found['streams']} | |")
    print(f"| the same, in turns of 10,000 deltas that end and begin | | {found['threads']} | |", flush=True)
    return found


# The curves


def per_delivery_by_subscribers(duration: str) -> dict[int, float]:
    """Return the CPU of a delivery, in microseconds, by the number of subscribers of one thread."""
    found = {}
    for connections in (16, 64, 256, 1024):
        with ours() as target:
            result = load(target, "fanout", "--connections", str(connections), "--duration", duration)
        found[connections] = result["server"]["cpuUsPerDelivery"]
    return found


def per_delivery_by_threads(duration: str) -> dict[int, float]:
    """Return the CPU of a delivery by the number of threads, with ten subscribers each."""
    found = {}
    for threads in (1, 10, 100, 1000):
        text = scenario(
            "threads",
            group("watchers", 9 * threads, QUIET + STAY),
            group("drivers", threads, QUIET + STREAM),
            threads=threads,
            # A thousand turns take a while to begin.
            duration="20s" if threads == 1000 else duration,
        )
        with ours() as target:
            found[threads] = load(target, text)["server"]["cpuUsPerDelivery"]
    return found


def coming_and_going(threads: int) -> str:
    """Return the steps of a connection that subscribes to some threads and vanishes, again and again."""
    resumes = "".join(
        f'{{ do = "resume", threads = "rooms", pick = "index", index = {index} }}, '
        for index in range(threads)
    )
    visit = f'{{ do = "initialize" }}, {resumes}{{ do = "drop" }}'
    return f'{{ do = "begin" }}, {{ do = "repeat", steps = [{visit}] }}'


def per_visit(held: int, threads: int, duration: str, *, in_the_room: bool = False) -> float:
    """Return the CPU of a visit in microseconds: connect, initialize, subscribe, vanish, be forgotten.

    Args:
        held: connections that are there besides.
        threads: what the visitor subscribes to.
        duration: of the measurement.
        in_the_room: whether those connections are subscribed to the thread that is visited.

    """
    stay = (JOIN if in_the_room else '{ do = "initialize" }, { do = "begin" }, ') + STAY
    text = scenario(
        "visits",
        group("held", held, stay),
        group("visitors", 8, coming_and_going(threads)),
        threads=max(threads, 1),
        duration=duration,
    )
    with ours() as target:
        result = load(target, text)
    visits = result["latencies"]["connect"]["count"]
    return float(result["server"]["cpuSeconds"] / visits * 1e6)


def curves(duration: str) -> JsonObject:
    """Measure and print the curves."""
    found = {
        "CPU per delivery by subscribers of one thread, µs": per_delivery_by_subscribers(duration),
        "CPU per delivery by threads with 10 subscribers, µs": per_delivery_by_threads(duration),
        "CPU per visit by connections held, µs": {
            held: per_visit(held, 1, duration) for held in (10, 100, 1000, 8000)
        },
        "CPU per visit by other subscribers of the thread, µs": {
            held: per_visit(held, 1, duration, in_the_room=True) for held in (10, 100, 1000, 8000)
        },
        "CPU per visit by subscriptions of the visitor, µs": {
            threads: per_visit(10, threads, duration) for threads in (1, 4, 16, 64)
        },
    }
    for title, curve in found.items():
        print(f"| {title} | " + " | ".join(str(size) for size in curve) + " |")
        print("|---|" + "---|" * len(curve))
        print("| | " + " | ".join(f"{cost:.3g}" for cost in curve.values()) + " |\n", flush=True)
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--curves", action="store_true", help="the curves, and not the table")
    parser.add_argument("--duration", default="5s", help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind; the median counts")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--svg", type=Path, help="draw the curves here")
    arguments = parser.parse_args()
    found = curves(arguments.duration) if arguments.curves else table(arguments.duration, arguments.rounds)
    if arguments.svg is not None and arguments.curves:
        arguments.svg.write_text(draw(found), encoding="utf-8")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
