"""Collections: index a folder or a list of works into a calibrated snapshot. Networks come in as an `Embedder`, so
nothing here loads torch."""

import hashlib
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from attribution.fingerprints import Fingerprints, bits, fingerprint
from ledger.database import features, vectors
from ledger.database.tables.works import Artist, Collection, Embedding, LocalFeatureSet, Work
from ledger.errors import BadRequest, Conflict
from ledger.runtime import Runtime
from ledger.snapshots import Calibrator, Encoders, alone, freeze_calibrated, newest_snapshot
from ledger.sources import BadFile, Grants, Listed, list_works
from models.errors import ImageError
from models.images import encode_preview

# A batch is one transaction and one forward pass; it ends early when its pixels would fill memory.
BATCH_WORKS = 32
BATCH_PIXELS = 64_000_000

Pixels = NDArray[np.uint8]


class Embedder(Calibrator, Protocol):
    """The encoders of a profile and the engine's local features, as `ledger.worker.embedder` provides them."""

    @property
    def encoders(self) -> Encoders:
        """Key → name, revision, weights_sha256, licence: of the encoders, and of the method of local features."""
        ...

    @property
    def method(self) -> str:
        """The key of the method of local features."""
        ...

    def embed(self, images: Sequence[Pixels]) -> Mapping[str, NDArray[np.float32]]:
        """Encoder key → (n, dim) float32, rows of length one."""
        ...

    def features(self, images: Sequence[Pixels]) -> Sequence[bytes]:
        """The local features of each image."""
        ...


@dataclass(frozen=True)
class Progress:
    done: int
    total: int
    name: str


@dataclass
class Indexed:
    """What one run of `index` did. `known` works were there already, seen by every encoder.

    `grants_differ` of them are listed now with other grants than recorded: indexing never changes a grant.
    """

    collection: str
    found: int = 0
    added: int = 0
    known: int = 0
    grants_differ: int = 0
    bad: list[BadFile] = field(default_factory=list)
    works: int = 0
    artists: int = 0
    snapshot: str = ""
    encoders: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Decoded:
    listed: Listed
    file_sha256: bytes
    pixels: Pixels
    found: Fingerprints


def index(
    runtime: Runtime,
    source: Path,
    *,
    collection: str,
    licence: str,
    grants: Grants,
    embedder: Embedder,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Indexed:
    """Add what is new in `source` to `collection` and freeze a snapshot of the whole.

    `source` is a folder with a subfolder per artist, or a CSV or Parquet file (`ledger.sources`). Every batch commits
    by itself, so a run that is cut off keeps what it did and the next one goes on. A file that cannot be read is listed
    in `bad` and never stops the run. Raises BadRequest `collection_empty` when nothing could be indexed, Conflict
    `collection_busy` when another process is indexing the same collection.
    """
    if not (0 < len(collection) <= 200 and collection.isprintable()):
        raise BadRequest(
            f"collection: one line of 1 to 200 characters is wanted, {len(collection)} were given",
            code="collection_name",
            next_step="name the collection with --collection",
        )
    listed, bad = list_works(source, licence, grants)
    return index_listed(runtime, listed, collection=collection, embedder=embedder, bad=bad, progress=progress)


def index_listed(
    runtime: Runtime,
    listed: Sequence[Listed],
    *,
    collection: str,
    embedder: Embedder,
    bad: Sequence[BadFile] = (),
    progress: Callable[[Progress], None] = lambda _: None,
) -> Indexed:
    """`index` for files that were listed already, `bad` being those that could not be. Raises as it does."""
    report = Indexed(collection, found=len(listed) + len(bad), bad=list(bad))
    if not listed:  # said before the networks are loaded
        raise _nothing_indexed(report)
    with runtime.sessions.begin() as session:
        collection_id = _collection(session, collection)
    with only_indexer(runtime, collection_id):
        done = 0
        for batch in _batches(runtime, collection_id, listed, embedder, report):
            _store(runtime, collection_id, batch, embedder, report)
            done = report.added + report.known + len(report.bad)
            progress(Progress(done, report.found, batch[-1].listed.name if batch else ""))
        progress(Progress(done, report.found, "measuring error rates"))
        snapshot = freeze_calibrated(runtime, collection_id, embedder.encoders, embedder)
    if snapshot is None:
        raise _nothing_indexed(report)
    report.works, report.artists = snapshot.works, snapshot.artists
    report.snapshot, report.encoders = snapshot.digest.hex(), snapshot.encoders
    return report


def _nothing_indexed(report: Indexed) -> BadRequest:
    return BadRequest(
        f"no work could be indexed: {report.found} files seen, {len(report.bad)} of them unusable"
        + (f", the first because {report.bad[0].detail}" if report.bad else ""),
        code="collection_empty",
        next_step="put PNG, JPEG or WebP files into a subfolder per artist, or list them in a CSV",
    )


def status(session: Session) -> list[dict[str, Any]]:
    """Every collection with its works, artists and newest snapshot, by name."""
    rows = session.execute(
        sa.select(
            Collection.id,
            Collection.name,
            sa.func.count(Work.id).label("works"),
            sa.func.count(Work.artist_id.distinct()).label("artists"),
        )
        .outerjoin(Work, Work.collection_id == Collection.id)
        .group_by(Collection.id)
        .order_by(Collection.name)
    ).all()
    found = []
    for row in rows:
        newest = newest_snapshot(session, collection_id=row.id)
        found.append(
            {
                "collection": row.name,
                "works": row.works,
                "artists": row.artists,
                "snapshot": newest.digest.hex() if newest else None,
                "encoders": newest.encoders if newest else {},
            }
        )
    return found


# ---- one run -------------------------------------------------------------------------------------------------------


def _batches(
    runtime: Runtime, collection_id: uuid.UUID, listed: Sequence[Listed], embedder: Embedder, report: Indexed
) -> Iterator[list[_Decoded]]:
    """Read and decode what is new, a batch at a time; what is known or bad is counted in `report`."""
    with runtime.sessions() as session:
        complete = _complete_works(session, collection_id, list(embedder.encoders))
    batch: list[_Decoded] = []
    pixels = 0
    for each in listed:
        try:
            data = _read(each, runtime.settings.max_upload_bytes)
            file_sha256 = hashlib.sha256(data).digest()
            known = complete.get((each.artist, file_sha256))
            if known is not None:
                report.known += 1
                report.grants_differ += known != each.grants
                continue
            image = runtime.files.decode(data)
            decoded = _Decoded(each, file_sha256, image.pixels, fingerprint(data, image.pixels))
            complete[each.artist, file_sha256] = each.grants  # the same file twice under one artist is one work
        except ImageError as error:
            report.bad.append(BadFile(each.name, error.code, error.detail))
            continue
        batch.append(decoded)
        pixels += image.pixels.size // 3
        if len(batch) >= BATCH_WORKS or pixels >= BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    yield batch


def _read(each: Listed, limit: int) -> bytes:
    try:
        status = each.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("it is no ordinary file", code="file_unreadable", next_step="put a copy of the file there")
        size = status.st_size
        if size > limit:
            raise ImageError(
                f"{size} bytes, at most {limit}",
                code="image_too_large",
                next_step="raise LAWFUL_MAX_UPLOAD_BYTES or shrink it",
            )
        return each.path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"cannot be read: {error.strerror}", code="file_unreadable", next_step="check its permissions"
        ) from error


def _complete_works(
    session: Session, collection_id: uuid.UUID, encoders: Sequence[str]
) -> dict[tuple[str, bytes], Grants]:
    """(artist, file sha256) → grants of the works that all of `encoders` have seen: nothing is left to do."""
    embedded = sa.select(sa.func.count()).where(Embedding.work_id == Work.id, Embedding.encoder.in_(encoders))
    described = sa.select(sa.func.count()).where(
        LocalFeatureSet.work_id == Work.id, LocalFeatureSet.method.in_(encoders)
    )
    rows = session.execute(
        sa.select(Artist.name, Work.file_sha256, Work.grant_train, Work.grant_compare, Work.grant_name)
        .join(Artist, Artist.id == Work.artist_id)
        .where(
            Work.collection_id == collection_id,
            embedded.scalar_subquery() + described.scalar_subquery() == len(encoders),
        )
    )
    return {(row.name, row.file_sha256): Grants(row.grant_train, row.grant_compare, row.grant_name) for row in rows}


def _store(
    runtime: Runtime, collection_id: uuid.UUID, batch: Sequence[_Decoded], embedder: Embedder, report: Indexed
) -> None:
    """One transaction: artists, works, what the encoders saw of them. A work that only lacked vectors keeps its id."""
    if not batch:
        return
    images = [each.pixels for each in batch]
    embedded, described = embedder.embed(images), embedder.features(images)
    previews = [encode_preview(each.pixels) for each in batch]
    with runtime.sessions.begin() as session:
        alone(session, collection_id)
        artists = _artists(session, collection_id, {each.listed.artist for each in batch})
        ids = _works(session, collection_id, artists, batch)
        for encoder, rows in embedded.items():
            vectors.replace(session, encoder, ids, rows)
        features.replace(session, embedder.method, ids, described)
        features.keep_previews(session, ids, previews)
    report.added += len(batch)


def _collection(session: Session, name: str) -> uuid.UUID:
    session.execute(insert(Collection).values(id=uuid7(), name=name).on_conflict_do_nothing())
    return session.execute(sa.select(Collection.id).where(Collection.name == name)).scalar_one()


def _artists(session: Session, collection_id: uuid.UUID, names: Iterable[str]) -> dict[str, uuid.UUID]:
    wanted = sorted(names)
    session.execute(
        insert(Artist)
        .values([{"id": uuid7(), "collection_id": collection_id, "name": name} for name in wanted])
        .on_conflict_do_nothing()
    )
    rows = session.execute(
        sa.select(Artist.name, Artist.id).where(Artist.collection_id == collection_id, Artist.name.in_(wanted))
    )
    return {row.name: row.id for row in rows}


def _works(
    session: Session, collection_id: uuid.UUID, artists: Mapping[str, uuid.UUID], batch: Sequence[_Decoded]
) -> list[uuid.UUID]:
    """The ids of the batch's works, in its order: new ones, or those that were there and lacked vectors."""
    rows = [
        {
            "id": uuid7(),
            "collection_id": collection_id,
            "artist_id": artists[each.listed.artist],
            "title": each.listed.title,
            "source": each.listed.name,
            "licence": each.listed.licence,
            "file_sha256": each.file_sha256,
            "pixel_sha256": bytes.fromhex(each.found.pixel_sha256),
            "iscc": each.found.iscc,
            "pdq": bits(each.found.pdq),
            "width": each.found.width,
            "height": each.found.height,
            "grant_train": each.listed.grants.train,
            "grant_compare": each.listed.grants.compare,
            "grant_name": each.listed.grants.name,
            "created_at": sa.func.clock_timestamp(),
        }
        for each in batch
    ]
    session.execute(
        insert(Work).values(rows).on_conflict_do_nothing(index_elements=["collection_id", "artist_id", "file_sha256"])
    )
    found = session.execute(
        sa.select(Work.id, Work.artist_id, Work.file_sha256).where(
            Work.collection_id == collection_id, Work.file_sha256.in_([each.file_sha256 for each in batch])
        )
    )
    ids = {(row.artist_id, row.file_sha256): row.id for row in found}
    return [ids[artists[each.listed.artist], each.file_sha256] for each in batch]


@contextmanager
def only_indexer(runtime: Runtime, collection_id: uuid.UUID) -> Iterator[None]:
    """One process at a time indexes a collection; the lock ends with the process, whatever ends that."""
    with runtime.database.advisory_lock(collection_id) as ours:
        if not ours:
            raise Conflict(
                "another process is indexing this collection",
                code="collection_busy",
                next_step="wait for it to finish, then run the same command again",
            )
        yield
