"""Works seen again as poor copies: blurred, scaled down and up, compressed.

Encoders are weighed by how well they tell whose a work is. Where works are clean, nearly all encoders do, and the
weights say little about pictures that are softer than a collection's, as generated ones are. Poor copies of some works
show which encoders still see the hand. No edit is fitted to a generator: nothing here knows one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from models.networks import Encoder

Pixels = NDArray[np.uint8]

MOST = 300  # of a collection's works: each has to be encoded
BATCH = 32
BLUR = (0.004, 0.016)  # standard deviation, in lengths of the longer side
SCALE = (0.3, 0.7)
QUALITY = (15, 60)  # of JPEG


@dataclass(frozen=True)
class PoorCopies:
    """`rows` (q,) are places of works in a collection; `vectors`, (q, d) float32 by encoder, of a poor copy of each."""

    rows: NDArray[np.int64]
    vectors: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(cls, works: Iterable[tuple[int, Pixels]], encoders: Mapping[str, Encoder]) -> "PoorCopies":
        """Encode a poor copy of each work, given by its place and (h, w, 3) uint8 pixels, a batch at a time."""
        rows: list[int] = []
        parts: dict[str, list[NDArray[np.float32]]] = {
            name: [np.empty((0, encoder.dim), np.float32)] for name, encoder in encoders.items()
        }
        waiting = iter(works)
        while batch := list(islice(waiting, BATCH)):
            rows += [row for row, _ in batch]
            copies = [poor_copy(pixels, seed=row) for row, pixels in batch]
            for name, encoder in encoders.items():
                parts[name].append(encoder.encode(copies))
        return cls(np.array(rows, np.int64), {name: np.concatenate(each) for name, each in parts.items()})

    def first(self, count: int) -> "PoorCopies":
        return PoorCopies(self.rows[:count], {name: rows[:count] for name, rows in self.vectors.items()})

    def only(self, kept: NDArray[np.bool_]) -> "PoorCopies":
        """Those of the works that are `kept`, (n,), at their places among these."""
        stay = kept[self.rows]
        places = np.cumsum(kept) - 1
        return PoorCopies(places[self.rows[stay]], {name: rows[stay] for name, rows in self.vectors.items()})


def poor_copy(pixels: Pixels, seed: int) -> Pixels:
    """Blur, scale or compress (h, w, 3) uint8, or do all three, each by a measure that `seed` chooses."""
    chance = np.random.default_rng(seed)
    blur, scale, quality = chance.uniform(*BLUR), chance.uniform(*SCALE), int(chance.integers(*QUALITY))
    kind = chance.integers(4)
    height, width = pixels.shape[:2]
    if kind in (0, 3):
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), blur * max(height, width)), np.uint8)
    if kind in (1, 3):
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        shrunk = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
        pixels = np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    if kind in (2, 3):
        _, coded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        pixels = np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[:, :, ::-1], np.uint8)
    return pixels
