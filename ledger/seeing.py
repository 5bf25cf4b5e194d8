"""What a ledger keeps of a work: what is said of it, its fingerprints, and what the encoders see. Loads no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attribution.fingerprints import Fingerprints, fingerprint
from ledger.snapshots import Encoders
from ledger.sources import Facts
from models.images import DecodedImage, encode_preview

# A batch is one forward pass; it ends early when its pixels would fill memory.
BATCH_WORKS = 32
BATCH_PIXELS = 64_000_000

Pixels = NDArray[np.uint8]


class Embedder(Protocol):
    """The encoders of a profile and the engine's local features, as `ledger.examiner` provides them."""

    @property
    def encoders(self) -> Encoders:
        """Key → name, revision, weights_sha256, licence: of the encoders, and of the method of local features."""
        ...

    @property
    def method(self) -> str:
        """The key of the method of local features."""
        ...

    def embed(self, images: Sequence[Pixels]) -> Mapping[str, NDArray[np.float32]]:
        """Encoder key → (n, dim) float32, rows of length one."""
        ...

    def features(self, images: Sequence[Pixels]) -> Sequence[bytes]:
        """The local features of each image. Loads no network."""
        ...


@dataclass(frozen=True)
class Described:
    """One work, its pixels looked at and let go of."""

    facts: Facts
    found: Fingerprints

    @property
    def file_sha256(self) -> bytes:
        return bytes.fromhex(self.found.file_sha256)


@dataclass(frozen=True)
class Seen:
    """What was seen in n works: encoder key → (n, dim), and local features and a WebP of each."""

    vectors: Mapping[str, NDArray[np.float32]]
    features: Sequence[bytes]
    previews: Sequence[bytes]


def describe(facts: Facts, data: bytes, decode: Callable[[bytes], DecodedImage]) -> tuple[Described, Pixels]:
    """Decode a file and take its fingerprints. Raises what `decode` raises, ImageError above all."""
    pixels = decode(data).pixels
    return Described(facts, fingerprint(data, pixels)), pixels


def see(images: Sequence[Pixels], embedder: Embedder) -> Seen:
    """Look at a batch."""
    return Seen(embedder.embed(images), embedder.features(images), [encode_preview(image) for image in images])
