"""Train the artist classifier of `models.head`, and measure it on works and artists it has not seen.

1. Works are dealt to folds, artist by artist, works of one group (equal pictures, say) together. Every fold is scored
   by maps fitted on the others. The covariance within an artist is shrunk towards a multiple of the identity (as in
   Ledoit & Wolf 2004); how far, each encoder's held-out likelihood decides.
2. Artists are dealt to folds too, and left out whole: their works are what "unknown" looks like.
3. Weights of encoders and distances, and the constant of "unknown", are those of highest likelihood over both kinds,
   which count the same, and so do all artists in each: a large catalogue is no advantage (class balance), and the
   weights are the temperatures. The problem is convex; 2 x encoders + 1 numbers are fitted.
4. The maps are fitted again on all works.

The report is cross-fitted: what is said of one half of the held-out works comes from weights fitted on the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]

from models.head import ArtistHead, HeadError, LinearMap, Rows, Vectors, row_of

FOLDS = 5
ARTIST_FOLDS = 8
SHRINKAGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6)
TEMPERATURES = np.geomspace(0.01, 2.0, 24)
MAX_QUERIES = 4000  # of each kind; bounds memory at queries x artists x encoders
SMALLEST_SPREAD = 1e-3
RIDGE = 1e-4

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class HeadReport:
    """What held-out works say of a classifier. Rates are means over artists; every artist counts the same.

    `artist_right`: held-out works whose artist is the likeliest of the artists, and `named_right` also likelier than
    "unknown". `unknown_right`: works of artists left out whole that are called unknown. `shrinkage` and `weights` by
    encoder. `confidence` and `right`, (n,), are of the likeliest outcome for each of these works, both kinds, to
    measure calibration with; `left_out` (n,) tells them apart, and `truth` (n,) is the work's artist.
    """

    works: int
    artists: int
    known: int
    unknown: int
    artist_right: float
    named_right: float
    unknown_right: float
    shrinkage: Mapping[str, float]
    weights: Mapping[str, float]
    confidence: Rows
    right: NDArray[np.bool_]
    left_out: NDArray[np.bool_]
    truth: Labels


def train_head(
    vectors: Mapping[str, Vectors],
    artists: Sequence[str],
    groups: Labels | None = None,
    *,
    seed: int = 0,
    learnt_from: Mapping[str, str | int] | None = None,
    licence: str = "unknown",
) -> tuple[ArtistHead, HeadReport]:
    """Learn from n works: `vectors` holds (n, d) unit rows by encoder key, `artists` their ids.

    Works of equal `groups` (n) are never on both sides of a split. Deterministic in `seed`. An artist with a single
    work gets a row and is no held-out query. Raises HeadError training_too_small where fewer than two artists have two
    works, and vectors_unusable for vectors that are zero, not finite, or not n of them.
    """
    names = sorted(set(artists))
    truth = np.searchsorted(np.array(names), np.array(artists)) if names else np.empty(0, np.int64)
    given = {key: _usable(key, rows, len(truth)) for key, rows in vectors.items()}
    if not given or (np.bincount(truth, minlength=1) >= 2).sum() < 2:
        raise HeadError(
            f"{len(truth)} works by {len(names)} artists are too few to learn from.",
            code="training_too_small",
            next_step="Give at least two artists with two works each that may be learnt from.",
        )
    groups = np.arange(len(truth)) if groups is None else groups
    folds = deal(truth, groups, seed)
    of_artist = np.random.default_rng([seed, 1]).permutation(len(names)) % min(ARTIST_FOLDS, len(names))
    shrinkage, held_out, left_out = {}, [], []
    for key, rows in given.items():
        shrinkage[key], scored = _held_out(rows, truth, folds)
        held_out.append(scored)
        left_out.append(_left_out(rows, truth, of_artist, shrinkage[key]))
    queries = _Queries.of(held_out, left_out, truth, seed)
    weights = queries.fit(np.ones(len(queries.truth), bool))
    maps = {}
    for number, (key, rows) in enumerate(given.items()):
        fitted = _Space(rows, truth).map(shrinkage[key], len(names))
        weight, distance = weights[number], weights[len(given) + number]
        maps[key] = LinearMap(fitted.mean, fitted.whitening, fitted.rows, fitted.spread, weight, distance)
    head = ArtistHead.make(names, maps, float(weights[-1]), learnt_from or {}, licence)
    by_encoder = dict(zip(given, weights.tolist(), strict=False))
    return head, queries.report(len(truth), len(names), shrinkage, by_encoder)


def deal(truth: Labels, groups: Labels, seed: int, folds: int = FOLDS) -> Labels:
    """Return the fold, 0..folds-1, of each of n works: artists spread evenly, works of one group together."""
    order = np.random.default_rng(seed).permutation(int(groups.max(initial=-1)) + 1)
    held = np.zeros((folds, int(truth.max(initial=-1)) + 1))
    found = np.zeros(len(truth), np.int64)
    by_group = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[by_group], np.arange(len(order) + 1))
    for group in order:
        members = by_group[starts[group] : starts[group + 1]]
        load = held[:, truth[members]].sum(1) + held.sum(1) * 1e-6
        found[members] = fold = int(load.argmin())
        np.add.at(held[fold], truth[members], 1)
    return found


def _usable(key: str, rows: Vectors, works: int) -> Rows:
    exact = np.asarray(rows, np.float64)
    if exact.ndim != 2 or len(exact) != works or not np.isfinite(exact).all() or not np.any(exact, axis=1).all():
        raise HeadError(
            f"The vectors of {key} are not {works} finite rows that differ from zero.",
            next_step="Encode those pictures again, or leave them out.",
        )
    return exact


class _Space:
    """Vectors of one encoder in the directions in which works of one artist vary, before any shrinkage."""

    def __init__(self, rows: Rows, truth: Labels) -> None:
        self.counts = np.bincount(truth)
        present = np.flatnonzero(self.counts)
        means = np.zeros((len(self.counts), rows.shape[1]))
        np.add.at(means, truth, rows)
        means[present] /= self.counts[present, None]
        within = rows - means[truth]
        covariance = within.T @ within / max(1, len(rows) - len(present))
        self.variances, self.directions = np.linalg.eigh(covariance)
        self.variances = np.maximum(self.variances, 0)
        self.middle = means[present].mean(0)
        self.present = present
        self.means = (means - self.middle) @ self.directions

    def scale(self, shrinkage: float) -> Rows:
        """What each direction is multiplied with, so that works of one artist have variance 1 in it: (d,)."""
        mean = self.variances.mean() or 1.0
        return np.asarray(1 / np.sqrt((1 - shrinkage) * self.variances + shrinkage * mean))

    def rows(self, shrinkage: float) -> tuple[Rows, float]:
        """Whitened rows of the present artists, (A', d), and the spread of artists."""
        means, counts = self.means[self.present] * self.scale(shrinkage), self.counts[self.present]
        between = (means**2).mean() * len(counts) / max(1, len(counts) - 1)
        spread = max(SMALLEST_SPREAD, float(between - (1 / counts).mean()))
        return np.stack([row_of(*each, spread) for each in zip(means, counts, strict=True)]).astype(np.float64), spread

    def scores(self, rows: Rows, shrinkage: float) -> tuple[Rows, Rows]:
        """As `LinearMap.scores`, for (m, d) raw vectors; an artist without works scores -inf."""
        whitened = (rows - self.middle) @ self.directions * self.scale(shrinkage)
        artists, _ = self.rows(shrinkage)
        known = np.full((len(rows), len(self.counts)), -np.inf)
        known[:, self.present] = whitened @ artists.T - 0.5 * (artists**2).sum(1)
        return known, (whitened**2).mean(1)

    def map(self, shrinkage: float, artists: int) -> LinearMap:
        """The map of a classifier; every one of `artists` has works."""
        rows, spread = self.rows(shrinkage)
        assert len(rows) == artists
        whitening = (self.directions * self.scale(shrinkage)).astype(np.float32)
        return LinearMap(self.middle.astype(np.float32), whitening, rows.astype(np.float32), spread)


Scored = tuple[Rows, Rows]  # (n, A) scores, -inf where unknown to the fold; (n,) distances


def _held_out(rows: Rows, truth: Labels, folds: Labels) -> tuple[float, Scored]:
    """The shrinkage of highest held-out likelihood, and every work's scores under the maps that have not seen it."""
    found = {}
    spaces = [(fold == folds, _space_of(rows, truth, fold != folds)) for fold in np.unique(folds)]
    for shrinkage in SHRINKAGES:
        known, distance = np.full((len(rows), int(truth.max()) + 1), -np.inf), np.zeros(len(rows))
        for held, space in spaces:
            known[held], distance[held] = space.scores(rows[held], shrinkage)
        found[shrinkage] = (known, distance)
    best = max(SHRINKAGES, key=lambda each: _likelihood(found[each][0], truth))
    return best, found[best]


def _space_of(rows: Rows, truth: Labels, kept: NDArray[np.bool_]) -> _Space:
    space = _Space(rows[kept], truth[kept])
    missing = int(truth.max()) + 1 - len(space.counts)
    space.counts = np.pad(space.counts, (0, missing))
    return space


def _likelihood(known: Rows, truth: Labels) -> float:
    """Mean over artists of the log probability of the truth at the best temperature."""
    own = known[np.arange(len(truth)), truth]
    asked = np.isfinite(own)
    balance = _balanced(truth[asked])
    tried = []
    for temperature in TEMPERATURES:
        logits = known[asked] * temperature
        top = logits.max(1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(1))
        tried.append(float(balance @ (own[asked] * temperature - total)))
    return max(tried)


def _left_out(rows: Rows, truth: Labels, of_artist: Labels, shrinkage: float) -> Scored:
    """Every work's scores under maps that have seen nothing by its artist."""
    known, distance = np.full((len(rows), int(truth.max()) + 1), -np.inf), np.zeros(len(rows))
    for fold in np.unique(of_artist):
        out = of_artist[truth] == fold
        known[out], distance[out] = _space_of(rows, truth, ~out).scores(rows[out], shrinkage)
    return known, distance


def _balanced(truth: Labels) -> Rows:
    """Weights that sum to 1 and give every artist the same."""
    weights = 1.0 / np.bincount(truth)[truth]
    return np.asarray(weights / weights.sum())


class _Queries:
    """Held-out works, then works of left-out artists: scores (E, q, A), distances (E, q), the truth and its kind."""

    def __init__(self, scores: Rows, distances: Rows, truth: Labels, left_out: NDArray[np.bool_], half: Labels) -> None:
        self.absent = ~np.isfinite(scores[0])
        self.scores = np.where(self.absent, 0.0, scores)
        self.distances, self.truth, self.left_out, self.half = distances, truth, left_out, half
        self.target = np.where(left_out, scores.shape[2], truth)

    @classmethod
    def of(cls, held_out: list[Scored], left_out: list[Scored], truth: Labels, seed: int) -> "_Queries":
        chance = np.random.default_rng([seed, 2])
        own = held_out[0][0][np.arange(len(truth)), truth]
        some = np.isfinite(left_out[0][0]).any(1)
        kinds = [np.sort(chance.permutation(np.flatnonzero(each))[:MAX_QUERIES]) for each in (np.isfinite(own), some)]
        parts = [(held_out, kinds[0]), (left_out, kinds[1])]
        scores = np.concatenate([np.stack([known[at] for known, _ in scored]) for scored, at in parts], axis=1)
        distances = np.concatenate([np.stack([far[at] for _, far in scored]) for scored, at in parts], axis=1)
        kind = np.repeat([False, True], [len(each) for each in kinds])
        return cls(scores, distances, truth[np.concatenate(kinds)], kind, chance.permutation(len(kind)) % 2)

    def probabilities(self, weights: Rows, asked: NDArray[np.bool_]) -> Rows:
        """(q', A + 1), "unknown" last. `weights`: of scores (E), of distances (E), and the constant."""
        encoders = len(self.scores)
        known = np.tensordot(weights[:encoders], self.scores[:, asked], 1)
        known[self.absent[asked]] = -np.inf
        unknown = weights[encoders:-1] @ self.distances[:, asked] + weights[-1]
        logits = np.column_stack([known, unknown])
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(shares / shares.sum(1, keepdims=True))

    def balance(self, asked: NDArray[np.bool_]) -> Rows:
        """Half the weight to each kind, evenly over its artists."""
        found = np.zeros(len(self.truth))
        for kind in (self.left_out & asked, ~self.left_out & asked):
            if kind.any():
                found[kind] = _balanced(self.truth[kind]) / 2
        return found[asked]

    def fit(self, asked: NDArray[np.bool_]) -> Rows:
        """Weights of highest likelihood, none of them negative but the constant's."""
        encoders, balance, target = len(self.scores), self.balance(asked), self.target[asked]
        scores, distances = self.scores[:, asked], self.distances[:, asked]

        def loss(weights: Rows) -> tuple[float, Rows]:
            shares = self.probabilities(weights, asked)
            own = np.maximum(shares[np.arange(len(target)), target], 1e-300)
            shares[np.arange(len(target)), target] -= 1
            pull = shares * balance[:, None]
            slope = np.concatenate(
                [np.einsum("qa,eqa->e", pull[:, :-1], scores), distances @ pull[:, -1], [pull[:, -1].sum()]]
            )
            return float(-balance @ np.log(own) + RIDGE / 2 * weights @ weights), slope + RIDGE * weights

        start = np.concatenate([np.full(encoders, 0.5 / encoders), np.zeros(encoders + 1)])
        bounds = [(0, None)] * (2 * encoders) + [(None, None)]
        return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)

    def report(
        self, works: int, artists: int, shrinkage: Mapping[str, float], weights: Mapping[str, float]
    ) -> HeadReport:
        shares = np.zeros((len(self.truth), self.scores.shape[2] + 1))
        for half in (0, 1):
            shares[self.half == half] = self.probabilities(self.fit(self.half != half), self.half == half)
        answer = shares.argmax(1)
        right = answer == self.target

        def rate(hit: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
            return float(_balanced(self.truth[of]) @ hit[of]) if of.any() else float("nan")

        return HeadReport(
            works=works,
            artists=artists,
            known=int((~self.left_out).sum()),
            unknown=int(self.left_out.sum()),
            artist_right=rate(shares[:, :-1].argmax(1) == self.truth, ~self.left_out),
            named_right=rate(right, ~self.left_out),
            unknown_right=rate(right, self.left_out),
            shrinkage=shrinkage,
            weights=weights,
            confidence=shares.max(1),
            right=right,
            left_out=self.left_out,
            truth=self.truth,
        )
