"""Immutable files of vectors, opened by mapping them into memory: `<sha256>.vectors`, a segment of a collection.

    4096 bytes   "lawful-ledger/vectors/1" LF, u32be length, that many bytes of JSON, zeros, SHA-256 of the 4064 before
    ids          one work id (UTF-8) per row in id_bytes bytes, filled up with zeros; strictly increasing as bytes;
                 then zeros up to a multiple of 64
    vectors      rows x dim IEEE 754 binary16, little-endian

The JSON holds encoder, dim, rows, id_bytes and the SHA-256 of each of the two sections, so the digest at the end of the
first block commits to every byte, and names the file. Binary16 moves the cosine of two unit vectors by some 1e-5.

A file is complete under its name or does not exist: it is written under another name, flushed to disk, and renamed.
Nothing here changes a file; whoever has mapped one may go on reading after it was deleted (POSIX).
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from attribution.errors import VectorError

MAGIC = b"lawful-ledger/vectors/1\n"
SUFFIX = ".vectors"
HEADER_BYTES = 4096
DIGEST_BYTES = 32
ALIGNMENT = 64
MAX_ID_BYTES = 255
MAX_ENCODER_CHARACTERS = 200
BLOCK_BYTES = 1 << 24
PARTIAL = ".partial"
REBUILD = "Delete it: it is written again from the stored vectors."

Kind = TypeVar("Kind", bound=msgspec.Struct)


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the JSON of a file says. `encoder` is `models.networks.encoder_key`; digests are lower-case hex."""

    encoder: str
    dim: int
    rows: int
    id_bytes: int
    ids_sha256: str
    vectors_sha256: str
    dtype: Literal["<f2"] = "<f2"

    @property
    def ids_end(self) -> int:
        return HEADER_BYTES + -(-self.rows * self.id_bytes // ALIGNMENT) * ALIGNMENT

    @property
    def file_bytes(self) -> int:
        return self.ids_end + self.rows * self.dim * 2


@dataclass(frozen=True)
class Segment:
    """A mapped file. `ids` is (n,) bytes, increasing; `vectors` (n, d) float16; both read from disk when touched."""

    name: str
    header: Header
    ids: NDArray[np.bytes_]
    vectors: NDArray[np.float16]

    def __len__(self) -> int:
        return self.header.rows

    def find(self, ids: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """Return the row of each of (m,) ids, -1 where this file has none."""
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[at] == ids, at, -1).astype(np.int64)


def write_segment(folder: Path, encoder: str, ids: NDArray[np.bytes_], blocks: Iterable[NDArray[np.float16]]) -> str:
    """Write a row for each of (n,) increasing work ids and return the file's name: 64 hex digits.

    `blocks` are (b, d) float16 and together n rows, in the order of the ids; one at a time is held. Durable on return;
    the same rows give the same file, so writers of the same file do each other no harm. Raises VectorError for no
    rows, ids that are not in order or occur twice, and rows that are not finite; OSError when the disk is full.
    """
    if not 0 < len(encoder) <= MAX_ENCODER_CHARACTERS:
        raise VectorError(
            f"an encoder's key of {len(encoder)} characters",
            code="vectors_encoder_key",
            next_step=f"Give 1 to {MAX_ENCODER_CHARACTERS} characters, as models.networks.encoder_key does.",
        )
    if len(repeated := ids[1:][ids[1:] <= ids[:-1]]):
        raise _out_of_order(repeated[0])
    section = ids.tobytes().ljust(-(-ids.nbytes // ALIGNMENT) * ALIGNMENT, b"\0")
    with unfinished_file(folder) as file:
        file.write(bytes(HEADER_BYTES))
        file.write(section)
        digest, rows, dim = hashlib.sha256(), 0, 0
        for block in blocks:
            _check(block, dim)
            rows, dim = rows + len(block), block.shape[1]
            file.write(np.ascontiguousarray(block).data)
            digest.update(np.ascontiguousarray(block).data)
        if rows != len(ids) or not rows:
            raise VectorError(
                f"{len(ids)} ids and {rows} vectors make no segment",
                code="vectors_shape",
                next_step="Give one row of the encoder's width for each work, and at least one.",
            )
        header = Header(
            encoder=encoder,
            dim=dim,
            rows=rows,
            id_bytes=ids.dtype.itemsize,
            ids_sha256=hashlib.sha256(section).hexdigest(),
            vectors_sha256=digest.hexdigest(),
        )
        first = header_block(MAGIC, header)
        file.seek(0)
        file.write(first)
        name = first[-DIGEST_BYTES:].hex()
        publish(file, folder / f"{name}{SUFFIX}")
    return name


def open_segment(folder: Path, name: str, *, encoder: str) -> Segment:
    """Map `<name>.vectors` of `folder`, rows of the encoder with the key `encoder`.

    Every byte is read against the digests (about a second for each GB), the ids for their order and the vectors for
    being finite; what the disk changes afterwards goes unnoticed. Raises VectorError.
    """
    path = folder / f"{name}{SUFFIX}"
    try:
        raw: NDArray[np.uint8] = np.memmap(path, np.uint8, mode="r")
    except FileNotFoundError:
        raise VectorError(
            f"{path.name} is not there",
            code="vectors_missing",
            next_step="Ask for the collection's vectors again; files that are gone are written again.",
        ) from None
    except ValueError:  # numpy maps no empty file
        raise cut_short(path, 0, HEADER_BYTES) from None
    header = _sized_header(path, raw)
    if header.encoder != encoder:
        raise VectorError(
            f"{path.name} holds vectors of {header.encoder}, and {encoder} is asked for",
            code="vectors_of_another_encoder",
            next_step=REBUILD,
        )
    ids = raw[HEADER_BYTES : HEADER_BYTES + header.rows * header.id_bytes].view(f"S{header.id_bytes}")
    vectors = raw[header.ids_end :].view("<f2").reshape(header.rows, header.dim)
    _verify(path, raw, header, ids, vectors)
    return Segment(name, header, ids, vectors)


def as_names(ids: Sequence[str]) -> NDArray[np.bytes_]:
    """Return (n,) bytes of work ids. Raises VectorError for an id that a file cannot hold."""
    encoded = [name.encode() for name in ids]
    for name in encoded:
        if not 0 < len(name) <= MAX_ID_BYTES or b"\0" in name:
            raise VectorError(
                f"a work id of {len(name)} bytes, with {name.count(0)} NUL",
                code="vectors_work_id",
                next_step=f"Name every work in 1 to {MAX_ID_BYTES} bytes of UTF-8 without NUL.",
            )
    return np.array(encoded, np.bytes_)


def header_block(magic: bytes, header: msgspec.Struct) -> bytes:
    """Return the first 4096 bytes of a file; the last 32 are the digest that names it."""
    text = msgspec.json.encode(header)
    block = (magic + len(text).to_bytes(4, "big") + text).ljust(HEADER_BYTES - DIGEST_BYTES, b"\0")
    assert len(block) == HEADER_BYTES - DIGEST_BYTES
    return block + hashlib.sha256(block).digest()


def read_header(path: Path, block: bytes, magic: bytes, kind: type[Kind]) -> Kind:
    """Return what `header_block` wrote, from the first bytes of `<sha256>.*`. Raises VectorError."""
    if len(block) < HEADER_BYTES:
        raise cut_short(path, len(block), HEADER_BYTES)
    if not block.startswith(magic):
        raise VectorError(f"{path.name} is of another kind", code="vectors_foreign", next_step=REBUILD)
    digest = hashlib.sha256(block[:-DIGEST_BYTES]).digest()
    if digest != block[-DIGEST_BYTES:] or digest.hex() != path.stem:
        raise altered(path, "the first block")
    start = len(magic) + 4
    length = int.from_bytes(block[len(magic) : start], "big")
    try:
        return msgspec.json.decode(block[start : start + length], type=kind)
    except msgspec.MsgspecError as error:  # its digest is right: written so by another program or version
        raise VectorError(
            f"the header of {path.name} is of another form: {error}", code="vectors_foreign", next_step=REBUILD
        ) from None


@contextmanager
def unfinished_file(folder: Path) -> Iterator[IO[bytes]]:
    """Open a file under a passing name; it is gone afterwards unless `publish` gave it another."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=PARTIAL, delete=False) as file:
        try:
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)


def publish(file: IO[bytes], path: Path) -> None:
    """Give an unfinished file its name once the disk holds all of it; an equal file of that name is replaced."""
    file.flush()
    os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def cut_short(path: Path, have: int, need: int) -> VectorError:
    """Return the error for a file of too few bytes."""
    return VectorError(
        f"{path.name} is cut short: {have:,} of {need:,} bytes", code="vectors_cut_short", next_step=REBUILD
    )


def altered(path: Path, what: str) -> VectorError:
    """Return the error for a file whose digests do not agree with it."""
    return VectorError(f"{path.name} is not what its name says: {what}", code="vectors_altered", next_step=REBUILD)


def _check(block: NDArray[np.float16], dim: int) -> None:
    if block.ndim != 2 or block.dtype != np.dtype("<f2") or (dim and block.shape[1] != dim) or not block.shape[1]:
        raise VectorError(
            f"vectors of shape {block.shape} {block.dtype} in a file of width {dim or 'to be seen'}",
            code="vectors_shape",
            next_step="Give (b, d) float16 blocks of one width.",
        )
    if not np.isfinite(block).all():
        raise VectorError(
            f"{int((~np.isfinite(block)).any(axis=1).sum())} vectors are not finite in binary16",
            code="vectors_not_finite",
            next_step="Encode those works again; an encoder's rows have unit length.",
        )


def _sized_header(path: Path, raw: NDArray[np.uint8]) -> Header:
    header = read_header(path, raw[:HEADER_BYTES].tobytes(), MAGIC, Header)
    if min(header.dim, header.rows, header.id_bytes) < 1 or header.id_bytes > MAX_ID_BYTES:
        raise VectorError(f"{path.name} says that it holds nothing", code="vectors_foreign", next_step=REBUILD)
    if len(raw) < header.file_bytes:
        raise cut_short(path, len(raw), header.file_bytes)
    if len(raw) > header.file_bytes:
        raise altered(path, f"{len(raw) - header.file_bytes} bytes behind the last row")
    return header


def _verify(
    path: Path, raw: NDArray[np.uint8], header: Header, ids: NDArray[np.bytes_], vectors: NDArray[np.float16]
) -> None:
    if hashlib.sha256(raw[HEADER_BYTES : header.ids_end].data).hexdigest() != header.ids_sha256:
        raise altered(path, "the ids")
    if len(repeated := ids[1:][ids[1:] <= ids[:-1]]):
        raise _out_of_order(repeated[0])
    digest, finite = hashlib.sha256(), True
    step = max(1, BLOCK_BYTES // (2 * header.dim))
    for first in range(0, header.rows, step):
        block = vectors[first : first + step]
        digest.update(block.data)
        finite = finite and bool(np.isfinite(block).all())
    if digest.hexdigest() != header.vectors_sha256:
        raise altered(path, "the vectors")
    if not finite:
        raise VectorError(
            f"{path.name} holds vectors that are not finite", code="vectors_not_finite", next_step=REBUILD
        )


def _out_of_order(name: bytes) -> VectorError:
    return VectorError(
        f"the work ids are not in strictly increasing order at {name.decode(errors='replace')!r}",
        code="vectors_out_of_order",
        next_step="Give every work once.",
    )
