"""What every manner draws with: label colours, grown and blurred masks, scattered points. Integers throughout.

numpy's exp, pow and arctan2 differ between processors; sums, shifts and comparisons of integers do not.
"""

import random
from collections.abc import Callable

import numpy as np

from models.atelier.subjects import GRID

Manner = Callable[[np.ndarray, np.ndarray, random.Random], np.ndarray]
"""(labels (GRID, GRID), colours (8, 3) int64 by label, then paper and ink, chance) → uint8 (GRID, GRID, 3)."""

PAPER, INK = 6, 7
Y, X = np.mgrid[0:GRID, 0:GRID].astype(np.int64)


def noise(rng: random.Random) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(rng.getrandbits(64)))


def edges(labels: np.ndarray) -> np.ndarray:
    """Cells whose right or lower neighbour differs."""
    found = np.zeros(labels.shape, bool)
    found[:-1] |= labels[:-1] != labels[1:]
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return found


def grow(mask: np.ndarray, steps: int) -> np.ndarray:
    """Dilate by alternately a cross and a square: close to a disc."""
    for i in range(steps):
        out = mask.copy()
        out[1:] |= mask[:-1]
        out[:-1] |= mask[1:]
        side = out if i % 2 else mask
        out2 = out.copy()
        out2[:, 1:] |= side[:, :-1]
        out2[:, :-1] |= side[:, 1:]
        mask = out2
    return mask


def blur(plane: np.ndarray, radius: int, times: int = 2) -> np.ndarray:
    """Box blur along both axes, in integers."""
    width = 2 * radius + 1
    for _ in range(times):
        for axis in (0, 1):
            pad = [(0, 0)] * plane.ndim
            pad[axis] = (radius + 1, radius)
            total = np.cumsum(np.pad(plane, pad, mode="edge").astype(np.int64), axis)
            n = plane.shape[axis]
            plane = (np.take(total, range(width, width + n), axis) - np.take(total, range(n), axis)) // width
    return np.asarray(plane)


def clip(picture: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def cells(points: np.ndarray) -> np.ndarray:
    """Index of the nearest point for every cell (Voronoi)."""
    best = np.full((GRID, GRID), 1 << 40, np.int64)
    index = np.zeros((GRID, GRID), np.int64)
    for i, (y, x) in enumerate(points):
        far = (Y - y) ** 2 + (X - x) ** 2
        near = far < best
        best[near], index[near] = far[near], i
    return index


def jittered(step: int, rng: random.Random, amount: int) -> list[tuple[int, int]]:
    return [
        (
            y + rng.randrange(-amount, amount + 1),
            x + (step // 2 if (y // step) % 2 else 0) + rng.randrange(-amount, amount + 1),
        )
        for y in range(0, GRID + step, step)
        for x in range(0, GRID + step, step)
    ]


def at(labels: np.ndarray, y: int, x: int) -> int:
    return int(labels[min(max(y, 0), GRID - 1), min(max(x, 0), GRID - 1)])
