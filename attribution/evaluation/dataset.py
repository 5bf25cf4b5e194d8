"""A collection to measure on: who made each picture, and which pictures show the same thing.

Read from a folder (the folder that holds a picture is its artist, the folders above that are its group), from Parquet
files with the columns of the WikiArt set on the Hugging Face hub (`huggan/wikiart`), or drawn by the atelier.

Where the files of a group are named alike by its artists (emoji code points), the name is the *content*: pictures of
equal content show the same thing in several hands, and no suite counts one as a false match for another.
"""

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.reference import codes
from models.containers import read_container
from models.errors import ImageError, ModelError
from models.images import Limits, decode

Pixels = NDArray[np.uint8]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
LIMITS = Limits()
DIGEST_DOMAIN = b"lawful-ledger/dataset/1\0"
FILLED = 0.8  # of the grid artists x names: from here on, equal names mean equal content
NUMBERED = re.compile(r"(\D*)\d+")
MAX_NUMBERED_PREFIXES = 2  # "lj_1, lj_2, gi_1": numbering; "heron-1, boat-1, tree-1": names


@lru_cache(maxsize=1)
def _same_works() -> dict[str, str]:
    """Digest of a file → that of the first file known to show the same."""
    groups = json.loads((Path(__file__).parent / "same_works.json").read_bytes())
    return {digest: group[0] for group in groups for digest in group}


class DatasetError(ModelError):
    """The collection to measure on cannot be read, or is not enough for what was asked."""

    code = "dataset_unreadable"
    status = 422


@dataclass(frozen=True)
class File:
    """A picture in a file."""

    path: Path

    def data(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True)
class Cell:
    """A picture in a Parquet file: the `bytes` of its `image` column at one row of one row group."""

    path: Path
    row_group: int
    row: int

    def data(self) -> bytes:
        return bytes(_images_of(self.path, self.row_group)[self.row])


@dataclass(frozen=True)
class Drawn:
    """A picture that the atelier draws: no file, the same pixels every time."""

    studio: str
    subject: str
    variant: int
    size: int


@dataclass(frozen=True)
class Item:
    """One picture. `content`: what it shows, where several artists drew the same; `sha256` (hex) is that of its file.

    `group` is the folder above the artist's ("paintings"), "" where there is none.
    """

    artist: str
    content: str | None
    name: str
    group: str
    sha256: str
    source: File | Cell | Drawn = field(repr=False)

    def pixels(self) -> Pixels:
        """Return (h, w, 3) uint8 canonical RGB, decoded anew at each call. Raises ImageError, naming the picture."""
        if isinstance(self.source, Drawn):
            from models.atelier.collection import draw

            return draw(self.source.studio, self.source.subject, self.source.variant, self.source.size)
        try:
            return decode(self.source.data()).pixels
        except ImageError as error:
            raise ImageError(
                f"{self.name}: {error.detail}", code=error.code, next_step="Take the file out of the folder."
            ) from error


@dataclass(frozen=True)
class Bad:
    """A file that is passed over, and why."""

    name: str
    code: str
    detail: str


@dataclass(frozen=True)
class Dataset:
    """Pictures in a stable order. `digest` (64 hex) is over their names, artists and bytes."""

    name: str
    items: tuple[Item, ...]
    digest: str
    bad: tuple[Bad, ...] = ()

    @property
    def artists(self) -> tuple[str, ...]:
        """Every artist once, sorted."""
        return tuple(sorted({item.artist for item in self.items}))

    def artist_codes(self) -> NDArray[np.int64]:
        """Return (n,) numbers 0..A-1 into `artists`."""
        code = {artist: number for number, artist in enumerate(self.artists)}
        return np.array([code[item.artist] for item in self.items], np.int64)

    def content_codes(self) -> NDArray[np.int64]:
        """Return (n,) numbers, equal where the content is; a picture without content has a number of its own."""
        return codes(
            [
                (item.group, item.content) if item.content is not None else position
                for position, item in enumerate(self.items)
            ]
        )

    def file_codes(self) -> NDArray[np.int64]:
        """Return (n,) numbers, equal where the files are equal byte for byte."""
        return codes([item.sha256 for item in self.items])

    def picture_codes(self) -> NDArray[np.int64]:
        """Return (n,) numbers, equal where files are equal, or known to show the same.

        `same_works.json` lists files by digest: those that show one painting, a detail of it or another version of it
        by its painter (judged by eye), and drawings that differ only by mirroring, quarter turns, size or colours
        (`python -m benchmarks.same_drawings`). A search that finds one by another is right, so no suite counts it as an
        error.
        """
        known = _same_works()
        return codes([known.get(item.sha256, item.sha256) for item in self.items])

    def of_group(self, *groups: str) -> "Dataset":
        """Only the pictures of these groups. The digest is of what is left."""
        return _dataset(self.name, [item for item in self.items if item.group in groups], self.bad)

    def sample(self, size: int, seed: int) -> "Dataset":
        """About `size` pictures, in proportion from every group and artist; a content comes with all its pictures.

        The same seed and pictures give the same sample. `size` at or above the number of pictures changes nothing.
        """
        if size >= len(self.items):
            return self
        units: dict[tuple[str, str, str], list[Item]] = defaultdict(list)
        for item in self.items:
            stratum = "" if item.content is not None else item.artist
            units[item.group, stratum, item.content or item.name].append(item)
        strata: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for group, stratum, key in units:
            strata[group, stratum].append((hashlib.sha256(f"{seed}/{key}".encode()).hexdigest(), key))
        # Ranked by hash within its stratum, each unit gets its place there as a part of 1: taking all units up to one
        # part takes the same part of every stratum, and at least one of a small one.
        placed = sorted(
            (rank / len(members), order, group, stratum, key)
            for (group, stratum), members in strata.items()
            for rank, (order, key) in enumerate(sorted(members))
        )
        kept: set[str] = set()
        for _, _, group, stratum, key in placed:
            members_of_unit = units[group, stratum, key]
            if kept and len(kept) + len(members_of_unit) > size:
                break
            kept.update(item.name for item in members_of_unit)
        return _dataset(self.name, [item for item in self.items if item.name in kept], self.bad)


def read(source: Path, limits: Limits = LIMITS) -> Dataset:
    """Read names, artists and digests below a folder, or from Parquet; pixels are decoded later, one by one.

    Hidden files and links are passed over. A file that does not look like a picture is listed in `bad`. Raises
    DatasetError `dataset_missing`, `dataset_unreadable` (a Parquet file of other columns), `dataset_empty`.
    """
    if not source.exists():
        raise DatasetError(
            f"There is no {source.name!r}.",
            code="dataset_missing",
            next_step="Give a folder with a subfolder per artist, or Parquet files with the columns image and artist.",
        )
    tables = [source] if source.is_file() else sorted(source.rglob("*.parquet"))
    bad: list[Bad] = []
    items = list(_from_parquet(tables) if tables else _from_folder(source, limits, bad))
    if not items:
        raise DatasetError(
            f"{source.name!r} holds no picture in a folder of its artist.",
            code="dataset_empty",
            next_step="Give a folder with a subfolder per artist and PNG, JPEG or WebP files in each.",
        )
    return _dataset(source.resolve().name, _with_content(items), tuple(bad))


def drawn(variants: int = 12, size: int = 128, studios: Sequence[str] | None = None) -> Dataset:
    """The atelier's own works: every studio (or those given, by slug) draws every subject `variants` times.

    `content` is the subject. Planted copies are left out, so that no work is a copy of another.
    """
    from models.atelier.collection import SUBJECTS, studio_of
    from models.atelier.studios import STUDIOS

    items = []
    for slug in studios if studios is not None else [studio.slug for studio in STUDIOS]:
        for subject in SUBJECTS:
            for variant in range(variants):
                name = f"{slug}/{subject}-{variant}@{size}"
                digest = hashlib.sha256(name.encode()).hexdigest()
                source = Drawn(slug, subject, variant, size)
                items.append(Item(studio_of(slug).name, subject, name, "atelier", digest, source))
    return _dataset("atelier", items, ())


def _dataset(name: str, items: Sequence[Item], bad: tuple[Bad, ...]) -> Dataset:
    digest = hashlib.sha256(DIGEST_DOMAIN)
    for item in items:
        for part in (item.group, item.artist, item.name, item.sha256):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return Dataset(name, tuple(items), digest.hexdigest(), bad)


def _from_folder(folder: Path, limits: Limits, bad: list[Bad]) -> Iterator[Item]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        holder = Path(parent).relative_to(folder)
        for file in sorted(files):
            path = Path(parent, file)
            if file.startswith(".") or path.suffix.lower() not in SUFFIXES or path.is_symlink():
                continue
            name = _text((holder / file).as_posix())
            if not holder.parts:
                bad.append(Bad(name, "artist_missing", "it lies in no artist's folder"))
                continue
            data = path.read_bytes()
            try:
                container = read_container(data)
            except ImageError as error:
                bad.append(Bad(name, error.code, error.detail))
                continue
            if container.width * container.height > limits.max_pixels or container.frames > limits.frames:
                bad.append(Bad(name, "image_too_large", f"{container.width} x {container.height} px"))
                continue
            group = _text(holder.parent.as_posix())
            yield Item(
                artist=_text(holder.name),
                content=None,
                name=name,
                group="" if group == "." else group,
                sha256=hashlib.sha256(data).hexdigest(),
                source=File(path),
            )


def _with_content(items: Sequence[Item]) -> list[Item]:
    """Give the items of each group their names as content, where the artists of the group use the same names."""
    by_group: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_group[item.group].append(item)
    shared = {group for group, members in by_group.items() if _named_alike(members)}
    return [replace(item, content=Path(item.name).stem) if item.group in shared else item for item in items]


def _named_alike(items: Iterable[Item]) -> bool:
    """Most artists have most names, and the names are not mere numbering, which says nothing of what is shown."""
    pairs = {(item.artist, Path(item.name).stem) for item in items if isinstance(item.source, File)}
    artists, names = {artist for artist, _ in pairs}, Counter(name for _, name in pairs)
    if len(artists) < 2 or len(names) < 2 or len(pairs) < FILLED * len(artists) * len(names):
        return False
    numbered = [match[1] for match in map(NUMBERED.fullmatch, names) if match]
    return len(numbered) < len(names) / 2 or len(set(numbered)) > MAX_NUMBERED_PREFIXES


def _text(name: str) -> str:
    """Bytes that are no UTF-8 become replacement characters."""
    return os.fsencode(name).decode("utf-8", "replace")


# ---- Parquet -------------------------------------------------------------------------------------------------------


def _from_parquet(tables: Sequence[Path]) -> Iterator[Item]:
    """Rows of `image` (struct of bytes and path) and `artist` (text, or a number named in the schema's metadata)."""
    import pyarrow
    import pyarrow.parquet

    for path in tables:
        try:
            with pyarrow.parquet.ParquetFile(path) as table:
                named = _artist_names(path, table.schema_arrow)
                for number in range(table.num_row_groups):
                    rows = table.read_row_group(number, columns=["image", "artist"]).to_pylist()
                    yield from _rows(path, number, rows, named)
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            raise DatasetError(
                f"{path.name} is no Parquet file with the columns image and artist: {str(error)[:200]}",
                next_step="Give files with the columns of huggan/wikiart.",
            ) from error


def _rows(path: Path, number: int, rows: Sequence[Any], named: Callable[[Any], str]) -> Iterator[Item]:
    for position, row in enumerate(rows):
        data = (row["image"] or {}).get("bytes")
        if data:
            yield Item(
                artist=named(row["artist"]),
                content=None,
                name=f"{path.name}#{number}.{position}",
                group="",
                sha256=hashlib.sha256(data).hexdigest(),
                source=Cell(path, number, position),
            )


def _artist_names(path: Path, schema: Any) -> Callable[[Any], str]:
    """How a cell of the column `artist` is read: as text, or by the `names` of its ClassLabel feature."""
    if "artist" not in schema.names or "image" not in schema.names:
        raise KeyError(f"columns {', '.join(schema.names)[:100]}")
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get("artist", {})
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None

    def named(value: Any) -> str:
        if names is None or not isinstance(value, int):
            return str(value)
        if not 0 <= value < len(names):
            raise DatasetError(
                f"{path.name}: artist {value} is none of the {len(names)} that the file names.",
                next_step="Fetch the file again; its rows and its metadata do not belong together.",
            )
        return str(names[value])

    return named


@lru_cache(maxsize=2)
def _images_of(path: Path, row_group: int) -> list[bytes]:
    """The images of one row group; pictures are mostly asked for in order, so two groups are enough to keep."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as table:
        column = table.read_row_group(row_group, columns=["image"]).column("image").to_pylist()
    return [(cell or {}).get("bytes") or b"" for cell in column]
