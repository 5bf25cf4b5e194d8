"""Fuzz parsers, image files with their credentials, and HTTP bodies: `python -m benchmarks.fuzz --parsers 1000000`.

Blind mutation of golden and newly drawn inputs, coverage is not looked at. Input n of a target depends on seed and n
alone: a run that was cut short goes on with `--first`, and a finding is made again by its number. A run ends when all
inputs are judged or its `--seconds` are over, and exits with 1 when there is a finding.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fuzz.judging import BATCH, Pool, Tally, judged, judged_apart, keep
from benchmarks.fuzz.target import Target

RESULT = Path(__file__).parents[1] / "results" / "fuzz.json"
FOUND = Path("build") / "fuzz"

Judge = Callable[[str, int, range], Tally]


def through(
    names: Sequence[str], judge: Judge, seed: int, first: int, inputs: int, deadline: float
) -> tuple[Tally, int]:
    """`inputs` of all targets together, batch by batch through all of them, and the number to go on with."""
    tally, last = Tally(), first + -(-inputs // len(names))
    for start in range(first, last, BATCH):
        numbers = range(start, min(start + BATCH, last))
        for name in names:
            tally.add(judge(name, seed, numbers))
        if sys.stderr.isatty() or (start - first) % (20 * BATCH) == 0:
            print(f"{tally.inputs.total():,} inputs, {len(tally.findings)} findings", file=sys.stderr, flush=True)
        if time.monotonic() > deadline:
            return tally, numbers.stop
    return tally, last


def told(tally: Tally, targets: Mapping[str, Target], seed: int, goes_on: int, seconds: float) -> dict[str, Any]:
    return {
        "inputs": tally.inputs.total(),
        "targets": dict(sorted(tally.inputs.items())),
        "findings": keep(FOUND, targets, seed, tally.findings),
        "slowest": {"seconds": round(tally.slowest, 3), "input": tally.slowest_input},
        "next": goes_on,
        "seconds": round(seconds),
    }


def fuzz(arguments: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.fuzz.files import decoders, file_targets
    from benchmarks.fuzz.parsers import PARSERS

    seed, first, result = arguments.seed, arguments.first, {}
    if arguments.parsers:
        started, pool = time.monotonic(), Pool()
        tally, goes_on = through(
            list(PARSERS), lambda name, seed, numbers: judged_apart(name, seed, numbers, pool),
            seed, first, arguments.parsers, started + arguments.seconds,
        )  # fmt: skip
        pool.close()
        result["parsers"] = told(tally, PARSERS, seed, goes_on, time.monotonic() - started)
    if arguments.files:
        with decoders() as opened:
            started, files = time.monotonic(), file_targets(opened)
            tally, goes_on = through(
                list(files), lambda name, seed, numbers: judged(name, files[name], seed, numbers),
                seed, first, arguments.files, started + arguments.seconds,
            )  # fmt: skip
            result["files"] = told(tally, files, seed, goes_on, time.monotonic() - started)
    if arguments.http:
        from benchmarks.fuzz.http import http_targets

        with http_targets() as requests:
            started = time.monotonic()
            tally, goes_on = through(
                list(requests), lambda name, seed, numbers: judged(name, requests[name], seed, numbers),
                seed, first, arguments.http, started + arguments.seconds,
            )  # fmt: skip
            result["http"] = told(tally, requests, seed, goes_on, time.monotonic() - started)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parsers", type=int, default=0, help="inputs of all parsers together")
    parser.add_argument("--files", type=int, default=0, help="image files, half of them read for a credential")
    parser.add_argument("--http", type=int, default=0, help="bodies through the whole web application")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most, for each of the three")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each target")
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    found = fuzz(arguments)
    machine = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    before = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    whole = {**before, "suite": "fuzz", "seed": arguments.seed, "first": arguments.first, "machine": machine, **found}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(whole, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return int(any(each["findings"] for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
