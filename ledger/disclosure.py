"""What auditors read: the log's entries in the log's order, each with its proof and with the record behind it.

A cursor is a place in the log. Entries never move, so whoever goes on from the cursor that the last page gave neither
skips one nor sees one twice, however much is appended meanwhile and however few rows a filter lets through.

What a page does not show: who made a look, and whose a protected work is. What it does not prove: that the log is the
same for others (witnesses tell), or that `integrated_at` is true: that is the operator's clock.
"""

import base64
import datetime as dt
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

from ledger import lookup
from ledger.behind import behind
from ledger.database.tables.log import LogEntry
from ledger.database.tables.records import Generation, Record, Report, Stamp
from ledger.database.tables.works import GrantChange, Work
from ledger.errors import BadRequest, NotFound
from ledger.log import entries
from ledger.log.policy import Policy
from ledger.log.shard import Head, query_of
from ledger.log.state import shown_head
from ledger.log.statements import parse_statement
from ledger.lookup import RecordView

MAX_ROWS = 200
"""Of a page; as many proofs share the tiles they are made from."""

SPAN = 20_000
"""Entries that one page looks through at most: a filter that lets nothing pass costs as little as one that does."""

Decision = Literal["supported", "contradicted", "inconclusive", "blocked"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)

_TYPE = re.compile(r"(lawful-ledger/)?([a-z][a-z-]{0,40})(/(\d{1,3}))?")
_PERIOD = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An entry: `entry` is its bytes in base64, `proof` a C2SP tlog-proof of them, both as the log has them.

    `payload` is what the entry says, None once what it commits to was deleted (`redacted`). `record` is given where the
    entry is a record's own, and never for looks.
    """

    index: int
    leaf_hash: str
    integrated_at: str
    type: str
    issuer: str
    redacted: bool
    payload: dict[str, Any] | None
    record: RecordView | None
    entry: str
    proof: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Rows under one checkpoint. `cursor` leads to the next page; while `more` is false it is where the log, or the
    period, ends so far: ask again with it later."""

    rows: list[Row]
    cursor: int
    more: bool
    size: int
    checkpoint: str


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What rows are wanted; None stands for any. `since` (included) and `until` (not) are times of integration.

    `type`: as in an entry (`lawful-ledger/record/1`), or its middle word. `model`: records made or declared with one of
    this name. `artist`: records whose report names this artist, and changes of grants of their works. `decision`: of a
    claim, or `blocked` by the near-copy gate.
    """

    since: dt.datetime | None = None
    until: dt.datetime | None = None
    type: str | None = None
    model: str | None = None
    artist: uuid.UUID | None = None
    decision: Decision | None = None


def period(text: str) -> tuple[dt.datetime, dt.datetime]:
    """Begin and end, in UTC, of a year, a month or a day: `2026`, `2026-11`, `2026-11-22`.

    Raises BadRequest `period_malformed`.
    """
    parts = _PERIOD.fullmatch(text)
    try:
        if parts is None:
            raise ValueError
        year, month, day = (int(part) if part else None for part in parts.groups())
        assert year is not None
        begin = dt.datetime(year, month or 1, day or 1, tzinfo=dt.UTC)
        if day is not None:
            return begin, begin + dt.timedelta(days=1)
        if month is not None:
            return begin, begin.replace(year=year + month // 12, month=month % 12 + 1)
        return begin, begin.replace(year=year + 1)
    except (ValueError, OverflowError) as error:
        raise BadRequest(
            f"{text[:40]!r} is no year, month or day",
            code="period_malformed",
            next_step="write it as 2026, 2026-11 or 2026-11-22; periods are in UTC",
        ) from error


def page(
    session: Session, shard: str, policy: Policy | None, wanted: Filter, cursor: int = 0, limit: int = MAX_ROWS
) -> Page:
    """Up to `limit` rows from `cursor` on, under the checkpoint that the log shows now.

    Raises BadRequest `entry_type_malformed`, NotFound `artist_unknown`, and as `shown_head` does.
    """
    head = shown_head(query_of(session), shard, policy)
    return _page(session, shard, head, _resolved(session, wanted), cursor, min(limit, MAX_ROWS))


def export(sessions: sessionmaker[Session], shard: str, head: Head, wanted: Filter) -> Iterator[list[Row]]:
    """All rows under `head`, up to MAX_ROWS at a time. Holds no connection between."""
    cursor, more = 0, True
    while more:
        with sessions() as session:
            found = _page(session, shard, head, _resolved(session, wanted), cursor, MAX_ROWS)
        if found.rows:
            yield found.rows
        cursor, more = found.cursor, found.more


def check(session: Session, wanted: Filter) -> None:
    """Raises what `page` would, before anything is answered."""
    _resolved(session, wanted)


# ---- one page --------------------------------------------------------------------------------------------------------


def _page(session: Session, shard: str, head: Head, wanted: "_Resolved", cursor: int, limit: int) -> Page:
    start, end = _range(session, shard, head, wanted.given, cursor)
    stop = min(start + SPAN, end)
    found = session.execute(
        sa.select(LogEntry.idx, LogEntry.leaf_hash, LogEntry.entry, LogEntry.created_at)
        .where(LogEntry.shard == shard, LogEntry.idx >= start, LogEntry.idx < stop, *wanted.conditions)
        .order_by(LogEntry.idx)
        .limit(limit)
    ).all()
    after = found[-1].idx + 1 if len(found) == limit else max(stop, cursor)
    return Page(
        rows=_rows(session, shard, head, found),
        cursor=after,
        more=after < end,
        size=head.size,
        checkpoint=head.note.decode(),
    )


def _range(session: Session, shard: str, head: Head, given: Filter, cursor: int) -> tuple[int, int]:
    """From where to where in the log entries of the period lie: no entry of it is outside, some inside may be none.

    Both ends are looked for among all entries, so a clock that was put back hides nothing.
    """
    cursor = min(max(cursor, 0), head.size)
    under = sa.and_(LogEntry.shard == shard, LogEntry.idx >= cursor, LogEntry.idx < head.size)
    start, end = cursor, head.size
    if given.since is not None:
        first = session.scalar(sa.select(sa.func.min(LogEntry.idx)).where(under, LogEntry.created_at >= given.since))
        start = head.size if first is None else first
    if given.until is not None:
        last = session.scalar(sa.select(sa.func.max(LogEntry.idx)).where(under, LogEntry.created_at < given.until))
        end = cursor if last is None else last + 1
    return (start, end) if start < end else (cursor, cursor)


def _rows(session: Session, shard: str, head: Head, found: Sequence[Any]) -> list[Row]:
    leaves = {row.idx: bytes(row.leaf_hash) for row in found}
    said = {row.idx: parse_statement(row.entry) for row in found}
    records = lookup.of_entries(session, list(leaves.values()))
    about = behind(session, [(leaves[index], each.payload) for index, each in said.items()])
    emptied = {index for index, each in zip(said, about, strict=True) if each.erased is not None}
    proofs = entries.inclusions(session, shard, leaves, head)
    return [
        Row(
            index=row.idx,
            leaf_hash=leaves[row.idx].hex(),
            integrated_at=row.created_at.astimezone(dt.UTC).isoformat(),
            type=str(said[row.idx].payload.get("type", "")),
            issuer=said[row.idx].issuer,
            redacted=row.idx in emptied,
            payload=None if row.idx in emptied else said[row.idx].payload,
            record=records.get(leaves[row.idx]),
            entry=base64.b64encode(row.entry).decode(),
            proof=proof.tlog_proof.decode(),
        )
        for row, proof in zip(found, proofs, strict=True)
    ]


# ---- filters ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Resolved:
    given: Filter
    conditions: Sequence[sa.ColumnElement[bool]]


def _resolved(session: Session, given: Filter) -> _Resolved:
    """The filter as SQL. A statement has one spelling (RFC 8785), so what it says is found in its bytes."""
    conditions: list[sa.ColumnElement[bool]] = []
    if given.since is not None:
        conditions.append(LogEntry.created_at >= given.since)
    if given.until is not None:
        conditions.append(LogEntry.created_at < given.until)
    if given.type is not None:
        conditions.append(_says(LogEntry.entry, "type", _full_type(given.type)))
    if given.decision == "blocked":
        conditions.append(_says(LogEntry.entry, "type", lookup.BLOCKED))
    elif given.decision is not None:
        conditions.append(_says(LogEntry.entry, "outcome", given.decision))
    if given.model is not None:
        conditions.append(_made_with(given.model))
    if given.artist is not None:
        conditions.append(_about(session, given.artist))
    return _Resolved(given, conditions)


def _says(column: Any, member: str, value: str) -> sa.ColumnElement[bool]:
    """Whether canonical JSON in these bytes has this member with this text. Inside a text, quotes are escaped."""
    text = json.dumps({member: value}, ensure_ascii=False, separators=(",", ":"))[1:-1]
    needle = sa.literal(text.encode("utf-8", "surrogatepass"), sa.LargeBinary)
    return sa.func.pg_catalog.position(column, needle) > 0


def _full_type(text: str) -> str:
    parts = _TYPE.fullmatch(text)
    if parts is None:
        raise BadRequest(
            f"type: {text[:60]!r} is no type of entry",
            code="entry_type_malformed",
            next_step="name one as an entry does, such as lawful-ledger/record/1, or its middle word",
        )
    return f"lawful-ledger/{parts[2]}/{parts[4] or 1}"


def _made_with(model: str) -> sa.ColumnElement[bool]:
    model = model.replace("\0", "\ufffd")  # which Postgres takes for no text at all
    return (
        sa.select(Record.id)
        .outerjoin(Generation, Generation.record_id == Record.id)
        .outerjoin(Stamp, Stamp.record_id == Record.id)
        .where(
            Record.leaf_hash == LogEntry.leaf_hash,
            sa.or_(Generation.model["name"].astext == model, Stamp.declared_model == model),
        )
        .exists()
    )


def _about(session: Session, artist: uuid.UUID) -> sa.ColumnElement[bool]:
    """Raises NotFound for an artist without any work that may be named exactly as for one who is not there: which of
    the two it is must not be told."""
    named = sa.select(Work.id).where(Work.artist_id == artist, Work.grant_name)
    if session.scalar(named.limit(1)) is None:
        raise NotFound(
            f"no artist {artist} is named here",
            code="artist_unknown",
            next_step="give an artist's id as a report names it",
        )
    reported = (
        sa.select(Record.id)
        .join(Report, Report.record_id == Record.id)
        .where(Record.leaf_hash == LogEntry.leaf_hash, Record.listed, _says(Report.body, "artist_id", str(artist)))
        .exists()
    )
    changed = LogEntry.leaf_hash.in_(sa.select(GrantChange.leaf_hash).where(GrantChange.work_id.in_(named)))
    return sa.or_(reported, changed)
