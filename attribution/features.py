"""Local features of a picture: SIFT key points spread over it, with RootSIFT descriptors.

References: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004 (SIFT); Arandjelović and
Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012 (RootSIFT).
"""

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from models.networks import NetworkInfo

Pixels = NDArray[np.uint8]

MOST = 500
LEAST_AREA, MOST_AREA = 80_000, 307_200  # pixels that SIFT sees: 283 x 283 to 640 x 480, whatever the shape
MOST_ENLARGED = 4.0
SHORTEST = 16  # a side of fewer pixels, once scaled, has no room for a key point
LAYERS, SIGMA = 3, 1.6
CONTRAST, EDGE = (
    0.004,
    20.0,
)  # looser than Lowe's: flat drawings live on their edges, and the strongest are chosen anyway
CELLS = 6  # the picture is cut into CELLS x CELLS cells, none of which may take more than its part at first
PREVIEW = 96  # a small grey picture goes along, its proportions given up
SCALE = 512.0  # a descriptor's Euclidean length in its uint8 form
BINS, CELL_SIDE, DIMENSIONS = 8, 4, 128

RECIPE = (
    f"rootsift/1 most={MOST} area={LEAST_AREA}-{MOST_AREA} enlarged={MOST_ENLARGED} layers={LAYERS} sigma={SIGMA} "
    f"contrast={CONTRAST} edge={EDGE} cells={CELLS} "
    f"scale={SCALE} preview={PREVIEW}"
)
METHOD = NetworkInfo(
    name="rootsift", revision="1", weights_sha256=hashlib.sha256(RECIPE.encode()).hexdigest(), licence="Apache-2.0"
)

_MAGIC = b"LLF1"
_HEADER = struct.Struct("<4sIII")  # magic, number, width, height


@dataclass(frozen=True)
class LocalFeatures:
    """The local features of one picture of `width` x `height` canonical pixels.

    `points` (n, 4) float32: x, y (pixels; the centre of the first pixel is 0, 0), size (pixels) and angle (degrees,
    clockwise from the x axis). `descriptors` (n, 128) uint8, of Euclidean length about 512. Strongest first. `preview`
    (PREVIEW, PREVIEW) uint8 is the whole picture in grey, its proportions given up.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    preview: NDArray[np.uint8]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def mirrored(self) -> "LocalFeatures":
        """The features of the left-right mirror image, without looking at pixels again.

        Seen along a key point's own direction, a mirror turns the patch upside down: its rows change places and each
        gradient turns the other way. Up to SIFT's own rounding, this equals extraction from the mirrored pixels.
        """
        x, y, size, angle = self.points.T
        points = np.stack([self.width - 1 - x, y, size, np.mod(180 - angle, 360)], axis=1)
        preview = np.ascontiguousarray(self.preview[:, ::-1])
        return LocalFeatures(points.astype(np.float32), self.descriptors[:, _MIRROR], preview, self.width, self.height)

    def to_bytes(self) -> bytes:
        """Magic, number, width, height (u32 little-endian), then preview, points (float32) and descriptors."""
        header = _HEADER.pack(_MAGIC, len(self), self.width, self.height)
        return header + self.preview.tobytes() + self.points.astype("<f4").tobytes() + self.descriptors.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises ValueError for anything else: cut short, too long or foreign."""
        if len(data) < _HEADER.size or not data.startswith(_MAGIC):
            raise ValueError("these bytes are no local features")
        _, n, width, height = _HEADER.unpack_from(data)
        start = _HEADER.size + PREVIEW * PREVIEW
        if len(data) != start + n * (16 + DIMENSIONS) or width == 0 or height == 0:
            raise ValueError(f"local features of {n} points are {len(data)} bytes long: cut short or damaged")
        preview = np.frombuffer(data, np.uint8, PREVIEW * PREVIEW, _HEADER.size).reshape(PREVIEW, PREVIEW)
        points = np.frombuffer(data, "<f4", n * 4, start).reshape(n, 4).astype(np.float32)
        if not np.isfinite(points).all() or (points[:, 2] <= 0).any():
            raise ValueError("local features with a point that is nowhere or has no size")
        descriptors = np.frombuffer(data, np.uint8, n * DIMENSIONS, start + n * 16).reshape(n, DIMENSIONS)
        return cls(points, descriptors, preview, width, height)


def extract(pixels: Pixels, most: int = MOST) -> LocalFeatures:
    """Find at most `most` key points of a canonical picture (h, w, 3) uint8 and describe them.

    The picture is scaled so that its area lies between LEAST_AREA and MOST_AREA (enlarged at most fourfold), which
    bounds time and memory for any shape. A picture without detail has no features. The contrast threshold is low and
    key points compete by strength, so that a pale version keeps the ones it had. Raises ValueError for another shape.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError(f"pixels must be (h, w, 3) uint8, not {pixels.shape} {pixels.dtype}")
    height, width = pixels.shape[:2]
    # First to grey, then to size: a picture may have 64 million pixels.
    full = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    preview = resized(full, PREVIEW, PREVIEW)
    none = LocalFeatures(np.zeros((0, 4), np.float32), np.zeros((0, DIMENSIONS), np.uint8), preview, width, height)
    wanted = min(max(height * width, LEAST_AREA), MOST_AREA)
    scale = min((wanted / (height * width)) ** 0.5, MOST_ENLARGED)
    grey = resized(full, max(1, round(width * scale)), max(1, round(height * scale)))
    if min(grey.shape) < SHORTEST:
        return none
    sift = cv2.SIFT.create(0, LAYERS, CONTRAST, EDGE, SIGMA)
    found = sift.detect(grey, None)
    if not found:
        return none
    # One list a column: a row for each of thousands of key points takes five times as long.
    places = np.asarray(cv2.KeyPoint.convert(found), np.float64)
    angles, responses = np.array([k.angle for k in found]), np.array([k.response for k in found])
    kept = _spread(np.column_stack([places, angles, responses]), grey.shape, most)
    chosen = [found[i] for i in kept]
    _, raw = sift.compute(grey, chosen)
    sx, sy = width / grey.shape[1], height / grey.shape[0]
    (x, y), angle, size = places[kept].T, angles[kept], np.array([k.size for k in chosen])
    # Resizing keeps corners, not pixel centres, in place.
    points = np.stack([(x + 0.5) * sx - 0.5, (y + 0.5) * sy - 0.5, size * np.sqrt(sx * sy), angle], axis=1)
    return LocalFeatures(points.astype(np.float32), _root(np.asarray(raw, np.float32)), preview, width, height)


def resized(grey: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Averages going down, cubic going up."""
    if grey.shape == (height, width):
        return grey
    smaller = width * height < grey.size
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(grey, (width, height), interpolation=how).astype(np.uint8, copy=False)


def _spread(rows: NDArray[np.float64], shape: tuple[int, ...], most: int) -> NDArray[np.intp]:
    """Choose `most` rows (x, y, angle, response): each cell's strongest first, then the strongest of the rest."""
    height, width = shape[:2]
    order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0], -rows[:, 3]))  # every tie broken: OpenCV's order is not
    if len(order) <= most:
        return np.asarray(order, np.intp)
    rows = rows[order]
    column = np.minimum((rows[:, 0] * CELLS / width).astype(np.int64), CELLS - 1)
    row = np.minimum((rows[:, 1] * CELLS / height).astype(np.int64), CELLS - 1)
    cell = row * CELLS + column
    rank = np.zeros(len(rows), np.int64)
    for each in range(CELLS * CELLS):
        members = np.flatnonzero(cell == each)
        rank[members] = np.arange(len(members))
    in_its_part = rank < most // (CELLS * CELLS)
    preferred = np.concatenate([np.flatnonzero(in_its_part), np.flatnonzero(~in_its_part)])[:most]
    return np.asarray(order[np.sort(preferred)], np.intp)


def _root(raw: NDArray[np.float32]) -> NDArray[np.uint8]:
    """RootSIFT: the square root of the L1-normalised descriptor, which makes Euclidean distance Hellinger's."""
    total = np.maximum(raw.sum(axis=1, keepdims=True), 1e-6)
    return np.asarray(np.minimum(np.rint(np.sqrt(raw / total) * SCALE), 255), np.uint8)


def _mirror_order() -> NDArray[np.intp]:
    """OpenCV's descriptor is (4 rows, 4 columns, 8 directions) in the key point's own frame."""
    index = np.arange(DIMENSIONS).reshape(CELL_SIDE, CELL_SIDE, BINS)
    return index[::-1][:, :, (-np.arange(BINS)) % BINS].reshape(-1)


_MIRROR = _mirror_order()
