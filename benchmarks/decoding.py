"""What opening a file in another process costs: `python -m benchmarks.decoding`, file by file here and there.

Ratios are of the same run, pair by pair, so that a noisy machine is noisy for both.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import ratio, show, spread
from ledger.decoding.decoders import Decoders
from ledger.decoding.reading import IN_THIS_PROCESS, FileReader
from models.images import Limits, encode_png

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "credentials" / "0.1.0"
ROOT = (GOLDEN / "root.pem").read_text()


def picture(side: int) -> bytes:
    """A smooth picture with some grain, as a generator's are."""
    y, x = np.mgrid[:side, :side]
    grain = np.random.default_rng(0).normal(0, 8, (side, side, 3))
    pixels = np.stack([x * 255 / side, y * 255 / side, (x + y) % 256], -1) + grain
    return encode_png(pixels.clip(0, 255).astype(np.uint8))


def seconds(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def measure(runs: int) -> dict[str, Any]:
    now, signed = datetime.now(UTC), (GOLDEN / "created.png").read_bytes()
    pictures = {f"decode {side} x {side} PNG": picture(side) for side in (64, 512, 1024, 2048)}
    asked: dict[str, Callable[[FileReader], object]] = {
        name: (lambda reader, data=data: reader.decode(data))  # type: ignore[misc]
        for name, data in pictures.items()
    }
    asked["read a credential"] = lambda reader: reader.read_credential(signed, "image/png", anchors_pem=ROOT, now=now)
    result: dict[str, Any] = {}
    with Decoders(Limits(), at_once=1) as decoders:
        result["start_ms"] = round(seconds(lambda: decoders.decode(signed)) * 1000)
        for name, ask in asked.items():
            here, there = [], []
            for _ in range(runs):
                here.append(seconds(lambda ask=ask: ask(IN_THIS_PROCESS)))  # type: ignore[misc]
                there.append(seconds(lambda ask=ask: ask(decoders)))  # type: ignore[misc]
            result[name] = {"here": spread(here), "there": spread(there), "there / here": ratio(there, here)}
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    figures = measure(arguments.runs)
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
