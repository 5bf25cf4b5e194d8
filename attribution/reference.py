"""A collection as the engine compares with it: the works that may be compared, in one order for every axis."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attribution.features import LocalFeatures
from attribution.snapshot import ReferenceWork
from attribution.vector_sets import VectorSet
from models.errors import NetworkError
from models.networks import Encoder, NetworkInfo, encoder_key

Pixels = NDArray[np.uint8]
Rows = NDArray[np.float32]


def quarter_of_memory() -> int:
    """Return a quarter of this machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


@dataclass(frozen=True)
class Reference:
    """A frozen collection: works and, in the same order, one row per work of each encoder, (n, d) float32 or on disk.

    `memory`: the most bytes that one encoder's rows may take as float32. Rows on disk that take more stay there; where
    no GPU holds them either, not every one is looked at for an image, and the evidence says so.

    `features` are local features of each work, or None where the collection was indexed without them. `preview` gives
    the small picture of a work by its id: to calibrate with, and to show only where the work may be named. `cache` is a
    folder for what takes long to build; anything in it may be deleted at any time.
    """

    works: tuple[ReferenceWork, ...]
    vectors: Mapping[str, Rows | VectorSet]
    encoders: Mapping[str, NetworkInfo]
    digest: bytes | None
    collection: str
    features: Sequence[LocalFeatures] | None = None
    preview: Callable[[str], Pixels | None] = field(default=lambda _: None)
    cache: Path | None = None
    memory: int = field(default_factory=quarter_of_memory)


@dataclass(frozen=True)
class Compared:
    """The part of a reference that may be compared. Whatever is an (n,) array goes with `works`.

    `artists` are codes 0…A-1 in order of appearance. `groups` are what the style axis names: an artist's works, apart
    by whether they may be named, so that a protected work never speaks through its artist's name. Works with equal
    `pictures` show the same pixels. `vectors` are unit rows of the encoders that are loaded; those on disk have the
    lengths that binary16 leaves them, within some 1e-5 of 1.
    """

    works: tuple[ReferenceWork, ...]
    artists: NDArray[np.int64]
    groups: NDArray[np.int64]
    pictures: NDArray[np.int64]
    vectors: Mapping[str, Rows | VectorSet]
    features: Sequence[LocalFeatures] | None

    @classmethod
    def of(cls, reference: Reference | None, encoders: Mapping[str, Encoder]) -> "Compared":
        """Leave out what may not be compared before anything is built.

        Raises NetworkError `encoder_changed` when the collection was indexed with other weights than those loaded, and
        ValueError when vectors do not fit the works or are not finite.
        """
        every = reference.works if reference else ()
        kept = np.array([work.compare for work in every], np.bool_)
        works = tuple(work for work in every if work.compare)
        vectors: dict[str, Rows | VectorSet] = {}
        for name, encoder in encoders.items():
            if reference is not None and works and name in reference.vectors:
                _check_weights(name, encoder.info, reference.encoders.get(name))
                vectors[name] = _kept_rows(name, reference.vectors[name], kept, encoder.dim, reference.memory)
        features = None
        if reference is not None and reference.features is not None:
            features = [each for each, keep in zip(reference.features, kept, strict=True) if keep]
        return cls(
            works,
            artists=codes([work.artist_id for work in works]),
            groups=codes([(work.artist_id, work.name) for work in works]),
            pictures=codes([work.pixel_sha256 for work in works]),
            vectors=vectors,
            features=features,
        )

    def only(self, kept: NDArray[np.bool_]) -> "Compared":
        """The works that `kept` (n,) says, in the same order; their codes are numbered anew."""
        if kept.all():
            return self
        rows = np.flatnonzero(kept).tolist()
        return Compared(
            tuple(self.works[row] for row in rows),
            artists=codes(self.artists[kept].tolist()),
            groups=codes(self.groups[kept].tolist()),
            pictures=codes(self.pictures[kept].tolist()),
            vectors={
                name: each[kept] if isinstance(each, np.ndarray) else each.only(kept)
                for name, each in self.vectors.items()
            },
            features=None if self.features is None else [self.features[row] for row in rows],
        )

    def of_axis(self, encoders: Mapping[str, Encoder], axis: str) -> dict[str, Rows]:
        """The vectors in memory of the encoders that are evidence for one axis."""
        return {
            name: rows
            for name, rows in self.vectors.items()
            if axis in encoders[name].axes and isinstance(rows, np.ndarray)
        }


def codes(keys: Sequence[object]) -> NDArray[np.int64]:
    """Number equal keys alike, 0.. in the order they appear; (n,) int64."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)


def sample(ids: Sequence[str], most: int) -> list[int]:
    """At most `most` rows, chosen by the hash of their ids: the order of works does not matter."""
    order = sorted(range(len(ids)), key=lambda row: hashlib.sha256(ids[row].encode()).digest())
    return order[:most]


def _check_weights(name: str, loaded: NetworkInfo, indexed: NetworkInfo | None) -> None:
    if indexed is None or encoder_key(indexed) != encoder_key(loaded):
        was = encoder_key(indexed) if indexed else "no named network"
        raise NetworkError(
            f"The collection was indexed with {was}, and {encoder_key(loaded)} is loaded as {name!r}.",
            code="encoder_changed",
            next_step="Index the collection again, or set the network back to the one that indexed it.",
        )


def _kept_rows(
    name: str, vectors: Rows | VectorSet, kept: NDArray[np.bool_], dim: int, memory: int
) -> Rows | VectorSet:
    """Rows of the works kept, scaled to length 1 (halfvec storage rounds them), or on disk as they are."""
    shape = vectors.shape if isinstance(vectors, np.ndarray) else (len(vectors), vectors.dim)
    if shape != (len(kept), dim):
        raise ValueError(f"{name!r} needs ({len(kept)}, {dim}) vectors, not {shape}")
    if isinstance(vectors, np.ndarray):
        rows = vectors[kept].astype(np.float32)
    else:
        stored = vectors.only(kept)
        if 4 * len(stored) * dim > memory:
            return stored
        rows = stored.take(np.arange(len(stored)))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or lengths.min() <= 0:
        raise ValueError(f"{name!r} has a vector that is zero or not finite")
    return np.asarray(rows / lengths, np.float32)
