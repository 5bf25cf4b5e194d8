"""Exact search over the vectors of a collection: every work is looked at, so a "no match" is exhaustive."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Read when the OpenMP runtime loads: FAISS's idle threads would otherwise spin and starve the networks' threads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import faiss

faiss.cvar.distance_compute_blas_threshold = 1  # the default scans small batches without BLAS, some 20 times slower


class ExactIndex:
    """Inner product over (n, d) float32 rows; on a GPU when FAISS finds one, else on the CPU."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """Raises ValueError unless `vectors` is a (n, d) float32 array of finite numbers."""
        if vectors.ndim != 2 or vectors.dtype != np.float32 or not np.isfinite(vectors).all():
            raise ValueError(f"vectors must be (n, d) float32 and finite, not {vectors.shape} {vectors.dtype}")
        self.vectors = np.ascontiguousarray(vectors)
        self._index: Any = faiss.IndexFlatIP(vectors.shape[1])
        if len(vectors) and faiss.get_num_gpus() > 0:
            self._resources = faiss.StandardGpuResources()  # must outlive the index
            self._index = faiss.index_cpu_to_gpu(self._resources, 0, self._index)
        if len(vectors):
            self._index.add(self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the best min(k, n) rows for each of (m, d) queries, best first: (scores, rows), both (m, min(k, n)).

        Equal scores stand in the order of their rows. Rows and queries of unit length give cosines, cut to [-1, 1].
        """
        k = min(k, len(self.vectors))
        if k <= 0 or len(queries) == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        scores, rows = self._index.search(np.ascontiguousarray(queries, np.float32), k)
        order = np.lexsort((rows, -scores), axis=-1)
        scores = np.take_along_axis(scores, order, axis=-1).clip(-1.0, 1.0)
        return scores, np.take_along_axis(rows, order, axis=-1)

    def scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the score of every row for every query, (m, n), cut to [-1, 1]."""
        every: NDArray[np.float32] = np.asarray(queries, np.float32) @ self.vectors.T
        return every.clip(-1.0, 1.0)
