"""What anyone may see of works and artists: what is indexed, its grants and licence, and which records credit it.

A work without *name*, and an artist of whom no work may be named, are not found here, in the very words in which one
that never was is not found. A credit is a finding of similarity; none says that a generator learned from the work.
"""

import datetime as dt
import uuid
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.database.tables.records import Credit, Record
from ledger.database.tables.works import Artist, Collection, Embedding, GrantChange, LocalFeatureSet, Preview, Work
from ledger.errors import NotFound
from ledger.log.entries import published_index

PAGE = 50
MONTHS = 12


class GrantLine(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one grant; `index` is None while its entry is on its way into the log."""

    grant: str
    allowed: bool
    by_role: str
    at: str
    index: int | None


class WorkLine(msgspec.Struct, frozen=True, kw_only=True):
    """A work in a list."""

    id: str
    title: str
    licence: str
    train: bool
    compare: bool
    width: int
    height: int


class CreditLine(msgspec.Struct, frozen=True, kw_only=True):
    """A record whose evidence found a work or, on the axis of style, an artist's hand."""

    id: str
    record_id: str
    kind: str
    axis: str
    p_value: float | None
    at: str


class Month(msgspec.Struct, frozen=True):
    """How many records of a month, UTC, credit something."""

    month: str
    records: int


class Credits(msgspec.Struct, frozen=True, kw_only=True):
    """The newest credits, and how many records had some in each of the last MONTHS months."""

    newest: list[CreditLine]
    months: list[Month]


class WorkView(msgspec.Struct, frozen=True, kw_only=True):
    """A work that may be named. `indexed_by`: the encoders and methods that have seen it."""

    id: str
    title: str
    artist_id: str
    artist: str
    collection: str
    licence: str
    width: int
    height: int
    iscc: str
    grants: dict[str, bool]
    changes: list[GrantLine]
    indexed_by: list[str]
    added_at: str
    credits: Credits


class ArtistView(msgspec.Struct, frozen=True, kw_only=True):
    """An artist, with those works that may be named: others are neither listed nor counted."""

    id: str
    name: str
    collection: str
    named_works: int
    works: list[WorkLine]
    credits: Credits


def work(session: Session, work_id: uuid.UUID, now: dt.datetime, before: uuid.UUID | None = None) -> WorkView:
    """Raises NotFound `work_unknown`, also where it may not be named."""
    row = session.execute(
        sa.select(Work, Artist.name, Collection.name)
        .join(Artist, Artist.id == Work.artist_id)
        .join(Collection, Collection.id == Work.collection_id)
        .where(Work.id == work_id, Work.grant_name)
    ).one_or_none()
    if row is None:
        raise _unknown("work", work_id)
    found, artist, collection = row
    seen = sa.union(
        sa.select(Embedding.encoder).where(Embedding.work_id == work_id),
        sa.select(LocalFeatureSet.method).where(LocalFeatureSet.work_id == work_id),
    )
    return WorkView(
        id=str(found.id),
        title=found.title,
        artist_id=str(found.artist_id),
        artist=artist,
        collection=collection,
        licence=found.licence,
        width=found.width,
        height=found.height,
        iscc=found.iscc,
        grants={"train": found.grant_train, "compare": found.grant_compare, "name": found.grant_name},
        changes=_changes(session, work_id),
        indexed_by=sorted(session.scalars(seen)),
        added_at=_text(found.created_at),
        credits=_credits(session, Credit.work_id == work_id, now, before),
    )


def artist(
    session: Session,
    artist_id: uuid.UUID,
    now: dt.datetime,
    *,
    works_after: uuid.UUID | None = None,
    before: uuid.UUID | None = None,
) -> ArtistView:
    """Raises NotFound `artist_unknown`, also where none of their works may be named."""
    mine = sa.and_(Work.artist_id == artist_id, Work.grant_name)
    row = session.execute(
        sa.select(Artist.name, Collection.name, sa.func.count(Work.id))
        .join(Collection, Collection.id == Artist.collection_id)
        .join(Work, mine)
        .where(Artist.id == artist_id)
        .group_by(Artist.id, Collection.id)
    ).one_or_none()
    if row is None:
        raise _unknown("artist", artist_id)
    name, collection, named = row
    works = session.scalars(
        sa.select(Work)
        .where(mine, Work.id > works_after if works_after is not None else sa.true())
        .order_by(Work.id)
        .limit(PAGE)
    )
    shown = sa.or_(Credit.work_id.is_(None), Credit.work_id.in_(sa.select(Work.id).where(mine)))
    return ArtistView(
        id=str(artist_id),
        name=name,
        collection=collection,
        named_works=named,
        works=[
            WorkLine(
                id=str(each.id),
                title=each.title,
                licence=each.licence,
                train=each.grant_train,
                compare=each.grant_compare,
                width=each.width,
                height=each.height,
            )
            for each in works
        ],
        credits=_credits(session, sa.and_(Credit.artist_id == artist_id, shown), now, before),
    )


def preview(session: Session, work_id: uuid.UUID) -> bytes:
    """A small WebP of a work that may be named. Raises NotFound `work_unknown`."""
    found = session.scalar(
        sa.select(Preview.webp).join(Work, Work.id == Preview.work_id).where(Work.id == work_id, Work.grant_name)
    )
    if found is None:
        raise _unknown("work", work_id)
    return found


def _unknown(what: str, asked: uuid.UUID) -> NotFound:
    if what == "work":
        return NotFound(
            f"no work {asked} is shown here", code="work_unknown", next_step="take the id from a record's report"
        )
    return NotFound(
        f"no artist {asked} is shown here", code="artist_unknown", next_step="search the log's page for the name"
    )


def _changes(session: Session, work_id: uuid.UUID) -> list[GrantLine]:
    rows = session.execute(
        sa.select(GrantChange, published_index(GrantChange.leaf_hash))
        .where(GrantChange.work_id == work_id)
        .order_by(GrantChange.id.desc())
        .limit(PAGE)
    )
    return [
        GrantLine(grant=each.grant, allowed=each.allowed, by_role=each.by_role, at=_text(each.created_at), index=index)
        for each, index in rows
    ]


def _credits(session: Session, where: sa.ColumnElement[bool], now: dt.datetime, before: uuid.UUID | None) -> Credits:
    """Of listed records alone: a credit goes with its record."""
    rows = session.execute(
        sa.select(Credit.id, Credit.record_id, Record.kind, Credit.axis, Credit.p_value, Credit.created_at)
        .join(Record, Record.id == Credit.record_id)
        .where(where, Record.listed, Credit.id < before if before is not None else sa.true())
        .order_by(Credit.id.desc())
        .limit(PAGE)
    )
    newest = [
        CreditLine(id=str(row[0]), record_id=str(row[1]), kind=row[2], axis=row[3], p_value=row[4], at=_text(row[5]))
        for row in rows
    ]
    months = _last_months(now)
    begin = dt.datetime.fromisoformat(f"{months[0]}-01T00:00:00+00:00")
    month = sa.func.to_char(sa.func.timezone("UTC", Credit.created_at), "YYYY-MM")
    counted = session.execute(
        sa.select(month, sa.func.count(Credit.record_id.distinct()))
        .join(Record, Record.id == Credit.record_id)
        .where(where, Record.listed, Credit.created_at >= begin)
        .group_by(month)
    ).all()
    counts: dict[str, int] = {row[0]: row[1] for row in counted}
    return Credits(newest=newest, months=[Month(each, counts.get(each, 0)) for each in months])


def _last_months(now: dt.datetime) -> Sequence[str]:
    """The last MONTHS months as YYYY-MM, this one last."""
    now = now.astimezone(dt.UTC)
    number = now.year * 12 + now.month - 1
    return [f"{each // 12:04d}-{each % 12 + 1:02d}" for each in range(number - MONTHS + 1, number + 1)]


def _text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat()
