"""Collections: index a folder or a list of works, freeze a snapshot, change a grant.

Networks come in as an `Embedder`, so nothing here loads torch.
"""

import datetime as dt
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
from attribution.snapshot import ReferenceWork, snapshot_digest
from ledger.database import vectors
from ledger.database.tables import Artist, Collection, Embedding, GrantChange, Snapshot, Work
from ledger.errors import BadRequest, Conflict, NotFound
from ledger.log import sequencer
from ledger.log.statement_types import sign_entry
from ledger.runtime import Runtime
from ledger.sources import BadFile, Grants, Listed, list_works
from models.errors import ImageError
from models.images import Limits, decode

SNAPSHOT = "lawful-ledger/snapshot/1"
GRANT = "lawful-ledger/grant/1"
ROLES = ("artist", "estate", "court", "operator")  # who may change a grant; a name would be personal data in the log

# A batch is one transaction and one forward pass; it ends early when its pixels would fill memory.
BATCH_WORKS = 32
BATCH_PIXELS = 64_000_000

Pixels = NDArray[np.uint8]


class Embedder(Protocol):
    """The encoders of a profile, as `ledger.worker.embedder` provides them."""

    @property
    def encoders(self) -> Mapping[str, Mapping[str, str]]:
        """Encoder key → name, revision, weights_sha256, licence."""
        ...

    def embed(self, images: Sequence[Pixels]) -> Mapping[str, NDArray[np.float32]]:
        """Encoder key → (n, dim) float32, rows of length one."""
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
    report = Indexed(collection, found=len(listed) + len(bad), bad=bad)
    if not listed:  # said before the networks are loaded
        raise _nothing_indexed(report)
    with runtime.sessions.begin() as session:
        collection_id = _collection(session, collection)
    with _only_indexer(runtime, collection_id):
        done = 0
        for batch in _batches(runtime, collection_id, listed, embedder, report):
            _store(runtime, collection_id, batch, embedder, report)
            done = report.added + report.known + len(report.bad)
            progress(Progress(done, report.found, batch[-1].listed.name if batch else ""))
        with runtime.sessions.begin() as session:
            snapshot = freeze(session, runtime, collection_id, embedder.encoders)
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


def freeze(
    session: Session, runtime: Runtime, collection_id: uuid.UUID, encoders: Mapping[str, Mapping[str, str]]
) -> Snapshot | None:
    """Name the collection as it stands by its digest, and log that; None if it is empty.

    Where nothing changed, this is the newest snapshot as it was.
    """
    _alone(session, collection_id)
    works = list(reference_works(session, collection_id))
    if not works:
        return None
    encoders = _complete(session, collection_id, encoders, len(works))
    digest = snapshot_digest(works, encoders)
    newest = newest_snapshot(session, collection_id=collection_id)
    if newest is not None and newest.digest == digest:
        return newest
    created_at = runtime.clock()
    payload = {
        "type": SNAPSHOT,
        "collection_id": str(collection_id),
        "digest": digest.hex(),
        "works": len(works),
        "encoders": {key: dict(encoder) for key, encoder in encoders.items()},
        "created_at": created_at.isoformat(),
    }
    entry = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
    snapshot = Snapshot(
        id=uuid7(),
        collection_id=collection_id,
        digest=digest,
        works=len(works),
        artists=len({work.artist_id for work in works}),
        encoders=payload["encoders"],
        leaf_hash=sequencer.append(session, entry),
        created_at=sa.func.clock_timestamp(),
    )
    session.add(snapshot)
    session.flush()
    return snapshot


def newest_snapshot(
    session: Session, *, collection_id: uuid.UUID | None = None, collection: str | None = None
) -> Snapshot | None:
    """The snapshot that answers now: of one collection by id or name, else of the collection that was founded last."""
    query = (
        sa.select(Snapshot)
        .join(Collection, Collection.id == Snapshot.collection_id)
        .order_by(Collection.created_at.desc(), Snapshot.created_at.desc(), Snapshot.id.desc())
        .limit(1)
    )
    if collection_id is not None:
        query = query.where(Snapshot.collection_id == collection_id)
    if collection is not None:
        query = query.where(Collection.name == collection)
    return session.scalars(query).one_or_none()


def reference_works(
    session: Session, collection_id: uuid.UUID, until: dt.datetime | None = None
) -> Iterator[ReferenceWork]:
    """The collection's works with their grants as they stand; `until` leaves out what a later run has added."""
    query = (
        sa.select(Work, Artist.name)
        .join(Artist, Artist.id == Work.artist_id)
        .where(Work.collection_id == collection_id)
        .order_by(Work.id)
    )
    if until is not None:
        query = query.where(Work.created_at <= until)
    for work, artist in session.execute(query.execution_options(yield_per=5000)):
        yield ReferenceWork(
            id=str(work.id),
            artist_id=str(work.artist_id),
            artist=artist,
            title=work.title,
            licence=work.licence,
            file_sha256=work.file_sha256.hex(),
            pixel_sha256=work.pixel_sha256.hex(),
            train=work.grant_train,
            compare=work.grant_compare,
            name=work.grant_name,
        )


def _alone(session: Session, collection_id: uuid.UUID) -> None:
    """Whoever changes a collection's works or names its state holds its row: a snapshot is of one moment.

    Times are taken from the clock under this lock, so that a snapshot's works are exactly those added before it.
    """
    session.execute(sa.select(Collection.id).where(Collection.id == collection_id).with_for_update())


def _complete(
    session: Session, collection_id: uuid.UUID, encoders: Mapping[str, Mapping[str, str]], works: int
) -> Mapping[str, Mapping[str, str]]:
    """Those encoders that have seen every work: a snapshot claims no others."""
    seen = session.execute(
        sa.select(Embedding.encoder, sa.func.count().label("works"))
        .join(Work, Work.id == Embedding.work_id)
        .where(Work.collection_id == collection_id)
        .group_by(Embedding.encoder)
    )
    counts = {row.encoder: row.works for row in seen}
    return {key: encoder for key, encoder in encoders.items() if counts.get(key) == works}


def change_grant(runtime: Runtime, work_id: uuid.UUID, grant: str, allowed: bool, by_role: str) -> None:
    """Give or withdraw one grant of one work: an entry, and a new snapshot in the same transaction."""
    if by_role not in ROLES:
        raise BadRequest(
            f"by_role: {by_role[:40]!r} is no role", code="role_unknown", next_step=f"name one of {', '.join(ROLES)}"
        )
    if grant not in {"train", "compare", "name"}:
        raise BadRequest(
            f"grant: {grant!r} is not known", code="grant_unknown", next_step="name train, compare or name"
        )
    with runtime.sessions.begin() as session:
        collection_id = session.execute(sa.select(Work.collection_id).where(Work.id == work_id)).scalar()
        if collection_id is None:
            raise NotFound(f"no work {work_id}", code="work_unknown", next_step="look the work up in its collection")
        _alone(session, collection_id)
        work = session.get_one(Work, work_id)
        if getattr(work, f"grant_{grant}") == allowed:
            return
        setattr(work, f"grant_{grant}", allowed)
        payload = {
            "type": GRANT,
            "work_id": str(work_id),
            "grant": grant,
            "allowed": allowed,
            "by_role": by_role,
            "created_at": runtime.clock().isoformat(),
        }
        entry = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
        session.add(
            GrantChange(
                id=uuid7(),
                work_id=work_id,
                grant=grant,
                allowed=allowed,
                by_role=by_role,
                leaf_hash=sequencer.append(session, entry),
            )
        )
        session.flush()
        newest = newest_snapshot(session, collection_id=work.collection_id)
        if newest is not None:
            freeze(session, runtime, work.collection_id, newest.encoders)


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
            image = decode(data, Limits(max_bytes=runtime.settings.max_upload_bytes))
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
    """(artist, file sha256) → grants of the works that every one of `encoders` has seen: nothing is left to do."""
    seen = sa.select(sa.func.count()).where(Embedding.work_id == Work.id, Embedding.encoder.in_(encoders))
    rows = session.execute(
        sa.select(Artist.name, Work.file_sha256, Work.grant_train, Work.grant_compare, Work.grant_name)
        .join(Artist, Artist.id == Work.artist_id)
        .where(Work.collection_id == collection_id, seen.scalar_subquery() == len(encoders))
    )
    return {(row.name, row.file_sha256): Grants(row.grant_train, row.grant_compare, row.grant_name) for row in rows}


def _store(
    runtime: Runtime, collection_id: uuid.UUID, batch: Sequence[_Decoded], embedder: Embedder, report: Indexed
) -> None:
    """One transaction: artists, works and their vectors. A work that only lacked vectors keeps its id."""
    if not batch:
        return
    embedded = embedder.embed([each.pixels for each in batch])
    with runtime.sessions.begin() as session:
        _alone(session, collection_id)
        artists = _artists(session, collection_id, {each.listed.artist for each in batch})
        ids = _works(session, collection_id, artists, batch)
        for encoder, rows in embedded.items():
            vectors.replace(session, encoder, ids, rows)
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
def _only_indexer(runtime: Runtime, collection_id: uuid.UUID) -> Iterator[None]:
    """One process at a time indexes a collection; the lock ends with the process, whatever ends that."""
    with runtime.database.advisory_lock(collection_id) as ours:
        if not ours:
            raise Conflict(
                "another process is indexing this collection",
                code="collection_busy",
                next_step="wait for it to finish, then run the same command again",
            )
        yield
