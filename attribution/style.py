"""Whose hand does an image resemble? The style axis: several encoders, fused late, one calibrated score per group.

A group is the works of one artist that share the name grant. Each encoder says of each group how near its works are
(`attribution.whitening`). The utilities of a conditional logit (McFadden 1974) put these together:

    u(group) = sum over encoders of (w near + v centre) - gamma log(works of the group),   w, v, gamma >= 0
    u(none)  = b + sum over encoders of c cohort,   cohort: how near the next best artists are

Weights are shared by all groups and are those of highest likelihood on held-out truth: a work left out belongs to its
artist; with its artist left out, or from the background, to none (`attribution.style_fitting`).
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

from attribution import whitening
from attribution.whitening import Codes, Floats, Groups, Nearness, Whitening

Vectors = Mapping[str, Floats]
Scores = NDArray[np.float64]

CELLS = 4_000_000  # queries x works (or x groups x features) held at a time
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
            works = space.apply(checked_rows(vectors, name, len(groups)))[self._groups.order]
            anchors, owners = space.foreign_anchors(), np.empty(0, np.int64)
            if len(anchors):
                owners = np.full(len(anchors), -1)
            else:
                chosen = anchors_among(np.arange(len(works)), model.seed)
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
        mapped = {
            name: self.model.spaces[name].apply(checked_rows(queries, name, count)) for name in self.model.encoders
        }
        for start in range(0, count, step):
            parts = [
                whitening.nearness(
                    mapped[name][start : start + step], self._works[name], self._hubs[name], self._groups, None
                )
                for name in self.model.encoders
            ]
            features = Features.of(parts, self._groups.sizes)
            found.append(features.scores(parameters_of(self.model)))
        return np.concatenate(found)

    def similarities(self, queries: Vectors) -> Scores:
        """Return fused similarities of m queries to the n works in the order given, (m, n): for ranking works only.

        Whitened cosines less half of the work's hubness, summed with the weights of the encoders.
        """
        total = np.zeros((len(next(iter(queries.values()))), len(self._groups.order)))
        for number, name in enumerate(self.model.encoders):
            mapped = self.model.spaces[name].apply(checked_rows(queries, name, len(total)))
            weight = self.model.near[number] + self.model.centre[number]
            total[:, self._groups.order] += weight * (mapped @ self._works[name].T - 0.5 * self._hubs[name])
        return total

    def shares(self, scores: Scores) -> tuple[Scores, Scores]:
        """Return shares (m, G) and "none of these" (m,) of (m, G) scores; each row sums to 1."""
        return shares_of(scores, self.model.cutoff)


@dataclass(frozen=True)
class Features:
    """Of m queries: `of_groups` (m, G, 2E + 1), `seen` (m, G), `of_none` (m, 1 + E)."""

    of_groups: Scores
    seen: NDArray[np.bool_]
    of_none: Scores

    @classmethod
    def of(cls, parts: list[Nearness], sizes: Codes) -> "Features":
        seen = np.isfinite(parts[0].near)
        size = np.broadcast_to(-np.log(sizes), seen.shape)
        columns = [part.near for part in parts] + [part.centre for part in parts] + [size]
        stacked = np.stack([np.where(seen, column, 0.0) for column in columns], axis=2)
        return cls(stacked, seen, np.stack([np.ones(len(seen)), *(part.cohort for part in parts)], axis=1))

    def scores(self, parameters: Scores) -> Scores:
        split = self.of_groups.shape[2]
        every = self.of_groups @ parameters[:split] - (self.of_none @ parameters[split:])[:, None]
        return np.where(self.seen, every, -np.inf)

    def only(self, rows: NDArray[np.bool_]) -> "Features":
        return Features(self.of_groups[rows], self.seen[rows], self.of_none[rows])

    @staticmethod
    def joined(parts: list["Features"]) -> "Features":
        fields = ("of_groups", "seen", "of_none")
        return Features(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))


def parameters_of(model: StyleModel) -> Scores:
    """Return all weights in the order of `Features.scores`, (3E + 2,)."""
    return np.array([*model.near, *model.centre, model.gamma, model.bias, *model.cohort])


def shares_of(scores: Scores, cutoff: float) -> tuple[Scores, Scores]:
    """Return shares (m, G) and "none of these" (m,) of scores (m, G); each row sums to 1."""
    top = scores.max(axis=1)
    weights = np.maximum(np.exp(scores - top[:, None]) + cutoff, 0.0)
    weights[~np.isfinite(scores)] = 0.0
    none = np.exp(np.minimum(-top, LARGEST_EXPONENT))
    total = weights.sum(axis=1) + none
    return weights / total[:, None], none / total


def anchors_among(rows: Codes, seed: int) -> Codes:
    """At most ANCHORS of the rows, chosen by `seed`."""
    return rows[np.random.default_rng(seed).permutation(len(rows))[: whitening.ANCHORS]]


def checked_rows(vectors: Vectors, name: str, count: int) -> Floats:
    """Return one encoder's rows (count, d) float32. Raises ValueError for another shape, zero or not finite."""
    if name not in vectors or len(vectors[name]) != count:
        raise ValueError(f"{name!r} needs a vector for each of {count} works")
    rows = np.asarray(vectors[name], np.float32)
    whitening.checked(rows)
    return rows
