"""Approximate search where the vectors do not fit into memory: IVF-PQ proposes, the vectors on disk decide the order.

Jégou, Douze & Schmid (TPAMI 2011): k-means parts the space into lists, of which a query looks into a few (probes); what
is left of a vector after its list's centre is kept as a code of some 64 bytes. The best few hundred candidates by code
are read from the memory-mapped files and scored exactly. The vectors are first turned by a random rotation, so that no
few coordinates carry all of a code's error.

An answer from here is an `Approximate`. It has no way to say that nothing was found: a work in a list that was not
probed was not looked at. `attribution.index` answers that, from memory or (`search_files`) from disk.

    <sha256>.ivf: the first 4096 bytes as in `attribution.vector_files`, with "lawful-ledger/ivf/1" LF and the JSON of
    `Header`; then the index as FAISS writes it, whose SHA-256 the header holds: FAISS never reads an altered one.

It lies beside the files of its vectors and may be deleted like them. Works that came behind those it knows are added
without training again.
"""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from attribution.errors import VectorError
from attribution.index import (  # before FAISS: it sets the waiting of threads
    ExactIndex,
    Exhaustive,
    exact_scores,
    fits_gpu,
    search_files,
)
from attribution.vector_files import (
    DIGEST_BYTES,
    HEADER_BYTES,
    REBUILD,
    altered,
    cut_short,
    header_block,
    publish,
    read_header,
    unfinished_file,
)
from attribution.vector_sets import VectorSet

import faiss as untyped_faiss  # isort: skip

faiss: Any = untyped_faiss  # its own stubs miss what SWIG adds

log = logging.getLogger(__name__)

MAGIC = b"lawful-ledger/ivf/1\n"
SUFFIX = ".ivf"
LEAST_POINTS = 39  # training rows per centre below which FAISS warns of bad clusters
MOST_POINTS = 128  # and those beyond which a centre gains little
ITERATIONS = 10  # of k-means; more change the recall by less than its spread
FEWEST_WORKS = 256 * LEAST_POINTS  # a code's byte has 256 centres
LARGEST_CODE = 64
WIDTH = 8  # a byte of a code stands for so many numbers, or a multiple; for fewer FAISS trains 50 times slower
MEASURED_QUERIES = 200
MEASURED_K = 10
READ_BYTES = 1 << 24


class Recall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many of the true best k of each query were found, on average, with so many probes and candidates.

    The queries are works of the set, each left out of its own answer. Images unlike any work may fare worse.
    """

    value: float
    k: int
    queries: int
    probes: int
    candidates: int


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says of itself. `set_name` is that of the first `rows` works, whose row numbers it holds."""

    set_name: str
    encoder: str
    rows: int
    dim: int
    lists: int
    code_bytes: int
    seed: int
    body_bytes: int
    body_sha256: str
    recall: Recall | None


@dataclass(frozen=True)
class Approximate:
    """The best rows that were found, (m, k) exact scores and row numbers; -inf and -1 where fewer were found.

    `probes` of `lists` parts of the collection were looked into. That something is not in here proves nothing: a "no
    match" needs an `Exhaustive` answer, which this type deliberately cannot stand in for.
    """

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    probes: int
    lists: int
    candidates: int
    recall: Recall | None


class IvfIndex:
    """An IVF-PQ index over the rows of one set of files. Codes are in memory, `code_bytes` + 8 for each work."""

    def __init__(self, vectors: VectorSet, index: Any, seed: int, recall: Recall | None = None) -> None:
        """Use `over`."""
        self.vectors, self.seed, self.recall, self.dim = vectors, seed, recall, vectors.dim
        self._index, self._ivf = index, faiss.extract_index_ivf(index)

    @classmethod
    def over(cls, vectors: VectorSet) -> Self:
        """Open the index that lies beside the files of the set, or build it there; in both cases its recall is known.

        Building takes minutes for a million works. A file that cannot be used is logged and deleted; one that knows
        only the first of these works is brought up to date. Raises VectorError as `build`.
        """
        known: Self | None = None
        for path in sorted(vectors.folder.glob(f"*{SUFFIX}")):
            try:
                found = cls.open(vectors.folder, path.stem, vectors)
            except VectorError as error:
                if error.code in {"vectors_missing", "ivf_of_another_set"}:  # deleted since, or of another snapshot
                    continue
                log.warning("%s (%s); the index is built again", error.detail, error.code)
                path.unlink(missing_ok=True)
                continue
            if known is None or len(found) > len(known):
                known = found
        if known is not None and known.recall is not None and len(known) == len(vectors):
            return known
        index = cls.build(vectors) if known is None else known.extended()
        index = index.measured()
        name = index.save(vectors.folder)
        for path in vectors.folder.glob(f"*{SUFFIX}"):
            if path.stem != name:
                path.unlink(missing_ok=True)
        return index

    def __len__(self) -> int:
        """The works it knows: the first ones of `vectors`."""
        return int(self._index.ntotal)

    @classmethod
    def build(
        cls, vectors: VectorSet, *, lists: int | None = None, code_bytes: int | None = None, seed: int = 0
    ) -> Self:
        """Train on a sample of the set and add all of it, block by block.

        Without `lists` some 4 sqrt(n); `code_bytes` divides the width (`code_size` of it unless given). The same set,
        seed and version of FAISS give the same index. Raises VectorError `ivf_too_few_works` below 9,984 works.
        """
        if len(vectors) < FEWEST_WORKS:
            raise VectorError(
                f"{len(vectors):,} works are too few to part into lists; {FEWEST_WORKS:,} are needed",
                code="ivf_too_few_works",
                next_step="Search them exactly: that many fit into memory.",
            )
        code_bytes = code_bytes or code_size(vectors.dim)
        if vectors.dim % code_bytes:
            raise VectorError(
                f"codes of {code_bytes} bytes for vectors of width {vectors.dim}",
                code="ivf_code_bytes",
                next_step="Choose a divisor of the width.",
            )
        lists = lists or 1 << round(np.log2(4 * np.sqrt(len(vectors))))
        lists = max(1, min(lists, len(vectors) // LEAST_POINTS))
        index = faiss.IndexPreTransform(
            faiss.index_factory(vectors.dim, f"IVF{lists},PQ{code_bytes}x8", faiss.METRIC_INNER_PRODUCT)
        )
        rotation = faiss.RandomRotationMatrix(vectors.dim, vectors.dim)
        rotation.init(seed)
        index.prepend_transform(rotation)
        ivf = faiss.downcast_index(faiss.extract_index_ivf(index))
        ivf.do_polysemous_training = False  # an order of centres for filtering by Hamming distance: unused, and slow
        ivf.cp.seed = ivf.pq.cp.seed = seed
        ivf.pq.cp.max_points_per_centroid = MOST_POINTS
        ivf.cp.niter = ivf.pq.cp.niter = ITERATIONS
        wanted = min(len(vectors), MOST_POINTS * max(lists, 256))
        chosen = np.sort(np.random.default_rng(seed).choice(len(vectors), wanted, replace=False))
        index.train(vectors.take(chosen))
        for block in vectors.blocks():
            index.add(block.astype(np.float32))
        return cls(vectors, index, seed)

    @classmethod
    def open(cls, folder: Path, name: str, vectors: VectorSet) -> Self:
        """Read `<name>.ivf` into memory; it must know the first works of this very set. Raises VectorError."""
        path = folder / f"{name}{SUFFIX}"
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise VectorError(f"{path.name} is not there", code="vectors_missing", next_step=REBUILD) from None
        with file:
            header = read_header(path, file.read(HEADER_BYTES), MAGIC, Header)
            if header.rows > len(vectors) or header.set_name != vectors.name_of_first(header.rows):
                raise VectorError(
                    f"{path.name} was built over another state of the collection, or for another encoder",
                    code="ivf_of_another_set",
                    next_step="Build it over the set that is to be searched.",
                )
            size = path.stat().st_size - HEADER_BYTES
            if size < header.body_bytes:
                raise cut_short(path, size + HEADER_BYTES, header.body_bytes + HEADER_BYTES)
            digest = hashlib.sha256()
            while block := file.read(READ_BYTES):
                digest.update(block)
            if digest.hexdigest() != header.body_sha256:
                raise altered(path, "the index")
            file.seek(HEADER_BYTES)
            index = faiss.read_index(faiss.BufferedIOReader(faiss.PyCallbackIOReader(file.read), READ_BYTES))
        return cls(vectors, index, header.seed, header.recall)

    def save(self, folder: Path) -> str:
        """Write the index and return the file's name: 64 hex digits. Durable on return."""
        digest, size = hashlib.sha256(), 0
        with unfinished_file(folder) as file:
            file.write(bytes(HEADER_BYTES))

            def write(data: bytes) -> int:
                nonlocal size
                size += len(data)
                digest.update(data)
                return file.write(data)

            writer = faiss.BufferedIOWriter(faiss.PyCallbackIOWriter(write), READ_BYTES)
            faiss.write_index(self._index, writer)
            del writer  # hands over what it still holds
            header = Header(
                set_name=self.vectors.name_of_first(len(self)),
                encoder=self.vectors.encoder,
                rows=len(self),
                dim=self.vectors.dim,
                lists=self._ivf.nlist,
                code_bytes=self._ivf.code_size,
                seed=self.seed,
                body_bytes=size,
                body_sha256=digest.hexdigest(),
                recall=self.recall,
            )
            first = header_block(MAGIC, header)
            file.seek(0)
            file.write(first)
            name = first[-DIGEST_BYTES:].hex()
            publish(file, folder / f"{name}{SUFFIX}")
        return name

    def extended(self) -> Self:
        """Return an index of all of `vectors`, with the same lists and codes. The recall has to be measured again."""
        index, first = faiss.clone_index(self._index), 0
        for block in self.vectors.blocks():
            if first + len(block) > index.ntotal:
                index.add(block[index.ntotal - first :].astype(np.float32))
            first += len(block)
        return type(self)(self.vectors, index, self.seed)

    def measured(self, *, queries: int = MEASURED_QUERIES, probes: int = 0, candidates: int = 0) -> Self:
        """Return the index with its recall of the best 10, against an exhaustive search of the files for sampled works.

        Costs one scan of the files.
        """
        count = min(queries, len(self.vectors))
        chosen = np.sort(np.random.default_rng(self.seed + 1).choice(len(self.vectors), count, replace=False))
        asked = self.vectors.take(chosen)
        truth = search_files(self.vectors, asked, MEASURED_K + 1)
        found = self.search(asked, MEASURED_K + 1, probes=probes, candidates=candidates)
        value = recall_at_k(truth, found, MEASURED_K, own=chosen)
        recall = Recall(value, MEASURED_K, count, found.probes, found.candidates)
        return type(self)(self.vectors, self._index, self.seed, recall)

    def search(self, queries: NDArray[np.float32], k: int, *, probes: int = 0, candidates: int = 0) -> Approximate:
        """Return the best k that `probes` lists (a sixteenth unless given, at least 8) offer to (m, d) queries.

        `candidates` (20 k unless given, at least 200) of each query are read from disk and scored exactly. Equal scores
        stand in the order of their rows. Raises ValueError unless the queries are (m, d) and finite.
        """
        if queries.ndim != 2 or queries.shape[1] != self.vectors.dim or not np.isfinite(queries).all():
            raise VectorError(
                f"queries must be (m, {self.vectors.dim}) and finite, not {queries.shape}",
                code="query_unusable",
                next_step="Encode the image with the encoder of this index.",
            )
        lists, k = int(self._ivf.nlist), max(0, min(k, len(self.vectors)))
        probes = min(lists, probes or max(8, lists // 16))
        candidates = max(k, min(len(self.vectors), candidates or max(200, 20 * k)))
        asked = np.ascontiguousarray(queries, np.float32)
        inner = faiss.SearchParametersIVF(nprobe=probes)
        _, rows = self._index.search(asked, candidates, params=faiss.SearchParametersPreTransform(index_params=inner))
        query, place = np.nonzero(rows >= 0)
        scores = np.full(rows.shape, -np.inf, np.float32)
        scores[query, place] = exact_scores(asked, query, rows[query, place], self.vectors.take)
        order = np.lexsort((rows, -scores), axis=-1)[:, :k]
        best = np.take_along_axis(scores, order, axis=-1), np.take_along_axis(rows, order, axis=-1)
        return Approximate(*best, probes, lists, candidates, self.recall)


def index_over(vectors: NDArray[np.float32] | VectorSet) -> ExactIndex | IvfIndex:
    """Return an exact index of rows in memory, of rows that a GPU has room for, and of few; else an approximate one."""
    if isinstance(vectors, np.ndarray) or len(vectors) < FEWEST_WORKS or fits_gpu(vectors):
        return ExactIndex(vectors)
    return IvfIndex.over(vectors)


def code_size(dim: int) -> int:
    """Return how many bytes of code a vector of `dim` numbers gets: at most 64."""
    units = dim // WIDTH if dim % WIDTH == 0 else dim
    return next(size for size in range(min(LARGEST_CODE, units), 0, -1) if units % size == 0)


def recall_at_k(truth: Exhaustive, found: Approximate, k: int, own: NDArray[np.int64] | None = None) -> float:
    """Return the mean part of each query's true best k rows that were found among its k, 0 to 1.

    With `own`, (m,) row numbers, a query's own row is left out of both, which then need k + 1 columns.
    """
    parts = []
    for number, (true, offered) in enumerate(zip(truth.rows, found.rows, strict=True)):
        itself = -1 if own is None else own[number]
        best = true[true != itself][:k]
        parts.append(len(np.intersect1d(best, offered[offered != itself][:k])) / len(best))
    return float(np.mean(parts))
