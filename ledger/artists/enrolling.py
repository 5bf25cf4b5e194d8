"""Enrolling: somebody who acts for an artist hands in a picture, and a worker indexes it as `lawful index` would.

    waiting ──▶ enrolled   a work of the artist's collection, from the snapshot that was frozen with it
    waiting ──▶ refused    it is, or is a copy of, a work that is on record and not this artist's; or it cannot be read

A conflict is said and not decided: whose work it is, the operator or a claim finds out. What this does not see is a
copy of a work that may not be compared, or is not in the collection that answers.
"""

import datetime as dt
import tempfile
import uuid
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from attribution.evidence import Evidence
from attribution.fingerprints import Fingerprints, fingerprint
from attribution.wording import ALPHA
from ledger import catalog, jobs
from ledger.artists import links
from ledger.database.tables.artists import Enrolment
from ledger.database.tables.works import Artist, Collection, Work
from ledger.errors import BadRequest, Conflict, LedgerError, Unavailable
from ledger.runtime import Runtime
from ledger.sources import Grants, Listed
from models.images import DecodedImage

PER_DAY = 20
MOST_CHARS = 200
A_DAY = dt.timedelta(days=1)
ONE_AT_A_TIME = uuid.UUID("5f1d3c1e-6a0b-4c57-9d0e-2b7c8a4f9e10")
"""Two artists who hand in one picture at once: the second has to find the first's."""


class Indexer(catalog.Embedder, Protocol):
    """`ledger.examiner`: the networks, and the engine over the newest snapshot."""

    def evidence(self, image: NDArray[np.uint8], fingerprints: Fingerprints) -> Evidence: ...


@dataclass(frozen=True)
class Wish:
    """A picture in whatever form it came, and the terms on which it is to be indexed."""

    picture: bytes
    title: str
    licence: str
    grants: Grants


def ask(runtime: Runtime, identity_id: uuid.UUID, artist_id: uuid.UUID, wish: Wish) -> uuid.UUID:
    """Take a picture for a worker to index; the id of the enrolment.

    Raises NotFound `desk_unknown`, BadRequest `enrolment_malformed`, ModelError for what is no picture, Conflict
    `work_enrolled`, `work_of_another`, LedgerError `enrolments_too_many` (429), Unavailable `queue_full`.
    """
    with runtime.sessions() as session:
        links.require(session, identity_id, artist_id)
        jobs.require_room(session, "enrol")
        _few_enough(session, artist_id, runtime.clock())  # before anything is decoded; once more below
    for field, text in (("title", wish.title), ("licence", wish.licence)):
        if not (0 < len(text) <= MOST_CHARS and text.isprintable() and text == text.strip()):
            raise BadRequest(
                f"{field}: one line of 1 to {MOST_CHARS} characters is wanted, {len(text)} were given",
                code="enrolment_malformed",
                next_step="fill in the form on the artist's desk",
            )
    _, found = _read(runtime, wish.picture)
    enrolment_id = uuid7()
    with runtime.sessions.begin() as session:
        # One at a time for an artist: otherwise ten requests at once would each see none before them.
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(str(artist_id), 0))))
        now = runtime.clock()
        _few_enough(session, artist_id, now)
        _free(session, artist_id, set(links.artists_of(session, identity_id)), found)
        wanted = Enrolment(
            id=enrolment_id,
            identity_id=identity_id,
            artist_id=artist_id,
            title=wish.title,
            licence=wish.licence,
            grant_train=wish.grants.train,
            grant_compare=wish.grants.compare,
            grant_name=wish.grants.name,
            file_key=f"enrolments/{enrolment_id}",
            created_at=now,
        )
        session.add(wanted)
        session.flush()
        # Durable before the job that reads it can be seen; an orphan if this transaction rolls back.
        runtime.storage.put(f"enrolments/{enrolment_id}", wish.picture)
        jobs.defer(session, "enrol", enrolment_id)
    return enrolment_id


def enrol(runtime: Runtime, indexer: Indexer, enrolment_id: uuid.UUID) -> None:
    """What a worker does with it. Doing it again goes on; an enrolment that was erased or done is left alone.

    Raises Unavailable `enrolment_busy`, and whatever keeps a worker from indexing now. A picture that is refused raises
    nothing: that is an answer.
    """
    with runtime.database.advisory_lock(ONE_AT_A_TIME) as ours:
        if not ours:
            raise _busy("another worker is indexing what somebody handed in")
        with runtime.sessions() as session:
            wish = session.get(Enrolment, enrolment_id)
            if wish is None or wish.state != "waiting":
                return
            artist, collection = session.execute(
                sa.select(Artist.name, Collection.name)
                .join(Collection, Collection.id == Artist.collection_id)
                .where(Artist.id == wish.artist_id)
            ).one()
        try:
            work_id = _indexed(runtime, indexer, wish, artist, collection)
        except Conflict as error:
            if error.code in {"collection_busy", "collection_changing"}:
                raise _busy(error.detail) from error
            refuse(runtime, enrolment_id, error.detail)
            return
        _finish(runtime, enrolment_id, state="enrolled", work_id=work_id)


def refuse(runtime: Runtime, enrolment_id: uuid.UUID, why: str) -> None:
    """End an enrolment that still waits; the picture is deleted."""
    _finish(runtime, enrolment_id, state="refused", refusal=why)


def _indexed(runtime: Runtime, indexer: Indexer, wish: Enrolment, artist: str, collection: str) -> uuid.UUID:
    assert wish.file_key is not None
    data = runtime.storage.get(wish.file_key)
    image, found = _read(runtime, data)
    with runtime.sessions() as session:
        mine = set(links.artists_of(session, wish.identity_id))
        if wish.artist_id not in mine:
            raise Conflict("whoever handed it in acts for the artist no more", code="desk_closed", next_step="ask anew")
        work_id = _own(session, wish.artist_id, found)
        if work_id is None:
            _free(session, wish.artist_id, mine, found)
    if work_id is None:
        _no_copy(indexer.evidence(image.pixels, found), mine)
    with tempfile.TemporaryDirectory(prefix="lawful-enrolment-") as folder:
        path = Path(folder) / "picture"
        path.write_bytes(data)
        one = Listed(
            path=path,
            name=str(wish.id),
            artist=artist,
            title=wish.title,
            licence=wish.licence,
            grants=Grants(wish.grant_train, wish.grant_compare, wish.grant_name),
        )
        catalog.index_listed(runtime, [one], collection=collection, embedder=indexer)
    with runtime.sessions() as session:
        work_id = _own(session, wish.artist_id, found)
    assert work_id is not None
    return work_id


def _read(runtime: Runtime, data: bytes) -> tuple[DecodedImage, Fingerprints]:
    image = runtime.files.decode(data)
    return image, fingerprint(data, image.pixels)


def _own(session: Session, artist_id: uuid.UUID, found: Fingerprints) -> uuid.UUID | None:
    """The artist's work with these very bytes."""
    return session.scalar(
        sa.select(Work.id).where(Work.artist_id == artist_id, Work.file_sha256 == bytes.fromhex(found.file_sha256))
    )


def _free(session: Session, artist_id: uuid.UUID, mine: Set[uuid.UUID], found: Fingerprints) -> None:
    """Raises Conflict where a work of any collection has these bytes or pixels: this artist's, or one of somebody's for
    whom whoever hands it in does not act."""
    same = sa.or_(
        Work.file_sha256 == bytes.fromhex(found.file_sha256), Work.pixel_sha256 == bytes.fromhex(found.pixel_sha256)
    )
    artists = set(session.scalars(sa.select(Work.artist_id).where(same)))
    if artists - mine:
        raise _anothers()
    if artist_id in artists:
        raise Conflict(
            "this very picture is a work of this artist already",
            code="work_enrolled",
            next_step="change its grants on the artist's desk",
        )


def _no_copy(evidence: Evidence, mine: Set[uuid.UUID]) -> None:
    """Raises Conflict where the search found this picture, or any that it is a copy of, as a work not known to be
    theirs. A work that may not be named is nobody's to the search, so one's own can be meant as well."""
    found = {each.axis for each in evidence.findings if each.outcome == "found"}
    seen = [each.artist_id for each in evidence.identity.works]
    if "copy" in found and evidence.copy is not None:
        stand = (each for each in evidence.copy.matches if each.p_value is not None and each.p_value <= ALPHA)
        seen += [each.artist_id for each in stand]
    if not set(seen) <= {str(each) for each in mine}:
        raise _anothers()


def _anothers() -> Conflict:
    return Conflict(
        "this picture is, or is a copy of, a work on record that is not known to be this artist's",
        code="work_of_another",
        next_step="tell the operator of this ledger whose work it is; nothing was changed",
    )


def _busy(detail: str) -> Unavailable:
    return Unavailable(detail, code="enrolment_busy", next_step="wait: it is tried again by itself")


def _few_enough(session: Session, artist_id: uuid.UUID, now: dt.datetime) -> None:
    """Refused ones count too: each has cost a worker's time."""
    recent = session.scalars(
        sa.select(sa.func.count())
        .select_from(Enrolment)
        .where(Enrolment.artist_id == artist_id, Enrolment.created_at > now - A_DAY)
    ).one()
    if recent >= PER_DAY:
        raise LedgerError(
            f"{recent} pictures were handed in for this artist in the last day, {PER_DAY} can be",
            code="enrolments_too_many",
            status=429,
            next_step="wait a day, or ask the operator to index them all with `lawful index`",
        )


def _finish(
    runtime: Runtime,
    enrolment_id: uuid.UUID,
    *,
    state: str,
    work_id: uuid.UUID | None = None,
    refusal: str | None = None,
) -> None:
    with runtime.sessions.begin() as session:
        row = session.get(Enrolment, enrolment_id, with_for_update=True)
        if row is None or row.state != "waiting":
            return
        key = row.file_key
        row.state, row.work_id, row.refusal, row.file_key = state, work_id, refusal, None
    if key is not None:
        runtime.storage.delete(key)
