"""What images that copy nothing reach on the copy axis, and which works stand in a collection twice.

The null of every axis is an image by somebody who is not in the collection. A work that stands there under two artists
is no such image, for either of them: its twin would be found, and rightly. Nor is a third work by one of the two, which
finds its own hand under another's name. Such works are left out of calibration, and how many is part of the evidence;
searches see them as ever.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attribution.copies import Asked, CopyIndex, Found, best_matches
from attribution.features import LocalFeatures
from attribution.reference import Pixels, Rows
from attribution.whitening import Codes


class Query(NamedTuple):
    """A work to calibrate with: its row, a picture of it, its local features, and its vectors of the copy encoders."""

    row: int
    pixels: Pixels
    features: LocalFeatures
    vectors: Mapping[str, Rows]

    def asked(self, hidden: NDArray[np.bool_] | None) -> Asked:
        return self.pixels, self.features, hidden, self.vectors


def same_pixels_twice(artists: Codes, pictures: Codes) -> NDArray[np.bool_]:
    """(n,) which works show the same pixels (equal `pictures`) as a work of another artist."""
    pairs = np.unique(np.stack([pictures, artists], axis=1), axis=0)
    of, artists_of = np.unique(pairs[:, 0], return_counts=True)
    return np.isin(pictures, of[artists_of > 1])


def against_itself(
    index: CopyIndex, queries: Sequence[Query], artists: Codes, twice: NDArray[np.bool_]
) -> tuple[Rows, list[int], NDArray[np.bool_]]:
    """Each work against those of all other artists. Returns scores (m,) of the works that do not stand there twice, 0
    where nothing aligns, their rows, and (n,) which works do: those of `twice` and all that were found besides.
    """
    twice = twice.copy()
    best: dict[int, Found | None] = {}  # by query
    asked = _left(range(len(queries)), queries, twice)
    while asked:
        hidden = [twice | (artists == artists[queries[at].row]) for at in asked]
        found = best_matches(index, [queries[at].asked(away) for at, away in zip(asked, hidden, strict=True)])
        for at, match in zip(asked, found, strict=True):
            best[at] = match
            if match is not None and match.alignment.is_one_picture:
                twice[[match.row, queries[at].row]] = True
        asked = _left((at for at, match in best.items() if match is not None and twice[match.row]), queries, twice)
    kept = _left(range(len(queries)), queries, twice)
    return _scores([best[at] for at in kept]), [queries[at].row for at in kept], twice


def against_background(index: CopyIndex, queries: Sequence[Query]) -> tuple[Rows, list[int]]:
    """Each background work against the collection: scores (m,) and rows of those that do not stand in it after all."""
    found = best_matches(index, [each.asked(None) for each in queries])
    kept = [at for at, match in enumerate(found) if match is None or not match.alignment.is_one_picture]
    return _scores([found[at] for at in kept]), [queries[at].row for at in kept]


def _scores(matches: Sequence[Found | None]) -> Rows:
    return np.array([0.0 if match is None else match.score for match in matches], np.float32)


def _left(places: Iterable[int], queries: Sequence[Query], twice: NDArray[np.bool_]) -> list[int]:
    return [at for at in places if not twice[queries[at].row]]
