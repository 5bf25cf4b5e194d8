"""Retrieval and detection figures. Plain numpy; intervals are in `attribution.calibration`.

mAP@k and Recall@k are those of CSD (Somepalli et al., "Measuring Style Similarity in Diffusion Models", 2024; the
evaluation code released with it), so that figures can be laid beside its tables. Note that its mAP@k is not the
textbook's: it is the mean over the ranks 1..k of the precision at that rank, whether or not the work there is relevant.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


def ranked(scores: NDArray[np.floating], relevant: Flags, most: int, hidden: Flags | None = None) -> Flags:
    """Return (m, most) bool: whether the works at ranks 1..most of each query are relevant.

    `scores` (m, n), higher is nearer; ties keep the order of the works. `hidden` (m, n) works are not in the ranking (a
    query itself); where fewer than `most` are left, the ranks after them count as not relevant.
    """
    exact = np.asarray(scores, np.float64)
    if hidden is not None:
        exact = np.where(hidden, -np.inf, exact)
    most_there = min(most, exact.shape[1])
    order = np.argsort(-exact, axis=1, kind="stable")[:, :most_there]
    found = np.take_along_axis(relevant, order, 1) & (np.take_along_axis(exact, order, 1) > -np.inf)
    return np.pad(found, ((0, 0), (0, most - most_there)))


def recall_at_k(found: Flags, k: int) -> NDArray[np.float64]:
    """Return (m,) 0 or 1 for each query: is any of its first k works relevant? `found` is of `ranked`, at least k wide.

    Their mean is CSD's Recall@k. It says nothing of how many relevant works were missed.
    """
    return np.asarray(_first(found, k).any(axis=1), np.float64)


def map_at_k(found: Flags, k: int) -> NDArray[np.float64]:
    """Return (m,) the mean over ranks j = 1..k of the precision at j; the mean over queries is CSD's mAP@k."""
    hits = np.cumsum(_first(found, k), axis=1)
    return np.asarray((hits / np.arange(1, k + 1)).mean(axis=1), np.float64)


def micro_average_precision(scores: NDArray[np.floating], right: Flags, positives: int) -> float:
    """Return μAP: precision over recall with all predictions of all queries in one ranking (Douze et al., 2021).

    `scores` (n,) and `right` (n,) of n predictions; `positives` true pairs exist, found or not. Predictions of equal
    score are taken together, so that their order cannot help. Raises ValueError where there is nothing to find, or
    more was right than there is.
    """
    found = int(np.count_nonzero(right))
    if positives < 1 or found > positives:
        raise ValueError(f"{found} right predictions of {positives} true pairs")
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    sorted_scores, hits = np.asarray(scores, np.float64)[order], np.cumsum(right[order])
    last = np.flatnonzero(np.append(np.diff(sorted_scores) != 0, True)) if len(order) else np.empty(0, np.int64)
    gained = np.diff(hits[last], prepend=0)
    return float((gained / positives * hits[last] / (last + 1)).sum())


def frechet(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the Fréchet distance between normal distributions fitted to (n, d) and (m, d) features.

    |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½), as in Heusel et al. (2017), in the caller's features. Few rows make it
    larger: compare only distances of the same n and m.
    """
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    apart = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2 * shared)


class AtRate(NamedTuple):
    """Scores above `threshold` are called matches; of the null's n scores `false` are, a rate of `measured`."""

    threshold: float
    false: int
    n: int

    @property
    def measured(self) -> float:
        return self.false / self.n


def threshold_at(null: NDArray[np.floating], rate: float) -> AtRate:
    """The lowest threshold with which at most `rate` of the null's scores (n,) lie above it.

    A query without any match has -inf. Too few null scores to measure the rate (n < 1 / rate) give the highest of them:
    then none lies above it, which proves no more than Clopper-Pearson's bound says. Raises ValueError without scores.
    """
    if len(null) == 0:
        raise ValueError("no null scores")
    descending = np.sort(np.asarray(null, np.float64))[::-1]
    threshold = float(descending[min(int(rate * len(null) + 1e-9), len(null) - 1)])
    return AtRate(threshold, int((descending > threshold).sum()), len(null))


def _first(found: Flags, k: int) -> Flags:
    if k < 1 or found.shape[1] < k:
        raise ValueError(f"k must be 1 to {found.shape[1]}, not {k}")
    return found[:, :k]
