"""Where works come from: a folder with a subfolder per artist, or a CSV or Parquet list. Decodes nothing."""

import csv
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import BadRequest
from models.errors import ImageError

COLUMNS = ("path", "artist", "title", "licence", "train", "compare", "name")
MAX_CELL_CHARS = 500
TRUE, FALSE = {"1", "true", "yes"}, {"0", "false", "no"}


@dataclass(frozen=True)
class Grants:
    """What an artist allows for a work: learn from it, search it (needed to protect it), show and credit it."""

    train: bool
    compare: bool
    name: bool


@dataclass(frozen=True)
class Facts:
    """What is said of one work; `name` is where in the source it stands, as it is shown and stored."""

    name: str
    artist: str
    title: str
    licence: str
    grants: Grants


@dataclass(frozen=True, kw_only=True)
class Listed(Facts):
    """One file to index; `name` is its path below the source."""

    path: Path


@dataclass(frozen=True)
class BadFile:
    path: str
    code: str
    detail: str


def list_works(source: Path, licence: str, grants: Grants) -> tuple[list[Listed], list[BadFile]]:
    """Every file to index in a stable order, and those that cannot be: no artist, outside the folder, a broken row.

    Raises BadRequest when `source` itself is missing or no such list.
    """
    if source.is_dir():
        rows = _from_folder(source, licence, grants)
    elif source.is_file():
        rows = _from_list(source, licence, grants)
    else:
        raise BadRequest(
            f"{_shown(source)} is neither a folder nor a file",
            code="source_missing",
            next_step="give a folder with a subfolder per artist, or a CSV or Parquet file",
        )
    listed: list[Listed] = []
    bad: list[BadFile] = []
    for row in rows:
        if isinstance(row, Listed):
            listed.append(row)
        else:
            bad.append(row)
    return listed, bad


def _from_folder(folder: Path, licence: str, grants: Grants) -> Iterator[Listed | BadFile]:
    """Hidden files are passed over; links are not followed, so that nothing outside the folder is read."""
    unreadable: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(files):
            if file.startswith("."):
                continue
            path = Path(parent, file)
            relative = path.relative_to(folder)
            name = _shown(relative)
            if path.is_symlink():
                yield BadFile(name, "link_not_followed", "links are not followed: put the file itself there")
            elif len(relative.parts) == 1:
                if path.suffix.lower() not in {".csv", ".parquet", ".txt", ".md", ".json"}:
                    yield BadFile(name, "artist_missing", "it lies in no artist's subfolder")
            else:
                artist, title = _shown(Path(relative.parts[0])), _shown(Path(path.stem))
                yield Listed(name, artist, title, licence, grants, path=path)
    for error in unreadable:
        yield BadFile(_shown(Path(error.filename or folder)), "folder_unreadable", f"{error.strerror}")


def _from_list(file: Path, licence: str, grants: Grants) -> Iterator[Listed | BadFile]:
    root = file.parent.resolve()
    for number, row in enumerate(_rows(file), start=2):
        path_text = (row.get("path") or "").strip()
        facts = facts_of(row, path_text or f"row {number}", f"row {number}", licence, grants)
        if isinstance(facts, BadFile):
            yield facts
            continue
        path = (root / path_text).resolve()
        if not path_text:
            yield BadFile(facts.name, "row_incomplete", f"row {number}: path and artist are needed")
        elif not path.is_relative_to(root):
            yield BadFile(facts.name, "path_outside", f"row {number}: the path leaves the folder of the list")
        else:
            title = facts.title or path.stem
            yield Listed(facts.name, facts.artist, title, facts.licence, facts.grants, path=path)


def facts_of(row: Mapping[str, str | None], name: str, place: str, licence: str, grants: Grants) -> Facts | BadFile:
    """What a row with these columns says of the work `name`; `licence` and `grants` stand where it says nothing.

    `place` is what the row is called where something is wrong with it. Without a title it is empty.
    """
    artist = (row.get("artist") or "").strip()
    if not artist:
        return BadFile(name, "row_incomplete", f"{place}: an artist is needed")
    if bad := bad_cell(row):
        return BadFile(place, "row_malformed", f"{place}: {bad}")
    try:
        allowed = Grants(
            train=_flag(row.get("train"), grants.train),
            compare=_flag(row.get("compare"), grants.compare),
            name=_flag(row.get("name"), grants.name),
        )
    except ValueError as error:
        return BadFile(name, "grant_malformed", f"{place}: {error}")
    title, said = (row.get("title") or "").strip(), (row.get("licence") or "").strip()
    return Facts(name, artist, title, said or licence, allowed)


def bad_cell(row: Mapping[str, str | None]) -> str | None:
    """What is wrong with a row's text, or None: the database indexes names, and a page has to show them."""
    for column in COLUMNS:
        text = row.get(column) or ""
        if len(text) > MAX_CELL_CHARS:
            return f"{column} has {len(text)} characters, at most {MAX_CELL_CHARS}"
        if column != "path" and not text.isprintable():
            return f"{column} holds a control character"
        if "\0" in text:
            return f"{column} holds a NUL"
    return None


def _rows(file: Path) -> Iterator[Mapping[str, str | None]]:
    if file.suffix.lower() == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            names = pyarrow.parquet.read_schema(file).names
            table = pyarrow.parquet.read_table(file, columns=[name for name in COLUMNS if name in names])
        except (pyarrow.ArrowException, OSError) as error:
            raise _no_list(file, str(error)) from error
        _check_columns(file, table.column_names)
        for row in table.to_pylist():
            yield {key: None if value is None else str(value) for key, value in row.items()}
        return
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            _check_columns(file, reader.fieldnames or [])
            yield from reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise _no_list(file, str(error)) from error


def _check_columns(file: Path, columns: object) -> None:
    names = set(columns) if isinstance(columns, list | tuple) else set()
    if missing := [name for name in ("path", "artist") if name not in names]:
        raise _no_list(file, f"the column {missing[0]!r} is missing")


def _no_list(file: Path, why: str) -> BadRequest:
    return BadRequest(
        f"{_shown(file)} is no list of works: {why[:200]}",
        code="list_unreadable",
        next_step=f"give a UTF-8 CSV or a Parquet file with path and artist, and optionally {', '.join(COLUMNS[2:])}",
    )


def _flag(text: str | None, default: bool) -> bool:
    value = (text or "").strip().lower()
    if not value:
        return default
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise ValueError(f"a grant is yes or no, not {value[:20]!r}")


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of an ordinary file of at most `limit` bytes. Raises ImageError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("it is no ordinary file", code="file_unreadable", next_step="put a copy of the file there")
        size = status.st_size
        if size > limit:
            raise ImageError(
                f"{size} bytes, at most {limit}",
                code="image_too_large",
                next_step="raise LAWFUL_MAX_UPLOAD_BYTES or shrink it",
            )
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"cannot be read: {error.strerror}", code="file_unreadable", next_step="check its permissions"
        ) from error


def _shown(path: Path) -> str:
    """A name the database and a terminal can hold: bytes that are no UTF-8 become replacement characters."""
    return os.fsencode(path).decode("utf-8", "replace")
