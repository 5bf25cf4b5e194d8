"""The vectors of a collection under one encoder: a few immutable segments and the rows of them that do not count.

A set is itself a small immutable file, `<sha256>.set`: JSON with the encoder's key, the width, and for each segment its
name and the rows taken out of it. Its name commits to every byte of every segment, so whoever answers from one set
answers from one state of the collection, whatever a writer does meanwhile. Adding works writes one segment and one set;
taking works out writes a set; merging rewrites small segments. Old files stay until `sweep` is told what to keep.

Which set is the newest is for the caller to remember (a snapshot does). One writer at a time; any number of readers.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from attribution.errors import VectorError
from attribution.vector_files import (
    PARTIAL,
    REBUILD,
    SUFFIX,
    Segment,
    Vectors,
    as_names,
    in_blocks,
    open_segment,
    publish,
    unfinished_file,
    write_rows,
    write_segment,
)

SET_SUFFIX = ".set"
MOST_SEGMENTS = 8
MERGE_ROWS = 4096  # rows gathered at a time while merging


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A segment by name, and the rows of it that are taken out, increasing."""

    segment: str
    removed: list[int]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of a set."""

    format: Literal["lawful-ledger/vector-set/1"]
    encoder: str
    dim: int
    parts: list[Part]


class VectorSet:
    """Works and their vectors, frozen. Row numbers run over the kept rows of the segments, one after the other."""

    def __init__(self, folder: Path, name: str, manifest: Manifest, segments: Sequence[Segment]) -> None:
        """Use `empty` or `open`."""
        self.folder, self.name, self.manifest, self.segments = folder, name, manifest, tuple(segments)
        self.encoder, self.dim = manifest.encoder, manifest.dim
        self._removed = [np.asarray(part.removed, np.int64) for part in manifest.parts]
        sizes = [len(segment) - len(gone) for segment, gone in zip(self.segments, self._removed, strict=True)]
        self._starts = np.cumsum([0, *sizes])

    @classmethod
    def empty(cls, folder: Path, encoder: str, dim: int) -> Self:
        """Found a set without works in an existing folder."""
        return cls._write(folder, Manifest("lawful-ledger/vector-set/1", encoder, dim, []), {})

    @classmethod
    def open(cls, folder: Path, name: str, *, encoder: str, verify: bool = True) -> Self:
        """Map a set and all its segments, checked as `open_segment` does. Raises VectorError."""
        path = folder / f"{name}{SET_SUFFIX}"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise VectorError(
                f"{path.name} is not there",
                code="vectors_missing",
                next_step="Open the newest set of the collection; an older one may have been swept away.",
            ) from None
        if hashlib.sha256(data).hexdigest() != name:
            raise VectorError(f"{path.name} is not what its name says", code="vectors_altered", next_step=REBUILD)
        try:
            manifest = msgspec.json.decode(data, type=Manifest)
        except msgspec.MsgspecError as error:
            raise VectorError(
                f"{path.name} is no set of vectors: {error}", code="vectors_foreign", next_step=REBUILD
            ) from None
        if manifest.encoder != encoder:
            raise VectorError(
                f"{path.name} holds vectors of {manifest.encoder}, and {encoder} is asked for",
                code="vectors_of_another_encoder",
                next_step="Index the collection with this encoder, or set it back to the one that indexed it.",
            )
        segments = [open_segment(folder, part.segment, encoder=encoder, verify=verify) for part in manifest.parts]
        for segment, part in zip(segments, manifest.parts, strict=True):
            removed = np.asarray(part.removed, np.int64)
            outside = len(removed) and (removed[0] < 0 or removed[-1] >= len(segment) or (np.diff(removed) <= 0).any())
            if outside or segment.header.dim != manifest.dim:
                raise VectorError(f"{path.name} does not fit its segments", code="vectors_foreign", next_step=REBUILD)
        return cls(folder, name, manifest, segments)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def ids(self, rows: NDArray[np.int64] | None = None) -> list[str]:
        """Return the work ids of (m,) row numbers, or of all rows in order."""
        rows = np.arange(len(self)) if rows is None else rows
        names = np.empty(len(rows), f"S{max((segment.header.id_bytes for segment in self.segments), default=1)}")
        for segment, here, at in self._places(rows):
            names[here] = segment.ids[at]
        return [name.decode() for name in names.tolist()]

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (m, d) float32 for (m,) row numbers, read from disk where they are not in memory."""
        found = np.empty((len(rows), self.dim), np.float32)
        for segment, here, at in self._places(rows):
            found[here] = segment.vectors[at]
        return found

    def blocks(self) -> Iterator[NDArray[np.float16]]:
        """Yield all rows in order as (b, d) float16, at most some 16 MiB at a time."""
        for segment, removed in zip(self.segments, self._removed, strict=True):
            first = 0
            for block in in_blocks(segment.vectors):
                gone = removed[(removed >= first) & (removed < first + len(block))] - first
                yield np.delete(block, gone, axis=0) if len(gone) else block
                first += len(block)

    def add(self, ids: Sequence[str], vectors: Vectors) -> "VectorSet":
        """Return the set with (n, d) rows of new works behind the others; past 8 segments the smaller ones are merged.

        Raises VectorError: `works_repeated` for a work that is there already, and as `write_segment`.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise VectorError(
                f"vectors of shape {vectors.shape} for a set of width {self.dim}",
                code="vectors_shape",
                next_step="Encode the works with the encoder of the set.",
            )
        there = [number for number, _ in self._find(as_names(ids))]
        if there:
            raise VectorError(
                f"{len(there)} of {len(ids)} works are in the set already, the first is {ids[there[0]]!r}",
                code="works_repeated",
                next_step="Take a work out before adding it with another vector.",
            )
        segment = self._map(write_segment(self.folder, self.encoder, ids, vectors))
        grown = self._with([*self.manifest.parts, Part(segment.name, [])], segment)
        return grown if len(grown.segments) <= MOST_SEGMENTS else grown.merged(MOST_SEGMENTS // 2)

    def without(self, ids: Sequence[str]) -> "VectorSet":
        """Return the set without these works; those it does not hold are passed over. No segment is written."""
        removed = [set(part.removed) for part in self.manifest.parts]
        for _, (number, row) in self._find(as_names(ids)):
            removed[number].add(row)
        parts = [Part(part.segment, sorted(rows)) for part, rows in zip(self.manifest.parts, removed, strict=True)]
        kept = [part for part, segment in zip(parts, self.segments, strict=True) if len(part.removed) < len(segment)]
        return self._with(kept)

    def merged(self, most: int = 1) -> "VectorSet":
        """Return the same works in at most `most` segments: smaller ones, and those with works taken out, become one.

        The works keep their vectors to the bit; their row numbers change.
        """
        sizes = np.diff(self._starts)
        largest = set(np.argsort(-sizes, kind="stable")[: max(0, most - 1)].tolist())
        again = [n for n in range(len(sizes)) if n not in largest or len(self._removed[n])]
        if not again or (len(sizes) <= most and not any(map(len, self._removed))):
            return self
        rows = np.concatenate([np.arange(self._starts[n], self._starts[n + 1]) for n in again])
        names = as_names(self.ids(rows))
        order = np.argsort(names, kind="stable")
        blocks = (
            self.take(rows[order[first : first + MERGE_ROWS]]).astype("<f2")  # exact: they were binary16 before
            for first in range(0, len(order), MERGE_ROWS)
        )
        segment = self._map(write_rows(self.folder, self.encoder, names[order], self.dim, blocks))
        parts = [part for n, part in enumerate(self.manifest.parts) if n not in again]
        return self._with([*parts, Part(segment.name, [])], segment)

    def _places(self, rows: NDArray[np.int64]) -> Iterator[tuple[Segment, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield for each segment: it, which of (m,) row numbers lie in it, and where there."""
        part = np.searchsorted(self._starts, rows, side="right") - 1
        for number, (segment, removed) in enumerate(zip(self.segments, self._removed, strict=True)):
            here = np.flatnonzero(part == number)
            row = rows[here] - self._starts[number]
            yield segment, here, row + np.searchsorted(removed - np.arange(len(removed)), row, side="right")

    def _find(self, names: NDArray[np.bytes_]) -> Iterator[tuple[int, tuple[int, int]]]:
        """Yield for each name that is kept: its number, and (segment, row)."""
        for number, (segment, part) in enumerate(zip(self.segments, self.manifest.parts, strict=True)):
            found = segment.find(names)
            for at in np.flatnonzero((found >= 0) & ~np.isin(found, part.removed)):
                yield int(at), (number, int(found[at]))

    def _map(self, name: str) -> Segment:
        return open_segment(self.folder, name, encoder=self.encoder, verify=False)  # written a moment ago, by us

    def _with(self, parts: list[Part], *fresh: Segment) -> "VectorSet":
        manifest = Manifest("lawful-ledger/vector-set/1", self.encoder, self.dim, parts)
        return self._write(self.folder, manifest, {segment.name: segment for segment in (*self.segments, *fresh)})

    @classmethod
    def _write(cls, folder: Path, manifest: Manifest, segments: dict[str, Segment]) -> Self:
        data = msgspec.json.encode(manifest)
        name = hashlib.sha256(data).hexdigest()
        with unfinished_file(folder) as file:
            file.write(data)
            publish(file, folder / f"{name}{SET_SUFFIX}")
        return cls(folder, name, manifest, [segments[part.segment] for part in manifest.parts])


def sweep(folder: Path, keep: Collection[VectorSet]) -> int:
    """Delete every set, segment and unfinished file of `folder` that `keep` does not need; return how many.

    For the one writer, with no write under way. Readers that have a deleted set open go on reading it.
    """
    needed = {f"{each.name}{SET_SUFFIX}" for each in keep}
    needed |= {f"{segment.name}{SUFFIX}" for each in keep for segment in each.segments}
    gone = [
        path for path in folder.iterdir() if path.suffix in {SUFFIX, SET_SUFFIX, PARTIAL} and path.name not in needed
    ]
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)
