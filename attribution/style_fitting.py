"""Weigh the encoders of style on a collection (`attribution.style` has the model), and take its null scores.

The truth is held out: works left out one by one belong to their artists; works whose artist is left out, and those of
a background, belong to none. Poor copies of some works, where given, are asked about in the same way and count as much
as the works themselves: on clean works nearly every encoder is right, and the weights would say little about others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import logsumexp  # type: ignore[import-untyped]

from attribution import whitening
from attribution.calibration import Null
from attribution.poor_copies import PoorCopies
from attribution.style import (
    CELLS,
    Features,
    Scores,
    StyleModel,
    Vectors,
    anchors_among,
    checked_rows,
    parameters_of,
    shares_of,
)
from attribution.whitening import Codes, Floats, Groups, Whitening

MIN_WORKS = 20
QUERIES = 600
NULL_QUERIES = 1500
FOLDS = 4
RIDGE = 1e-4
CUTOFFS = (0.0, -0.001, -0.01, -0.05)
SMALLEST_SHARE = 1e-6


class Background(NamedTuple):
    """Works by artists who are not in the collection: rows by encoder, (n', d), and the artists' codes, (n',)."""

    vectors: Vectors
    artists: Codes
    poor: PoorCopies | None = None


def fit_style(
    vectors: Vectors,
    groups: Codes,
    artists: Codes,
    pictures: Codes,
    *,
    poor: PoorCopies | None = None,
    background: Background | None = None,
    seed: int = 0,
) -> StyleModel | str:
    """Fit weights on a collection, or say (part of a sentence) why none can be: about three seconds for 2,000 works.

    Arrays as for `StyleReference`; `poor` copies are of some of the works. The background serves hubness and the truth
    "none of these". Deterministic. Raises ValueError on vectors that are missing, of another shape, zero or not finite.
    """
    if not vectors:
        return "no encoder speaks for style"
    if len(groups) < MIN_WORKS:
        return f"{len(groups)} works are too few to weigh encoders; at least {MIN_WORKS} are needed"
    if len(np.unique(artists)) < 2 and background is None:
        return "all works are by one artist, and an error rate needs at least two"
    trial = _Trial(vectors, groups, artists, pictures, background, seed)
    most = max(1, min(QUERIES, CELLS // ((int(groups.max()) + 1) * (2 * len(vectors) + 1))))
    clean = _Truth.of(trial, trial.clean(most, most))
    if isinstance(clean, str):
        return clean
    truths = [clean]
    if poor is not None:
        copies = _Truth.of(trial, trial.poor(poor, background.poor if background else None, most))
        truths += [] if isinstance(copies, str) else [copies]
    parameters = _fit(truths, len(trial.names))
    scores = [(each.known.scores(parameters), each.foreign.scores(parameters)) for each in truths]
    cutoff = max(
        CUTOFFS, key=lambda cut: sum(each.likelihood(*said, cut) for each, said in zip(truths, scores, strict=True))
    )
    artist_right, none_right = clean.right(*scores[0], cutoff)
    count = len(trial.names)
    return StyleModel(
        encoders=trial.names,
        spaces={name: trial.space(name) for name in trial.names},
        near=parameters[:count].tolist(),
        centre=parameters[count : 2 * count].tolist(),
        gamma=float(parameters[2 * count]),
        bias=float(parameters[2 * count + 1]),
        cohort=parameters[2 * count + 2 :].tolist(),
        cutoff=cutoff,
        queries=len(clean.known_weights),
        artist_right=artist_right,
        none_right=none_right,
        seed=seed,
    )


def null(
    vectors: Vectors,
    groups: Codes,
    artists: Codes,
    pictures: Codes,
    model: StyleModel,
    *,
    background: Background | None = None,
    seed: int = 0,
) -> Null:
    """Return the highest score over groups of at most 1,500 works whose artist is left out, and who made which.

    With a background its works are the queries instead, which is what to prefer: then nothing was fitted to them but
    the weights. Whitening and hubness are made again without the artists asked about.
    """
    trial = _Trial(vectors, groups, artists, pictures, background, seed)
    features, who = trial.foreign(trial.clean(0 if background else NULL_QUERIES, NULL_QUERIES))
    if features is None:
        return Null.of([])
    best = features.scores(parameters_of(model)).max(axis=1)
    compared = np.isfinite(best)
    return Null.of(best[compared], artists=who[compared])


class _Questions(NamedTuple):
    """Rows of the collection's works and of the background's that are asked about, with tables of what is seen."""

    own: Codes
    own_vectors: Mapping[str, Floats]
    others: Codes
    others_vectors: Mapping[str, Floats]


@dataclass(frozen=True)
class _Truth:
    """Questions with their right answers: `known` belong to the groups that are `owned`, `foreign` to nobody. Weights
    sum to 1 on either side, and all artists count the same.
    """

    known: Features
    owned: NDArray[np.bool_]  # (m, G)
    known_weights: Scores
    foreign: Features
    far_weights: Scores

    @classmethod
    def of(cls, trial: "_Trial", asked: "_Questions") -> "_Truth | str":
        here, truth = trial.known(asked)
        far, absent = trial.foreign(asked)
        if here is None:
            return "no artist has two different works, so shares cannot be fitted"
        if far is None:
            return "too few pictures differ between artists to state an error rate"
        return cls(here, trial.groups.of_group == truth[:, None], _even(truth), far, _even(absent))

    def likelihood(self, known: Scores, foreign: Scores, cutoff: float) -> float:
        """Of the scores of both kinds."""
        shares, _ = shares_of(known, cutoff)
        own = np.maximum((shares * self.owned).sum(axis=1), SMALLEST_SHARE)
        _, nobody = shares_of(foreign, cutoff)
        far = np.maximum(nobody, SMALLEST_SHARE)
        return float(self.known_weights @ np.log(own) + self.far_weights @ np.log(far))

    def right(self, known: Scores, foreign: Scores, cutoff: float) -> tuple[float, float]:
        """How often the own artist, and "none of these" where nobody's, has the largest share."""
        shares, none = shares_of(known, cutoff)
        first = np.where(self.owned, shares, 0.0).max(axis=1)
        other, nobody = shares_of(foreign, cutoff)
        return (
            float(self.known_weights @ ((first >= shares.max(axis=1)) & (first > none))),
            float(self.far_weights @ (nobody >= other.max(axis=1))),
        )


class _Trial:
    """A collection, asked about its own works and its background's, each as if it were not there."""

    def __init__(
        self,
        vectors: Vectors,
        groups: Codes,
        artists: Codes,
        pictures: Codes,
        background: Background | None,
        seed: int,
    ) -> None:
        self.groups = Groups.of(groups, artists)
        self.names = sorted(vectors)
        self.pictures = pictures[self.groups.order]
        self.artists = self.groups.artists
        self.seed = seed
        self.outside = np.empty(0, np.int64) if background is None else np.asarray(background.artists, np.int64)
        self._bases: dict[str, tuple[Floats, Floats]] = {}
        self._own: dict[str, Floats] = {}
        self._foreign: dict[str, Floats] = {}
        for name in self.names:
            rows = whitening.unit(checked_rows(vectors, name, len(groups)))[self.groups.order]
            mean, directions = whitening.basis(rows, seed)
            self._bases[name] = mean, directions
            self._own[name] = (rows - mean) @ directions
            if background is not None:
                far = whitening.unit(checked_rows(background.vectors, name, len(self.outside)))
                self._foreign[name] = (far - mean) @ directions

    def clean(self, own: int, foreign: int) -> "_Questions":
        """About at most so many of the collection's works, and of the background's."""
        chosen = np.random.default_rng(self.seed).permutation(len(self.artists))[:own]
        others = np.random.default_rng(self.seed).permutation(len(self.outside))[:foreign]
        return _Questions(chosen, self._own, others, self._foreign)

    def poor(self, own: PoorCopies, foreign: PoorCopies | None, most: int) -> "_Questions":
        """About at most so many of the poor copies of either, each in the place of the work that it is of."""
        own = own.first(most)
        rows = np.argsort(self.groups.order)[own.rows]
        seen = {name: self._placed(name, own, rows, self._own[name]) for name in self.names}
        if foreign is None:
            return _Questions(rows, seen, np.empty(0, np.int64), {})
        foreign = foreign.first(most)
        others = {name: self._placed(name, foreign, foreign.rows, self._foreign[name]) for name in self.names}
        return _Questions(rows, seen, foreign.rows, others)

    def _placed(self, name: str, poor: PoorCopies, rows: Codes, like: Floats) -> Floats:
        mean, directions = self._bases[name]
        table = np.zeros_like(like)
        table[rows] = (whitening.unit(checked_rows(poor.vectors, name, len(rows))) - mean) @ directions
        return table

    def space(self, name: str) -> Whitening:
        mean, directions = self._bases[name]
        middle = self._own[name].mean(axis=0)
        mean = np.asarray(mean + directions @ middle, np.float32)
        matrix = whitening.transform(self._own[name], self.artists)
        anchors = b""
        if name in self._foreign:
            chosen = anchors_among(np.arange(len(self.outside)), self.seed)
            anchors = whitening.unit((self._foreign[name][chosen] - middle) @ matrix).astype(np.float32).tobytes()
        whole = np.asarray(directions @ matrix, np.float32)
        return Whitening(d=len(mean), k=matrix.shape[1], mean=mean.tobytes(), matrix=whole.tobytes(), anchors=anchors)

    def known(self, asked: "_Questions") -> tuple[Features | None, Codes]:
        """Works left out one by one: features and artists of those whose artist has another picture.

        Somebody else is left out with each, as for `foreign`: with few artists the weights would otherwise learn to
        tell a collection from one that lacks an artist, instead of a known hand from a strange one.
        """
        names = np.unique(self.artists)
        folds = min(FOLDS + 2, len(names))
        parts, truth = [], []
        for number in range(folds):
            absent = names[number::folds]
            rows = asked.own[number::folds]
            rows = rows[~np.isin(self.artists[rows], absent)]
            if not len(rows):
                continue
            keep = ~np.isin(self.artists, absent)
            keep[rows] = False
            hidden = (self.pictures[rows][:, None] == self.pictures) | (self.artists == absent[0])
            features = self._asked(asked.own_vectors, rows, keep, hidden, self.outside >= 0)
            own = (self.groups.of_group == self.artists[rows][:, None]) & features.seen
            parts.append(features.only(own.any(axis=1)))
            truth.append(self.artists[rows][own.any(axis=1)])
        codes = np.concatenate(truth) if truth else np.empty(0, np.int64)
        return (Features.joined(parts), codes) if len(codes) else (None, codes)

    def foreign(self, asked: "_Questions") -> tuple[Features | None, Codes]:
        """Works whose artist is left out, then those of the background; background artists are numbered after all."""
        parts, who = [], []
        all_background = self.outside >= 0
        for rows in self._by_artist(asked.own, self.artists):
            keep = ~np.isin(self.artists, self.artists[rows])
            own = self.artists[rows][:, None] == self.artists
            hidden = own | (self.pictures[rows][:, None] == self.pictures)
            features = self._asked(asked.own_vectors, rows, keep, hidden, all_background)
            some = np.asarray(features.seen.any(axis=1), np.bool_)
            parts.append(features.only(some))
            who.append(self.artists[rows][some])
        first = int(self.artists.max()) + 1
        for rows in self._by_artist(asked.others, self.outside):
            keep = np.ones(len(self.artists), np.bool_)
            rest = ~np.isin(self.outside, self.outside[rows])
            parts.append(self._asked(asked.others_vectors, rows, keep, None, rest))
            who.append(self.outside[rows] + first)
        codes = np.concatenate(who) if who else np.empty(0, np.int64)
        return (Features.joined(parts), codes) if len(codes) else (None, codes)

    def _asked(
        self,
        source: Mapping[str, Floats],
        rows: Codes,
        keep: NDArray[np.bool_],
        hidden: NDArray[np.bool_] | None,
        rest: NDArray[np.bool_],
    ) -> Features:
        """Features of `rows` of `source`, with whitening and hubness from the works in `keep` and background `rest`."""
        prepared = []
        for name in self.names:
            # an absent artist is not in the mean either: left in, it would push the others to the far side of it
            middle = self._own[name][keep].mean(axis=0) if keep.any() else np.zeros(1)
            own, asked = self._own[name] - middle, source[name][rows] - middle
            matrix = whitening.transform(own[keep], self.artists[keep]) if keep.any() else np.eye(own.shape[1])
            works = whitening.unit(own @ matrix)
            if rest.any():
                chosen = anchors_among(np.flatnonzero(rest), self.seed)
                anchors, owners = (
                    whitening.unit((self._foreign[name][chosen] - middle) @ matrix),
                    np.full(len(chosen), -1),
                )
            else:
                chosen = anchors_among(np.flatnonzero(keep), self.seed)
                anchors, owners = works[chosen], self.artists[chosen]
            hubs = whitening.hubness(works, self.artists, anchors, owners)
            prepared.append((whitening.unit(asked @ matrix), works, hubs))
        step, parts = max(1, CELLS // len(self.artists)), []
        for start in range(0, len(rows), step):
            cut = slice(start, start + step)
            unseen = None if hidden is None else hidden[cut]
            near = [whitening.nearness(each[cut], works, hubs, self.groups, unseen) for each, works, hubs in prepared]
            parts.append(Features.of(near, self.groups.sizes))
        return Features.joined(parts)

    def _by_artist(self, rows: Codes, artists: Codes) -> list[Codes]:
        """Split rows into at most FOLDS + 2 parts, each artist in one of them."""
        names = np.unique(artists[rows])
        part = np.arange(len(names)) % (FOLDS + 2)
        places = part[np.searchsorted(names, artists[rows])]
        return [rows[places == number] for number in np.unique(places)]


def _fit(truths: Sequence[_Truth], count: int) -> Scores:
    """Parameters of highest likelihood with a small ridge: (near, centre, gamma, bias, cohort), 3E + 2 numbers."""
    split = 2 * count + 1
    scale = np.concatenate([np.full(2 * count, 30.0), [1.0], [10.0], np.full(count, 30.0)])

    def part(features: Features, own: NDArray[np.bool_] | None, weights: Scores, at: Scores) -> tuple[float, Scores]:
        scores = features.scores(at)
        total = np.logaddexp(logsumexp(scores, axis=1), 0.0)
        target = np.zeros(len(scores)) if own is None else logsumexp(np.where(own, scores, -np.inf), axis=1)
        pull = -np.exp(scores - total[:, None])
        if own is not None:
            pull += np.exp(np.where(own, scores, -np.inf) - target[:, None])
        pull *= weights[:, None]
        slope = np.concatenate(
            [np.einsum("mg,mgf->f", pull, features.of_groups), -(pull.sum(axis=1) @ features.of_none)]
        )
        return float(weights @ (target - total)), slope

    def loss(at: Scores) -> tuple[float, Scores]:
        scaled = at * scale
        value, slope = RIDGE * float(at @ at), 2 * RIDGE * at
        for each in truths:
            known, known_slope = part(each.known, each.owned, each.known_weights, scaled)
            foreign, foreign_slope = part(each.foreign, None, each.far_weights, scaled)
            value -= (known + foreign) / len(truths)
            slope -= (known_slope + foreign_slope) * scale / len(truths)
        return value, slope

    bounds = [(0.0, None)] * split + [(None, None)] * (1 + count)
    start = np.concatenate([np.full(2 * count, 5.0 / count), [0.5], [5.0], np.zeros(count)]) / scale
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    return np.asarray(result.x * scale, np.float64)


def _even(codes: Codes) -> Scores:
    """Weights that sum to 1 and give every artist the same, (m,)."""
    weights = 1.0 / np.bincount(codes)[codes]
    return np.asarray(weights / weights.sum())
