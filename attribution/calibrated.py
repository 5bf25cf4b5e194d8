"""What the engine's error rates rest on: fitted once to a collection, kept as bytes, named by their digest.

For every encoder, for the style axis and for the copy axis: the scores of images that have nothing to do with the
collection. Such images are either the works of a background, a second reference whose artists are not in the
collection, or the collection's own works, each with its artist left out, but for those that stand there under two
artists. Where neither is enough, the reason stands in place of scores, and the axis says that it cannot tell.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from attribution import copy_null, neighbours, poor_copies, style_fitting
from attribution.calibration import Null
from attribution.copies import CopyIndex
from attribution.features import METHOD
from attribution.neighbours import MIN_WORKS
from attribution.poor_copies import PoorCopies
from attribution.reference import Compared, Pixels, Reference, Rows, sample
from attribution.snapshot import CALIBRATION_RECIPE
from attribution.style import StyleModel
from attribution.style_fitting import Background
from models.networks import Encoder, encoder_key

OWN = "leave-artist-out/1"
BACKGROUND = "background/1"
MOST_CACHED = 3  # indexes of earlier states of the collection
NO_ENCODER = "no encoder of style is loaded that has seen the collection"
TOO_LARGE = "the collection is larger than the memory that styles are compared in"
MOST_COPY_QUERIES = 1000  # a tenth of a second each; 999 are enough for p = 0.001


class NullScores(msgspec.Struct, frozen=True):
    """Null scores as bytes (`Null.to_bytes`), or the reason why there are none."""

    method: str
    scores: bytes = b""
    artists: int | None = None
    reason: str | None = None

    @classmethod
    def of(cls, method: str, null: Null | str) -> "NullScores":
        if isinstance(null, str):
            return cls(method, reason=null)
        return cls(method, null.to_bytes(), null.artists)

    def null(self) -> Null | None:
        return None if self.reason is not None else Null.from_bytes(self.scores, self.artists)


class Calibrated(msgspec.Struct, frozen=True, kw_only=True):
    """The artefact. `neighbours` by encoder name; `style` is None where `style_null.reason` says why. `twice`: how many
    works were left out because they stand in the collection under two artists."""

    recipe: str = CALIBRATION_RECIPE
    works: int
    artists: int
    background_works: int
    twice: int
    neighbours: dict[str, NullScores]
    style: StyleModel | None
    style_null: NullScores
    copy_null: NullScores

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(self, order="deterministic")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Calibrated":
        """Raises ValueError for anything that `to_bytes` of this recipe did not write."""
        try:
            read = msgspec.msgpack.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(f"these bytes are no calibration: {error}") from error
        if read.recipe != CALIBRATION_RECIPE:
            raise ValueError(f"a calibration by recipe {read.recipe}, and this engine has {CALIBRATION_RECIPE}")
        return read


def calibrate(encoders: Mapping[str, Encoder], reference: Reference, background: Reference | None = None) -> Calibrated:
    """Fit to the works of `reference` that may be compared. Seconds to minutes; the same inputs give the same scores.

    Raises what `Compared.of` raises.
    """
    own = Compared.of(reference, encoders)
    apart = Compared.of(background, encoders)
    copies, twice = _copies(own, apart, reference, background, encoders)
    once = own.only(~twice)
    style_model, style_null = _style(once, apart, reference, background, encoders)
    return Calibrated(
        works=len(own.works),
        artists=int(own.artists.max(initial=-1)) + 1,
        background_works=len(apart.works),
        twice=int(twice.sum()),
        neighbours={name: _neighbours(name, once, apart) for name in own.vectors},
        style=style_model,
        style_null=style_null,
        copy_null=copies,
    )


def _neighbours(name: str, own: Compared, apart: Compared) -> NullScores:
    vectors = own.vectors[name]
    if name in apart.vectors:
        null = neighbours.against_background(vectors, apart.vectors[name], apart.artists)
        return NullScores.of(BACKGROUND, null)
    ids = [work.id for work in own.works]
    return NullScores.of(OWN, neighbours.leave_artist_out(vectors, ids, own.artists, own.pictures))


def _style(
    own: Compared, apart: Compared, reference: Reference, background: Reference | None, encoders: Mapping[str, Encoder]
) -> tuple[StyleModel | None, NullScores]:
    vectors = own.of_axis(encoders, "style")
    others = apart.of_axis(encoders, "style")
    used = {name: encoders[name] for name in vectors}
    around, method = None, OWN
    if vectors and background is not None and set(others) == set(vectors):
        around, method = Background(others, apart.artists, _poor(apart, background, used)), BACKGROUND
    if not vectors:
        on_disk = any("style" in encoders[name].axes for name in own.vectors)
        return None, NullScores(method, reason=TOO_LARGE if on_disk else NO_ENCODER)
    works = (vectors, own.groups, own.artists, own.pictures)
    model = style_fitting.fit_style(*works, poor=_poor(own, reference, used), background=around)
    if isinstance(model, str):
        return None, NullScores(method, reason=model)
    return model, NullScores.of(method, style_fitting.null(*works, model, background=around))


def _poor(compared: Compared, reference: Reference, encoders: Mapping[str, Encoder]) -> PoorCopies:
    rows = sample([work.id for work in compared.works], poor_copies.MOST)
    previews = ((row, reference.preview(compared.works[row].id)) for row in rows)
    return PoorCopies.of(((row, pixels) for row, pixels in previews if pixels is not None), encoders)


def _copies(
    own: Compared, apart: Compared, reference: Reference, background: Reference | None, encoders: Mapping[str, Encoder]
) -> tuple[NullScores, NDArray[np.bool_]]:
    """The null of the copy axis, and (n,) which works are left out of calibration for standing there twice: none where
    a background is asked instead."""
    asked = background if apart.works and apart.features is not None else None
    twice = np.zeros(len(own.works), np.bool_)
    if asked is None:
        twice = copy_null.same_pixels_twice(own.artists, own.pictures)
    if own.features is None:
        return NullScores(OWN, reason="the collection was indexed without local features"), twice
    if asked is not None:
        index = copy_index(own, encoders, reference.cache)
        scores, rows = copy_null.against_background(index, _queries(apart, asked, encoders))
        return _copy_scores(BACKGROUND, scores, apart.artists[rows]), twice
    if len(np.unique(own.artists)) < 2:
        return NullScores(OWN, reason="all works are by one artist, and an error rate needs at least two"), twice
    index, queries = copy_index(own, encoders, reference.cache), _queries(own, reference, encoders)
    scores, rows, twice = copy_null.against_itself(index, queries, own.artists, twice)
    return _copy_scores(OWN, scores, own.artists[rows]), twice


def _queries(compared: Compared, reference: Reference, encoders: Mapping[str, Encoder]) -> list[copy_null.Query]:
    features = compared.features
    assert features is not None
    return [
        copy_null.Query(row, pixels, features[row], copy_vectors(encoders, pixels))
        for row in sample([work.id for work in compared.works], MOST_COPY_QUERIES)
        if (pixels := reference.preview(compared.works[row].id)) is not None
    ]


def _copy_scores(method: str, scores: Rows, artists: NDArray[np.int64]) -> NullScores:
    if len(scores) < MIN_WORKS:
        return NullScores(
            method, reason=f"{len(scores)} works are too few to state an error rate; at least {MIN_WORKS} are needed"
        )
    return NullScores.of(method, Null.of(scores, artists=len(np.unique(artists))))


def copy_index(compared: Compared, encoders: Mapping[str, Encoder], cache: Path | None) -> CopyIndex:
    """Build the index of the works that may be compared, or open it from `cache`, where it is named by its contents.

    A file that is damaged, or that cannot be written, costs time and nothing else. Needs local features.
    """
    assert compared.features is not None
    vectors = compared.of_axis(encoders, "copy")
    if cache is None:
        return CopyIndex(compared.features, vectors)
    contents = [encoder_key(METHOD), *(encoder_key(encoders[name].info) for name in sorted(vectors))]
    contents += [work.pixel_sha256 for work in compared.works]
    path = cache / f"{hashlib.sha256(chr(10).join(contents).encode()).hexdigest()}.copies"
    with contextlib.suppress(OSError, ValueError):
        return CopyIndex.load(path)
    index = CopyIndex(compared.features, vectors)
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        for older in sorted(cache.glob("*.copies"), key=lambda file: file.stat().st_mtime)[:-MOST_CACHED]:
            older.unlink()
        index.save(path)
    return index


def copy_vectors(encoders: Mapping[str, Encoder], pixels: Pixels) -> dict[str, Rows]:
    """What the copy encoders see of an image and of its mirror image: (2, d) each."""
    both = [pixels, np.ascontiguousarray(pixels[:, ::-1])]
    return {name: encoder.encode(both) for name, encoder in encoders.items() if "copy" in encoder.axes}
