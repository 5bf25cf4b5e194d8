"""Snapshots: a collection frozen at a moment under a digest, with what its error rates rest on.

A snapshot names the works, the encoders that have seen all of them, and the calibration. Whoever has networks (a
worker, `lawful index`) calibrates; a process without them (the one that changes a grant) freezes at once, because a
withdrawn grant counts at once, and the next worker adds the calibration in a snapshot of its own.
"""

import datetime as dt
import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from attribution.snapshot import ReferenceWork, calibration_inputs, snapshot_digest
from ledger.database.tables.works import Artist, Calibration, Collection, Embedding, LocalFeatureSet, Snapshot, Work
from ledger.errors import Conflict
from ledger.log import sequencer
from ledger.log.statement_types import sign_entry
from ledger.runtime import Runtime

SNAPSHOT = "lawful-ledger/snapshot/1"
MOST_ATTEMPTS = 5

Encoders = Mapping[str, Mapping[str, str]]


class Calibrator(Protocol):
    """The engine's own calibration, as `ledger.worker` provides it."""

    def calibrate(self, session: Session, collection_id: uuid.UUID, works: Sequence[ReferenceWork]) -> bytes:
        """Fit error rates to these works; the artefact that an engine reads back. May take minutes."""
        ...


def freeze(session: Session, runtime: Runtime, collection_id: uuid.UUID, encoders: Encoders) -> Snapshot | None:
    """Name the collection as it stands by its digest, and log that; None if it is empty.

    A calibration that was fitted to just this state goes with it. Where nothing changed, this is the newest snapshot.
    """
    alone(session, collection_id)
    works = list(reference_works(session, collection_id))
    if not works:
        return None
    encoders = _complete(session, collection_id, encoders, len(works))
    calibration = session.scalar(
        sa.select(Calibration.sha256).where(Calibration.inputs == _inputs(session, runtime, works, encoders))
    )
    digest = snapshot_digest(works, encoders, calibration)
    newest = newest_snapshot(session, collection_id=collection_id)
    if newest is not None and newest.digest == digest:
        return newest
    created_at = runtime.clock()
    payload: dict[str, Any] = {
        "type": SNAPSHOT,
        "collection_id": str(collection_id),
        "digest": digest.hex(),
        "works": len(works),
        "encoders": {key: dict(encoder) for key, encoder in encoders.items()},
        "calibration": calibration.hex() if calibration else None,
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
        calibration=calibration,
        leaf_hash=sequencer.append(session, entry),
        created_at=sa.func.clock_timestamp(),
    )
    session.add(snapshot)
    session.flush()
    return snapshot


def freeze_calibrated(
    runtime: Runtime, collection_id: uuid.UUID, encoders: Encoders, calibrator: Calibrator
) -> Snapshot | None:
    """Freeze the collection with a calibration fitted to it; None if it is empty.

    Fitting holds no lock. Where the collection changes meanwhile it is fitted again, five times at most; raises
    Conflict `collection_changing` then.
    """
    for _ in range(MOST_ATTEMPTS):
        with runtime.sessions() as session:
            works = list(reference_works(session, collection_id))
            complete = _complete(session, collection_id, encoders, len(works))
            inputs = _inputs(session, runtime, works, complete)
            known = session.scalar(sa.select(Calibration.sha256).where(Calibration.inputs == inputs))
            content = calibrator.calibrate(session, collection_id, works) if works and known is None else None
        with runtime.sessions.begin() as session:
            if content is not None:
                row = {"sha256": hashlib.sha256(content).digest(), "inputs": inputs, "content": content}
                session.execute(insert(Calibration).values(row).on_conflict_do_nothing())
            snapshot = freeze(session, runtime, collection_id, encoders)
            if snapshot is None or snapshot.calibration is not None:
                if snapshot is not None:
                    session.refresh(snapshot)
                    session.expunge(snapshot)  # it is read after the commit
                return snapshot
    raise Conflict(
        "the collection changes faster than it can be calibrated",
        code="collection_changing",
        next_step="wait until its grants and works are left alone for a while; the same command again goes on",
    )


def newest_snapshot(
    session: Session,
    *,
    collection_id: uuid.UUID | None = None,
    collection: str | None = None,
    background: str | None = None,
) -> Snapshot | None:
    """The snapshot that answers now: of one collection by id or name, else of the collection that was founded last.

    A `background` collection, by name, is never the one that answers.
    """
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
    if background is not None:
        query = query.where(Collection.name != background)
    return session.scalars(query).one_or_none()


def background_snapshot(session: Session, runtime: Runtime) -> Snapshot | None:
    """The newest snapshot of the collection that only calibrates; None where none is set, or it is not indexed yet."""
    name = runtime.settings.background
    return None if name is None else newest_snapshot(session, collection=name)


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


def alone(session: Session, collection_id: uuid.UUID) -> None:
    """Whoever changes a collection's works or names its state holds its row: a snapshot is of one moment.

    Times are taken from the clock under this lock, so that a snapshot's works are exactly those added before it.
    """
    session.execute(sa.select(Collection.id).where(Collection.id == collection_id).with_for_update())


def _complete(session: Session, collection_id: uuid.UUID, encoders: Encoders, works: int) -> Encoders:
    """Those encoders and methods that have seen every work: a snapshot claims no others."""
    counts: dict[str, int] = {}
    for table, name in ((Embedding, Embedding.encoder), (LocalFeatureSet, LocalFeatureSet.method)):
        seen = session.execute(
            sa.select(name.label("name"), sa.func.count().label("works"))
            .join(Work, Work.id == table.work_id)
            .where(Work.collection_id == collection_id)
            .group_by(name)
        )
        counts |= {row.name: row.works for row in seen}
    return {key: encoder for key, encoder in encoders.items() if counts.get(key) == works}


def _inputs(session: Session, runtime: Runtime, works: Sequence[ReferenceWork], encoders: Encoders) -> bytes:
    background = background_snapshot(session, runtime)
    return calibration_inputs(works, encoders, background.digest if background else None)
