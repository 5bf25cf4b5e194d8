"""One encoder's vectors made comparable: whitened by how works of one artist differ, and groups scored by nearness.

Whitening. Rows are centred and projected on their first principal directions; the covariance within artists, shrunk
towards a multiple of the identity, is taken out (within-class covariance normalisation, Hatch, Kajarekar & Stolcke
2006): what varies inside one hand, such as the subject, counts little. Then rows have length 1 again.

Two scores of a group: `near`, log-sum-exp of the cosines to its works, each less half of the work's hubness, the mean
of its K best cosines to works by others (after CSLS, Conneau et al. 2018); and `centre`, the cosine to the mean work.

What it does not prove: directions in which few artists happen to differ are taken for style.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Codes = NDArray[np.int64]

DIRECTIONS = 384
BASIS_ROWS = 1024
SHRINKAGE = 0.01
ANCHORS = 512
HUB_NEIGHBOURS = 10
COHORT = 2
SHARPNESS = 12.0  # of the log-sum-exp: works this close (1/12 in cosine) to the nearest count along with it
TINY = 1e-12


class Whitening(msgspec.Struct, frozen=True, kw_only=True):
    """x → unit((x - mean) @ matrix): `mean` (d,), `matrix` (d, k), `anchors` (a, k) as float32 bytes."""

    d: int
    k: int
    mean: bytes
    matrix: bytes
    anchors: bytes = b""

    def apply(self, rows: Floats) -> Floats:
        """Map (m, d) rows to (m, k) unit rows. Raises ValueError for rows that are not (m, d), finite and non-zero."""
        checked(rows, self.d)
        matrix = np.frombuffer(self.matrix, np.float32).reshape(self.d, self.k)
        return unit((rows / _lengths(rows) - np.frombuffer(self.mean, np.float32)) @ matrix)

    def foreign_anchors(self) -> Floats:
        """The background works that hubness is measured against, (a, k); none when the collection itself serves."""
        return np.frombuffer(self.anchors, np.float32).reshape(-1, self.k)


@dataclass(frozen=True)
class Groups:
    """Works ordered by group: `order` (n,) rows as given, `starts` (G,) first place of each group, `artists` (n,) and
    `of_group` (G,) artist codes, `sizes` (G,).
    """

    order: Codes
    starts: Codes
    artists: Codes
    of_group: Codes
    sizes: Codes

    @classmethod
    def of(cls, groups: Codes, artists: Codes) -> "Groups":
        """Raises ValueError unless groups are 0..G-1, each present and of one artist."""
        if groups.shape != artists.shape or groups.ndim != 1 or not len(groups) or groups.min() < 0:
            raise ValueError("groups and artists must be codes from 0, one of each for every work")
        sizes = np.bincount(groups)
        order = np.argsort(groups, kind="stable")
        starts = np.cumsum(sizes) - sizes
        if not sizes.all():
            raise ValueError("group numbers must not have gaps")
        sorted_artists = artists[order]
        if (sorted_artists != sorted_artists[starts][groups[order]]).any():
            raise ValueError("a group must be of one artist")
        return cls(order, starts, sorted_artists, sorted_artists[starts], sizes)


@dataclass(frozen=True)
class Nearness:
    """Of m queries to G groups: `near`, `centre` (m, G), -inf where nothing of the group may be seen; `cohort` (m,):
    how near the next best groups are, by artists other than the best one's.
    """

    near: NDArray[np.float64]
    centre: NDArray[np.float64]
    cohort: NDArray[np.float64]


def checked(rows: Floats, d: int | None = None) -> None:
    """Raise ValueError unless `rows` is (m, d), finite, and has no row of length 0."""
    if rows.ndim != 2 or (d is not None and rows.shape[1] != d):
        raise ValueError(f"vectors must be (n, {d or 'd'}), not {rows.shape}")
    if not np.isfinite(rows).all() or (len(rows) and float(_lengths(rows).min()) <= 0):
        raise ValueError("a vector is zero or not finite")


def unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(_lengths(rows), TINY), np.float32)


def basis(rows: Floats, seed: int) -> tuple[Floats, Floats]:
    """Return the mean (d,) and the first principal directions (d, k) of at most BASIS_ROWS of the (n, d) unit rows.

    At most one direction for every two rows: in more, works that were fitted to would lie unlike works that were not.
    """
    picked = np.sort(np.random.default_rng(seed).permutation(len(rows))[:BASIS_ROWS])
    sample, most = rows[picked].astype(np.float64), min(DIRECTIONS, max(1, len(picked) // 2))
    mean = sample.mean(axis=0)
    values, vectors = np.linalg.eigh((sample - mean) @ (sample - mean).T)  # the rows' Gram matrix: few rows, any d
    kept = [place for place in np.argsort(-values)[:most] if values[place] > 1e-6 * max(values.max(), TINY)]
    if not kept:
        return mean.astype(np.float32), np.eye(rows.shape[1], 1, dtype=np.float32)
    directions = (sample - mean).T @ vectors[:, kept] / np.sqrt(values[kept])
    return mean.astype(np.float32), directions.astype(np.float32)


def transform(projected: Floats, artists: Codes) -> Floats:
    """Return the (k, k) matrix that takes the shrunk within-artist covariance of (n, k) rows out."""
    counts = np.bincount(artists)
    sums = np.stack([np.bincount(artists, column) for column in projected.T], axis=1)
    inside = projected - (sums / np.maximum(counts, 1)[:, None])[artists]
    k = projected.shape[1]
    covariance = inside.T.astype(np.float64) @ inside / max(1, len(projected))
    level = float(np.trace(covariance)) / k
    if level <= TINY:
        return np.eye(k, dtype=np.float32)
    # few works say little about k x k covariances: the fewer, the more of the identity
    shrunk = max(SHRINKAGE, k / (k + 3.0 * len(projected)))
    values, vectors = np.linalg.eigh((1 - shrunk) * covariance + shrunk * level * np.eye(k))
    return np.asarray(vectors / np.sqrt(values), np.float32)


def hubness(works: Floats, artists: Codes, anchors: Floats, anchor_artists: Codes) -> Floats:
    """Mean of the HUB_NEIGHBOURS best cosines of each of (n, k) works to anchors by other artists, (n,); 0 if none."""
    if not len(anchors):
        return np.zeros(len(works), np.float32)
    cosines = np.where(artists[:, None] == anchor_artists, np.float32(-1.0), works @ anchors.T)
    most = min(HUB_NEIGHBOURS, len(anchors))
    return np.asarray(np.partition(cosines, -most, axis=1)[:, -most:].mean(axis=1), np.float32)


def nearness(
    queries: Floats, works: Floats, hubs: Floats, groups: Groups, hidden: NDArray[np.bool_] | None
) -> Nearness:
    """Compare (m, k) unit queries with (n, k) unit works in the order of `groups`.

    `hidden` (m, n): works a query may not see. Those that are not a whole group must show the query's own picture.
    """
    cosines = queries @ works.T - np.float32(0.5) * hubs
    weights = np.exp(np.float32(SHARPNESS) * cosines)
    if hidden is not None:
        weights[hidden] = 0.0
    summed = np.add.reduceat(weights, groups.starts, axis=1, dtype=np.float64)
    unseen = np.zeros(summed.shape, np.int64)
    if hidden is not None:
        unseen = np.add.reduceat(hidden, groups.starts, axis=1, dtype=np.int64)
    seen = groups.sizes - unseen > 0
    sums = np.add.reduceat(works, groups.starts, axis=0, dtype=np.float64)
    along = queries @ sums.T
    lengths = np.sqrt(np.maximum((sums**2).sum(axis=1) - 2 * unseen * along + unseen**2, 1e-6))
    near = np.where(seen, np.log(np.maximum(summed, TINY)) / SHARPNESS, -np.inf)
    centre = np.where(seen, (along - unseen) / lengths, -np.inf)
    return Nearness(near, centre, _cohort(centre, groups.of_group))


def _cohort(scores: NDArray[np.float64], artists: Codes) -> NDArray[np.float64]:
    best = artists[scores.argmax(axis=1)]
    others = np.sort(np.where(artists == best[:, None], -np.inf, scores), axis=1)[:, ::-1][:, :COHORT]
    finite = np.isfinite(others)
    return np.asarray(np.where(finite, others, 0.0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1), np.float64)


def _lengths(rows: Floats) -> Floats:
    return np.asarray(np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
