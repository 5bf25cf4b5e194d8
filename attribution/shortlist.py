"""Which works might an image be a copy of? Every work's local features vote; small pictures help where there are few.

Votes: each local feature of the image looks up its nearest among those of all works, and gives each work the
distance by which it beats the last of them (local naive Bayes nearest neighbour: McCann and Lowe, "Local Naive Bayes
Nearest Neighbor for image classification", CVPR 2012): common details count little, rare ones much. The mirror image
votes apart. A part of a work, or a work in a larger picture, still has its own features, so no whole picture is needed.

Outlines: the correlation of small grey pictures, for drawings so flat that they have hardly a feature.

Each work is looked at, by the nearest of its quantised features; what is left off is measured as missed copies.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from attribution.features import DIMENSIONS, PREVIEW, LocalFeatures

NEIGHBOURS = 20
EXACT = 20_000  # up to so many features, quantising saves nothing
SAMPLE_PER_CELL, MOST_CELLS, PROBES = 40, 4096, 8
CODE = "PQ32x4fs"  # 16 bytes a feature
OUTLINE = 12
VOTING = 600  # of the image's features


class Words:
    """Approximate nearest neighbours among the local features of all works, and whose they are."""

    def __init__(self, index: faiss.Index, offsets: NDArray[np.int64]) -> None:
        self.index = index
        self.offsets = offsets
        self.owner = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
        if index.ntotal != len(self.owner):
            raise ValueError(f"an index of {index.ntotal} features for works that have {len(self.owner)}")

    @classmethod
    def build(cls, descriptors: Sequence[NDArray[np.uint8]], seed: int = 0) -> "Words":
        """Quantise and index (n_i, 128) uint8 descriptors of each work. The same works give the same index."""
        offsets = np.concatenate([[0], np.cumsum([len(each) for each in descriptors])]).astype(np.int64)
        total = int(offsets[-1])
        if total <= EXACT:
            index: Any = faiss.IndexFlatL2(DIMENSIONS)
        else:
            cells = int(min(MOST_CELLS, 2 ** np.round(np.log2(total**0.5))))
            index = faiss.index_factory(DIMENSIONS, f"IVF{cells},{CODE}")
            index.by_residual = False  # one table of distances for a query, not one for each cell it looks into
            index.cp.seed = seed + 1234
            index.cp.niter = 8
            chosen = np.random.default_rng(seed).permutation(total)[: cells * SAMPLE_PER_CELL]
            index.train(_rows(descriptors, offsets, np.sort(chosen)))
            index.nprobe = PROBES
        for each in descriptors:
            if len(each):
                index.add(each.astype(np.float32))
        return cls(index, offsets)

    def votes(self, pictures: Sequence[LocalFeatures], hidden: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """(pictures, works) votes of each picture's features. `hidden` works get none."""
        works = len(self.offsets) - 1
        votes = np.zeros((len(pictures), works))
        k = min(NEIGHBOURS, self.index.ntotal)
        queries = np.concatenate([each.descriptors[:VOTING] for each in pictures]).astype(np.float32)
        if k == 0 or not len(queries):
            return votes
        picture = np.repeat(np.arange(len(pictures)), [min(len(each), VOTING) for each in pictures])
        distance, rows = self.index.search(queries, k)
        there = rows >= 0
        distance = np.where(there, distance, 0)
        owner = np.where(there, self.owner[np.maximum(rows, 0)], works)
        last = distance.max(axis=1, keepdims=True)
        gain = np.where(there, np.maximum(last - distance, 0), 0) / (last + 1e-6)
        # A work counts once for a feature: by its nearest, which comes first.
        line = np.arange(len(queries))[:, None] * np.int64(works + 1) + owner
        first = np.unique(line, return_index=True)[1]
        place = (picture[:, None] * np.int64(works + 1) + owner).reshape(-1)[first]
        counted = np.bincount(place, weights=gain.reshape(-1)[first], minlength=len(pictures) * (works + 1))
        votes[:] = counted.reshape(len(pictures), works + 1)[:, :works]
        if hidden is not None:
            votes[:, hidden] = 0
        return votes


def _rows(
    parts: Sequence[NDArray[np.uint8]], offsets: NDArray[np.int64], chosen: NDArray[np.int64]
) -> NDArray[np.float32]:
    part = np.searchsorted(offsets, chosen, side="right") - 1
    return np.stack([parts[i][row - offsets[i]] for i, row in zip(part, chosen, strict=True)]).astype(np.float32)


def outline(preview: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A (PREVIEW, PREVIEW) grey picture as (OUTLINE²,) float32: less its mean, of length 1 (0 where flat)."""
    small = cv2.resize(preview, (OUTLINE, OUTLINE), interpolation=cv2.INTER_AREA).astype(np.float32).reshape(-1)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return np.asarray(small / length if length > OUTLINE else np.zeros_like(small), np.float32)


def outlines(previews: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, PREVIEW, PREVIEW) grey pictures as (n, OUTLINE²) rows."""
    rows = np.zeros((len(previews), OUTLINE * OUTLINE), np.float32)
    for i, each in enumerate(previews):
        rows[i] = outline(each)
    return rows


def content_box(preview: NDArray[np.uint8], spread: float = 12.0) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (preview pixels) of what a frame of one colour leaves free; the whole when nothing."""
    background = np.median(np.concatenate([preview[0], preview[-1], preview[:, 0], preview[:, -1]]))
    differs = np.abs(preview.astype(np.float32) - background) > spread
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if len(rows) < PREVIEW // 6 or len(columns) < PREVIEW // 6:
        return 0, 0, PREVIEW, PREVIEW
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
