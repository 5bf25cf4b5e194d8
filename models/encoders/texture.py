"""How a picture is drawn, whatever its colours: a weight-free style descriptor of its greys.

The picture is brought to one area. Blocks: tones; local binary patterns, rotation-invariant (Ojala, Pietikäinen &
Mäenpää 2002), at three radii; strength and direction of gradients over an octave pyramid; energies of oriented
filters; how sharp edges are; how wide strokes are.

It names no hand. Scans, enlargements and compression change texture; two people with one brush share it.
"""

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from models.encoders.colour import joined
from models.networks import Axis, NetworkInfo

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

SIDE = 128
TONES = 32
OCTAVES = 3
EDGES = (0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
DIRECTIONS = 8
RADII = (1, 2, 4)
PATTERNS = 36  # of 8 neighbours up to rotation
WAVELENGTHS = (3.0, 5.0, 9.0, 16.0)
WIDTHS = (1.5, 2.5, 3.5, 4.5, 6, 8, 11, 15, 20, 28)
TONE_WEIGHT, PATTERN_WEIGHT, GRADIENT_WEIGHT, FILTER_WEIGHT, EDGE_WEIGHT, STROKE_WEIGHT = 0.7, 1.0, 1.0, 1.0, 0.7, 0.7
WEIGHTS = (TONE_WEIGHT, PATTERN_WEIGHT, GRADIENT_WEIGHT, FILTER_WEIGHT, EDGE_WEIGHT, STROKE_WEIGHT)
RECIPE = f"texture/1 {SIDE} {TONES} {OCTAVES} {EDGES} {DIRECTIONS} {RADII} {WAVELENGTHS} {WIDTHS} {WEIGHTS}"


class TextureEncoder:
    """Needs no file; the same vectors on every machine but for the rounding of floats."""

    name = "texture"
    axes: frozenset[Axis] = frozenset({"style"})
    info = NetworkInfo("texture", "1", hashlib.sha256(RECIPE.encode()).hexdigest(), "Apache-2.0")

    def __init__(self) -> None:
        self.dim = len(describe(np.zeros((8, 8, 3), np.uint8)))

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> Floats:
        """Return (n, dim) float32 unit rows, one for each (h, w, 3) uint8 image."""
        rows = np.empty((len(images), self.dim), np.float32)
        for number, image in enumerate(images):
            rows[number] = describe(image)
        return rows


def describe(image: Pixels) -> Floats:
    """Return the (dim,) float32 unit row of one (h, w, 3) uint8 image."""
    grey = _of_one_area(image)
    strength, _ = _gradients(grey)
    blocks = (
        _tones(grey),
        _patterns(grey),
        _gradient_statistics(grey),
        _filters(grey),
        _sharpness(grey, strength),
        _strokes(grey),
    )
    return joined(blocks, WEIGHTS)


def _of_one_area(image: Pixels) -> Floats:
    """Greys of about SIDE x SIDE pixels in the picture's proportions, at most 8 to 1: no side is under 45.

    0..255, or a little beyond where a small picture was enlarged.
    """
    height, width = image.shape[:2]
    ratio = float(np.clip(np.sqrt(width / height), 8**-0.5, 8**0.5))
    size = round(SIDE * ratio), round(SIDE / ratio)
    step = max(1, min(height // size[1], width // size[0]) // 8)  # a first thinning keeps huge pictures cheap
    grey = cv2.cvtColor(np.ascontiguousarray(image[::step, ::step]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    smaller = grey.shape[0] * grey.shape[1] > size[0] * size[1]
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), np.float32)


def _gradients(grey: Floats) -> tuple[Floats, Floats]:
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.125)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.125)
    return np.hypot(across, down), np.arctan2(down, across)


def _frequencies(cells: NDArray[np.int64], bins: int, weights: Floats | None = None) -> NDArray[np.float64]:
    counts = np.bincount(cells.ravel(), None if weights is None else weights.ravel(), bins)[:bins].astype(np.float64)
    return np.asarray(np.sqrt(counts / max(counts.sum(), 1e-9)), np.float64)


def _tones(grey: Floats) -> NDArray[np.float64]:
    return _frequencies(np.clip(grey / (256 / TONES), 0, TONES - 1).astype(np.int64), TONES)


def _rotation_invariant() -> NDArray[np.int64]:
    smallest = [min((code >> turn | code << (8 - turn)) & 255 for turn in range(8)) for code in range(256)]
    return np.unique(smallest, return_inverse=True)[1]


_PATTERN_OF = _rotation_invariant()


def _patterns(grey: Floats) -> NDArray[np.float64]:
    parts = []
    for radius in RADII:
        smooth = cv2.GaussianBlur(grey, (0, 0), 0.5 * radius) if radius > 1 else grey
        middle = smooth[radius:-radius, radius:-radius]
        code = np.zeros(middle.shape, np.int64)
        flat = np.ones(middle.shape, np.bool_)
        diagonal = max(1, round(radius * 0.7071))
        half = ((0, 1, radius), (1, 1, diagonal), (1, 0, radius), (1, -1, diagonal))
        ring = (*half, *((-y, -x, r) for y, x, r in half))
        for bit, (y, x, r) in enumerate(ring):
            top, left = radius + y * r, radius + x * r
            other = smooth[top : top + middle.shape[0], left : left + middle.shape[1]]
            code |= (other > middle + 2.0).astype(np.int64) << bit
            flat &= np.abs(other - middle) <= 2.0
        cells = np.where(flat, PATTERNS, _PATTERN_OF[code])
        parts.append(_frequencies(cells, PATTERNS + 1))
    return np.concatenate(parts)


def _gradient_statistics(grey: Floats) -> NDArray[np.float64]:
    parts = []
    for octave in range(OCTAVES):
        size = grey.shape[1] >> octave, grey.shape[0] >> octave
        level = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if octave else grey
        strength, direction = _gradients(np.asarray(level, np.float32))
        parts.append(_frequencies(np.digitize(strength, EDGES), len(EDGES) + 1))
        turned = np.floor((direction / np.pi + 1.0) * DIRECTIONS + 0.5).astype(np.int64) % DIRECTIONS
        parts.append(_frequencies(turned, DIRECTIONS, strength))
    return np.concatenate(parts)


def _gabor(wavelength: float, turn: float) -> Floats:
    side = int(wavelength * 1.5) | 1
    kernel = cv2.getGaborKernel((side, side), wavelength * 0.5, turn, wavelength, 0.7, 0.0, cv2.CV_32F)
    kernel -= kernel.mean()
    return np.asarray(kernel / np.abs(kernel).sum(), np.float32)


_FILTERS = [[_gabor(wave, np.pi * turn / 4) for turn in range(4)] for wave in WAVELENGTHS]


def _filters(grey: Floats) -> NDArray[np.float64]:
    """Of each scale: log of mean and spread over directions sorted by energy, and how uneven the energy lies."""
    parts = []
    for scale in _FILTERS:
        energies = [np.abs(cv2.filter2D(grey, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT)) for kernel in scale]
        for energy in energies:
            mean = float(energy.mean())
            parts += [
                np.log1p(mean),
                np.log1p(float(energy.std())),
                float((energy > 2 * mean + 0.1).mean()),
                float((energy < 0.5).mean()),
            ]
    return np.array(parts)


def _sharpness(grey: Floats, strength: Floats) -> NDArray[np.float64]:
    """At edges: gradient here against gradient after blurring, which is 1 for soft edges and large for crisp ones."""
    parts = []
    edge = strength > max(4.0, float(np.percentile(strength, 85)))
    for sigma in (1.0, 2.0, 4.0):
        soft, _ = _gradients(np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), np.float32))
        ratio = strength[edge] / np.maximum(soft[edge], 0.5)
        parts.append(_frequencies(np.digitize(ratio, (0.8, 1.1, 1.4, 1.8, 2.3, 3, 4)), 8))
    return np.concatenate(parts)


def _strokes(grey: Floats) -> NDArray[np.float64]:
    """Widths of dark and of light strokes: distance transforms of both sides of Otsu's threshold, at their ridges."""
    parts = []
    _, dark = cv2.threshold(np.clip(grey, 0, 255).astype(np.uint8), 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    for side in (dark, 255 - dark):
        # Where all the picture is on one side there is no rim, and OpenCV answers with the largest float there is.
        far = np.minimum(cv2.distanceTransform(side, cv2.DIST_L2, 3), np.float32(SIDE))
        ridge = (far > 0) & (far >= cv2.dilate(far, np.ones((3, 3), np.uint8)))
        parts.append(_frequencies(np.digitize(2 * far[ridge], WIDTHS), len(WIDTHS) + 1))
        parts.append(np.array([float((side > 0).mean())]))
    return np.concatenate(parts)
