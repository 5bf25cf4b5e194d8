"""What the tables say for a claim: since when the image is known, what the work is, whose it is said to be."""

import datetime as dt
import unicodedata
import uuid
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.claims.facts import OtherWork, Sighting, WorkFact
from ledger.database.tables.log import LogEntry, LogTimestamp
from ledger.database.tables.records import Record
from ledger.database.tables.works import Artist, Collection, GrantChange, Work
from ledger.log.statements import parse_statement
from ledger.log.timestamps import claimed_time


class NamedWork(NamedTuple):
    work: Work
    artist: str


def same_name(one: str, other: str) -> bool:
    """Whether two spellings are one name: without regard to case, width, accents' encoding and spaces."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def named_work(session: Session, work_id: uuid.UUID) -> NamedWork | None:
    row = session.execute(
        sa.select(Work, Artist.name).join(Artist, Artist.id == Work.artist_id).where(Work.id == work_id)
    ).one_or_none()
    return None if row is None else NamedWork(*row)


def works_of_picture(
    session: Session, *, file_sha256: bytes, pixel_sha256: bytes, background: str | None
) -> list[NamedWork]:
    """Works with these very bytes or pixels, in any collection but the one that only calibrates; earliest first."""
    query = (
        sa.select(Work, Artist.name)
        .join(Artist, Artist.id == Work.artist_id)
        .join(Collection, Collection.id == Work.collection_id)
        .where(sa.or_(Work.file_sha256 == file_sha256, Work.pixel_sha256 == pixel_sha256))
        .order_by(Work.created_at, Work.id)
    )
    if background is not None:
        query = query.where(Collection.name != background)
    return [NamedWork(*row) for row in session.execute(query)]


def sighting(session: Session, pixel_sha256: bytes) -> Sighting | None:
    """The earliest record of these very pixels. The authority's time counts where there is one: it is the later of the
    two, and nobody's here to choose."""
    record = session.scalars(
        sa.select(Record)
        .where(Record.listed, Record.pixel_sha256 == pixel_sha256)
        .order_by(Record.created_at, Record.id)
        .limit(1)
    ).one_or_none()
    if record is None or record.statement is None:
        return None
    token = session.scalar(
        sa.select(LogTimestamp.token)
        .join(LogEntry, sa.and_(LogEntry.shard == LogTimestamp.shard, LogEntry.idx < LogTimestamp.size))
        .where(LogEntry.leaf_hash == record.leaf_hash)
        .order_by(LogTimestamp.size)
        .limit(1)
    )
    logged = dt.datetime.fromisoformat(parse_statement(record.statement).payload["created_at"])
    stamped = claimed_time(token) if token is not None else None
    return Sighting(
        at=stamped or logged,
        by="log" if stamped is None else "authority",
        record_id=str(record.id),
        made_here=record.kind == "generation",
    )


def work_fact(session: Session, named: NamedWork | None, claimant: str, at: dt.datetime | None) -> WorkFact:
    """The work as it is on record, with the grant to learn from it as it stood `at`; None: as it stands."""
    if named is None:
        return WorkFact(on_record=False)
    work = named.work
    train, granted_by = _train_at(session, work, at)
    return WorkFact(
        on_record=True,
        work_id=str(work.id) if work.grant_name else None,
        licence=work.licence,
        enrolled_at=work.created_at.astimezone(dt.UTC),
        credit="claimant" if same_name(named.artist, claimant) else "another",
        train=train,
        granted_by=granted_by,
    )


def _train_at(session: Session, work: Work, at: dt.datetime | None) -> tuple[bool, str]:
    """(*train*, the role that had set it): each change turned it over, so the later ones are undone one by one."""
    allowed = work.grant_train
    changes = session.scalars(
        sa.select(GrantChange)
        .where(GrantChange.work_id == work.id, GrantChange.grant == "train")
        .order_by(GrantChange.created_at.desc(), GrantChange.id.desc())
    )
    for change in changes:
        if at is None or change.created_at <= at:
            return allowed, change.by_role
        allowed = not change.allowed
    return allowed, "enrolled"


def others_identical(
    same: list[NamedWork], named: NamedWork | None, claimant: str, pixel_sha256: bytes
) -> list[OtherWork]:
    """Of works with the image's pixels, those under another artist than the named work's (else: than the claimant).

    A protected one is another's whoever claims: if it depended on a name, claims would tell whose it is.
    """
    own = claimant if named is None else named.artist
    is_named = named is not None and named.work.pixel_sha256 == pixel_sha256
    return [
        OtherWork(work_id=str(each.work.id) if each.work.grant_name else None, by="identity", same_picture=is_named)
        for each in same
        if each.work.grant_compare
        and (named is None or each.work.id != named.work.id)
        and not (each.work.grant_name and same_name(each.artist, own))
    ]
