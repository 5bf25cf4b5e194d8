"""From cosines to statements with an error rate: conformal p-values and similarity shares, or a reason to abstain.

p-value. The null is "an image by an artist who is not in the collection". For each calibration work its artist is left
out, and the highest score that remains is one null score; p(s) = (1 + #{null >= s}) / (n + 1) (Vovk et al., conformal
prediction). Taking the maximum over all works makes it hold for the best match of a query, whichever work that is.

Share. After Wang et al. (ICCV 2023), with a slot for "none of these": over all works
w = relu(exp((s - s_max) / tau) + b), b <= 0; an artist weighs (sum of w over its works) / (number of its works)^gamma;
the slot weighs exp((none - s_max) / tau), like a work at cosine `none`. tau, b, gamma and none are those of highest
likelihood on held-out truth: a work left out belongs to its artist; with its artist left out it belongs to none. Both
kinds count the same, and so do all artists, so that a large catalogue is no advantage in itself.

What this does not prove: calibration works are like the collection, and images from a generator need not be; works of
one artist are not independent, so few artists make p-values rough; similarity is neither copying nor influence.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.index import ExactIndex

MIN_WORKS = 20
MAX_NULL_QUERIES = 1500
MAX_SHARE_CELLS = 500_000  # share queries x works: bounds the fit to about a second
MAX_SHARE_QUERIES = 400
SAME_SCORE = 1e-6  # two ways of computing one float32 cosine may differ by this; ties count against a claim
SMALLEST_SHARE = 1e-6
TAUS = tuple(float(tau) for tau in np.geomspace(0.003, 0.6, 12))
CUTOFFS = (-0.001, -0.01, -0.05, -0.2)
GAMMAS = (0.0, 0.25, 0.5, 0.75, 1.0)
NONE_STEPS = 41
LARGEST_EXPONENT = 60.0

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class ShareModel:
    """Fitted parameters, and how often the largest share was right on the works they were fitted on."""

    tau: float
    cutoff: float
    gamma: float
    none: float
    queries: int
    artist_right: float
    none_right: float


@dataclass(frozen=True)
class Calibration:
    """`null`: sorted null scores, or empty. Where `null` or `shares` is missing, `reason` says why."""

    null: NDArray[np.float32]
    shares: ShareModel | None
    reason: str | None
    works: int
    artists: int

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that can come out; 1 without calibration."""
        return 1.0 / (len(self.null) + 1)

    def p_values(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return p in (0, 1] for each score; a higher score never has a higher p."""
        below = np.searchsorted(self.null, np.asarray(scores, np.float64) - SAME_SCORE, side="left")
        return np.asarray((1.0 + len(self.null) - below) / (len(self.null) + 1.0), np.float64)


def fit(index: ExactIndex, ids: Sequence[str], artists: NDArray[np.int64], pictures: NDArray[np.int64]) -> Calibration:
    """Calibrate one encoder on the collection itself.

    `index` holds unit rows; `ids` (n) only choose, by hash, which works are queries; `artists` (n) are codes 0..A-1;
    works with equal `pictures` (n) show the same pixels and never count for or against each other. Deterministic.
    """
    works, count = len(index), int(artists.max(initial=-1)) + 1
    if count < 2:
        return _abstain("all works are by one artist, and an error rate needs at least two", works, count)
    if works < MIN_WORKS:
        return _abstain(
            f"{works} works are too few to state an error rate; at least {MIN_WORKS} are needed", works, count
        )
    order = np.argsort([hashlib.sha256(name.encode()).digest() for name in ids], kind="stable")
    null = _null_scores(index, order[:MAX_NULL_QUERIES], artists, pictures)
    if len(null) < MIN_WORKS:
        return _abstain("too few pictures differ between artists to state an error rate", works, count)
    chosen = order[: max(1, min(MAX_SHARE_QUERIES, MAX_SHARE_CELLS // works))]
    shares = _fit_shares(index, chosen, artists, pictures)
    reason = None if shares else "no artist has two different works, so shares cannot be fitted"
    return Calibration(null, shares, reason, works, count)


def share_weights(
    model: ShareModel, scores: NDArray[np.float32], artists: NDArray[np.int64]
) -> tuple[NDArray[np.float64], float]:
    """Return the share of each work, (n,), and of "none of these"; together they sum to 1.

    `scores` are one query's cosines to all n works. Needs at least one work.
    """
    exact = scores.astype(np.float64)
    top = exact.max()
    weights = np.maximum(np.exp((exact - top) / model.tau) + model.cutoff, 0.0)
    weights /= np.bincount(artists)[artists] ** model.gamma
    none = np.exp(min((model.none - top) / model.tau, LARGEST_EXPONENT))
    total = weights.sum() + none
    return weights / total, float(none / total)


def _abstain(reason: str, works: int, artists: int) -> Calibration:
    return Calibration(np.empty(0, np.float32), None, reason, works, artists)


def _null_scores(
    index: ExactIndex, queries: NDArray[np.int64], artists: NDArray[np.int64], pictures: NDArray[np.int64]
) -> NDArray[np.float32]:
    found = []
    for part in np.array_split(
        queries, max(1, len(queries) * len(index) // 4_000_000)
    ):  # some 16 MB of scores at a time
        scores = index.scores(index.vectors[part])
        own = (artists[part][:, None] == artists) | (pictures[part][:, None] == pictures)
        found.append(np.where(own, -np.inf, scores).max(axis=1))
    null = np.concatenate(found).astype(np.float32)
    return np.sort(null[np.isfinite(null)])


def _fit_shares(
    index: ExactIndex, queries: NDArray[np.int64], artists: NDArray[np.int64], pictures: NDArray[np.int64]
) -> ShareModel | None:
    by_artist = np.argsort(artists, kind="stable")  # an artist's works side by side, so that reduceat sums them
    starts = np.searchsorted(artists[by_artist], np.arange(artists.max() + 1))
    scores = index.scores(index.vectors[queries])[:, by_artist]
    same_artist = artists[queries][:, None] == artists[by_artist]
    same_picture = pictures[queries][:, None] == pictures[by_artist]
    truth = artists[queries]
    known = (same_artist & ~same_picture).any(axis=1)
    foreign = (~same_artist & ~same_picture).any(axis=1)
    if not known.any() or not foreign.any():
        return None
    held_out = _Queries(scores[known], same_picture[known], starts)
    left_out = _Queries(scores[foreign], (same_artist | same_picture)[foreign], starts)
    grid = np.linspace(left_out.top.min() - 0.05, 1.0, NONE_STEPS)

    def best_at(tau: float, cutoff: float) -> tuple[float, float, float, float, float]:
        in_known, in_foreign = held_out.weights(tau, cutoff), left_out.weights(tau, cutoff)
        none_known, none_foreign = held_out.none(grid, tau), left_out.none(grid, tau)
        tried = []
        for gamma in GAMMAS:
            own, known_total = held_out.own_and_total(in_known, truth[known], gamma)
            _, foreign_total = left_out.own_and_total(in_foreign, truth[foreign], gamma)
            likelihood = _mean_log(own / (known_total + none_known), truth[known])
            likelihood += _mean_log(none_foreign / (foreign_total + none_foreign), truth[foreign])
            at = int(likelihood.argmax())
            tried.append((float(likelihood[at]), tau, cutoff, gamma, float(grid[at])))
        return max(tried)

    smooth = max(best_at(tau, 0.0) for tau in TAUS)
    near = TAUS[max(0, TAUS.index(smooth[1]) - 1) :][:3]  # a cutoff shifts the best temperature little
    _, tau, cutoff, gamma, none = max([smooth, *(best_at(tau, cutoff) for tau in near for cutoff in CUTOFFS)])
    in_known = held_out.corrected(held_out.weights(tau, cutoff), gamma)
    in_foreign = left_out.corrected(left_out.weights(tau, cutoff), gamma)
    right = (in_known.argmax(axis=1) == truth[known]) & (in_known.max(axis=1) > held_out.none(np.array([none]), tau)[0])
    abstained = left_out.none(np.array([none]), tau)[0] >= in_foreign.max(axis=1)
    return ShareModel(tau, cutoff, gamma, none, len(queries), float(right.mean()), float(abstained.mean()))


class _Queries:
    """Scores of q queries over the works, artist by artist, some of them hidden."""

    def __init__(self, scores: NDArray[np.float32], hidden: NDArray[np.bool_], starts: NDArray[np.int64]) -> None:
        self.starts = starts
        self.seen = np.where(hidden, np.float32(-np.inf), scores)
        self.top = self.seen.max(axis=1)
        self.counts = np.maximum(np.add.reduceat(~hidden, starts, axis=1, dtype=np.int64), 1)

    def weights(self, tau: float, cutoff: float) -> Rows:
        """Summed weight of each artist, (q, A), before the correction for catalogue size."""
        raw = np.exp((self.seen - self.top[:, None]) / np.float32(tau))
        if cutoff:
            raw = np.maximum(raw + np.float32(cutoff), np.float32(0))
        return np.asarray(np.add.reduceat(raw, self.starts, axis=1, dtype=np.float64))

    def corrected(self, weights: Rows, gamma: float) -> Rows:
        return weights / self.counts**gamma

    def own_and_total(self, weights: Rows, truth: NDArray[np.int64], gamma: float) -> tuple[Rows, Rows]:
        corrected = self.corrected(weights, gamma)
        return corrected[np.arange(len(truth)), truth], corrected.sum(axis=1)

    def none(self, grid: Rows, tau: float) -> Rows:
        """Weight of the "none" slot for each of the places tried, (g, q)."""
        return np.asarray(np.exp(np.minimum((grid[:, None] - self.top) / tau, LARGEST_EXPONENT)))


def _mean_log(shares: Rows, truth: NDArray[np.int64]) -> Rows:
    """Mean over artists of the mean log share of their works: (g, q) to (g,)."""
    weights = 1.0 / np.bincount(truth)[truth]
    return np.asarray(np.log(np.maximum(shares, SMALLEST_SHARE)) @ (weights / weights.sum()))
