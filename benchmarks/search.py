"""Search on a CPU: exact against plain torch and tuned FAISS flat, and approximate against exact.

    python -m benchmarks.search [--works 100000] [--dim 768] [--rounds 30] [--ivf-works 100000] [FOLDER]

The exact searches take turns, each round from another one on, so that whatever else the machine does, and what one
leaves in the caches, meets all of them; the ratio is to the faster of the others in the same round, and `cpu` is the
same of processor time, which other processes disturb less. FAISS is tuned by its switch to BLAS for every batch; the
faster setting counts.

IVF-PQ: recall@10 against an exhaustive search, for queries of the same kind that are not in the set. `clustered` has
1,000 round clusters; `spectrum` has directions whose variance falls as 1/i, as embeddings' does; `pictures`, with a
FOLDER, are crops of its pictures under the atelier's style encoder, queries being crops of pictures that are left out.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.index import ExactIndex, search_files
from attribution.ivf import IvfIndex, faiss, recall_at_k
from attribution.vector_sets import open_set
from benchmarks.measuring import ratio, show, spread
from models.encoders.atelier import AtelierStyle
from models.errors import ImageError
from models.images import decode
from models.registry import BUILT_IN

K = 10
QUERIES = 200
ENCODER = "made@0000000000000000"
CROP = 0.5

Rows = NDArray[np.float32]


def unit(rows: NDArray[Any]) -> Rows:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def faiss_search(index: Any, blas_threshold: int) -> Callable[[Rows], object]:
    def search(queries: Rows) -> object:
        faiss.cvar.distance_compute_blas_threshold = blas_threshold
        return index.search(queries, K)

    return search


def exact(works: int, dim: int, rounds: int, batch: int) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    rows = unit(generator.standard_normal((works, dim), dtype=np.float32))
    queries = unit(generator.standard_normal((batch, dim), dtype=np.float32))
    ours, matrix, flat = ExactIndex(rows, device="cpu"), torch.from_numpy(rows), faiss.IndexFlatIP(dim)
    flat.add(rows)
    contenders: dict[str, Callable[[Rows], object]] = {
        "ours": lambda queries: ours.search(queries, K),
        "torch": lambda queries: torch.topk(torch.from_numpy(queries) @ matrix.T, K, dim=1),
        "faiss": faiss_search(flat, 20),
        "faiss, always BLAS": faiss_search(flat, 1),
    }
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            begun, used = time.perf_counter(), time.process_time()
            contenders[name](queries)
            if number:  # the first round warms up
                wall[name].append(time.perf_counter() - begun)
                cpu[name].append(time.process_time() - used)
    assert (ours.search(queries, K).rows == flat.search(queries, K)[1]).mean() > 0.999
    others = [name for name in contenders if name != "ours"]
    return {
        "batch": batch,
        "times": {name: spread(times) for name, times in wall.items()},
        "to_the_better_of_the_others": ratio(wall["ours"], np.min([wall[name] for name in others], axis=0).tolist()),
        "cpu": ratio(cpu["ours"], np.min([cpu[name] for name in others], axis=0).tolist()),
    }


def made(kind: str, count: int, dim: int, seed: int) -> Rows:
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((count, dim), dtype=np.float32)
    if kind == "spectrum":
        return unit(noise / np.sqrt(np.arange(1, dim + 1)))
    centres = np.random.default_rng(1000).standard_normal((1000, dim))
    return unit(centres[generator.integers(0, 1000, count)] + 0.5 * noise)


def pictures(folder: Path, count: int) -> tuple[Rows, Rows]:
    """Crops of half the sides, anywhere in the pictures of a folder: (count, d) of nine in ten, queries of the rest."""
    encoder = AtelierStyle.load(BUILT_IN / "style_encoder", "cpu")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    order = np.random.default_rng(0).permutation(len(files))
    held_out = order[: max(1, len(files) // 10)]

    def crops(chosen: NDArray[np.int64], wanted: int, seed: int) -> Rows:
        generator, found = np.random.default_rng(seed), []
        each = -(-wanted // len(chosen))
        for number in chosen:
            try:
                image = decode(files[number].read_bytes()).pixels
            except ImageError:
                continue
            height, width = (max(8, int(side * CROP)) for side in image.shape[:2])
            corners = generator.random((each, 2)) * np.maximum(0, np.array(image.shape[:2]) - (height, width))
            cut = [image[top : top + height, left : left + width] for top, left in corners.astype(int)]
            found.append(encoder.encode(cut))
        return np.concatenate(found)[:wanted]

    return crops(order[len(held_out) :], count, 1), crops(held_out, QUERIES, 2)


def approximate(kind: str, rows: Rows, queries: Rows, probes: tuple[int, ...]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids, half = [f"{n:09}" for n in range(len(rows))], rows.astype("<f2")
        vectors = open_set(folder, ENCODER, ids, lambda wanted: [half[[int(name) for name in wanted]]])
        begun = time.perf_counter()
        index = IvfIndex.build(vectors)
        built = time.perf_counter() - begun
        truth, in_memory = search_files(vectors, queries, K), ExactIndex(vectors, device="cpu")
        results = []
        for count in probes:
            approximate_s, exact_s = [], []
            for query in queries[:, None]:
                begun = time.perf_counter()
                found = index.search(query, K, probes=count)
                approximate_s.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                in_memory.search(query, K)
                exact_s.append(time.perf_counter() - begun)
            found = index.search(queries, K, probes=count)
            results.append(
                {
                    "probes": found.probes,
                    "candidates": found.candidates,
                    "recall_at_10": round(recall_at_k(truth, found, K), 4),
                    "one_query": spread(approximate_s),
                    "to_exact": ratio(approximate_s, exact_s),
                }
            )
        return {
            "kind": kind,
            "works": len(rows),
            "dim": rows.shape[1],
            "queries": len(queries),
            "lists": found.lists,
            "build_s": round(built, 1),
            "index_bytes_per_work": round((folder / f"{index.save(folder)}.ivf").stat().st_size / len(rows), 1),
            "by_probes": results,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--works", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--ivf-works", type=int, default=100_000, help="0: leave IVF-PQ out")
    parser.add_argument("--probes", type=int, nargs="+", default=[8, 32, 128])
    options = parser.parse_args()
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "exact": [exact(options.works, options.dim, options.rounds, batch) for batch in (1, 64)],
    }
    if options.ivf_works:
        sets = {
            kind: (made(kind, options.ivf_works, options.dim, 1), made(kind, QUERIES, options.dim, 2))
            for kind in ("clustered", "spectrum")
        }
        if options.folder:
            sets["pictures"] = pictures(options.folder, options.ivf_works)
        result["approximate"] = [approximate(kind, *both, tuple(options.probes)) for kind, both in sets.items()]
    show(result)


if __name__ == "__main__":
    main()
