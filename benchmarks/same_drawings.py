"""Which drawings of a collection differ only by mirroring, turning, size or colours?

`python -m benchmarks.same_drawings FOLDER` prints groups as `attribution/evaluation/same_works.json` holds them, by the
SHA-256 of their files. A search that is meant to find copies under these edits is right to find one by the other, so
the suites count such pairs neither as found nor as errors.

Each drawing is cut out of its background and brought to one size. Two are the same when, after one of eight mirrorings
and quarter turns, a shift of at most one pixel in 64, one gain and one offset, no 6 x 6 window differs by more than
MOST of the drawing's variance. A disc is a disc: bare shapes are the same whoever drew them.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from attribution.evaluation.dataset import read

SIDE, RIM, WINDOW = 64, 3, (6, 6)
MOST, HOPELESS = 0.12, 1.2
ALIKE, PROPORTIONS = 0.93, 0.1
INK, FEWEST = 12, 6  # levels away from the background; pixels of a side

Grey = NDArray[np.float32]


def cut_out(pixels: NDArray[np.uint8]) -> tuple[Grey, float]:
    """Return the drawing in grey, (SIDE, SIDE), and its width over its height; grey and 1 where nothing is drawn."""
    ink = np.abs(pixels.astype(np.int64) - pixels[0, 0]).max(axis=-1) > INK
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if min(len(rows), len(columns)) < FEWEST:
        return np.full((SIDE, SIDE), 128, np.float32), 1.0
    part = np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    grey = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    how = cv2.INTER_AREA if min(grey.shape) > SIDE else cv2.INTER_LINEAR
    scaled = cv2.resize(grey, (SIDE, SIDE), interpolation=how).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(scaled, (0, 0), 1.0), np.float32), part.shape[1] / part.shape[0]


def turned(greys: Grey, how: int) -> Grey:
    """One of the eight ways to lay a square down: quarter turns 0 to 3, and from 4 on mirrored."""
    quarter = np.rot90(greys, how % 4, (-2, -1))
    return np.ascontiguousarray(quarter[..., ::-1] if how >= 4 else quarter)


def directions(greys: Grey) -> Grey:
    """(n, SIDE²) rows of length 1 less their mean; 0 for a flat one."""
    rows = greys.reshape(len(greys), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(lengths > SIDE, rows / np.maximum(lengths, 1), 0).astype(np.float32)


def unexplained(a: Grey, b: Grey) -> float:
    """The largest part of the variance of `b` in any window that `a`, with one gain and offset, leaves."""
    a, b = a - a.mean(), b - b.mean()
    gain = float((a * b).mean() / max(a.var(), 1.0))
    left = b - gain * a
    return float(cv2.boxFilter(left * left, -1, WINDOW).max() / (b.var() + 25)) if gain > 0 else np.inf


def difference(a: Grey, b: Grey) -> float:
    """The smaller of what either leaves of the other, at the best shift; the larger of both directions."""
    if min(unexplained(a, b), unexplained(b, a)) > HOPELESS:
        return np.inf
    inner = (slice(RIM, -RIM), slice(RIM, -RIM))
    found = np.inf
    for right in (-1, 0, 1):
        for down in (-1, 0, 1):
            moved = np.roll(b, (down, right), axis=(0, 1))[inner]
            found = min(found, max(unexplained(a[inner], moved), unexplained(moved, a[inner])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    items = read(parser.parse_args().folder).items
    cut = [cut_out(item.pixels()) for item in items]
    greys, proportions = np.stack([grey for grey, _ in cut]), np.log([part for _, part in cut])
    same = np.arange(len(items))
    whole = directions(greys)
    for how in range(8):
        other, laid = turned(greys, how), proportions if how % 2 == 0 else -proportions
        rows = directions(other)
        for a in range(len(items)):
            alike = rows[a + 1 :] @ whole[a]
            near = (alike > ALIKE) & (np.abs(laid[a + 1 :] - proportions[a]) < PROPORTIONS)
            for b in a + 1 + np.flatnonzero(near):
                if same[a] != same[b] and difference(greys[a], other[b]) < MOST:
                    same[same == same[b]] = same[a]
    groups = [sorted({items[row].sha256 for row in np.flatnonzero(same == one)}) for one in np.unique(same)]
    print(json.dumps(sorted(group for group in groups if len(group) > 1), indent=1))


if __name__ == "__main__":
    main()
