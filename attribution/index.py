"""Exact search over the vectors of a collection: every work is looked at, so a "no match" is exhaustive."""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

# Read when an OpenMP runtime loads (torch's here, FAISS's elsewhere on this floor): idle threads of the one would
# otherwise spin and starve the other's.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from attribution.errors import VectorError
from attribution.scan import Scan
from models.loading import device_for

SPARE = 6  # candidates beyond k that a scan brings along, so that it rarely has to be done again
QUERIES = 1024  # scanned for together
GPU_SHARE = 4  # stored rows may take one part in so many of what a GPU has free: networks need the rest
PAIR_CELLS = 1 << 22  # float64 numbers gathered at a time to decide among candidates


class StoredRows(Protocol):
    """Rows of unit length in binary16, somewhere: `attribution.vector_sets.VectorSet` is one."""

    dim: int

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (m, dim) float32 for (m,) row numbers."""
        ...

    def blocks(self) -> Iterator[NDArray[np.float16]]:
        """Yield all rows in order as (b, dim) float16."""
        ...


class Exhaustive(NamedTuple):
    """The best rows of each query, from looking at all of them: (m, k) scores, best first, and (m, k) row numbers."""

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]

    def nothing_reaches(self, score: float) -> NDArray[np.bool_]:
        """Return (m,): that no work scores `score` or more. Only an exhaustive search can say so; needs k >= 1.

        It says nothing of works outside the index, nor of copies that the encoder does not place near their source.
        """
        return np.asarray(self.scores.max(axis=1, initial=-np.inf) < score)


class ExactIndex:
    """Inner product over (n, d) rows, on a GPU when there is one, else on the CPU.

    A scan in float32 proposes every row that its rounding error leaves in question; their scores are then computed
    again in float64, from the vectors as they were given, and decide. Which machine scanned does not show.
    """

    def __init__(self, vectors: NDArray[np.float32] | StoredRows, *, device: str = "auto") -> None:
        """Take (n, d) float32 rows, used in place on a CPU, or stored ones.

        Stored rows are read into memory whole: on a GPU as they are, 2 bytes a number, otherwise as float32; those that
        decide are taken from the store. Raises ValueError unless the rows are (n, d) float32 and finite, and
        NetworkError for a device that is not there.
        """
        place = device_for(device)
        self._stored = None if isinstance(vectors, np.ndarray) else vectors
        if not isinstance(vectors, np.ndarray):
            kind = torch.float16 if place.type == "cuda" else torch.float32
            rows = _loaded(vectors, kind, place)
            self._vectors = rows.numpy() if place.type == "cpu" else None
        else:
            if vectors.ndim != 2 or vectors.dtype != np.float32 or not np.isfinite(vectors).all():
                raise VectorError(
                    f"vectors must be (n, d) float32 and finite, not {vectors.shape} {vectors.dtype}",
                    code="vectors_not_finite",
                    next_step="Encode the works again; an encoder's rows are finite and have unit length.",
                )
            self._vectors = np.require(vectors, requirements=["C", "W"])  # torch shares memory it may write to
            rows = torch.from_numpy(self._vectors).to(place)
        self.scan = Scan(rows)
        if not np.isfinite(self.scan.longest):
            raise VectorError(
                "the vectors are not finite",
                code="vectors_not_finite",
                next_step="Open the set again: its files are checked then.",
            )

    @property
    def dim(self) -> int:
        return int(self.scan.rows.shape[1])

    def __len__(self) -> int:
        return len(self.scan.rows)

    def search(self, queries: NDArray[np.float32], k: int) -> Exhaustive:
        """Return the best min(k, n) rows for each of (m, d) queries, best first: (scores, rows), both (m, min(k, n)).

        Equal scores stand in the order of their rows. Rows and queries of unit length give cosines, cut to [-1, 1].
        Raises ValueError unless the queries are (m, d) and finite. Where thousands of rows are the same to 1e-4, all
        of them are in question, and the answer takes longer.
        """
        queries = self._checked(queries)
        k = min(k, len(self))
        if k <= 0 or len(queries) == 0:
            return Exhaustive(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64))
        parts = [self._search(queries[first : first + QUERIES], k) for first in range(0, len(queries), QUERIES)]
        return Exhaustive(np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]))

    def _search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        slack, most = 2 * self.scan.slack(queries), min(len(self), k + SPARE)
        while True:
            values, rows = self.scan.best(queries, most)
            edge = values[:, k - 1] - slack
            if most == len(self) or (values[:, -1] < edge).all():
                break
            most = min(len(self), 8 * most)
        query, candidate = np.nonzero(values >= edge[:, None])
        values.fill(-np.inf)
        values[query, candidate] = exact_scores(queries, query, rows[query, candidate], self._take)
        order = np.lexsort((rows, -values), axis=-1)[:, :k]
        return np.take_along_axis(values, order, axis=-1), np.take_along_axis(rows, order, axis=-1)

    def _take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if self._vectors is not None:
            return self._vectors[rows]
        assert self._stored is not None
        return self._stored.take(rows)

    def _checked(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        dim = self.dim
        if queries.ndim != 2 or queries.shape[1] != dim or not np.isfinite(queries).all():
            raise VectorError(
                f"queries must be (m, {dim}) and finite, not {queries.shape}",
                code="query_unusable",
                next_step="Encode the image with the encoder of this index.",
            )
        return np.asarray(queries, np.float32)


def exact_scores(
    queries: NDArray[np.float32],
    query: NDArray[np.int64],
    rows: NDArray[np.int64],
    take: Callable[[NDArray[np.int64]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return the score of each of p pairs of a query's number and a row's, (p,) float32, summed in float64.

    `take` gives (p, d) vectors of (p,) row numbers. Equal vectors have equal scores, to the bit; cut to [-1, 1].
    """
    found = np.empty(len(rows), np.float64)
    step = max(1, PAIR_CELLS // queries.shape[1])
    for first in range(0, len(rows), step):
        part = slice(first, first + step)
        pairs = queries[query[part]].astype(np.float64), take(rows[part]).astype(np.float64)
        found[part] = np.einsum("pd,pd->p", *pairs)
    return found.astype(np.float32).clip(-1.0, 1.0)


def fits_gpu(vectors: StoredRows) -> bool:
    """Say whether there is a GPU with room for these rows: ExactIndex then keeps them there, 2 bytes a number."""
    place = device_for("auto")
    return place.type == "cuda" and 2 * len(vectors) * vectors.dim <= torch.cuda.mem_get_info(place)[0] // GPU_SHARE


def score_blocks(
    vectors: NDArray[np.float32] | StoredRows, queries: NDArray[np.float32], *, device: str = "auto"
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (first row, (m, b) scores) of (m, d) finite queries and all rows in order, cut to [-1, 1].

    Some 1e-7 from what `search` says. Stored rows are read once and not kept.
    """
    place, first = device_for(device), 0
    for block in [vectors] if isinstance(vectors, np.ndarray) else vectors.blocks():
        rows = torch.from_numpy(np.require(block, np.float32, ["C", "W"])).to(place)
        for start, scores in Scan(rows).products(queries):
            yield first + start, scores.clamp_(-1.0, 1.0).cpu().numpy()
        first += len(block)


def search_files(vectors: StoredRows, queries: NDArray[np.float32], k: int, *, device: str = "auto") -> Exhaustive:
    """Search a set that does not fit into memory, reading it once from disk: the same answer as ExactIndex's.

    For each call; takes what the disk takes. Raises ValueError as `ExactIndex.search` does.
    """
    found = ExactIndex(np.empty((0, vectors.dim), np.float32), device=device).search(queries, k)
    scores, rows, first = *found, 0
    for block in vectors.blocks():
        part = ExactIndex(block.astype(np.float32), device=device).search(queries, k)
        scores = np.concatenate([scores, part.scores], axis=1)
        rows = np.concatenate([rows, part.rows + first], axis=1)
        order = np.lexsort((rows, -scores), axis=-1)[:, : max(0, k)]
        scores, rows = np.take_along_axis(scores, order, axis=-1), np.take_along_axis(rows, order, axis=-1)
        first += len(block)
    return Exhaustive(scores, rows)


def _loaded(vectors: StoredRows, kind: torch.dtype, place: torch.device) -> torch.Tensor:
    rows = torch.empty((len(vectors), vectors.dim), dtype=kind, device=place)
    first = 0
    for block in vectors.blocks():
        rows[first : first + len(block)] = torch.from_numpy(np.array(block))
        first += len(block)
    return rows
