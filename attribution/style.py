"""Whose hand does an image resemble? The style axis: several encoders, fused late, one calibrated score per group.

A group is the works of one artist that share the name grant. Each encoder says of each group how near its works are
(`attribution.whitening`). The utilities of a conditional logit (McFadden 1974) put these together:

    u(group) = sum over encoders of (w near + v centre) - gamma log(works of the group),   w, v, gamma >= 0
    u(none)  = b + sum over encoders of c cohort,   cohort: how near the next best artists are

Weights are shared by all groups and are those of highest likelihood on held-out truth: a work left out belongs to its
artist; with its artist left out, or from the background, to none. Both kinds count the same, and so do all artists.
A score is u(group) - u(none), so gamma corrects for the size of a catalogue and 0 means as likely as nobody.

Share, after Wang et al. (ICCV 2023) on groups: weights relu(exp(score - best) + cutoff), cutoff <= 0, beside
exp(-best) for "none of these"; together they sum to 1.

What this does not prove: likeness is neither influence nor authorship; shares assume that nobody of the collection is
as likely as somebody; works of one artist are not independent, and pictures unlike the collection's are not calibrated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import logsumexp  # type: ignore[import-untyped]

from attribution import whitening
from attribution.calibration import Null
from attribution.whitening import Codes, Floats, Groups, Nearness, Whitening

Vectors = Mapping[str, Floats]
Scores = NDArray[np.float64]

MIN_WORKS = 20
KNOWN_QUERIES = 600
FOREIGN_QUERIES = 600
NULL_QUERIES = 1500
CELLS = 4_000_000  # queries x works (or x groups x features) held at a time
FOLDS = 4
RIDGE = 1e-4
CUTOFFS = (0.0, -0.001, -0.01, -0.05)
SMALLEST_SHARE = 1e-6
LARGEST_EXPONENT = 60.0


class StyleModel(msgspec.Struct, frozen=True, kw_only=True):
    """Everything fitted; to and from JSON by msgspec (arrays are bytes).

    `near`, `centre` and `cohort` hold one weight for each of `encoders`. `artist_right`: part of the `queries` works,
    each left out, whose own artist had the largest share (artists weigh equally); `none_right`: part of those with
    their artist left out, or from the background, where "none of these" had it. Both are of the works fitted on.
    """

    encoders: list[str]
    spaces: dict[str, Whitening]
    near: list[float]
    centre: list[float]
    cohort: list[float]
    gamma: float
    bias: float
    cutoff: float
    queries: int
    artist_right: float
    none_right: float
    seed: int = 0


class StyleReference:
    """The works of a collection, ready to be compared with. `group_artists` (G,) is the artist of each group."""

    def __init__(self, vectors: Vectors, groups: Codes, artists: Codes, pictures: Codes, model: StyleModel) -> None:
        """`vectors`: (n, d) float32 by encoder; `groups` 0..G-1, `artists` and `pictures` (equal: same pixels), (n,).

        Raises ValueError on vectors that are missing, of another shape, zero or not finite, and on groups with gaps or
        of two artists.
        """
        self.model = model
        self._groups = Groups.of(groups, artists)
        self.group_artists = self._groups.of_group
        if len(pictures) != len(groups):
            raise ValueError(f"{len(pictures)} pictures do not fit {len(groups)} works")
        self._works: dict[str, Floats] = {}
        self._hubs: dict[str, Floats] = {}
        for name in model.encoders:
            space = model.spaces[name]
            works = space.apply(_rows(vectors, name, len(groups)))[self._groups.order]
            anchors, owners = space.foreign_anchors(), np.empty(0, np.int64)
            if len(anchors):
                owners = np.full(len(anchors), -1)
            else:
                chosen = _anchors(np.arange(len(works)), model.seed)
                anchors, owners = works[chosen], self._groups.artists[chosen]
            self._works[name] = works
            self._hubs[name] = whitening.hubness(works, self._groups.artists, anchors, owners)

    def scores(self, queries: Vectors) -> Scores:
        """Return the log-odds of each group against "none of these", (m, G), for m queries by encoder, (m, d).

        Raises ValueError as the constructor does.
        """
        count = len(next(iter(queries.values()))) if queries else 0
        found = [np.empty((0, len(self.group_artists)))]
        step = max(1, CELLS // len(self._groups.order))
        mapped = {name: self.model.spaces[name].apply(_rows(queries, name, count)) for name in self.model.encoders}
        for start in range(0, count, step):
            parts = [
                whitening.nearness(
                    mapped[name][start : start + step], self._works[name], self._hubs[name], self._groups, None
                )
                for name in self.model.encoders
            ]
            features = _Features.of(parts, self._groups.sizes)
            found.append(features.scores(_parameters(self.model)))
        return np.concatenate(found)

    def similarities(self, queries: Vectors) -> Scores:
        """Return fused similarities of m queries to the n works in the order given, (m, n): for ranking works only.

        Whitened cosines less half of the work's hubness, summed with the weights of the encoders.
        """
        total = np.zeros((len(next(iter(queries.values()))), len(self._groups.order)))
        for number, name in enumerate(self.model.encoders):
            mapped = self.model.spaces[name].apply(_rows(queries, name, len(total)))
            weight = self.model.near[number] + self.model.centre[number]
            total[:, self._groups.order] += weight * (mapped @ self._works[name].T - 0.5 * self._hubs[name])
        return total

    def shares(self, scores: Scores) -> tuple[Scores, Scores]:
        """Return shares (m, G) and "none of these" (m,) of (m, G) scores; each row sums to 1."""
        return _shares(scores, self.model.cutoff)


def fit_style(
    vectors: Vectors,
    groups: Codes,
    artists: Codes,
    pictures: Codes,
    *,
    background: Vectors | None = None,
    background_artists: Codes | None = None,
    seed: int = 0,
) -> StyleModel | str:
    """Fit weights on a collection, or say (part of a sentence) why none can be: about three seconds for 2,000 works.

    Arrays as for `StyleReference`. `background`: rows of works by artists who are not in the collection, with their
    artists' codes (n',); they serve hubness and the truth "none of these". Deterministic. Raises ValueError on vectors
    that are missing, of another shape, zero or not finite.
    """
    if not vectors:
        return "no encoder speaks for style"
    if len(groups) < MIN_WORKS:
        return f"{len(groups)} works are too few to weigh encoders; at least {MIN_WORKS} are needed"
    if len(np.unique(artists)) < 2 and background is None:
        return "all works are by one artist, and an error rate needs at least two"
    trial = _Trial(vectors, groups, artists, pictures, background, background_artists, seed)
    known, truth = trial.known(_most(KNOWN_QUERIES, groups, vectors))
    foreign, absent = trial.foreign(_most(FOREIGN_QUERIES, groups, vectors))
    if known is None:
        return "no artist has two different works, so shares cannot be fitted"
    if foreign is None:
        return "too few pictures differ between artists to state an error rate"
    owned = trial.groups.of_group == truth[:, None]
    parameters = _fit(known, owned, _even(truth), foreign, _even(absent), len(trial.names))
    scores, strange = known.scores(parameters), foreign.scores(parameters)
    cutoff = max(CUTOFFS, key=lambda cut: _likelihood(scores, owned, truth, strange, absent, cut))
    shares, none = _shares(scores, cutoff)
    first = np.where(owned, shares, 0.0).max(axis=1)
    right = (first >= shares.max(axis=1)) & (first > none)
    other, nobody = _shares(strange, cutoff)
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
        queries=len(truth),
        artist_right=float(_even(truth) @ right),
        none_right=float(_even(absent) @ (nobody >= other.max(axis=1))),
        seed=seed,
    )


def null(
    vectors: Vectors,
    groups: Codes,
    artists: Codes,
    pictures: Codes,
    model: StyleModel,
    *,
    background: Vectors | None = None,
    background_artists: Codes | None = None,
    seed: int = 0,
) -> Null:
    """Return the highest score over groups of at most 1,500 works whose artist is left out, and who made which.

    With a background its works are the queries instead, which is what to prefer: then nothing was fitted to them but
    the weights. Whitening and hubness are made again without the artists asked about.
    """
    trial = _Trial(vectors, groups, artists, pictures, background, background_artists, seed)
    features, who = trial.foreign(NULL_QUERIES, only_background=background is not None)
    if features is None:
        return Null.of([])
    best = features.scores(_parameters(model)).max(axis=1)
    compared = np.isfinite(best)
    return Null.of(best[compared], artists=who[compared])


@dataclass(frozen=True)
class _Features:
    """Of m queries: `of_groups` (m, G, 2E + 1), `seen` (m, G), `of_none` (m, 1 + E)."""

    of_groups: Scores
    seen: NDArray[np.bool_]
    of_none: Scores

    @classmethod
    def of(cls, parts: list[Nearness], sizes: Codes) -> "_Features":
        seen = np.isfinite(parts[0].near)
        size = np.broadcast_to(-np.log(sizes), seen.shape)
        columns = [part.near for part in parts] + [part.centre for part in parts] + [size]
        stacked = np.stack([np.where(seen, column, 0.0) for column in columns], axis=2)
        return cls(stacked, seen, np.stack([np.ones(len(seen)), *(part.cohort for part in parts)], axis=1))

    def scores(self, parameters: Scores) -> Scores:
        split = self.of_groups.shape[2]
        every = self.of_groups @ parameters[:split] - (self.of_none @ parameters[split:])[:, None]
        return np.where(self.seen, every, -np.inf)

    def only(self, rows: NDArray[np.bool_]) -> "_Features":
        return _Features(self.of_groups[rows], self.seen[rows], self.of_none[rows])

    @staticmethod
    def joined(parts: list["_Features"]) -> "_Features":
        fields = ("of_groups", "seen", "of_none")
        return _Features(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))


class _Trial:
    """A collection, asked about its own works and its background's, each as if it were not there."""

    def __init__(
        self,
        vectors: Vectors,
        groups: Codes,
        artists: Codes,
        pictures: Codes,
        background: Vectors | None,
        background_artists: Codes | None,
        seed: int,
    ) -> None:
        self.groups = Groups.of(groups, artists)
        self.names = sorted(vectors)
        self.pictures = pictures[self.groups.order]
        self.artists = self.groups.artists
        self.seed = seed
        self.outside = np.empty(0, np.int64)
        if background is not None:
            if background_artists is None:
                raise ValueError("a background needs the artists of its works")
            self.outside = np.asarray(background_artists, np.int64)
        self._bases: dict[str, tuple[Floats, Floats]] = {}
        self._own: dict[str, Floats] = {}
        self._foreign: dict[str, Floats] = {}
        for name in self.names:
            rows = whitening.unit(_rows(vectors, name, len(groups)))[self.groups.order]
            mean, directions = whitening.basis(rows, seed)
            self._bases[name] = mean, directions
            self._own[name] = (rows - mean) @ directions
            if background is not None:
                far = whitening.unit(_rows(background, name, len(self.outside)))
                self._foreign[name] = (far - mean) @ directions

    def space(self, name: str) -> Whitening:
        mean, directions = self._bases[name]
        middle = self._own[name].mean(axis=0)
        mean = np.asarray(mean + directions @ middle, np.float32)
        matrix = whitening.transform(self._own[name], self.artists)
        anchors = b""
        if name in self._foreign:
            chosen = _anchors(np.arange(len(self.outside)), self.seed)
            anchors = whitening.unit((self._foreign[name][chosen] - middle) @ matrix).astype(np.float32).tobytes()
        whole = np.asarray(directions @ matrix, np.float32)
        return Whitening(d=len(mean), k=matrix.shape[1], mean=mean.tobytes(), matrix=whole.tobytes(), anchors=anchors)

    def known(self, most: int) -> tuple[_Features | None, Codes]:
        """Works left out one by one: features and artists of those whose artist has another picture.

        Somebody else is left out with each, as for `foreign`: with few artists the weights would otherwise learn to
        tell a collection from one that lacks an artist, instead of a known hand from a strange one.
        """
        asked = self._chosen(len(self.artists), most)
        names = np.unique(self.artists)
        folds = min(FOLDS + 2, len(names))
        parts, truth = [], []
        for number in range(folds):
            absent = names[number::folds]
            rows = asked[number::folds]
            rows = rows[~np.isin(self.artists[rows], absent)]
            if not len(rows):
                continue
            keep = ~np.isin(self.artists, absent)
            keep[rows] = False
            hidden = (self.pictures[rows][:, None] == self.pictures) | (self.artists == absent[0])
            features = self._asked(self._own, rows, keep, hidden, self.outside >= 0)
            own = (self.groups.of_group == self.artists[rows][:, None]) & features.seen
            parts.append(features.only(own.any(axis=1)))
            truth.append(self.artists[rows][own.any(axis=1)])
        codes = np.concatenate(truth) if truth else np.empty(0, np.int64)
        return (_Features.joined(parts), codes) if len(codes) else (None, codes)

    def foreign(self, most: int, *, only_background: bool = False) -> tuple[_Features | None, Codes]:
        """Works whose artist is left out, then those of the background; background artists are numbered after all."""
        parts, who = [], []
        all_background = self.outside >= 0
        for rows in () if only_background else self._by_artist(self._chosen(len(self.artists), most), self.artists):
            keep = ~np.isin(self.artists, self.artists[rows])
            own = self.artists[rows][:, None] == self.artists
            hidden = own | (self.pictures[rows][:, None] == self.pictures)
            features = self._asked(self._own, rows, keep, hidden, all_background)
            some = np.asarray(features.seen.any(axis=1), np.bool_)
            parts.append(features.only(some))
            who.append(self.artists[rows][some])
        first = int(self.artists.max()) + 1
        for rows in self._by_artist(self._chosen(len(self.outside), most), self.outside):
            keep = np.ones(len(self.artists), np.bool_)
            rest = ~np.isin(self.outside, self.outside[rows])
            parts.append(self._asked(self._foreign, rows, keep, None, rest))
            who.append(self.outside[rows] + first)
        codes = np.concatenate(who) if who else np.empty(0, np.int64)
        return (_Features.joined(parts), codes) if len(codes) else (None, codes)

    def _asked(
        self,
        source: Mapping[str, Floats],
        rows: Codes,
        keep: NDArray[np.bool_],
        hidden: NDArray[np.bool_] | None,
        rest: NDArray[np.bool_],
    ) -> _Features:
        """Features of `rows` of `source`, with whitening and hubness from the works in `keep` and background `rest`."""
        prepared = []
        for name in self.names:
            # an absent artist is not in the mean either: left in, it would push the others to the far side of it
            middle = self._own[name][keep].mean(axis=0) if keep.any() else np.zeros(1)
            own, asked = self._own[name] - middle, source[name][rows] - middle
            matrix = whitening.transform(own[keep], self.artists[keep]) if keep.any() else np.eye(own.shape[1])
            works = whitening.unit(own @ matrix)
            if rest.any():
                chosen = _anchors(np.flatnonzero(rest), self.seed)
                anchors, owners = (
                    whitening.unit((self._foreign[name][chosen] - middle) @ matrix),
                    np.full(len(chosen), -1),
                )
            else:
                chosen = _anchors(np.flatnonzero(keep), self.seed)
                anchors, owners = works[chosen], self.artists[chosen]
            hubs = whitening.hubness(works, self.artists, anchors, owners)
            prepared.append((whitening.unit(asked @ matrix), works, hubs))
        step, parts = max(1, CELLS // len(self.artists)), []
        for start in range(0, len(rows), step):
            cut = slice(start, start + step)
            unseen = None if hidden is None else hidden[cut]
            near = [whitening.nearness(each[cut], works, hubs, self.groups, unseen) for each, works, hubs in prepared]
            parts.append(_Features.of(near, self.groups.sizes))
        return _Features.joined(parts)

    def _chosen(self, count: int, most: int) -> Codes:
        return np.random.default_rng(self.seed).permutation(count)[:most]

    def _by_artist(self, rows: Codes, artists: Codes) -> list[Codes]:
        """Split rows into at most FOLDS + 2 parts, each artist in one of them."""
        names = np.unique(artists[rows])
        part = np.arange(len(names)) % (FOLDS + 2)
        places = part[np.searchsorted(names, artists[rows])]
        return [rows[places == number] for number in np.unique(places)]


def _fit(
    known: _Features,
    owned: NDArray[np.bool_],
    known_weights: Scores,
    foreign: _Features,
    far_weights: Scores,
    count: int,
) -> Scores:
    """Parameters of highest likelihood with a small ridge: (near, centre, gamma, bias, cohort), 3E + 2 numbers."""
    split = 2 * count + 1
    scale = np.concatenate([np.full(2 * count, 30.0), [1.0], [10.0], np.full(count, 30.0)])

    def part(features: _Features, own: NDArray[np.bool_] | None, weights: Scores, at: Scores) -> tuple[float, Scores]:
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
        first, first_slope = part(known, owned, known_weights, scaled)
        second, second_slope = part(foreign, None, far_weights, scaled)
        return RIDGE * float(at @ at) - first - second, 2 * RIDGE * at - (first_slope + second_slope) * scale

    bounds = [(0.0, None)] * split + [(None, None)] * (1 + count)
    start = np.concatenate([np.full(2 * count, 5.0 / count), [0.5], [5.0], np.zeros(count)]) / scale
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    return np.asarray(result.x * scale, np.float64)


def _parameters(model: StyleModel) -> Scores:
    return np.array([*model.near, *model.centre, model.gamma, model.bias, *model.cohort])


def _shares(scores: Scores, cutoff: float) -> tuple[Scores, Scores]:
    top = scores.max(axis=1)
    weights = np.maximum(np.exp(scores - top[:, None]) + cutoff, 0.0)
    weights[~np.isfinite(scores)] = 0.0
    none = np.exp(np.minimum(-top, LARGEST_EXPONENT))
    total = weights.sum(axis=1) + none
    return weights / total[:, None], none / total


def _likelihood(
    scores: Scores, owned: NDArray[np.bool_], truth: Codes, strange: Scores, absent: Codes, cutoff: float
) -> float:
    shares, _ = _shares(scores, cutoff)
    own = np.maximum((shares * owned).sum(axis=1), SMALLEST_SHARE)
    _, nobody = _shares(strange, cutoff)
    return float(_even(truth) @ np.log(own) + _even(absent) @ np.log(np.maximum(nobody, SMALLEST_SHARE)))


def _even(codes: Codes) -> Scores:
    """Weights that sum to 1 and give every artist the same, (m,)."""
    weights = 1.0 / np.bincount(codes)[codes]
    return np.asarray(weights / weights.sum())


def _anchors(rows: Codes, seed: int) -> Codes:
    """At most ANCHORS of the rows, chosen by `seed`."""
    return rows[np.random.default_rng(seed).permutation(len(rows))[: whitening.ANCHORS]]


def _most(queries: int, groups: Codes, vectors: Vectors) -> int:
    return max(1, min(queries, CELLS // ((int(groups.max()) + 1) * (2 * len(vectors) + 1))))


def _rows(vectors: Vectors, name: str, count: int) -> Floats:
    if name not in vectors or len(vectors[name]) != count:
        raise ValueError(f"{name!r} needs a vector for each of {count} works")
    rows = np.asarray(vectors[name], np.float32)
    whitening.checked(rows)
    return rows
