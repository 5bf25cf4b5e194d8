"""Exact search over rows in a GPU's memory as a share of the memory bandwidth measured in the same run.

    python -m benchmarks.search_gpu [--works 10000000] [--dim 1024] [--rounds 30] [--device cuda]

Rows are binary16, made on the device and kept on the host too, where the final scores come from (20 GB each for ten
million of 1,024). The bandwidth is the better of a copy (bytes read and written) and a sum (bytes read), both over the
rows themselves. On a CPU the same code runs at small sizes, to show that it does; its figures mean nothing there.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.index import ExactIndex
from benchmarks.measuring import show, spread
from models.loading import device_for

K = 10
BLOCK = 1 << 18
PART = 1 << 21  # rows copied or summed at a time for the bandwidth
BATCHES = (1, 4, 16, 64, 200)
TARGET = 0.8


class MadeRows:
    """(n, d) random unit rows in the host's memory; `attribution.index.StoredRows`."""

    def __init__(self, works: int, dim: int, device: torch.device) -> None:
        self.dim = dim
        self._rows = np.empty((works, dim), np.float16)
        generator = torch.Generator(device).manual_seed(0)
        for first in range(0, works, BLOCK):
            count = min(BLOCK, works - first)
            block = torch.randn((count, dim), device=device, generator=generator)
            self._rows[first : first + count] = torch.nn.functional.normalize(block, dim=1).half().cpu().numpy()

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._rows[rows].astype(np.float32)

    def blocks(self) -> Iterator[NDArray[np.float16]]:
        for first in range(0, len(self), BLOCK):
            yield self._rows[first : first + BLOCK]


def timed(work: Callable[[], object], rounds: int, device: torch.device) -> list[float]:
    """Seconds of each round after two unmeasured ones; the device is idle before and after each."""
    took = []
    for number in range(rounds + 2):
        _settle(device)
        begun = time.perf_counter()
        work()
        _settle(device)
        if number >= 2:
            took.append(time.perf_counter() - begun)
    return took


def bandwidths(rows: torch.Tensor, rounds: int) -> dict[str, float]:
    """Bytes a second of a copy (read and written) and of a sum (read), each at its median."""
    part = rows[:PART]
    target, size = torch.empty_like(part), part.numel() * part.element_size()
    copied = timed(lambda: target.copy_(part), rounds, rows.device)
    summed = timed(lambda: part.view(-1).sum(dtype=torch.float32), rounds, rows.device)
    return {"copy": 2 * size / float(np.median(copied)), "sum": size / float(np.median(summed))}


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = device_for(options.device)
    stored = MadeRows(options.works, options.dim, device)
    index = ExactIndex(stored, device=str(device))
    rows = index.scan.rows
    measured = bandwidths(rows, options.rounds)
    best, size = max(measured.values()), rows.numel() * rows.element_size()
    generator = np.random.default_rng(1)
    results: list[dict[str, Any]] = []
    for batch in BATCHES:
        queries = generator.standard_normal((batch, options.dim)).astype(np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        whole = timed(lambda queries=queries: index.search(queries, K), options.rounds, device)  # type: ignore[misc]
        share = [size / seconds / best for seconds in whole]
        low, middle, high = (round(float(value), 3) for value in np.percentile(share, (5, 50, 95)))
        results.append(
            {
                "batch": batch,
                "search": spread(whole),
                "share_of_bandwidth": {"p5": low, "p50": middle, "p95": high},
                "queries_per_s": round(batch / float(np.median(whole)), 1),
            }
        )
    show(
        {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "works": options.works,
            "dim": options.dim,
            "dtype": str(rows.dtype).removeprefix("torch."),
            "bandwidth_gb_per_s": {name: round(value / 1e9, 1) for name, value in measured.items()},
            "target_share": TARGET,
            "results": results,
        }
    )


if __name__ == "__main__":
    main()
