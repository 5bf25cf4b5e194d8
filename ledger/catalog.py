"""Collections: index a folder or a list of works into a calibrated snapshot. Networks come in as an `Embedder`, so
nothing here loads torch."""

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from attribution.fingerprints import bits
from ledger import seeing
from ledger.database import features, vectors
from ledger.database.tables.works import Artist, Collection, Embedding, LocalFeatureSet, Work
from ledger.errors import BadRequest, Conflict
from ledger.runtime import Runtime
from ledger.seeing import BATCH_PIXELS, BATCH_WORKS, Described, Pixels, Seen, describe
from ledger.snapshots import Calibrator, alone, freeze_calibrated, newest_snapshot
from ledger.sources import BadFile, Facts, Grants, Listed, list_works, read_file
from models.errors import ImageError


class Embedder(seeing.Embedder, Calibrator, Protocol):
    """What looks at works and then measures its own error rates, as `ledger.examiner` provides it."""


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

    @property
    def done(self) -> int:
        return self.added + self.known + len(self.bad)


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
    _check_name(collection)
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
        for works, images in _batches(runtime, collection_id, listed, embedder, report):
            if works:
                _store(runtime, collection_id, works, seeing.see(images, embedder), embedder.method)
                report.added += len(works)
            progress(Progress(report.done, report.found, works[-1].facts.name if works else ""))
        progress(Progress(report.done, report.found, "measuring error rates"))
        return _frozen(runtime, collection_id, embedder, report)


def index_embedded(
    runtime: Runtime,
    folder: str,
    *,
    collection: str,
    embedder: Embedder,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Indexed:
    """`index` for works that `lawful embed` has looked at: their vectors go into Postgres as they are in `folder`.

    The files have to name the very encoders that are loaded here, with the digests of their weights; vectors have to be
    of length one. That they are of these pictures rests on who made the files. Raises as `index` does, and Conflict
    `embeddings_of_other_encoders`.
    """
    from ledger.embedding import parts  # here: a web process has no Parquet

    _check_name(collection)
    place = parts.located(folder)
    headers = {name: parts.header(place, name) for name in parts.names(place)}
    report = Indexed(collection, found=sum(header.works for header in headers.values()))
    if not headers:
        raise _nothing_indexed(report)
    for header in headers.values():
        parts.check_encoders(header.encoders, embedder.encoders)
    with runtime.sessions.begin() as session:
        collection_id = _collection(session, collection)
    with only_indexer(runtime, collection_id):
        with runtime.sessions() as session:
            complete = _complete_works(session, collection_id, list(embedder.encoders))

        def is_new(work: Described) -> bool:
            if _is_known(work.facts, work.file_sha256, complete, report):
                return False
            complete[work.facts.artist, work.file_sha256] = work.facts.grants
            return True

        for name in headers:
            for works, seen in parts.read(place, name, is_new, report.bad):
                _store(runtime, collection_id, works, seen, embedder.method)
                report.added += len(works)
                progress(Progress(report.done, report.found, works[-1].facts.name))
        progress(Progress(report.done, report.found, "measuring error rates"))
        return _frozen(runtime, collection_id, embedder, report)


def _frozen(runtime: Runtime, collection_id: uuid.UUID, embedder: Embedder, report: Indexed) -> Indexed:
    snapshot = freeze_calibrated(runtime, collection_id, embedder.encoders, embedder)
    if snapshot is None:
        raise _nothing_indexed(report)
    report.works, report.artists = snapshot.works, snapshot.artists
    report.snapshot, report.encoders = snapshot.digest.hex(), snapshot.encoders
    return report


def _check_name(collection: str) -> None:
    if not (0 < len(collection) <= 200 and collection.isprintable()):
        raise BadRequest(
            f"collection: one line of 1 to 200 characters is wanted, {len(collection)} were given",
            code="collection_name",
            next_step="name the collection with --collection",
        )


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
) -> Iterator[tuple[list[Described], list[Pixels]]]:
    """Read and decode what is new, a batch at a time; what is known or bad is counted in `report`."""
    with runtime.sessions() as session:
        complete = _complete_works(session, collection_id, list(embedder.encoders))
    limit = runtime.settings.max_upload_bytes
    works: list[Described] = []
    images: list[Pixels] = []
    for each in listed:
        try:
            data = read_file(each.path, limit)
            if _is_known(each, hashlib.sha256(data).digest(), complete, report):
                continue
            work, pixels = describe(each, data, runtime.files.decode)
        except ImageError as error:
            report.bad.append(BadFile(each.name, error.code, error.detail))
            continue
        complete[each.artist, work.file_sha256] = each.grants
        works.append(work)
        images.append(pixels)
        if len(works) >= BATCH_WORKS or sum(each.size // 3 for each in images) >= BATCH_PIXELS:
            yield works, images
            works, images = [], []
    yield works, images


def _is_known(facts: Facts, file_sha256: bytes, complete: Mapping[tuple[str, bytes], Grants], report: Indexed) -> bool:
    """Whether the work is complete, which the report then counts; the same file twice under one artist is one work."""
    known = complete.get((facts.artist, file_sha256))
    if known is None:
        return False
    report.known += 1
    report.grants_differ += known != facts.grants
    return True


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


def _store(runtime: Runtime, collection_id: uuid.UUID, works: Sequence[Described], seen: Seen, method: str) -> None:
    """One transaction: artists, works, what was seen of them. A work that only lacked vectors keeps its id."""
    with runtime.sessions.begin() as session:
        alone(session, collection_id)
        artists = _artists(session, collection_id, {each.facts.artist for each in works})
        ids = _works(session, collection_id, artists, works)
        for encoder, rows in seen.vectors.items():
            vectors.replace(session, encoder, ids, rows)
        features.replace(session, method, ids, seen.features)
        features.keep_previews(session, ids, seen.previews)


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
    session: Session, collection_id: uuid.UUID, artists: Mapping[str, uuid.UUID], batch: Sequence[Described]
) -> list[uuid.UUID]:
    """The ids of the batch's works, in its order: new ones, or those that were there and lacked vectors."""
    rows = [
        {
            "id": uuid7(),
            "collection_id": collection_id,
            "artist_id": artists[each.facts.artist],
            "title": each.facts.title,
            "source": each.facts.name,
            "licence": each.facts.licence,
            "file_sha256": each.file_sha256,
            "pixel_sha256": bytes.fromhex(each.found.pixel_sha256),
            "iscc": each.found.iscc,
            "pdq": bits(each.found.pdq),
            "width": each.found.width,
            "height": each.found.height,
            "grant_train": each.facts.grants.train,
            "grant_compare": each.facts.grants.compare,
            "grant_name": each.facts.grants.name,
            "created_at": sa.func.clock_timestamp(),
        }
        for each in batch
    ]
    session.execute(
        insert(Work).values(rows).on_conflict_do_nothing(index_elements=["collection_id", "artist_id", "file_sha256"])
    )
    found = session.execute(
        sa.select(Work.id, Work.artist_id, Work.file_sha256).where(
            Work.collection_id == collection_id,
            Work.file_sha256.in_([each.file_sha256 for each in batch]),
        )
    )
    ids = {(row.artist_id, row.file_sha256): row.id for row in found}
    return [ids[artists[each.facts.artist], each.file_sha256] for each in batch]


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
