"""Of which works is this image a copy? A shortlist over every work, then the geometric check of each candidate.

One answer is about one set of works, all of whose features vote (attribution.shortlist); the check
(attribution.matching) decides and says where. A score says nothing by itself: `copy_null.against_itself` and
`against_background` give what images that copy nothing reach, and only against those has a score an error rate.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from attribution.features import DIMENSIONS, METHOD, PREVIEW, LocalFeatures, Pixels, extract
from attribution.matching import Alignment, Look, align, align_whole
from attribution.processes import in_processes, kept_threads, one_blas_thread
from attribution.shortlist import Words, content_box, outline, outlines

BY_VOTES, BY_OUTLINE, BY_VECTOR = 10, 4, 8
_MAGIC = b"LLCOPY1\n"
_LENGTH = struct.Struct("<Q")
_STEP = 64


Asked = tuple[Pixels, LocalFeatures, NDArray[np.bool_] | None, Mapping[str, NDArray[np.float32]] | None]


@dataclass(frozen=True)
class Found:
    """A work that the image aligns with: its row, and how. `score` is the alignment's."""

    row: int
    alignment: Alignment

    @property
    def score(self) -> float:
        return self.alignment.score


class CopyIndex:
    """The copy axis over n works: their local features, small pictures and, where given, vectors of copy encoders.

    Memory: some 170 bytes a local feature (at most features.MOST a work) and 10 KB a work; from a file, what is kept
    is mapped and not read. `vectors` are (n, d) unit rows by encoder key. Raises ValueError where the numbers of rows
    differ or a vector is not finite.
    """

    def __init__(
        self, features: Sequence[LocalFeatures], vectors: Mapping[str, NDArray[np.float32]] | None = None
    ) -> None:
        descriptors = [each.descriptors for each in features]
        self._words = Words.build(descriptors)
        self._points = np.concatenate([np.zeros((0, 4), np.float32), *(each.points for each in features)])
        self._descriptors = np.concatenate([np.zeros((0, DIMENSIONS), np.uint8), *descriptors])
        self._sizes = np.array([(each.width, each.height) for each in features], np.int64).reshape(-1, 2)
        self._previews = np.array([each.preview for each in features], np.uint8).reshape(-1, PREVIEW, PREVIEW)
        self._vectors = _checked(vectors or {}, len(features))
        self._outlines = outlines(self._previews)

    def __len__(self) -> int:
        return len(self._sizes)

    def features(self, row: int) -> LocalFeatures:
        """The local features of one work."""
        start, end = self._words.offsets[row : row + 2]
        width, height = (int(side) for side in self._sizes[row])
        return LocalFeatures(self._points[start:end], self._descriptors[start:end], self._previews[row], width, height)

    def find(
        self,
        image: Pixels,
        vectors: Mapping[str, NDArray[np.float32]] | None = None,
        *,
        seen: LocalFeatures | None = None,
        hidden: NDArray[np.bool_] | None = None,
        most: int = 10,
    ) -> list[Found]:
        """Find the works that the image aligns with, best first, at most `most`.

        `image` (h, w, 3) uint8. `vectors` by encoder key, (d,) of the image or (2, d) of the image and of its mirror
        image; keys that the index lacks are ignored. `seen` are the image's local features, where they are known.
        `hidden` (n,) rows are not looked at: calibration leaves an artist out by them. An empty list says that nothing
        aligns at all; a work in the list is a copy only by its calibrated score.
        """
        if not len(self) or (hidden is not None and hidden.all()):
            return []
        seen, look = seen or extract(image), Look.at(image)
        box = content_box(seen.preview)
        found: dict[int, Found] = {}

        def checked(candidate: tuple[int, bool, bool]) -> Alignment | None:
            row, mirrored, whole = candidate
            if whole:
                return align_whole(seen, self.features(row), look, box, mirrored=mirrored)
            return align(seen, self.features(row), look, mirrored=mirrored)

        with one_blas_thread():
            candidates = self._candidates(seen, vectors or {}, hidden)
            alignments = kept_threads(cv2.getNumThreads()).map(checked, candidates)
            for (row, _, _), alignment in zip(candidates, alignments, strict=True):
                if alignment is not None and (row not in found or alignment.score > found[row].score):
                    found[row] = Found(row, alignment)
        return sorted(found.values(), key=lambda each: (-each.score, each.row))[:most]

    def _candidates(
        self, seen: LocalFeatures, vectors: Mapping[str, NDArray[np.float32]], hidden: NDArray[np.bool_] | None
    ) -> list[tuple[int, bool, bool]]:
        """(row, mirrored, by the whole picture), without repetition."""
        keep = np.ones(len(self), bool) if hidden is None else ~hidden
        chosen: dict[tuple[int, bool, bool], None] = {}
        both = (seen, seen.mirrored)
        votes = self._words.votes(both, hidden).reshape(-1)
        for place in _best(np.where(votes > 0, votes, -np.inf), BY_VOTES):
            chosen[place % len(self), place >= len(self), False] = None
        for side, each in enumerate(both):
            left, top, right, bottom = content_box(each.preview)
            for part in (each.preview, np.ascontiguousarray(each.preview[top:bottom, left:right])):
                alike = self._outlines @ outline(part)
                for row in _best(np.where(keep & (alike > 0.5), alike, -np.inf), BY_OUTLINE):
                    chosen[row, bool(side), True] = None
        for key, rows in self._vectors.items():
            for side, query in enumerate(np.atleast_2d(vectors.get(key, np.zeros((0, rows.shape[1]), np.float32)))[:2]):
                for row in _best(np.where(keep, rows @ query, -np.inf), BY_VECTOR):
                    chosen[row, bool(side), False] = None
        return list(chosen)

    def save(self, path: Path) -> None:
        """Write one file that `load` maps into memory; it replaces an older one at once or not at all."""
        words = np.frombuffer(faiss.serialize_index(self._words.index), np.uint8)
        parts: dict[str, NDArray[Any]] = {
            "words": words,
            "offsets": self._words.offsets,
            "points": self._points,
            "descriptors": self._descriptors,
            "sizes": self._sizes,
            "previews": self._previews,
            "outlines": self._outlines,
            **{f"vectors/{key}": rows for key, rows in self._vectors.items()},
        }
        listed, at = {}, 0
        for name, array in parts.items():
            listed[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "at": at}
            at += -(-array.nbytes // _STEP) * _STEP
        digest = hashlib.sha256(words.tobytes() + self._words.offsets.tobytes()).hexdigest()
        header = {"method": METHOD.weights_sha256, "parts": listed, "bytes": at, "words_sha256": digest}
        text = json.dumps(header, sort_keys=True).encode()
        text += b" " * (-(len(_MAGIC) + _LENGTH.size + len(text)) % _STEP)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            file.write(_MAGIC + _LENGTH.pack(len(text)) + text)
            for array in parts.values():
                file.write(np.ascontiguousarray(array).tobytes())
                file.write(b"\0" * (-array.nbytes % _STEP))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open a file that `save` wrote. Raises ValueError for another kind of file, one cut short, one made by another
        recipe of features, or one whose word index is damaged. The mapped rest is not read, so not checked."""
        header, start = _header(path)
        parts: dict[str, NDArray[Any]] = {}
        for name, part in header["parts"].items():
            shape = tuple(part["shape"])
            if 0 in shape:
                parts[name] = np.zeros(shape, part["dtype"])
            else:
                parts[name] = np.memmap(path, part["dtype"], "r", start + part["at"], shape)
        words, offsets = np.asarray(parts["words"]), np.array(parts["offsets"])
        if hashlib.sha256(words.tobytes() + offsets.tobytes()).hexdigest() != header["words_sha256"]:
            raise ValueError(f"{path.name} is damaged: build the index again")
        self = cls.__new__(cls)
        self._words = Words(faiss.deserialize_index(words.copy()), offsets)
        self._points, self._descriptors = parts["points"], parts["descriptors"]
        self._sizes, self._previews = np.array(parts["sizes"]), parts["previews"]
        self._outlines = np.array(parts["outlines"])
        vectors = {name.split("/", 1)[1]: rows for name, rows in parts.items() if name.startswith("vectors/")}
        self._vectors = _checked(vectors, len(self._sizes))
        return self


def best_matches(index: CopyIndex, asked: Sequence[Asked]) -> list[Found | None]:
    """The best alignment of each image, None where nothing aligns; in as many processes as there are cores.

    An image may be a small picture of what its features were extracted from.
    """
    return list(in_processes(os.cpu_count() or 1, _BestOf(index), asked))


@dataclass(frozen=True)
class _BestOf:
    """The best alignment of one image among the works that are not hidden."""

    index: CopyIndex

    def __call__(self, asked: Asked) -> Found | None:
        image, seen, hidden, vectors = asked
        found = self.index.find(image, vectors, seen=seen, hidden=hidden, most=1)
        return found[0] if found else None


def _best(scores: NDArray[np.floating], most: int) -> list[int]:
    """Rows of the `most` highest finite scores, best first, ties in order."""
    rows = np.argpartition(-scores, most - 1)[:most] if len(scores) > most else np.arange(len(scores))
    rows = rows[np.isfinite(scores[rows])]
    return [int(row) for row in rows[np.lexsort((rows, -scores[rows]))]]


def _checked(vectors: Mapping[str, NDArray[np.float32]], works: int) -> dict[str, NDArray[np.float32]]:
    for key, rows in vectors.items():
        if rows.ndim != 2 or len(rows) != works:
            raise ValueError(f"{key} has vectors of shape {rows.shape} for {works} works")
        if not np.isfinite(rows).all():
            raise ValueError(f"{key} has a vector that is not finite")
    return dict(vectors)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    fixed = len(_MAGIC) + _LENGTH.size
    with path.open("rb") as file:
        head = file.read(fixed)
        if len(head) < fixed or not head.startswith(_MAGIC):
            raise ValueError(f"{path.name} is no copy index")
        (length,) = _LENGTH.unpack_from(head, len(_MAGIC))
        size = path.stat().st_size
        if fixed + length > size:
            raise ValueError(f"{path.name} is cut short: build the index again")
        try:
            header = json.loads(file.read(length))
            expected = fixed + length + int(header["bytes"])
            method, _ = header["method"], header["words_sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.name} has a damaged header: build the index again") from error
    if size != expected:
        raise ValueError(f"{path.name} has {size:,} bytes instead of {expected:,}: build the index again")
    if method != METHOD.weights_sha256:
        raise ValueError(f"{path.name} was made with another recipe of local features: build the index again")
    return header, fixed + length
