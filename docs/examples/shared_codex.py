"""Codex's Python SDK on a thread that terminals share: its app-server is trunkline, in front of Codex.

Run it: `python docs/examples/shared_codex.py 'what to do'`, and join it from a terminal with what it prints.
"""

from __future__ import annotations

import sys

from openai_codex import CodexConfig, Thread
from openai_codex.client import CodexClient
from openai_codex.models import JsonObject

URL = "ws://127.0.0.1:4510"
SERVE = ("-m", "trunkline_cli", "serve", "--agent", "codex", "--listen", "stdio://", "--listen", URL)


def leave_it_to_the_terminals(_method: str, _params: JsonObject | None) -> JsonObject:
    """Answer no approval here: what is no answer leaves it open for others."""
    return {}


def main() -> None:
    """Run a turn, and print what was said at the end."""
    config = CodexConfig(launch_args_override=(sys.executable, *SERVE))
    with CodexClient(config, leave_it_to_the_terminals) as client:
        client.initialize()
        thread = Thread(client, client.thread_start().thread.id)
        print(f"codex --remote {URL} resume {thread.id}", flush=True)
        print(thread.run(" ".join(sys.argv[1:])).final_response)


if __name__ == "__main__":
    main()
