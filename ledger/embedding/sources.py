"""What there is to look at, in parts that one task reads: files of a folder or a list, Parquet files with the pictures
in them, tar files as WebDataset has them. Parquet and tar files may lie in a bucket."""

import json
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from ledger.embedding.parts import Place, located
from ledger.errors import BadRequest
from ledger.sources import BadFile, Facts, Grants, facts_of, list_works, read_file
from models.errors import ImageError

FILES = 256  # of a folder or list in one part
PICTURES = 32  # of a Parquet file held at a time
MOST_SAID = 1 << 20  # bytes of a tar file's JSON about one picture
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")

Picture = tuple[Facts, bytes] | BadFile


class Terms(msgspec.Struct, frozen=True):
    """What holds for works of which the source says nothing else."""

    licence: str
    grants: Grants


class Files(msgspec.Struct, frozen=True, tag=True):
    """Ordinary files, each with what is said of it."""

    works: tuple[tuple[str, Facts], ...]


class RowGroup(msgspec.Struct, frozen=True, tag=True):
    """One row group of a Parquet file with the columns image and artist."""

    file: str
    number: int
    terms: Terms


class Tar(msgspec.Struct, frozen=True, tag=True):
    """A tar file: `artist/picture.jpg`, or `picture.jpg` beside `picture.json` with at least the artist."""

    file: str
    terms: Terms


Shard = Files | RowGroup | Tar


def shards(source: str, terms: Terms) -> tuple[list[Shard], list[BadFile]]:
    """The parts of a source, and what of it cannot be used.

    `source` is what `lawful index` takes, or a Parquet or tar file with the pictures in it, or a folder of those; with
    `s3://…` only the latter. Raises BadRequest `source_missing`, `list_unreadable`, `place_unreadable`.
    """
    files = _containers(source)
    if files:
        return [shard for file in files for shard in _of_container(file, terms)], []
    listed, bad = list_works(Path(source), terms.licence, terms.grants)
    works = [(str(each.path), Facts(each.name, each.artist, each.title, each.licence, each.grants)) for each in listed]
    return [Files(tuple(works[first : first + FILES])) for first in range(0, len(works), FILES)], bad


def read(shard: Shard, limit: int) -> Iterator[Picture]:
    """The pictures of a part, as they stand in their files. One of more than `limit` bytes is passed over."""
    match shard:
        case Files(works):
            for path, facts in works:
                try:
                    yield facts, read_file(Path(path), limit)
                except ImageError as error:
                    yield BadFile(facts.name, error.code, error.detail)
        case RowGroup(file, number, terms):
            yield from _from_rows(file, number, terms, limit)
        case Tar(file, terms):
            yield from _from_tar(file, terms, limit)


def _containers(source: str) -> list[str]:
    """The Parquet files with pictures and the tar files that a source is or has directly in it."""
    if "://" not in source and not Path(source).is_dir():
        return [source] if Path(source).is_file() and (_is_tar(source) or _has_pictures(source)) else []
    place = located(source)
    root = source.rstrip("/")
    if _is_tar(root) or root.endswith(".parquet"):
        return [root]
    found = place.files.get_file_info(fs.FileSelector(place.folder, allow_not_found=True))
    names = sorted(each.base_name for each in found if each.is_file and not each.base_name.startswith("."))
    files = [posixpath.join(root, name) for name in names]
    chosen = [file for file in files if _is_tar(file) or (file.endswith(".parquet") and _has_pictures(file))]
    if not chosen and "://" in source:
        raise BadRequest(
            f"{source[:200]} holds no Parquet and no tar file",
            code="source_missing",
            next_step="give a folder of a bucket with Parquet or tar files directly in it",
        )
    return chosen


def _is_tar(file: str) -> bool:
    return file.lower().endswith(TAR_SUFFIXES)


def _has_pictures(file: str) -> bool:
    if not file.lower().endswith(".parquet"):
        return False
    with _parquet(file) as table:
        return {"image", "artist"} <= set(table.schema_arrow.names)


def _of_container(file: str, terms: Terms) -> Iterator[Shard]:
    if _is_tar(file):
        yield Tar(file, terms)
        return
    with _parquet(file) as table:
        groups = table.num_row_groups
    yield from (RowGroup(file, number, terms) for number in range(groups))


def _at(file: str) -> tuple[Place, str]:
    folder, _, name = file.rpartition("/")
    return located(folder or ("/" if file.startswith("/") else ".")), name


def _parquet(file: str) -> pq.ParquetFile:
    place, name = _at(file)
    try:
        return pq.ParquetFile(place.files.open_input_file(place.path(name)))
    except (pa.ArrowException, OSError) as error:
        raise BadRequest(
            f"{name[:200]} is no Parquet file: {str(error)[:200]}",
            code="list_unreadable",
            next_step="fetch it again, or take it out of the folder",
        ) from error


def _from_rows(file: str, group: int, terms: Terms, limit: int) -> Iterator[Picture]:
    short = file.rpartition("/")[2]
    with _parquet(file) as table:
        present = [name for name in (*_said_columns(), "image") if name in table.schema_arrow.names]
        named = _artist_names(table.schema_arrow)
        number = 0
        for batch in table.iter_batches(PICTURES, row_groups=[group], columns=present):
            for row in batch.to_pylist():
                name = f"{short}#{group}.{number}"
                number += 1
                image = row.pop("image")
                data = image.get("bytes") if isinstance(image, Mapping) else image
                said = {key: None if value is None else str(value) for key, value in row.items()}
                said["artist"] = named(row["artist"])
                yield _picture(said, name, data, terms, limit)


def _said_columns() -> tuple[str, ...]:
    return ("artist", "title", "licence", "train", "compare", "name")


def _artist_names(schema: pa.Schema) -> Callable[[Any], str | None]:
    """How the column `artist` is read: as text, or by the names of Hugging Face's ClassLabel in the metadata."""
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = about.get("info", {}).get("features", {}).get("artist", {})
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None

    def named(value: Any) -> str | None:
        if value is None or names is None or not isinstance(value, int):
            return None if value is None else str(value)
        return str(names[value]) if 0 <= value < len(names) else None

    return named


def _from_tar(file: str, terms: Terms, limit: int) -> Iterator[Picture]:
    """Members of one picture stand side by side and share their name up to the suffix; nothing is unpacked to disk."""
    place, short = _at(file)
    with place.files.open_input_stream(place.path(short), compression=None) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|*") as tar:
                key, said, found = "", dict[str, str | None](), list[tuple[str, bytes | None]]()
                for member in tar:
                    if not member.isfile():
                        continue
                    stem, suffix = posixpath.splitext(member.name)
                    if stem != key:
                        yield from _members(short, found, said, terms, limit)
                        key, said, found = stem, {}, []
                    if suffix.lower() in PICTURE_SUFFIXES:
                        found.append((member.name, _content(tar, member, limit)))
                    elif suffix.lower() == ".json":
                        said = _said(_content(tar, member, MOST_SAID))
                yield from _members(short, found, said, terms, limit)
        except (tarfile.TarError, OSError, EOFError) as error:
            yield BadFile(short, "file_unreadable", f"the tar file ends or breaks: {str(error)[:200]}")


def _members(
    short: str, found: list[tuple[str, bytes | None]], said: dict[str, str | None], terms: Terms, limit: int
) -> Iterator[Picture]:
    for name, data in found:
        folder = PurePosixPath(name).parent.name
        row = {**said, "artist": said.get("artist") or folder, "title": said.get("title") or PurePosixPath(name).stem}
        yield _picture(row, f"{short}/{name}", data, terms, limit)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, limit: int) -> bytes | None:
    """The bytes of a member, None where they are more than `limit`."""
    handle = tar.extractfile(member) if member.size <= limit else None
    return None if handle is None else handle.read()


def _said(content: bytes | None) -> dict[str, str | None]:
    try:
        about = json.loads(content or b"{}")
    except ValueError:
        return {}
    if not isinstance(about, dict):
        return {}
    return {key: str(about[key]) for key in _said_columns() if about.get(key) is not None}


def _picture(said: Mapping[str, str | None], name: str, data: bytes | None, terms: Terms, limit: int) -> Picture:
    facts = facts_of(said, name, name, terms.licence, terms.grants)
    if isinstance(facts, BadFile):
        return facts
    if not data:
        return BadFile(name, "image_empty", f"there is no picture, or one of more than {limit} bytes")
    return facts, data
