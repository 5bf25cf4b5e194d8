"""The inner product of queries with every row of a matrix, and its largest values, on a CPU or a GPU.

One scan reads the matrix once, so on both it is bound by memory for few queries. The largest values are found through
the largest of each group of 64: a group that holds one of the best `most` rows is itself among the best `most` groups.
That costs a fraction of what torch's or FAISS's own selection over all values does (benchmarks/search.py), but for one
query on a CPU, where torch's own is as fast and its fewer steps wait less for each other's threads.

On a GPU rows of a file stay binary16, as they are stored. Each query is then split into two binary16 columns,
q = high + low / 2048, which loses nothing that float32 would keep, and products are summed in float32. A second column
costs a scan that waits for memory nothing.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

GROUP = 64
CELLS = {"cpu": 1 << 22, "cuda": 1 << 28}  # scores held at a time, 4 bytes each; on a CPU in its cache
LEAST_ROWS = 1 << 14  # scanned at a time, however many queries
NORM_ROWS = 1 << 16
LOW = 2048.0  # 2^11: one bit more than the fraction of binary16
COLUMNS = 8  # tensor cores want multiples of this


class Scan:
    """`rows`: (n, d) float32, or on a GPU float16, on the device where the scan runs."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    @cached_property
    def longest(self) -> float:
        """Length of the longest row: reads the rows once. Only those who search need it."""
        parts = (self.rows[first : first + NORM_ROWS].float() for first in range(0, len(self.rows), NORM_ROWS))
        return max((float(torch.linalg.vector_norm(part, dim=1).max()) for part in parts), default=0.0)

    def slack(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return for each of (m, d) queries by how much a computed score may differ from the exact one, (m,) float64.

        |fl(x·y) - x·y| <= d u |x||y| (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1, with
        Cauchy-Schwarz), u = 2^-24 for float32 in any order of summation. Tensor cores cut off instead of rounding, so
        u = 2^-23 for binary16 rows, plus what a query loses in being split.
        """
        dim = self.rows.shape[1]
        relative = dim * 2.0**-24 if self.rows.dtype == torch.float32 else dim * 2.0**-23 + 2.0**-21
        return np.asarray(relative * self.longest * np.linalg.norm(queries.astype(np.float64), axis=1))

    def products(self, queries: NDArray[np.float32]) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (first row, (m, b) float32 scores) over all rows in order, on the device of the rows."""
        columns = torch.from_numpy(np.array(queries, np.float32, order="C")).to(self.rows.device)
        step = max(LEAST_ROWS, CELLS[self.rows.device.type] // max(1, len(columns)))
        if self.rows.dtype == torch.float32:
            for first in range(0, len(self.rows), step):
                yield first, columns @ self.rows[first : first + step].T
            return
        size = torch.linalg.vector_norm(columns, dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        split = _split(columns / size)
        for first in range(0, len(self.rows), step):
            block = self.rows[first : first + step].T
            both = torch.mm(split, block, out_dtype=torch.float32)[: 2 * len(columns)].view(2, len(columns), -1)
            yield first, torch.add(both[0], both[1], alpha=1 / LOW).mul_(size)

    def best(self, queries: NDArray[np.float32], most: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the `most` (at most n) largest scores of each of (m, d) queries and their rows, both (m, most).

        Largest first; in what order equal ones stand, and which of them are in, is left open.
        """
        values = rows = None
        for first, scores in self.products(queries):
            value, row = _largest(scores, most)
            if values is None or rows is None:
                values, rows = value, row
                continue
            values, rows = torch.cat([values, value], dim=1), torch.cat([rows, row + first], dim=1)
            values, kept = values.topk(min(most, values.shape[1]), dim=1)
            rows = rows.gather(1, kept)
        if values is None or rows is None:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        return values.cpu().numpy(), rows.cpu().numpy()


def _split(unit: torch.Tensor) -> torch.Tensor:
    """(m, d) float32 of unit length to (2m, d) float16, high parts and then low ones, filled up with zero rows."""
    high = unit.half()
    both = torch.cat([high, ((unit - high.float()) * LOW).half()])
    return torch.nn.functional.pad(both, (0, 0, 0, -len(both) % COLUMNS))


def _largest(scores: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(m, n) scores to the largest min(most, n) of each row, largest first, and where they stand."""
    groups = scores.shape[1] // GROUP
    if groups < 4 * most or (len(scores) == 1 and scores.device.type == "cpu"):
        direct = scores.topk(min(most, scores.shape[1]), dim=1)
        return direct.values, direct.indices
    grouped = scores[:, : groups * GROUP].view(len(scores), groups, GROUP)
    chosen = grouped.amax(dim=2).topk(most, dim=1, sorted=False).indices[:, :, None]
    within = torch.arange(GROUP, device=scores.device)
    rest = torch.arange(groups * GROUP, scores.shape[1], device=scores.device).expand(len(scores), -1)
    values = torch.cat([grouped.gather(1, chosen.expand(-1, -1, GROUP)).flatten(1), scores[:, groups * GROUP :]], dim=1)
    places = torch.cat([(chosen * GROUP + within).flatten(1), rest], dim=1)
    found = values.topk(most, dim=1)
    return found.values, places.gather(1, found.indices)
