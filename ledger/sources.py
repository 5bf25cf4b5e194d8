"""Where works come from: a folder with a subfolder per artist, or a CSV or Parquet list. Reads names, not pixels."""

import csv
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import BadRequest

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
class Listed:
    """One file to index; `name` is its path below the source, as it is shown and stored."""

    path: Path
    name: str
    artist: str
    title: str
    licence: str
    grants: Grants


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
                yield Listed(path, name, _shown(Path(relative.parts[0])), _shown(Path(path.stem)), licence, grants)
    for error in unreadable:
        yield BadFile(_shown(Path(error.filename or folder)), "folder_unreadable", f"{error.strerror}")


def _from_list(file: Path, licence: str, grants: Grants) -> Iterator[Listed | BadFile]:
    root = file.parent.resolve()
    for number, row in enumerate(_rows(file), start=2):
        path_text, artist = (row.get("path") or "").strip(), (row.get("artist") or "").strip()
        name = path_text or f"row {number}"
        if not path_text or not artist:
            yield BadFile(name, "row_incomplete", f"row {number}: path and artist are needed")
            continue
        if bad := _bad_cell(row):
            yield BadFile(f"row {number}", "row_malformed", f"row {number}: {bad}")
            continue
        path = (root / path_text).resolve()
        if not path.is_relative_to(root):
            yield BadFile(name, "path_outside", f"row {number}: the path leaves the folder of the list")
            continue
        try:
            yield Listed(
                path=path,
                name=name,
                artist=artist,
                title=(row.get("title") or "").strip() or path.stem,
                licence=(row.get("licence") or "").strip() or licence,
                grants=Grants(
                    train=_flag(row.get("train"), grants.train),
                    compare=_flag(row.get("compare"), grants.compare),
                    name=_flag(row.get("name"), grants.name),
                ),
            )
        except ValueError as error:
            yield BadFile(name, "grant_malformed", f"row {number}: {error}")


def _bad_cell(row: Mapping[str, str | None]) -> str | None:
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


def _shown(path: Path) -> str:
    """A name the database and a terminal can hold: bytes that are no UTF-8 become replacement characters."""
    return os.fsencode(path).decode("utf-8", "replace")
