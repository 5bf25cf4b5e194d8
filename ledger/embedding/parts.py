"""Parquet files of works that were looked at: what `lawful embed` writes and `lawful index --embedded` reads.

A file holds some hundred works, a row each: what is said of the work, its fingerprints, local features, a small
picture, and a vector for each encoder as a fixed-size list of binary16, in a column that is called by the encoder's
key. The schema's metadata names the encoders with the digests of their weights. A file is complete under its name,
the SHA-256 of the works in it, or not there.
"""

import hashlib
import posixpath
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from attribution.fingerprints import Fingerprints
from ledger.errors import BadRequest, Conflict
from ledger.seeing import Described, Seen
from ledger.snapshots import Encoders
from ledger.sources import BadFile, Facts, Grants, bad_cell

METADATA = b"lawful-ledger/embeddings/1"
SUFFIX = ".parquet"
NAME = re.compile(r"[0-9a-f]{64}\.parquet")
PASSING = re.compile(r"\.[0-9a-f]{64}\.parquet\.[0-9a-f-]{36}")
READ_WORKS = 256
LONGEST_OFF = 0.01  # a vector of length one, rounded to binary16, is nearer to it than that

FACTS = [("source", pa.string()), ("artist", pa.string()), ("title", pa.string()), ("licence", pa.string())]
GRANTS = [(name, pa.bool_()) for name in ("train", "compare", "name")]
TEXTS = ("file_sha256", "pixel_sha256", "iscc", "iscc_instance", "pdq")
FOUND = [(name, pa.string()) for name in TEXTS] + [(name, pa.int32()) for name in ("pdq_quality", "width", "height")]
WORK = pa.schema([*FACTS, *GRANTS, *FOUND, ("features", pa.binary()), ("preview", pa.binary())])


@dataclass(frozen=True)
class Place:
    """A folder of such files, here or in a bucket."""

    files: fs.FileSystem
    folder: str

    def path(self, name: str) -> str:
        return posixpath.join(self.folder, name)


@dataclass(frozen=True)
class Header:
    encoders: Encoders
    works: int


def located(place: str) -> Place:
    """A folder of this machine, or `s3://bucket/folder` and whatever else Arrow knows. Raises BadRequest."""
    if "://" not in place:
        return Place(fs.LocalFileSystem(), str(Path(place).resolve()))
    try:
        return Place(*fs.FileSystem.from_uri(place))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadRequest(
            f"{place[:200]} cannot be opened: {str(error)[:200]}",
            code="place_unreadable",
            next_step="give a folder, or s3://BUCKET/FOLDER with the keys where AWS's own programs look for them",
        ) from error


def names(place: Place) -> list[str]:
    """The files that are there, in a stable order; whatever has another kind of name is somebody else's."""
    found = place.files.get_file_info(fs.FileSelector(place.folder, allow_not_found=True))
    return sorted(each.base_name for each in found if NAME.fullmatch(each.base_name))


def header(place: Place, name: str) -> Header:
    """What a file says of itself. Raises BadRequest `embeddings_unreadable`."""
    with _opened(place, name) as file:
        schema = file.schema_arrow
        try:
            encoders = msgspec.json.decode(schema.metadata[METADATA], type=dict[str, dict[str, str]])
        except (KeyError, TypeError, msgspec.MsgspecError) as error:
            raise _unreadable(name, "it was not written by `lawful embed`") from error
        wanted = [(field.name, field.type) for field in WORK]
        if [(field.name, field.type) for field in schema][: len(wanted)] != wanted:
            raise _unreadable(name, "its columns are others")
        for field in list(schema)[len(wanted) :]:
            if field.name not in encoders or not pa.types.is_fixed_size_list(field.type):
                raise _unreadable(name, f"the column {field.name[:100]} is no encoder's")
        return Header(encoders, file.metadata.num_rows)


def check_encoders(theirs: Encoders, ours: Encoders) -> None:
    """Raises Conflict unless the same weights made both: names, and the whole digest of each."""
    differ = sorted(key for key in theirs.keys() | ours.keys() if _identity(theirs, key) != _identity(ours, key))
    if differ:
        raise Conflict(
            f"these embeddings were made with other encoders; they differ in {', '.join(differ)[:300]}",
            code="embeddings_of_other_encoders",
            next_step="use the profile and weights that made them, or embed the works again into an empty folder",
        )


def done(place: Place) -> Iterator[tuple[str, Encoders, list[tuple[str, str]]]]:
    """(name, encoders, (artist, file sha256) of each work) of every file.

    What a run that was killed left unfinished is deleted, and a file that cannot be read.
    """
    for each in place.files.get_file_info(fs.FileSelector(place.folder, allow_not_found=True)):
        if PASSING.fullmatch(each.base_name):
            place.files.delete_file(each.path)
    for name in names(place):
        try:
            said = header(place, name)
            with _opened(place, name) as file:
                table = file.read(columns=["artist", "file_sha256"])
        except BadRequest:
            place.files.delete_file(place.path(name))
            continue
        yield name, said.encoders, list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def write(place: Place, works: pa.Table, vectors: Mapping[str, Sequence[bytes]], encoders: Encoders) -> None:
    """Write n works of the columns of WORK, and encoder key → n vectors as binary16 bytes, as one file.

    The same works make a file of the same name.
    """
    metadata = {METADATA: msgspec.json.encode(encoders)}
    fields, columns = list(WORK), works.select(WORK.names).columns
    for key, rows in vectors.items():
        values = pa.array(np.frombuffer(b"".join(rows), "<f2"))
        column = pa.FixedSizeListArray.from_arrays(values, len(rows[0]) // 2)
        fields.append(pa.field(key, column.type))
        columns.append(column)
    digest = hashlib.sha256()
    for artist, file in zip(works["artist"].to_pylist(), works["file_sha256"].to_pylist(), strict=True):
        digest.update(f"{artist}\0{file}\n".encode())
    name = digest.hexdigest() + SUFFIX
    passing = place.path(f".{name}.{uuid.uuid4()}")
    table = pa.table(columns, pa.schema(fields, metadata))
    place.files.create_dir(place.folder)
    with place.files.open_output_stream(passing) as out:
        pq.write_table(table, out, row_group_size=READ_WORKS, compression="NONE", write_page_checksum=True)
    place.files.move(passing, place.path(name))


def read(
    place: Place, name: str, is_wanted: Callable[[Described], bool], bad: list[BadFile]
) -> Iterator[tuple[list[Described], Seen]]:
    """The wanted works of a file with what was seen in them, some hundred at a time; the unusable go to `bad`.

    Raises BadRequest `embeddings_unreadable`.
    """
    method_free = [field.name for field in WORK if field.name not in ("features", "preview")]
    with _opened(place, name) as file:
        keys = file.schema_arrow.names[len(WORK) :]
        try:
            for batch in file.iter_batches(READ_WORKS):
                vectors = {key: _rows(batch[key]) for key in keys}
                usable = np.logical_and.reduce([_is_unit(rows) for rows in vectors.values()])
                works, kept = list[Described](), list[int]()
                for number, row in enumerate(batch.select(method_free).to_pylist()):
                    work = (
                        _work(row)
                        if usable[number]
                        else BadFile(str(row["source"]), "vector_unusable", "not of length one")
                    )
                    if isinstance(work, BadFile):
                        bad.append(work)
                    elif is_wanted(work):
                        works.append(work)
                        kept.append(number)
                if works:
                    features, previews = (
                        batch[key].take(pa.array(kept)).to_pylist() for key in ("features", "preview")
                    )
                    yield (
                        works,
                        Seen({key: rows[kept].astype(np.float32) for key, rows in vectors.items()}, features, previews),
                    )
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(name, str(error)[:200]) from error


def row_of(work: Described) -> dict[str, Any]:
    """The columns of WORK that say what a work is."""
    facts = work.facts
    said = {"source": facts.name, "artist": facts.artist, "title": facts.title, "licence": facts.licence}
    return {**said, **asdict(facts.grants), **msgspec.to_builtins(work.found)}


def _work(row: Mapping[str, Any]) -> Described | BadFile:
    """Back again, and as strict as with a list: somebody else may have made the file."""
    said = {key: row[key] for key in ("artist", "title", "licence")}
    try:
        wrong = bad_cell({**said, "path": row["source"]})
        if wrong or not row["artist"]:
            return BadFile(str(row["source"])[:200], "row_malformed", wrong or "an artist is needed")
        grants = Grants(*(msgspec.convert(row[name], bool) for name, _ in GRANTS))
        found = msgspec.convert({name: row[name] for name, _ in FOUND}, Fingerprints)
        for digest in (found.file_sha256, found.pixel_sha256, found.pdq):
            if len(bytes.fromhex(digest)) != hashlib.sha256().digest_size:
                raise ValueError("a digest of another length")
        return Described(Facts(row["source"], row["artist"], row["title"], row["licence"], grants), found)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        return BadFile(str(row["source"])[:200], "row_malformed", str(error)[:200])


def _opened(place: Place, name: str) -> pq.ParquetFile:
    try:
        source = place.files.open_input_file(place.path(name))
        return pq.ParquetFile(source, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(name, str(error)[:200]) from error


def _rows(column: pa.FixedSizeListArray) -> NDArray[np.float16]:
    """(n, dim); a row that is missing becomes NaN."""
    filled = pc.if_else(column.is_valid(), column, pa.scalar([float("nan")] * column.type.list_size, column.type))
    rows: NDArray[np.float16] = filled.flatten().to_numpy(zero_copy_only=False)
    return rows.reshape(len(column), column.type.list_size)


def _is_unit(rows: NDArray[np.float16]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(np.linalg.norm(rows.astype(np.float32), axis=1) - 1) < LONGEST_OFF)


def _identity(encoders: Encoders, key: str) -> tuple[str, str] | None:
    said = encoders.get(key)
    return None if said is None else (said.get("name", ""), said.get("weights_sha256", ""))


def _unreadable(name: str, why: str) -> BadRequest:
    return BadRequest(
        f"{name[:100]} holds no embeddings: {why}",
        code="embeddings_unreadable",
        next_step="give the folder that `lawful embed` wrote; run it again to write what is missing",
    )
