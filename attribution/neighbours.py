"""The works nearest to an image under one encoder, and how often an image by somebody else comes as near.

The null is "an image by an artist who is not in the collection". It is sampled in one of two ways: each work of the
collection as a query with its own artist left out, or each work of a background, a second reference whose artists are
not in the collection. The score is the best cosine over all works that are left, so that a p-value holds for the
nearest work whichever it is; a work further down the list has the p-value that it would have as the nearest.

What this does not prove: a near work is one that the encoder finds alike; that is neither copying nor influence.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attribution.calibration import Null
from attribution.index import ExactIndex

MIN_WORKS = 20
MAX_QUERIES = 1500  # bounds calibration to about a second for 10,000 works; 999 are enough for p = 0.001
CELLS = 4_000_000  # scores held at a time, some 16 MB


class Nearest(NamedTuple):
    """The k nearest works, best first: rows (k,) int64, cosines (k,) float32, p-values (k,) float64 or None."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    p_values: NDArray[np.float64] | None


def nearest(index: ExactIndex, null: Null | None, query: NDArray[np.float32], k: int) -> Nearest:
    """Return the k works nearest to one query, (d,) float32 of unit length. Without a null there are no p-values.

    Raises ValueError when the query is not finite: a broken vector is near to nothing.
    """
    if query.shape != (index.vectors.shape[1],) or not np.isfinite(query).all():
        raise ValueError(f"a query is ({index.vectors.shape[1]},) finite numbers, not {query.shape}")
    scores, rows = index.search(query[None], k)
    return Nearest(rows[0], scores[0], None if null is None else null.p_values(scores[0]))


def leave_artist_out(
    index: ExactIndex, ids: Sequence[str], artists: NDArray[np.int64], pictures: NDArray[np.int64]
) -> Null | str:
    """Return the null of a collection against itself, or why no error rate can be stated.

    `index` holds n unit rows; `ids` (n) only choose, by hash, at most MAX_QUERIES works as queries, so that the order
    of works does not matter; `artists` (n) are codes; works with equal `pictures` (n) show the same pixels and never
    count for or against each other, whoever they are credited to. Deterministic.
    """
    works = len(index)
    if len(np.unique(artists)) < 2:
        return "all works are by one artist, and an error rate needs at least two"
    if works < MIN_WORKS:
        return f"{works} works are too few to state an error rate; at least {MIN_WORKS} are needed"
    order = np.argsort([hashlib.sha256(name.encode()).digest() for name in ids], kind="stable")
    queries = order[:MAX_QUERIES]
    found = []
    for part in _parts(queries, works):
        own = (artists[part][:, None] == artists) | (pictures[part][:, None] == pictures)
        found.append(np.where(own, -np.inf, index.scores(index.vectors[part])).max(axis=1))
    best = np.concatenate(found)
    compared = np.isfinite(best)
    if compared.sum() < MIN_WORKS:
        return "too few pictures differ between artists to state an error rate"
    return Null.of(best[compared], artists=len(np.unique(artists[queries[compared]])))


def against_background(index: ExactIndex, background: NDArray[np.float32], artists: NDArray[np.int64]) -> Null | str:
    """Return the null of (m, d) unit rows by artists (m) who are not in the collection, or why there is none.

    A background work that stands in the collection after all makes p-values larger, never smaller.
    """
    if len(index) == 0:
        return "the collection is empty"
    if len(background) < MIN_WORKS:
        return f"{len(background)} background works are too few to state an error rate; {MIN_WORKS} are needed"
    parts = _parts(np.arange(len(background)), len(index))
    best = np.concatenate([index.scores(background[part]).max(axis=1) for part in parts])
    return Null.of(best, artists=len(np.unique(artists)))


def _parts(queries: NDArray[np.int64], works: int) -> list[NDArray[np.int64]]:
    return np.array_split(queries, max(1, len(queries) * works // CELLS))
