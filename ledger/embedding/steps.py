"""Read and describe, encode, write: three functions over Arrow tables. The loop that calls them in this process is
here, Ray's calls of the same are in `ledger.embedding.on_ray`.

A table on its way has a row for every picture that was met. One that cannot be read has a `code` and a `detail`, one
that is already done the code `known`; all others have pixels until they are encoded, and a vector an encoder from then
on, as bytes.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger.decoding.decoders import Decoders
from ledger.embedding import parts
from ledger.embedding.parts import Place
from ledger.embedding.sources import Picture, Shard, read
from ledger.seeing import BATCH_PIXELS, BATCH_WORKS, Embedder, Pixels, describe
from ledger.snapshots import Encoders
from ledger.sources import BadFile, Facts
from models.errors import ImageError
from models.images import DecodedImage, Limits, encode_preview

PART_WORKS = 256  # in one file: about 30 MB, mostly local features; what a run loses at most when it is killed
KNOWN = "known"
_STATE = [pa.field("code", pa.string()), pa.field("detail", pa.string())]
DESCRIBED = pa.schema([*parts.WORK, *_STATE, pa.field("pixels", pa.large_binary())])

Claim = Callable[[bytes, Sequence[bytes]], Sequence[bool]]


@dataclass(frozen=True)
class Describing:
    """What it takes: the most bytes of a file, who decodes strangers' files, the local features, and what is to do."""

    max_bytes: int
    decode: Callable[[bytes], DecodedImage]
    features: Callable[[Sequence[Pixels]], Sequence[bytes]]
    claim: Claim


class Claims:
    """Which task does which work, so that each is done once, however often a task is tried. 16 bytes name a work."""

    def __init__(self, done: Iterable[bytes]) -> None:
        self._by = dict.fromkeys(done, b"")

    def claim(self, task: bytes, works: Sequence[bytes]) -> list[bool]:
        """Whether each work is for this task to do: nobody's so far, or its own from a time before it failed."""
        here: set[bytes] = set()
        ours = []
        for work in works:
            ours.append(self._by.setdefault(work, task) == task and work not in here)
            here.add(work)
        return ours


@dataclass
class Written:
    """What became of some pictures, or of all of a run: `known` ones were done before, or are in the source twice."""

    embedded: int = 0
    known: int = 0
    bad: list[BadFile] = field(default_factory=list)

    def add(self, other: "Written") -> None:
        self.embedded += other.embedded
        self.known += other.known
        self.bad += other.bad

    @property
    def met(self) -> int:
        return self.embedded + self.known + len(self.bad)


def described(shard: Shard, by: Describing) -> Iterator[pa.Table]:
    """Read and decode what is to do of a part of the source: tables as DESCRIBED, each of a batch at most."""
    held: list[Picture] = []
    for picture in read(shard, by.max_bytes):
        held.append(picture)
        if len(held) == BATCH_WORKS:
            yield from _described(held, by)
            held = []
    yield from _described(held, by)


def _described(pictures: Sequence[Picture], by: Describing) -> Iterator[pa.Table]:
    names = [work_name(each[0].artist, _sha256(each[1])) for each in pictures if not isinstance(each, BadFile)]
    said = [each.path if isinstance(each, BadFile) else each[0].name for each in pictures]
    task = hashlib.sha256("\0".join(said).encode() + b"".join(names)).digest()[:16]
    ours = iter(by.claim(task, names) if names else ())
    rows: list[dict[str, Any]] = []
    pixels = 0
    for each in pictures:
        row = _bad(each) if isinstance(each, BadFile) else _row(*each, by) if next(ours) else _known(each[0])
        rows.append(row)
        pixels += len(row.get("pixels", b"")) // 3
        if pixels >= BATCH_PIXELS:
            yield pa.Table.from_pylist(rows, DESCRIBED)
            rows, pixels = [], 0
    if rows:
        yield pa.Table.from_pylist(rows, DESCRIBED)


def _row(facts: Facts, data: bytes, by: Describing) -> dict[str, Any]:
    try:
        work, pixels = describe(facts, data, by.decode)
    except ImageError as error:
        return _bad(BadFile(facts.name, error.code, error.detail))
    [seen] = by.features([pixels])
    return {**parts.row_of(work), "features": seen, "preview": encode_preview(pixels), "pixels": pixels.tobytes()}


def _bad(bad: BadFile) -> dict[str, Any]:
    return {"source": bad.path, "code": bad.code, "detail": bad.detail}


def _known(facts: Facts) -> dict[str, Any]:
    return {"source": facts.name, "code": KNOWN}


def encoded(table: pa.Table, embedder: Embedder) -> pa.Table:
    """Put vectors in the place of pixels: a binary column for each encoder, (dim,) binary16 in each row."""
    images: dict[int, Pixels] = {}
    for number, (data, height, width) in enumerate(zip(table["pixels"], table["height"], table["width"], strict=True)):
        if data.is_valid:
            images[number] = np.frombuffer(data.as_buffer(), np.uint8).reshape(height.as_py(), width.as_py(), 3)
    columns: dict[str, list[bytes | None]] = {
        key: [None] * len(table) for key in embedder.encoders if key != embedder.method
    }
    for numbers in _batches(images):
        for key, rows in embedder.embed([images[number] for number in numbers]).items():
            for number, row in zip(numbers, rows.astype("<f2"), strict=True):
                columns[key][number] = row.tobytes()
    table = table.drop_columns(["pixels"])
    for key, column in columns.items():
        table = table.append_column(key, pa.array(column, pa.binary()))
    return table


def _batches(images: dict[int, Pixels]) -> Iterator[list[int]]:
    batch: list[int] = []
    pixels = 0
    for number, image in images.items():
        batch.append(number)
        pixels += image.size // 3
        if len(batch) >= BATCH_WORKS or pixels >= BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def written(table: pa.Table, place: Place, encoders: Encoders) -> Written:
    """Write the works of an encoded table as one file, and say what became of all of its rows."""
    works = table.filter(pc.is_null(table["code"]))
    if len(works):
        keys = [name for name in table.column_names if name in encoders]
        parts.write(place, works, {key: works[key].to_pylist() for key in keys}, encoders)
    others = table.filter(pc.is_valid(table["code"])).select(["source", "code", "detail"]).to_pylist()
    bad = [BadFile(row["source"], row["code"], row["detail"]) for row in others if row["code"] != KNOWN]
    return Written(len(works), len(others) - len(bad), bad)


def work_name(artist: str, file_sha256: str) -> bytes:
    """16 bytes that name a work: one file under one artist."""
    return hashlib.sha256(f"{artist}\0{file_sha256}".encode()).digest()[:16]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def finished(place: Place, encoders: Encoders) -> Iterator[bytes]:
    """The names of the works that the folder has. Raises Conflict where other encoders made them."""
    for _, theirs, works in parts.done(place):
        parts.check_encoders(theirs, encoders)
        yield from (work_name(*work) for work in works)


def in_process(shards: Sequence[Shard], place: Place, limit: int, embedder: Embedder) -> Iterator[Written]:
    """Do it all here, one part of the source after another; yields what became of each file's worth of pictures."""
    claims = Claims(finished(place, embedder.encoders))
    tables: list[pa.Table] = []
    with decoders(limit) as files:
        by = Describing(limit, files.decode, embedder.features, claims.claim)
        for shard in shards:
            for table in described(shard, by):
                tables.append(encoded(table, embedder))
                if sum(map(len, tables)) >= PART_WORKS:
                    yield written(pa.concat_tables(tables), place, embedder.encoders)
                    tables = []
    if tables:
        yield written(pa.concat_tables(tables), place, embedder.encoders)


def decoders(limit: int) -> Decoders:
    """One process that opens strangers' files, under limits of the kernel."""
    return Decoders(Limits(max_bytes=limit), at_once=1)
