"""The vectors of the works of one snapshot under one encoder: which row of which mapped file is whose.

The truth is elsewhere (Postgres). A folder of segments (`attribution.vector_files`) is a copy of it that opens in a
moment, and may be deleted at any time. `open_set` is given the works of a snapshot, in order; what the folder lacks is
read from the truth and becomes one more segment. A file that is cut short, altered, or of another encoder is logged,
deleted, and its works are read again.

Nothing locks. A segment never changes, is complete under its name or not there, and can be read after it was deleted
by whoever has mapped it (POSIX). So an open set is of just the works it was asked for, whatever others write or delete
meanwhile, and several processes that build at once cost each other time and nothing else. A work's vector under an
encoder's key, which names the weights, is taken not to change.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attribution.errors import VectorError
from attribution.vector_files import (
    BLOCK_BYTES,
    PARTIAL,
    REBUILD,
    SUFFIX,
    Segment,
    as_names,
    open_segment,
    write_segment,
)

MOST_SEGMENTS = 8  # beyond them one file replaces all
GATHERED = 4096  # rows put together at a time
ATTEMPTS = 5  # others may delete a file between its writing and its opening
ABANDONED_S = 24 * 3600  # nobody has written to a partial file for so long

log = logging.getLogger(__name__)

Read = Callable[[Sequence[str]], Iterable[NDArray[np.float16]]]


class VectorSet:
    """Vectors of n works in a given order, on disk. Frozen; use `open_set`."""

    def __init__(
        self,
        folder: Path,
        encoder: str,
        names: NDArray[np.bytes_],
        segments: Sequence[Segment],
        places: tuple[NDArray[np.int64], NDArray[np.int64]],
    ) -> None:
        """`names` (n,) are the works' ids, `places` the segment's number and the row in it of each, (n,) both."""
        self.folder, self.encoder, self.dim = folder, encoder, segments[0].header.dim
        self.segments = tuple(segments)
        self._names, (self._part, self._row) = names, places

    def __len__(self) -> int:
        return len(self._names)

    @property
    def name(self) -> str:
        """64 hex digits over the encoder's key and the works' ids in order; a file's own name commits to its bytes."""
        return self.name_of_first(len(self))

    def name_of_first(self, count: int) -> str:
        """Return the name of the set of the first `count` works."""
        ids = b"\n".join(self._names[:count].tolist())
        return hashlib.sha256(self.encoder.encode() + b"\n" + ids).hexdigest()

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (m, d) float32 for (m,) row numbers, as stored, read from disk where they are not in memory."""
        return _gathered(self.segments, self._part[rows], self._row[rows]).astype(np.float32)

    def blocks(self) -> Iterator[NDArray[np.float16]]:
        """Yield all rows in order as (b, d) float16, at most some 16 MiB at a time."""
        step = max(1, BLOCK_BYTES // (2 * self.dim))
        for first in range(0, len(self), step):
            part = slice(first, first + step)
            yield _gathered(self.segments, self._part[part], self._row[part])

    def only(self, kept: NDArray[np.bool_]) -> "VectorSet":
        """Return the set of those works that `kept` (n,) says, in the same order."""
        places = self._part[kept], self._row[kept]
        return VectorSet(self.folder, self.encoder, self._names[kept], self.segments, places)


def open_set(folder: Path, encoder: str, ids: Sequence[str], read: Read) -> VectorSet:
    """Map the vectors of these works (at least one) from `folder`, which this encoder's files have for themselves.

    `read` gives the vectors of works that have none there: (b, d) float16 in the order asked for, a row for each.
    A file that cannot be used is logged and deleted. Every byte that is used has been checked against its digest: about
    a second for each GB. Raises what `read` raises, VectorError as `write_segment`, and OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _delete_abandoned(folder)
    names, known = as_names(ids), dict[str, Segment]()
    for _ in range(ATTEMPTS):
        _open_others(folder, encoder, known)
        segments = [known[name] for name in sorted(known)]
        places = _places(segments, names)
        missing = np.flatnonzero(places[0] < 0)
        if not len(missing):
            return VectorSet(folder, encoder, names, segments, places)
        crowded = len(segments) >= MOST_SEGMENTS
        wanted = np.arange(len(names)) if crowded else missing
        wanted = wanted[np.argsort(names[wanted], kind="stable")]
        write_segment(folder, encoder, names[wanted], _vectors(wanted, ids, segments, places, read))
        if crowded:
            for name in known:
                (folder / f"{name}{SUFFIX}").unlink(missing_ok=True)
            known.clear()
    raise VectorError(
        f"the files of {folder.name} disappear faster than they are written",
        code="vectors_missing",
        next_step="Find out what deletes them; other workers of this ledger do so at most once in a while.",
    )


def _open_others(folder: Path, encoder: str, known: dict[str, Segment]) -> None:
    """Map the segments of the folder that are not among the `known`; what is no sound one is deleted."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.stem in known:
            continue
        try:
            segment = open_segment(folder, path.stem, encoder=encoder)
            if any(other.header.dim != segment.header.dim for other in known.values()):
                raise VectorError(
                    f"{path.name} is of another width than the others", code="vectors_foreign", next_step=REBUILD
                )
            known[path.stem] = segment
        except VectorError as error:
            if error.code != "vectors_missing":  # another process has deleted it since
                log.warning("%s (%s); its works are read again", error.detail, error.code)
                path.unlink(missing_ok=True)


def _places(segments: Sequence[Segment], names: NDArray[np.bytes_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The segment's number and the row in it of each name, -1 where no segment has it."""
    part, row = np.full(len(names), -1), np.full(len(names), -1)
    for number, segment in enumerate(segments):
        found = segment.find(names)
        fresh = (part < 0) & (found >= 0)
        part[fresh], row[fresh] = number, found[fresh]
    return part, row


def _vectors(
    wanted: NDArray[np.int64],
    ids: Sequence[str],
    segments: Sequence[Segment],
    places: tuple[NDArray[np.int64], NDArray[np.int64]],
    read: Read,
) -> Iterator[NDArray[np.float16]]:
    """The vectors of the works with these numbers, block by block: from the segments, else from the truth."""
    for first in range(0, len(wanted), GATHERED):
        numbers = wanted[first : first + GATHERED]
        part, row = places[0][numbers], places[1][numbers]
        there = part >= 0
        blocks = [_gathered(segments, part[there], row[there])] if there.any() else []
        if not there.all():
            blocks += read([ids[number] for number in numbers[~there]])
        order = np.argsort(np.concatenate([np.flatnonzero(there), np.flatnonzero(~there)]))
        yield np.concatenate(blocks)[order]


def _gathered(segments: Sequence[Segment], part: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.float16]:
    """(m, d) float16 rows by segment's number and row in it."""
    found = np.empty((len(part), segments[0].header.dim), "<f2")
    for number in np.unique(part):
        here = part == number
        found[here] = segments[number].vectors[row[here]]
    return found


def _delete_abandoned(folder: Path) -> None:
    """Delete what a process that died has left unfinished."""
    for path in folder.glob(f"*{PARTIAL}"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()
