"""The log's entries in a list, and what can be found in it: by index, hash, record, artist and model. All of it is
published; who looked at what, and works that may not be named, are not in it."""

import datetime as dt
import re
import uuid

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger import lookup
from ledger.behind import behind
from ledger.database.tables.log import LogCheckpoint, LogEntry, LogPublished
from ledger.database.tables.records import Generation, Record, Stamp
from ledger.database.tables.works import Artist, Work
from ledger.log.statements import parse_statement

PAGE = 50
DAYS = 30
DIGEST = re.compile(r"[0-9a-f]{64}")


class EntryLine(msgspec.Struct, frozen=True, kw_only=True):
    """An entry in a list. `record_id` and `claim_id` are what it is about, where anyone may see that."""

    index: int
    type: str
    created_at: str
    record_id: str | None = None
    claim_id: str | None = None
    redacted: bool = False


class RecordLine(msgspec.Struct, frozen=True, kw_only=True):
    """An issued generation or stamp in a list; `model` is what made it, or what its submitter declared."""

    id: str
    kind: str
    created_at: str
    model: str | None


class ArtistLine(msgspec.Struct, frozen=True, kw_only=True):
    """An artist with at least one work that may be named."""

    id: str
    name: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found, the newest first. An empty answer says nothing about how an image was made."""

    entries: list[EntryLine] = []
    records: list[RecordLine] = []
    artists: list[ArtistLine] = []


class Size(msgspec.Struct, frozen=True):
    """How many entries the log had at the end of a day, UTC."""

    day: str
    entries: int


def newest_entries(session: Session, shard: str, *, before: int | None = None, limit: int = PAGE) -> list[EntryLine]:
    """Published entries, the newest first; `before` an index, the next older ones."""
    where = LogEntry.idx < min(before, 2**63 - 1) if before is not None else sa.true()
    return _lines(session, shard, where, limit)


def search(session: Session, shard: str, asked: str, *, before: uuid.UUID | None = None) -> Found:
    """What `asked` names: an index, a SHA-256 (a leaf, a file or its pixels), an id, an artist's or a model's name,
    in full. `before` is the id of the last record of the page before."""
    asked = asked.strip()
    if asked.isascii() and asked.isdigit() and len(asked) <= 18:
        return Found(entries=_lines(session, shard, LogEntry.idx == int(asked), 1))
    if DIGEST.fullmatch(asked.lower()):
        digest = asked.lower()
        views = lookup.find_any(session, digest)
        return Found(
            entries=_lines(session, shard, LogEntry.leaf_hash == bytes.fromhex(digest), 1),
            records=_records(session, Record.id.in_([uuid.UUID(view.id) for view in views])),
        )
    try:
        record_id = uuid.UUID(asked)
    except ValueError:
        return Found(artists=_artists(session, asked), records=by_model(session, asked, before=before))
    leaves = sa.select(Record.leaf_hash).where(Record.id == record_id, Record.kind != "verification")
    return Found(
        entries=_lines(session, shard, LogEntry.leaf_hash.in_(leaves), PAGE),
        records=_records(session, Record.id == record_id),
        artists=_artists(session, None, record_id),
    )


def by_model(session: Session, name: str, *, before: uuid.UUID | None = None) -> list[RecordLine]:
    """Records of a model with exactly this name, made with it here or declared; the newest first."""
    if "\0" in name:
        return []
    made = sa.select(Generation.record_id).where(Generation.model["name"].astext == name)
    declared = sa.select(Stamp.record_id).where(Stamp.declared_model == name)
    where = Record.id.in_(sa.union_all(made, declared))
    return _records(session, where if before is None else sa.and_(where, Record.id < before))


def growth(session: Session, shard: str, now: dt.datetime) -> list[Size]:
    """The log's size at the end of each of the last DAYS days, today so far."""
    today = now.astimezone(dt.UTC).date()
    first = today - dt.timedelta(days=DAYS - 1)
    begin = dt.datetime.combine(first, dt.time(), dt.UTC)
    day = sa.cast(sa.func.timezone("UTC", LogCheckpoint.created_at), sa.Date)
    published = sa.select(LogPublished.size).where(LogPublished.shard == shard).scalar_subquery()
    of_shard = sa.and_(LogCheckpoint.shard == shard, LogCheckpoint.size <= published)
    size = session.scalar(sa.select(sa.func.max(LogCheckpoint.size)).where(of_shard, LogCheckpoint.created_at < begin))
    rows = session.execute(
        sa.select(day, sa.func.max(LogCheckpoint.size)).where(of_shard, LogCheckpoint.created_at >= begin).group_by(day)
    ).all()
    sizes: dict[dt.date, int] = {row[0]: row[1] for row in rows}
    found, so_far = [], size or 0
    for number in range(DAYS):
        each = first + dt.timedelta(days=number)
        so_far = max(so_far, sizes.get(each, 0))
        found.append(Size(each.isoformat(), so_far))
    return found


def _lines(session: Session, shard: str, where: sa.ColumnElement[bool], limit: int) -> list[EntryLine]:
    rows = session.execute(
        sa.select(LogEntry.idx, LogEntry.leaf_hash, LogEntry.entry, LogEntry.created_at)
        .join(LogPublished, LogPublished.shard == LogEntry.shard)
        .where(LogEntry.shard == shard, LogEntry.idx < LogPublished.size, where)
        .order_by(LogEntry.idx.desc())
        .limit(limit)
    ).all()
    payloads = [parse_statement(row.entry).payload for row in rows]
    about = behind(session, [(row.leaf_hash, payload) for row, payload in zip(rows, payloads, strict=True)])
    return [
        EntryLine(
            index=row.idx,
            type=str(payload.get("type", "")),
            created_at=_text(row.created_at),
            record_id=str(of.record.id) if of.record is not None and of.record.kind != "verification" else None,
            claim_id=str(of.claim.id) if of.claim is not None else None,
            redacted=of.erased is not None,
        )
        for row, payload, of in zip(rows, payloads, about, strict=True)
    ]


def _records(session: Session, where: sa.ColumnElement[bool]) -> list[RecordLine]:
    rows = session.execute(
        sa.select(Record.id, Record.kind, Record.created_at, Generation.model["name"].astext, Stamp.declared_model)
        .outerjoin(Generation, Generation.record_id == Record.id)
        .outerjoin(Stamp, Stamp.record_id == Record.id)
        .where(where, Record.listed)
        .order_by(Record.id.desc())
        .limit(PAGE)
    )
    return [
        RecordLine(
            id=str(row[0]), kind=row[1], created_at=row[2].astimezone(dt.UTC).isoformat(), model=row[3] or row[4]
        )
        for row in rows
    ]


def _artists(session: Session, name: str | None, artist_id: uuid.UUID | None = None) -> list[ArtistLine]:
    """By the whole name, whatever its case, or by id: of those with a work that may be named."""
    if name is not None and "\0" in name:
        return []
    asked = Artist.id == artist_id if name is None else sa.func.lower(Artist.name) == sa.func.lower(name)
    named = sa.exists().where(Work.artist_id == Artist.id, Work.grant_name)
    rows = session.execute(sa.select(Artist.id, Artist.name).where(asked, named).order_by(Artist.name).limit(PAGE))
    return [ArtistLine(id=str(row.id), name=row.name) for row in rows]


def _text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat()
