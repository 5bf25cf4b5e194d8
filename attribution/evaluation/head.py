"""The classifier suite: does the trained head name artists better than its best single embedding, and know its limits?

Works are dealt to folds, each artist evenly, and pictures of one content (a code point drawn by every designer) or of
equal bytes together; every work is classified once, by a head that has seen neither it nor its content. Then artists
are left out in turn, and their works are what must be called unknown. The nearest centroid of each embedding, a head
over each embedding alone, and a head over shuffled artists take the same folds.

What it does not prove: a head can tell artists apart by how their works were photographed. Figures hold for these
pictures.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attribution.calibration import clustered_rate_interval
from attribution.evaluation import confidence as calibration
from attribution.evaluation.dataset import Dataset, DatasetError, drawn
from attribution.evaluation.suite import OURS, SHUFFLED, Figure, Options, Result, Table, data_of
from models.head_training import deal, train_head
from models.networks import Encoder

FOLDS = 4
LEFT_OUT_FOLDS = 8  # one at a time where there are few
SMALLEST_CATALOGUE = 4  # works an artist needs here: one in every fold
BATCH = 32
RESAMPLES = 200
SHARES = "probabilities"

Vectors = Mapping[str, NDArray[np.float32]]
Labels = NDArray[np.int64]
Shares = NDArray[np.float64]


def evaluate(dataset: Dataset | None, encoders: Mapping[str, Encoder], options: Options) -> Result:
    """Measure each group of the dataset (the atelier's works without one). Raises DatasetError `too_few_artists`."""
    data = drawn(variants=6) if dataset is None else dataset
    if options.sample is not None:
        data = data.sample(options.sample, options.seed)
    figures: list[Figure] = []
    tables: list[Table] = []
    notes: list[str] = []
    for group in sorted({item.group for item in data.items}):
        part = data.of_group(group)
        codes, counts = part.artist_codes(), np.bincount(part.artist_codes())
        kept = np.flatnonzero(counts[codes] >= SMALLEST_CATALOGUE)
        artists = np.unique(codes[kept], return_inverse=True)[1]
        if artists.max(initial=-1) < 2:
            notes.append(f"{group or data.name}: fewer than three artists with {SMALLEST_CATALOGUE} works; left out.")
            continue
        vectors = _encode(part, kept, encoders, options, group)
        measured, table = _Group(vectors, artists, _together(part)[kept], group, options).measure()
        figures += measured
        tables.append(table)
    if not figures:
        raise DatasetError(
            f"{data.name} has no three artists with {SMALLEST_CATALOGUE} works each.",
            code="too_few_artists",
            next_step="Give a folder with more artists, or more of their works.",
        )
    return Result(
        suite="head",
        figures=figures,
        tables=tables,
        data=data_of(data),
        seed=options.seed,
        sample=options.sample,
        notes=notes,
    )


def _together(dataset: Dataset) -> Labels:
    """Equal where pictures show the same content or are the same file: never on both sides of a split."""
    contents, pictures = dataset.content_codes(), dataset.picture_codes()
    lowest = np.full(int(pictures.max()) + 1, len(contents), np.int64)
    np.minimum.at(lowest, pictures, contents)
    return np.asarray(np.unique(lowest[pictures], return_inverse=True)[1], np.int64)


def _encode(dataset: Dataset, kept: Labels, encoders: Mapping[str, Encoder], options: Options, group: str) -> Vectors:
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in encoders}
    for start in range(0, len(kept), BATCH):
        pictures = [dataset.items[at].pixels() for at in kept[start : start + BATCH]]
        for name, encoder in encoders.items():
            rows[name].append(encoder.encode(pictures))
        options.progress(f"encode {group}".strip(), min(start + BATCH, len(kept)), len(kept))
    whole = {name: np.concatenate(parts) for name, parts in rows.items()}
    return {name: each for name, each in whole.items() if each.any(1).all()}  # a zero row teaches nothing


class _Group:
    """One group of n works: unit rows by encoder, artists 0..A-1, and what must stay together."""

    def __init__(self, vectors: Vectors, artists: Labels, together: Labels, group: str, options: Options) -> None:
        self.vectors, self.artists, self.group, self.options = vectors, artists, group, options
        self.together = np.unique(together, return_inverse=True)[1]
        self.folds = deal(artists, self.together, options.seed, FOLDS)

    def measure(self) -> tuple[list[Figure], Table]:
        whole = self._held_out(self.vectors, self.artists, "head")
        strangers, abstained = self._left_out()
        known, unknown = whole[:, :-1].argmax(1) == self.artists, whole[:, -1]
        found = self._named(known, OURS)
        for name, rows in self.vectors.items():
            one = self._held_out({name: rows}, self.artists, f"head over {name}")
            found += self._named(one[:, :-1].argmax(1) == self.artists, f"baseline: {name} alone")
            found += self._named(self._centroids(rows) == self.artists, f"baseline: nearest centroid of {name}")
        shuffled = np.random.default_rng(self.options.seed).permutation(self.artists)
        found += self._named(
            self._held_out(self.vectors, shuffled, SHUFFLED)[:, :-1].argmax(1) == self.artists, SHUFFLED
        )
        named = known & (unknown < whole[:, :-1].max(1))
        found.append(self._rate("known artist named, not called unknown", named, self.artists))
        found.append(self._rate("artist left out called unknown", abstained, self.artists))
        n = len(self.artists)
        answers = calibration.Answered(
            np.concatenate([whole.max(1), strangers]),
            np.concatenate([named, abstained]),
            np.repeat([False, True], n),
            np.tile(self.artists, 2),
        )
        found += calibration.figures(SHARES, answers, self.group, self.options.seed)
        return found, calibration.table(SHARES, answers, self.group)

    def _held_out(self, vectors: Vectors, artists: Labels, stage: str) -> Shares:
        """(n, A + 1) probabilities of each work, by a head that has not seen its fold; "unknown" last."""
        shares = np.zeros((len(artists), int(artists.max()) + 2))
        for fold in range(FOLDS):
            held = self.folds == fold
            shares[held] = self._learn(vectors, artists, ~held, held)
            self.options.progress(f"{stage} {self.group}".strip(), fold + 1, FOLDS)
        return shares

    def _left_out(self) -> tuple[Shares, NDArray[np.bool_]]:
        """Confidence in the likeliest outcome, and whether it is "unknown", under heads that do not know the artist."""
        count = int(self.artists.max()) + 1
        folds = min(LEFT_OUT_FOLDS, count)
        dealt = np.random.default_rng(self.options.seed).permutation(count) % folds
        shares = np.zeros((len(self.artists), count + 1))
        for fold in range(folds):
            out = dealt[self.artists] == fold
            shares[out] = self._learn(self.vectors, self.artists, ~out, out)
            self.options.progress(f"artists left out {self.group}".strip(), fold + 1, folds)
        return shares.max(1), shares.argmax(1) == count

    def _learn(self, vectors: Vectors, artists: Labels, seen: NDArray[np.bool_], asked: NDArray[np.bool_]) -> Shares:
        names = [f"{artist:06d}" for artist in artists[seen]]
        together = np.unique(self.together[seen], return_inverse=True)[1]
        head, _ = train_head(
            {name: rows[seen] for name, rows in vectors.items()}, names, together, seed=self.options.seed
        )
        known, unknown = head.classify({name: rows[asked] for name, rows in vectors.items()})
        shares = np.zeros((int(asked.sum()), int(artists.max()) + 2))
        shares[:, [int(name) for name in head.artists]] = known
        shares[:, -1] = unknown
        return shares

    def _centroids(self, rows: NDArray[np.float32]) -> Labels:
        """(n,) the artist whose mean of unit rows, by the other folds, is nearest by cosine."""
        answer = np.zeros(len(rows), np.int64)
        for fold in range(FOLDS):
            seen = self.folds != fold
            means = np.zeros((int(self.artists.max()) + 1, rows.shape[1]))
            np.add.at(means, self.artists[seen], rows[seen])
            means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
            answer[~seen] = (rows[~seen] @ means.T).argmax(1)
        return answer

    def _named(self, right: NDArray[np.bool_], method: str) -> list[Figure]:
        by_artist = np.bincount(self.artists, right) / np.bincount(self.artists)
        rate = self._rate("artist named", right, self.artists, method)
        chance = np.random.default_rng(self.options.seed)
        means = chance.choice(by_artist, (RESAMPLES, len(by_artist))).mean(1)
        low, high = np.quantile(means, [0.025, 0.975])
        return [
            rate,
            Figure(
                name="artist named, mean over artists",
                value=float(by_artist.mean()),
                low=float(low),
                high=float(high),
                n=len(by_artist),
                method=method,
                group=self.group,
            ),
        ]

    def _rate(self, name: str, hit: NDArray[np.bool_], artists: Labels, method: str = OURS) -> Figure:
        low, high = clustered_rate_interval(hit, artists)
        return Figure(
            name=name, value=float(hit.mean()), low=low, high=high, n=len(hit), method=method, group=self.group
        )
