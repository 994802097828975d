"""`trunkline threads`: the threads that a server has loaded."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import click
import orjson

from trunkline_cli.client import Client, RpcFailure
from trunkline_cli.credential import find_token, token_setting
from trunkline_cli.options import check_server_url
from trunkline_cli.text import shorten, visible
from trunkline_cli.wire import open_client

__all__ = ["threads"]

JsonObject: TypeAlias = dict[str, Any]

HEADINGS = ("THREAD", "STATUS", "CLIENTS", "NAME")

MIN_NAME_WIDTH = 20
"""A terminal so narrow that less is left may wrap the line."""


@click.command(short_help="List the threads a server has loaded.")
@click.argument("url", callback=check_server_url)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, for programs.")
@token_setting
def threads(url: str, token_file: Path | None, *, as_json: bool) -> None:
    """List the threads that the server at URL has loaded.

    For each its id, its status, how many clients are subscribed to it (`-` if the server does not say), and
    its name, or else the beginning of its first message.
    """
    with open_client(url, lambda _: None, bearer=find_token(url, token_file)) as client:
        rows = [_row(thread) for thread in _loaded(client)]
    if as_json:
        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
    elif rows:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in table([_cells(row) for row in rows], width):
            click.echo(line)
    else:
        click.echo("no threads loaded", err=True)


def _loaded(client: Client) -> Iterator[JsonObject]:
    """Read every loaded thread, page by page."""
    cursor: str | None = None
    while True:
        page = client.request("thread/loaded/list", {"cursor": cursor})
        for thread_id in page.get("data") or ():
            try:
                yield client.request("thread/read", {"threadId": thread_id}).get("thread") or {}
            except RpcFailure:
                continue  # unloaded since it was listed
        cursor = page.get("nextCursor")
        if cursor is None:
            return


def _row(thread: JsonObject) -> JsonObject:
    """Return what is told of a thread. The names are those of the wire."""
    return {name: thread.get(name) for name in ("id", "status", "subscriberCount", "name", "preview", "cwd")}


def _cells(row: JsonObject) -> tuple[str, ...]:
    status = row["status"] or {}
    flags = status.get("activeFlags") or ()
    subscribers = row["subscriberCount"]
    return (
        visible(str(row["id"])),
        visible(" ".join([str(status.get("type", "?")), *(f"({flag})" for flag in flags)])),
        "-" if subscribers is None else str(subscribers),
        visible(shorten(str(row["name"] or row["preview"] or ""), 200)),
    )


def table(rows: Sequence[tuple[str, ...]], width: int | None) -> Iterator[str]:
    """Yield `rows` under their headings, in columns as wide as their widest cell.

    Args:
        rows: cells; the last column is cut to what is left of the line.
        width: columns of the terminal; None cuts nothing.

    """
    cells = [HEADINGS, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS) - 1)]
    room = None if width is None else max(MIN_NAME_WIDTH, width - sum(widths) - 2 * len(widths))
    for row in cells:
        start = "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=False))
        last = row[-1] if room is None else shorten(row[-1], room)
        yield f"{start}  {last}".rstrip()
