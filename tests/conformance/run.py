"""Runs the Autobahn Testsuite against the WebSocket listener: see docs/conformance.md.

    python tests/conformance/run.py --wstest PATH [--cases 1.*,2.*] [--tls] [--report FOLDER]

Prints how each group of cases went, and every case that is not fine; exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "actors"), str(ROOT / "tests")]

# From source, as above.
from conformance.echo import echo_server  # noqa: E402
from security.certificates import make_certificate  # noqa: E402
from trunkline.transports.tls import make_tls_context  # noqa: E402

GROUPS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "close handling",
    "9": "limits and performance",
    "10": "miscellaneous",
}
"""Without 12 and 13: compression is not offered."""

FINE = ("OK", "NON-STRICT", "INFORMATIONAL")
"""What the suite says of a case that was passed: as it should be, as it may be, or as nobody prescribes."""

TIMEOUT_S = 3600


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="The Autobahn Testsuite against trunkline's listener.")
    parser.add_argument("--wstest", default="wstest", help="The suite's command.")
    parser.add_argument("--cases", default=",".join(f"{group}.*" for group in GROUPS), help="Such as 1.*,7.*")
    parser.add_argument("--report", type=Path, help="A folder to keep the suite's report in.")
    parser.add_argument("--tls", action="store_true", help="Over wss://, with a certificate for the run.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = options.report or Path(scratch) / "report"
        tls = make_tls_context(*make_certificate(Path(scratch))) if options.tls else None
        with echo_server(tls) as listener:
            _run(options.wstest, listener.url, options.cases.split(","), report.resolve(), Path(scratch))
        results = json.loads((report / "index.json").read_bytes())["trunkline"]
    return _show(results)


def _run(wstest: str, url: str, cases: list[str], report: Path, scratch: Path) -> None:
    spec = {
        "servers": [{"agent": "trunkline", "url": url, "options": {"version": 18}}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
        "outdir": str(report),
    }
    path = scratch / "spec.json"
    path.write_text(json.dumps(spec))
    command = [wstest, "--mode", "fuzzingclient", "--spec", str(path)]
    subprocess.run(command, check=True, cwd=scratch, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)


def _show(results: dict[str, dict[str, Any]]) -> int:
    """Print the results; return the exit status."""
    by_group: dict[str, Counter[str]] = {}
    failed = []
    for case in sorted(results, key=lambda name: [int(part) for part in name.split(".")]):
        result = results[case]
        by_group.setdefault(case.partition(".")[0], Counter()).update([result["behavior"]])
        if result["behavior"] not in FINE or result["behaviorClose"] not in FINE:
            failed.append(f"{case}: {result['behavior']}, close {result['behaviorClose']}")
    for group, counts in by_group.items():
        told = ", ".join(f"{count} {behavior}" for behavior, count in counts.most_common())
        print(f"{group:>3} {GROUPS.get(group, ''):<24} {told}")
    print(f"{len(results)} cases, {len(failed)} of them not passed")
    print(*failed, sep="\n", end="\n" if failed else "")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
