"""The baseline that a copy search has to beat: plain SIFT, as a textbook sets it up, over all works.

Pictures are brought to one length of their long edge (small ones enlarged), OpenCV's SIFT runs with its own settings,
all descriptors stand in one FAISS index, each descriptor of a query votes for the work of its nearest neighbour, and
the works with most votes are compared one by one: Lowe's ratio test, then the inliers of a homography found by RANSAC
(Fischler & Bolles 1981) are the score.
"""

from collections.abc import Sequence

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Features = tuple[NDArray[np.float32], NDArray[np.uint8]]

LONG_EDGE = 512
MOST = 400  # features of a picture, strongest first
CANDIDATES = 10
RATIO = 0.75  # Lowe 2004 takes 0.8; OpenCV's own tutorial 0.7 to 0.75
REPROJECTION = 5.0  # pixels
FEWEST = 4  # pairs that a homography needs
TRAIN_ROWS = 50_000
PROBES = 16


class SiftBaseline:
    """Plain SIFT over n works, given as `features` of each. Memory: some 300 bytes a descriptor, MOST a work."""

    def __init__(self, works: Sequence[Features], seed: int = 0) -> None:
        self._works = works
        counts = [len(descriptors) for _, descriptors in works]
        self._work_of = np.repeat(np.arange(len(counts)), counts)
        every = np.concatenate([descriptors for _, descriptors in works]).astype(np.float32)
        self._index = None
        if len(every):
            # Inverted lists only where a flat scan would take seconds: about 2 sqrt(n) of them.
            lists = int(2 * len(every) ** 0.5) if len(every) > 20_000 else 1
            quantizer = faiss.IndexFlatL2(128)
            self._index = faiss.IndexIVFScalarQuantizer(
                quantizer, 128, lists, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2, False
            )
            self._index.cp.seed, self._index.cp.niter, self._index.cp.max_points_per_centroid = seed + 1, 5, 40
            rows = np.random.default_rng(seed).permutation(len(every))[: max(TRAIN_ROWS, 40 * lists)]
            self._index.train(every[np.sort(rows)])
            self._index.add(every)
            self._index.nprobe = PROBES

    def scores(self, pixels: Pixels) -> NDArray[np.float64]:
        """Return (n,) inliers of the query with each work; -inf for works that were not among the candidates."""
        found = np.full(len(self._works), -np.inf)
        points, descriptors = features(pixels)
        if self._index is None or not len(descriptors):
            return found
        _, nearest = self._index.search(descriptors.astype(np.float32), 1)
        votes = np.bincount(self._work_of[nearest[nearest >= 0]], minlength=len(self._works))
        for work in np.argsort(-votes, kind="stable")[:CANDIDATES]:
            if votes[work]:
                found[work] = inliers(points, descriptors, *self._works[work])
        return found


def features(pixels: Pixels) -> Features:
    """Return places (k, 2) in the scaled picture and descriptors (k, 128), k at most MOST."""
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    scale = LONG_EDGE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    scaled = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    found, descriptors = cv2.SIFT.create(nfeatures=MOST).detectAndCompute(scaled, None)
    if not found:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8)
    order = np.lexsort(([p.pt[1] for p in found], [p.pt[0] for p in found], [-p.response for p in found]))[:MOST]
    places = np.array([found[i].pt for i in order], np.float32)
    return places, np.asarray(descriptors[order], np.uint8)


def inliers(
    places: NDArray[np.float32],
    descriptors: NDArray[np.uint8],
    work_places: NDArray[np.float32],
    work_descriptors: NDArray[np.uint8],
) -> int:
    """How many pairs pass the ratio test and agree with one homography."""
    if len(descriptors) < FEWEST or len(work_descriptors) < FEWEST:
        return 0
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(descriptors.astype(np.float32), work_descriptors.astype(np.float32), 2)
    good = [(a.queryIdx, a.trainIdx) for a, b in pairs if a.distance < RATIO * b.distance]
    if len(good) < FEWEST:
        return 0
    here, there = np.array(good).T
    cv2.setRNGSeed(0)  # one query's score does not depend on those before it
    _, mask = cv2.findHomography(places[here], work_places[there], cv2.RANSAC, REPROJECTION)
    return int(mask.sum()) if mask is not None else 0
