"""`trunkline status`: a server at a glance."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import click
import orjson

from trunkline_cli.credential import find_token, token_setting
from trunkline_cli.options import check_server_url
from trunkline_cli.wire import open_client

__all__ = ["lines", "status"]

JsonObject: TypeAlias = dict[str, Any]

NAME_WIDTH = 16


@click.command(short_help="Show a server at a glance.")
@click.argument("url", callback=check_server_url)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@token_setting
def status(url: str, token_file: Path | None, *, as_json: bool) -> None:
    """Show what the server at URL has and has done: connections, threads, turns, requests and so on.

    With authentication it needs a credential with the scope `admin`.
    """
    with open_client(url, lambda _: None, bearer=find_token(url, token_file)) as client:
        answer = client.request("trunkline/status")
    if as_json:
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
    else:
        for name, text in lines(answer):
            click.echo(f"{name.ljust(NAME_WIDTH)}{text}".rstrip())


def lines(answer: JsonObject) -> Iterator[tuple[str, str]]:
    """Yield what is shown of a status: a name, and a text."""
    connections, turns, requests = answer["connections"], answer["turns"], answer["requests"]
    uptime = dt.timedelta(seconds=int(answer["uptimeS"]))
    state = "ready" if answer["isReady"] else "stopping"
    yield "server", f"trunkline {answer['version']}, up {uptime}, {state}"
    yield "connections", f"{connections['open']:,} of {connections['opened']:,} that came in"
    yield "subscriptions", f"{answer['subscriptions']:,}"
    yield "threads", f"{answer['threads']['loaded']:,} loaded"
    yield "turns", f"{turns['running']:,} running; {_counts(turns['ended'])}"
    answered = requests["answered"].values()
    done = sum(results.get("ok", 0) for results in answered)
    refused = sum(sum(results.values()) for results in answered) - done
    yield "requests", f"{requests['inFlight']:,} in flight; {done:,} answered, {refused:,} refused"
    yield "deliveries", f"{answer['deliveries']:,}"
    yield "flushes", _sizes(answer["flushedBytes"], "bytes")
    depths = [f"{actor} {each['messages']:,}" for actor, each in answer["mailboxes"].items()]
    yield "mailboxes", ", ".join(depths)
    yield "slow consumers", _counts(answer["slowConsumers"])
    yield "refusals", _counts(answer["refusals"])
    yield "store commits", _sizes(answer["storeCommitsUs"], "µs")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _sizes(sizes: JsonObject, unit: str) -> str:
    """Say how many there are, and what is typical of them."""
    count: int = sizes["count"]
    if not count:
        return "none"
    # The end of the bucket that half of them, or nearly all, are below.
    ends = [
        next((int(end) for end, below in sizes["below"].items() if below >= count * share), math.inf)
        for share in (0.5, 0.99)
    ]
    return f"{count:,}; half below {ends[0]:,} {unit}, 99 % below {ends[1]:,}"
