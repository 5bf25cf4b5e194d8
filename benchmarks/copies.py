"""A whole copy decision, from pixels to aligned works, over thousands of works: `python -m benchmarks.copies [FOLDER]`.

The pictures are drawn by the atelier's studios, or read from FOLDER; past their number, works are made of the same
features with their descriptors shuffled, to fill up to --works. The baseline in the same run is what no local-feature
method can do without: OpenCV's SIFT on the same picture at the same size, detection and description together.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from attribution.copies import CopyIndex
from attribution.features import CONTRAST, EDGE, LAYERS, MOST, SIGMA, LocalFeatures, extract
from benchmarks.measuring import ratio, show, spread
from models.atelier.collection import SUBJECTS, draw
from models.atelier.studios import STUDIOS
from models.images import decode

LONG_EDGE = 640
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--works", type=int, default=5000)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    rng = np.random.default_rng(options.seed)
    pictures = _pictures(options.folder, options.works, rng)
    features = [extract(each) for each in pictures]
    started = time.perf_counter()
    index = CopyIndex([_work(features, i, rng) for i in range(options.works)])
    built = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "works.copies"
        index.save(path)
        size = path.stat().st_size
        started = time.perf_counter()
        index = CopyIndex.load(path)
        loaded = time.perf_counter() - started
        decisions, bare = [], []
        for i in range(options.queries):
            query = _sized(pictures[i % len(pictures)])
            decisions.append(_timed(partial(index.find, query)))
            bare.append(_timed(partial(_bare_sift, query)))
    show(
        {
            "what": "one copy decision, pixels to aligned works",
            "works": len(index),
            "different_pictures": len(pictures),
            "long_edge": LONG_EDGE,
            "threads": options.threads,
            "seed": options.seed,
            "decision": spread(decisions),
            "bare_sift": spread(bare),
            "decision_over_bare_sift": ratio(decisions, bare),
            "build_s": round(built, 1),
            "load_s": round(loaded, 3),
            "file_mb": round(size / 2**20, 1),
        }
    )


def _pictures(folder: Path | None, most: int, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    if folder is None:
        return [
            draw(studio.slug, subject, variant, 256) for studio in STUDIOS for subject in SUBJECTS for variant in (0, 1)
        ]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    chosen = rng.permutation(len(files))[: min(most, 400)]
    return [decode(files[i].read_bytes()).pixels for i in chosen]


def _work(features: list[LocalFeatures], i: int, rng: np.random.Generator) -> LocalFeatures:
    """The i-th work: a picture's features, and past the last picture the same places with shuffled descriptors."""
    of = features[i % len(features)]
    if i < len(features):
        return of
    return LocalFeatures(of.points, rng.permuted(of.descriptors, axis=1), of.preview, of.width, of.height)


def _sized(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = LONG_EDGE / max(pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)


def _bare_sift(pixels: NDArray[np.uint8]) -> None:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    cv2.SIFT.create(MOST, LAYERS, CONTRAST, EDGE, SIGMA).detectAndCompute(grey, None)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
