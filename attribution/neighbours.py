"""The works nearest to an image under one encoder, and how often an image by somebody else comes as near.

The null is "an image by an artist who is not in the collection". It is sampled in one of two ways: each work of the
collection as a query with its own artist left out, or each work of a background, a second reference whose artists are
not in the collection. The score is the best cosine over all works that are left, so that a p-value holds for the
nearest work whichever it is; a work further down the list has the p-value that it would have as the nearest.

What this does not prove: a near work is one that the encoder finds alike; that is neither copying nor influence.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attribution.calibration import Null
from attribution.index import ExactIndex, StoredRows, score_blocks
from attribution.ivf import IvfIndex
from attribution.reference import sample

MIN_WORKS = 20
MAX_QUERIES = 1500  # bounds calibration to about a second for 10,000 works; 999 are enough for p = 0.001
QUERIES = 512  # asked together; vectors on disk are read once for each

Vectors = NDArray[np.float32] | StoredRows


class Nearest(NamedTuple):
    """The k nearest works, best first: rows (k,) int64, cosines (k,) float32, p-values (k,) float64 or None."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    p_values: NDArray[np.float64] | None


def nearest(index: ExactIndex | IvfIndex, null: Null | None, query: NDArray[np.float32], k: int) -> Nearest:
    """Return the k works nearest to one query, (d,) float32 of unit length. Without a null there are no p-values.

    From an IvfIndex they are the nearest of the works that it looked at. A null is of exhaustive searches, so p-values
    of those works are never too small. Raises ValueError when the query is not finite: a broken vector is near to
    nothing.
    """
    if query.shape != (index.dim,) or not np.isfinite(query).all():
        raise ValueError(f"a query is ({index.dim},) finite numbers, not {query.shape}")
    found = index.search(query[None], k)
    seen = found.rows[0] >= 0
    rows, scores = found.rows[0][seen], found.scores[0][seen]
    return Nearest(rows, scores, None if null is None else null.p_values(scores))


def leave_artist_out(
    vectors: Vectors, ids: Sequence[str], artists: NDArray[np.int64], pictures: NDArray[np.int64]
) -> Null | str:
    """Return the null of a collection against itself, or why no error rate can be stated.

    `vectors` are n unit rows; `ids` (n) only choose, by hash, at most MAX_QUERIES works as queries, so that the order
    of works does not matter; `artists` (n) are codes; works with equal `pictures` (n) show the same pixels and never
    count for or against each other, whoever they are credited to. Deterministic.
    """
    works = len(vectors)
    if len(np.unique(artists)) < 2:
        return "all works are by one artist, and an error rate needs at least two"
    if works < MIN_WORKS:
        return f"{works} works are too few to state an error rate; at least {MIN_WORKS} are needed"
    queries = np.array(sample(ids, MAX_QUERIES))
    found = []
    for first in range(0, len(queries), QUERIES):
        part = queries[first : first + QUERIES]
        best = np.full(len(part), -np.inf, np.float32)
        for start, scores in score_blocks(vectors, _taken(vectors, part)):
            block = slice(start, start + scores.shape[1])
            own = (artists[part][:, None] == artists[block]) | (pictures[part][:, None] == pictures[block])
            best = np.maximum(best, np.where(own, -np.inf, scores).max(axis=1))
        found.append(best)
    best = np.concatenate(found)
    compared = np.isfinite(best)
    if compared.sum() < MIN_WORKS:
        return "too few pictures differ between artists to state an error rate"
    return Null.of(best[compared], artists=len(np.unique(artists[queries[compared]])))


def against_background(vectors: Vectors, background: Vectors, artists: NDArray[np.int64]) -> Null | str:
    """Return the null of (m, d) unit rows by artists (m) who are not in the collection, or why there is none.

    A background work that stands in the collection after all makes p-values larger, never smaller.
    """
    if len(vectors) == 0:
        return "the collection is empty"
    if len(background) < MIN_WORKS:
        return f"{len(background)} background works are too few to state an error rate; {MIN_WORKS} are needed"
    found = []
    for first in range(0, len(background), QUERIES):
        asked = _taken(background, np.arange(first, min(first + QUERIES, len(background))))
        found.append(np.max([scores.max(axis=1) for _, scores in score_blocks(vectors, asked)], axis=0))
    return Null.of(np.concatenate(found), artists=len(np.unique(artists)))


def _taken(vectors: Vectors, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return vectors[rows] if isinstance(vectors, np.ndarray) else vectors.take(rows)
