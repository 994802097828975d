"""The fuzz runs, for as long as you like: see docs/robustness.md.

    python tests/fuzz/run.py sockets [--examples N] [--seed N]
    python tests/fuzz/run.py TARGET [--seconds N] [--corpus FOLDER]

`sockets` has hostile clients attack a server that runs; a target is one of the parsers, under atheris. Exits
with 1 at the first finding, and says how to get there again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "actors"), str(ROOT / "tests")]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Fuzz trunkline.")
    parser.add_argument("what", help="sockets, or a parser.")
    parser.add_argument("--examples", type=int, default=1000, help="Of `sockets`: how many lives.")
    parser.add_argument("--steps", type=int, default=50, help="Of `sockets`: steps in one life.")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="For what is drawn at random.")
    parser.add_argument("--seconds", type=int, default=300, help="Of a parser.")
    parser.add_argument("--corpus", type=Path, help="Of a parser: a folder of inputs.")
    options = parser.parse_args()
    if options.what == "sockets":
        return _attack(options.examples, options.steps, options.seed)
    return _feed(options.what, options.seconds, options.seed, options.corpus)


def _attack(examples: int, steps: int, seed: int) -> int:
    from hypothesis import HealthCheck, settings
    from hypothesis import seed as with_seed
    from hypothesis.stateful import run_state_machine_as_test

    from fuzz.machine import house_for_strangers, quiet_log

    long = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    with quiet_log(), house_for_strangers() as strangers:
        run_state_machine_as_test(with_seed(seed)(strangers), settings=long)
    print(f"{examples} lives of up to {steps} steps in {time.monotonic() - began:.0f} s: nothing found")
    return 0


def _feed(name: str, seconds: int, seed: int, corpus: Path | None) -> int:
    import atheris

    with atheris.instrument_imports(include=["trunkline", "websockets", "jwt"]):
        from fuzz.parsers import SEEDS, TARGETS, WORDS
    if name not in TARGETS:
        print(f"there is no target {name}; there are sockets, {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        folder = corpus or Path(scratch) / "corpus"
        folder.mkdir(exist_ok=True)
        for number, data in enumerate(SEEDS[name]):
            (folder / f"seed-{number}").write_bytes(data)
        words = Path(scratch) / "words.dict"
        words.write_text("".join(f"{_quoted(word)}\n" for word in WORDS))
        limits = [f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=4096", "-print_final_stats=1"]
        places = [f"-dict={words}", f"-artifact_prefix={Path.cwd()}/", str(folder)]
        atheris.Setup([sys.argv[0], *limits, *places], TARGETS[name])
        atheris.Fuzz()  # ends the process
    return 0


def _quoted(word: str) -> str:
    """Write a word as the fuzzer's dictionaries want it."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'


if __name__ == "__main__":
    sys.exit(main())
