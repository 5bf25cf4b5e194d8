"""The ways of finding copies that the copy suite compares: ours, and two that know nothing of local features.

Each first describes every work by itself, which may happen in parallel, and then answers over all of them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attribution.copies import CopyIndex
from attribution.features import LocalFeatures, extract
from attribution.fingerprints import pdq_hash
from models.networks import Encoder, encoder_key

Pixels = NDArray[np.uint8]

MOST = 100  # more works than the search ever aligns with one image
BINS = 8  # of each channel


class Described(NamedTuple):
    """What our search keeps of a work: local features, and a (d,) vector by key of each copy encoder."""

    features: LocalFeatures
    vectors: dict[str, NDArray[np.float32]]


class Ours:
    """`attribution.copies`, as the engine uses it: the score is the alignment's."""

    def __init__(self, works: Sequence[Described], encoders: Sequence[Encoder]) -> None:
        self._encoders = encoders
        vectors = {key: np.stack([work.vectors[key] for work in works]) for key in works[0].vectors}
        self._index = CopyIndex([work.features for work in works], vectors)

    @staticmethod
    def describe(pixels: Pixels, encoders: Sequence[Encoder]) -> Described:
        vectors = {encoder_key(encoder.info): encoder.encode([pixels])[0] for encoder in encoders}
        return Described(extract(pixels), vectors)

    def scores(self, pixels: Pixels) -> NDArray[np.float64]:
        both = [pixels, np.ascontiguousarray(pixels[:, ::-1])]
        vectors = {encoder_key(encoder.info): encoder.encode(both) for encoder in self._encoders}
        scores = np.full(len(self._index), -np.inf)
        for found in self._index.find(pixels, vectors, most=MOST):
            scores[found.row] = found.score
        return scores


class Pdq:
    """PDQ, 256 bits: the score is minus the number of bits that differ. Flat pictures have a hash, too."""

    def __init__(self, works: Sequence[NDArray[np.uint8]]) -> None:
        self._bits = np.stack(works)

    @staticmethod
    def describe(pixels: Pixels) -> NDArray[np.uint8]:
        """Return (256,) bits."""
        return np.unpackbits(np.frombuffer(bytes.fromhex(pdq_hash(pixels)[0]), np.uint8))

    def scores(self, pixels: Pixels) -> NDArray[np.float64]:
        return np.asarray(-(self._bits != self.describe(pixels)).sum(axis=1), np.float64)


class ColourHistogram:
    """8 x 8 x 8 colours, compared by the Bhattacharyya coefficient: it sees what is there, never where."""

    def __init__(self, works: Sequence[NDArray[np.float32]]) -> None:
        self._roots = np.stack(works)

    @staticmethod
    def describe(pixels: Pixels) -> NDArray[np.float32]:
        """Return (512,), the square roots of the colours' parts."""
        levels = (pixels.reshape(-1, 3).astype(np.int64) * BINS) >> 8
        counts = np.bincount(levels @ np.array([BINS * BINS, BINS, 1]), minlength=BINS**3)
        return np.asarray(np.sqrt(counts / counts.sum()), np.float32)

    def scores(self, pixels: Pixels) -> NDArray[np.float64]:
        return np.asarray(self._roots @ self.describe(pixels), np.float64)


def copy_encoders(encoders: Mapping[str, Encoder]) -> list[Encoder]:
    """Those whose vectors are evidence for copies."""
    return [encoder for encoder in encoders.values() if "copy" in encoder.axes]
