"""Which colours a picture is made of, and how they are used: a weight-free style descriptor.

Four blocks, each of Hellinger form (square roots of frequencies, so that inner products are Bhattacharyya
coefficients): a joint histogram of the RGB cube, soft between cells; histograms of lightness, chroma and hue in CIE
L*a*b*; lightness against chroma; and exactness, which is how much of the picture its commonest exact colours cover and
how often a pixel equals its neighbour (flat drawings reuse few colours to the last bit, painted ones hardly any).

Where things stand does not count, nor does size. It names no hand: painters before the same sky share it, a grey copy
loses most of it, and a palette can be borrowed.
"""

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from models.networks import Axis, NetworkInfo

Pixels = NDArray[np.uint8]

LONG_EDGE = 192  # longer pictures are thinned out by picking pixels: averaging would invent colours
CELLS = 7  # of the RGB cube, along each side
LIGHTNESS, CHROMA, HUE = 24, 16, 18
LARGEST_CHROMA = 110.0
COVERED_BY = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
WEIGHTS = (1.0, 0.5, 0.5, 0.5)
RECIPE = f"colour/1 {LONG_EDGE} {CELLS} {LIGHTNESS} {CHROMA} {HUE} {LARGEST_CHROMA} {COVERED_BY} {WEIGHTS}"


class ColourEncoder:
    """Needs no file; the same vectors on every machine but for the rounding of floats."""

    name = "colour"
    axes: frozenset[Axis] = frozenset({"style"})
    info = NetworkInfo("colour", "1", hashlib.sha256(RECIPE.encode()).hexdigest(), "Apache-2.0")
    dim = CELLS**3 + LIGHTNESS + CHROMA + HUE + 8 * 8 + len(COVERED_BY) + 4

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit rows, one for each (h, w, 3) uint8 image."""
        rows = np.empty((len(images), self.dim), np.float32)
        for number, image in enumerate(images):
            rows[number] = describe(image)
        return rows


def describe(image: Pixels) -> NDArray[np.float32]:
    """Return the (dim,) float32 unit row of one (h, w, 3) uint8 image."""
    picked = _thinned(image)
    blocks = (_cube(picked), *_lab(picked), _exactness(picked))
    return joined(blocks, WEIGHTS)


def joined(blocks: Sequence[NDArray[np.float64]], weights: Sequence[float]) -> NDArray[np.float32]:
    """Return blocks side by side, each scaled to its weight, as one float32 unit row."""
    scaled = [w * block / max(float(np.linalg.norm(block)), 1e-12) for block, w in zip(blocks, weights, strict=True)]
    row = np.concatenate(scaled)
    return np.asarray(row / np.linalg.norm(row), np.float32)


def _thinned(image: Pixels) -> Pixels:
    step = -(-max(image.shape[:2]) // LONG_EDGE)
    return np.ascontiguousarray(image[::step, ::step])


def _cube(picked: Pixels) -> NDArray[np.float64]:
    """Trilinear histogram of the RGB cube, (CELLS ** 3,)."""
    place = picked.reshape(-1, 3).astype(np.float64) * ((CELLS - 1) / 255.0)
    low = np.minimum(place.astype(np.int64), CELLS - 2)
    part = place - low
    counts = np.zeros(CELLS**3)
    for corner in range(8):
        offset = np.array([corner >> 2 & 1, corner >> 1 & 1, corner & 1])
        weight = np.prod(np.where(offset == 1, part, 1.0 - part), axis=1)
        cell = (low + offset) @ np.array([CELLS * CELLS, CELLS, 1])
        counts += np.bincount(cell, weight, CELLS**3)
    return np.asarray(np.sqrt(counts / counts.sum()), np.float64)


def _lab(picked: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Histograms of lightness, chroma and (weighted by chroma) hue; and of lightness against chroma."""
    lab = cv2.cvtColor(picked.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB).reshape(-1, 3)
    light = lab[:, 0] / 100.0
    chroma = np.minimum(np.hypot(lab[:, 1], lab[:, 2]) / LARGEST_CHROMA, 1.0)
    hue = np.arctan2(lab[:, 2], lab[:, 1]) / (2 * np.pi) + 0.5
    parts = [
        _histogram(light, LIGHTNESS),
        _histogram(np.sqrt(chroma), CHROMA),
        _histogram(hue, HUE, chroma),
    ]
    both = np.minimum((light * 8).astype(np.int64), 7) * 8 + np.minimum((np.sqrt(chroma) * 8).astype(np.int64), 7)
    return np.concatenate(parts), np.sqrt(np.bincount(both, minlength=64) / len(both))


def _histogram(values: NDArray[np.number], bins: int, weights: NDArray[np.number] | None = None) -> NDArray[np.float64]:
    cell = np.clip((values * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(cell, weights, bins).astype(np.float64)
    return np.asarray(np.sqrt(counts / len(values)), np.float64)


def _exactness(picked: Pixels) -> NDArray[np.float64]:
    code = picked.astype(np.int64) @ np.array([65536, 256, 1])
    counts = np.sort(np.unique(code, return_counts=True)[1])[::-1]
    covered = np.cumsum(counts) / code.size
    parts = [float(covered[min(most, len(covered)) - 1]) for most in COVERED_BY]
    across = float((code[:, 1:] == code[:, :-1]).mean()) if code.shape[1] > 1 else 1.0
    down = float((code[1:] == code[:-1]).mean()) if code.shape[0] > 1 else 1.0
    few = np.log(len(counts)) / np.log(code.size + 1)
    grey = float((picked.max(axis=2) == picked.min(axis=2)).mean())
    return np.array([*parts, across, down, few, grey])
