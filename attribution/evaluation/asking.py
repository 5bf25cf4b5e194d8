"""What the style and the copy axis say of many pictures at once, as a suite needs it: one reference, many questions.

The fits, scores and p-values are those of `attribution.style_fitting`, `attribution.copies` and
`attribution.calibration`, which the engine uses too; nothing is decided here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attribution import poor_copies
from attribution.calibrated import copy_vectors
from attribution.calibration import Null
from attribution.copies import CopyIndex, Found
from attribution.evaluation.dataset import Dataset, Item, Pixels
from attribution.evaluation.suite import Options
from attribution.features import LocalFeatures, extract
from attribution.poor_copies import PoorCopies
from attribution.reference import sample
from attribution.style import StyleReference
from attribution.style_fitting import Background, fit_style, null
from models.networks import Axis, Encoder

Rows = NDArray[np.float32]
Codes = NDArray[np.int64]

NOBODY = -1
BATCH = 32


@dataclass(frozen=True)
class Pictures:
    """Pictures as the engine sees them. What is (n,) goes with `vectors`, rows by encoder.

    Equal `pictures` show the same pixels; equal `contents` show the same thing in several hands.
    """

    vectors: Mapping[str, Rows]
    artists: Codes
    pictures: Codes
    contents: Codes
    names: tuple[str, ...]  # of the artists
    local: tuple[LocalFeatures, ...] = ()
    poor: PoorCopies | None = None

    def __len__(self) -> int:
        return len(self.artists)

    def only(self, kept: NDArray[np.bool_]) -> "Pictures":
        """The pictures that are kept; artists keep their numbers."""
        vectors = {name: rows[kept] for name, rows in self.vectors.items()}
        local = tuple(each for each, keep in zip(self.local, kept, strict=True) if keep) if self.local else ()
        poor = None if self.poor is None else self.poor.only(kept)
        return Pictures(vectors, self.artists[kept], self.pictures[kept], self.contents[kept], self.names, local, poor)

    def of_axis(self, encoders: Mapping[str, Encoder], axis: Axis) -> dict[str, Rows]:
        """The vectors of the encoders that are evidence for one axis."""
        return {name: rows for name, rows in self.vectors.items() if axis in encoders[name].axes}

    def credited(self, artists: Codes) -> "Pictures":
        """The same pictures under other artists."""
        return replace(self, artists=artists)


class Answers(NamedTuple):
    """What the style axis said of m images: whom it finds nearest, with which p, and where the largest share fell."""

    nearest: Codes
    p_values: NDArray[np.float64]
    chosen: Codes  # NOBODY: none of these
    confidence: NDArray[np.float64]
    null: Null


def embed(
    items: Sequence[Item],
    encoders: Mapping[str, Encoder],
    options: Options,
    *,
    local: bool = False,
    poor: bool = False,
) -> Pictures:
    """Decode and encode every item, a batch at a time; if `local`, find local features; if `poor`, see poor copies."""
    rows: dict[str, list[Rows]] = {name: [] for name in encoders}
    found: list[LocalFeatures] = []
    for at in range(0, len(items), BATCH):
        images = [item.pixels() for item in items[at : at + BATCH]]
        for name, encoder in encoders.items():
            rows[name].append(encoder.encode(images))
        found += [extract(image) for image in images] if local else []
        options.progress("looking at pictures", min(at + BATCH, len(items)), len(items))
    dataset = Dataset("", tuple(items), "")
    return Pictures(
        {name: np.concatenate(parts) for name, parts in rows.items()},
        dataset.artist_codes(),
        dataset.picture_codes(),
        dataset.content_codes(),
        dataset.artists,
        tuple(found),
        poor_copies_of(items, encoders) if poor else None,
    )


def poor_copies_of(
    items: Sequence[Item], encoders: Mapping[str, Encoder], look: Callable[[Pixels], Pixels] = lambda pixels: pixels
) -> PoorCopies:
    """Poor copies, for the encoders of style, of as many items as the engine takes; `look` changes them first."""
    rows = sample([item.name for item in items], poor_copies.MOST)
    of_style = {name: encoder for name, encoder in encoders.items() if "style" in encoder.axes}
    return PoorCopies.of(((row, look(items[row].pixels())) for row in rows), of_style)


def encoded(images: Sequence[Pixels], encoders: Mapping[str, Encoder]) -> dict[str, Rows]:
    """Rows of (h, w, 3) uint8 images by encoder, a batch at a time."""
    batches = [images[at : at + BATCH] for at in range(0, len(images), BATCH)]
    return {
        name: np.concatenate([np.empty((0, encoder.dim), np.float32), *(encoder.encode(batch) for batch in batches)])
        for name, encoder in encoders.items()
    }


def ask(
    reference: Pictures, queries: Pictures, background: Pictures | None, encoders: Mapping[str, Encoder], seed: int
) -> Answers | str:
    """Fit the style axis to `reference` and ask it about `queries`; or the reason why it cannot tell."""
    own = reference.of_axis(encoders, "style")
    if not own:
        return "no encoder of style is loaded"
    present, groups = np.unique(reference.artists, return_inverse=True)
    groups = groups.astype(np.int64)
    apart = None
    if background is not None:
        apart = Background(background.of_axis(encoders, "style"), background.artists, background.poor)
    fitted = (own, groups, groups, reference.pictures)
    model = fit_style(*fitted, poor=reference.poor, background=apart, seed=seed)
    if isinstance(model, str):
        return model
    ordinary = null(*fitted, model, background=apart, seed=seed)
    asked = StyleReference(*fitted, model)
    each = asked.scores(queries.of_axis(encoders, "style"))
    shares, none = asked.shares(each)
    largest = shares.argmax(axis=1)
    nobody = none >= shares.max(axis=1)
    return Answers(
        nearest=present[each.argmax(axis=1)],
        p_values=ordinary.p_values(each.max(axis=1)),
        chosen=np.where(nobody, NOBODY, present[largest]),
        confidence=np.maximum(none, shares.max(axis=1)),
        null=ordinary,
    )


def copies_of(
    index: CopyIndex, item: Item, encoders: Mapping[str, Encoder], hidden: NDArray[np.bool_] | None, most: int
) -> list[Found]:
    """The works that the copy axis finds in one picture, asked as the engine asks."""
    pixels = item.pixels()
    return index.find(pixels, copy_vectors(encoders, pixels), hidden=hidden, most=most)


def copy_index(reference: Pictures, encoders: Mapping[str, Encoder]) -> CopyIndex:
    """The copy axis over pictures that were embedded with local features."""
    return CopyIndex(reference.local, reference.of_axis(encoders, "copy"))
