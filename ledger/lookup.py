"""Who recorded this? By file, by pixels, by ISCC, by id, by the log's index; and what merely looks alike. No networks,
no HTTP.
"""

import datetime as dt
import re
import uuid
from collections.abc import Collection
from functools import cache
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from attribution.fingerprints import Fingerprints, bits, iscc_bits
from ledger.behind import behind
from ledger.database.tables.log import WITNESSED_HEADS, LogEntry, LogOutbox, LogPublished, LogShard
from ledger.database.tables.records import Generation, Record, Report, Stamp
from ledger.errors import BadRequest, NotFound
from ledger.log.statements import parse_statement

# Bits of 256 that may differ before two pictures are no longer called alike. Unrelated pictures differ in 120 to 132;
# re-encoding and halving mostly fewer than 12. docs/decisions/0005-soft-bindings.md has the measured rates.
SOFT_BITS = {"iscc": 16, "pdq": 32}
AT_MOST = 100
"""Records of one hash that are shown."""
PDQ_QUALITY = 50  # below it a PDQ hash says little
SOFT_LIMIT = 10
BLOCKED = "lawful-ledger/blocked/1"
ISCC = re.compile(r"ISCC:[A-Z2-7]{10,90}")


class LogPlace(msgspec.Struct, frozen=True):
    """Where a record's entry stands: integrated, on the log's own word. `witnessed` is the second fact: enough of the
    policy's witnesses have cosigned a tree that holds it, so the operator cannot show others a log without it."""

    origin: str
    index: int
    leaf_hash: str
    witnessed: bool


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """What the record's entry says of an image that the near-copy gate refused. `evidence` is the commitment to what
    was found, hex: it opens with a salt and a text that are the ledger's to show."""

    reasons: list[str]
    policy: dict[str, str]
    evidence: str
    created_at: str


class RecordView(msgspec.Struct, frozen=True, kw_only=True):
    """A record as anyone may see it. `redacted` ones keep their place in the log and nothing else. `blocked` is None
    but for an image that the near-copy gate refused. `unknown_words` are told only to whoever asked for the image: the
    words of the prompt that the generator never learned; None where there are none, or where it cannot tell."""

    id: str
    kind: str
    state: str
    created_at: str
    issued_at: str | None
    file_sha256: str | None
    pixel_sha256: str | None
    iscc: str | None
    width: int | None
    height: int | None
    media_type: str | None
    made: dict[str, Any] | None
    manifest_urn: str | None
    claim_sha256: str | None
    report_sha256: str | None
    log: LogPlace | None
    redacted: bool
    blocked: Blocked | None = None
    unknown_words: list[str] | None = None


class Redaction(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of a deletion: which entry says it, why, and who asked, by role. `index` is None while that
    entry is on its way into the log."""

    index: int | None
    reason: str
    asked_by: str
    created_at: str


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the log and what stands behind it. `payload` is the statement as logged, None once `redacted`: its
    bytes stay in the tree, and what they commit to can no longer be opened from here.

    `record_id` is given for records alone; who looked at what stays private.
    """

    origin: str
    index: int
    leaf_hash: str
    type: str
    issuer: str
    answer: Literal["recorded", "redacted"]
    payload: dict[str, Any] | None
    record_id: str | None
    redaction: Redaction | None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A record whose soft binding is near: "looks like", never "is"."""

    record: RecordView
    binding: str  # iscc | pdq
    bits_differing: int
    bits_allowed: int
    bits_total: int = 256


def find(
    session: Session,
    *,
    file_sha256: str | None = None,
    pixel_sha256: str | None = None,
    iscc: str | None = None,
) -> list[RecordView]:
    """Issued generations and stamps with exactly this hash, earliest first, `AT_MOST`. Give one of the three.

    `file_sha256` also finds a stamp by the file as it was handed in, before it got its credential.
    """
    given = [value for value in (file_sha256, pixel_sha256, iscc) if value is not None]
    if len(given) != 1:
        raise BadRequest(
            f"give one of file_sha256, pixel_sha256 and iscc; {len(given)} were given",
            code="hash_count",
            next_step="ask once per hash",
        )
    if file_sha256 is not None:
        return _hashed(session, _digest("file_sha256", file_sha256), "file_sha256", "submitted_sha256")
    if pixel_sha256 is not None:
        return _hashed(session, _digest("pixel_sha256", pixel_sha256), "pixel_sha256")
    assert iscc is not None
    if not ISCC.fullmatch(iscc):
        raise BadRequest(
            "iscc: an ISCC in text form is wanted", code="iscc_malformed", next_step="send it as ISCC:… in full"
        )
    return _hashed(session, iscc, "iscc")


def find_any(session: Session, digest: str) -> list[RecordView]:
    """For `/r/<hash>`: 64 hex digits that may name a file or its pixels. No digest is both, so one query asks."""
    return _hashed(session, _digest("file_sha256", digest), "file_sha256", "submitted_sha256", "pixel_sha256")


def by_id(session: Session, record_id: uuid.UUID) -> RecordView:
    """The record in any state (its owner asks how far it is); one that is not issued shows no hashes and no file."""
    row = session.execute(_with_id(), {"id": record_id}).one_or_none()
    if row is None:
        raise NotFound(
            f"no record {record_id}", code="record_unknown", next_step="look the file up by its hash instead"
        )
    return _view(row)


def for_its_owner(session: Session, record_id: uuid.UUID) -> RecordView:
    """The record in any state, for whoever asked for it: with the words that the generator never learned."""
    words = session.scalar(sa.select(Generation.unknown_words).where(Generation.record_id == record_id))
    return msgspec.structs.replace(by_id(session, record_id), unknown_words=words)


def of_entries(session: Session, leaves: Collection[bytes]) -> dict[bytes, RecordView]:
    """The records whose own entries have these leaf hashes. Looks are left out: who knows a look's id may read it."""
    theirs = sa.and_(Record.leaf_hash.in_(leaves), Record.kind != "verification")
    views = _views(session, theirs, len(leaves)) if leaves else []
    return {bytes.fromhex(view.log.leaf_hash): view for view in views if view.log is not None}


def by_index(session: Session, shard: str, index: int) -> EntryView:
    """What the log holds at `index`, and whether the content behind it was deleted since. Raises NotFound
    `entry_unknown`, also for an entry that is not published yet."""
    row = session.execute(
        sa.select(LogEntry.leaf_hash, LogEntry.entry, LogShard.origin)
        .join(LogShard, LogShard.name == LogEntry.shard)
        .join(LogPublished, LogPublished.shard == LogEntry.shard)
        .where(LogEntry.shard == shard, LogEntry.idx == min(index, 2**63 - 1), LogEntry.idx < LogPublished.size)
    ).one_or_none()
    if row is None:
        raise NotFound(
            f"the log {shard} has published no entry {index}",
            code="entry_unknown",
            next_step="ask for an index from 0 to below the size of its checkpoint",
        )
    statement = parse_statement(row.entry)
    (about,) = behind(session, [(row.leaf_hash, statement.payload)])
    record, erased = about.record, about.erased
    return EntryView(
        origin=row.origin,
        index=index,
        leaf_hash=row.leaf_hash.hex(),
        type=str(statement.payload.get("type", "")),
        issuer=statement.issuer,
        answer="recorded" if erased is None else "redacted",
        payload=statement.payload if erased is None else None,
        record_id=str(record.id) if record is not None and record.kind != "verification" else None,
        redaction=_redaction(session, erased.erased_leaf) if erased is not None else None,
    )


def _redaction(session: Session, leaf_hash: bytes | None) -> Redaction | None:
    """What the redaction's own entry says, wherever it is on its way. A look erased with its record has none."""
    logged = sa.select(LogEntry.idx, LogEntry.entry).where(LogEntry.leaf_hash == leaf_hash)
    waiting = sa.select(sa.null(), LogOutbox.entry).where(LogOutbox.leaf_hash == leaf_hash)
    row = session.execute(logged.limit(1)).one_or_none() or session.execute(waiting).one_or_none()
    if row is None:
        return None
    said = parse_statement(row[1]).payload
    return Redaction(index=row[0], reason=said["reason"], asked_by=said["asked_by"], created_at=said["created_at"])


def similar(
    session: Session, found: Fingerprints, *, exclude: Collection[str] = (), limit: int = SOFT_LIMIT
) -> list[Candidate]:
    """Listed records whose ISCC Image-Code or PDQ is within `SOFT_BITS`, nearest first.

    The index search is approximate: a near record may be missed. What is returned was measured exactly.
    """
    codes = {"iscc": (Record.iscc_bits, iscc_bits(found.iscc))}
    if found.pdq_quality >= PDQ_QUALITY:  # a flat picture is alike to all others
        codes["pdq"] = (Record.pdq, found.pdq)
    known = [uuid.UUID(each) for each in exclude]
    near: dict[uuid.UUID, tuple[float, int, str]] = {}
    for binding, (column, code) in codes.items():
        distance = column.op("<~>", return_type=sa.Float())(sa.cast(bits(code), column.type))
        nearest = (
            sa.select(Record.id, distance)
            .where(Record.listed, column.is_not(None), Record.id.not_in(known))
            .order_by(distance)
            .limit(limit)
        )
        for record_id, differing in session.execute(nearest):
            if differing <= SOFT_BITS[binding]:
                here = (differing / SOFT_BITS[binding], int(differing), binding)
                near[record_id] = min(near.get(record_id, here), here)
    candidates = [
        Candidate(record=view, binding=binding, bits_differing=differing, bits_allowed=SOFT_BITS[binding])
        for view in (_views(session, Record.id.in_(near), len(near)) if near else [])
        for _, differing, binding in [near[uuid.UUID(view.id)]]
    ]
    return sorted(candidates, key=lambda each: (each.bits_differing / each.bits_allowed, each.record.created_at))[
        :limit
    ]


def report(session: Session, record_id: uuid.UUID) -> bytes:
    """The report of an issued record, byte for byte as its statement commits to it."""
    return report_and_file(session, record_id)[0]


def report_and_file(session: Session, record_id: uuid.UUID) -> tuple[bytes, str]:
    """The same, and the storage key of the record's file."""
    row = session.execute(
        sa.select(Report.body, Record.file_key)
        .join(Record, Record.id == Report.record_id)
        .where(Record.id == record_id, Record.listed)
    ).one_or_none()
    if row is None:
        raise NotFound(
            f"no report for {record_id}", code="report_unknown", next_step="look the record up by the file's hash"
        )
    body, key = row
    assert key is not None  # no record is listed without
    return body, key


def file_key(session: Session, record_id: uuid.UUID) -> tuple[str, str]:
    """Storage key and media type of an issued record's file."""
    row = session.execute(
        sa.select(Record.file_key, Record.media_type).where(Record.id == record_id, Record.listed)
    ).one_or_none()
    if row is None or row.file_key is None:
        raise NotFound(
            f"no file for {record_id}", code="file_unknown", next_step="ask /v1/records/{id} how far the record is"
        )
    return row.file_key, row.media_type


def _hashed(session: Session, value: bytes | str, *columns: str) -> list[RecordView]:
    """The listed records that have `value` in one of `columns`, earliest first."""
    # Past the ORM, which would take as long again: these are columns, not objects.
    return [_view(row) for row in session.connection().execute(_with_hash(*columns), {"value": value})]


def _views(session: Session, where: sa.ColumnElement[bool], limit: int) -> list[RecordView]:
    """The records `where`, with what their view needs, in one query; earliest first."""
    return [_view(row) for row in session.execute(_viewed().where(where).limit(limit))]


@cache
def _viewed() -> sa.Select[*tuple[Any, ...]]:
    """The query behind every view. It and those that thousands ask a minute are put together once: that takes longer
    than to ask them."""
    witnessed = sa.exists().where(WITNESSED_HEADS.c.shard == LogShard.name, WITNESSED_HEADS.c.size > LogEntry.idx)
    place = (
        sa.select(LogShard.origin, LogEntry.idx, witnessed.label("witnessed"))
        .join(LogEntry, LogEntry.shard == LogShard.name)
        .join(LogPublished, LogPublished.shard == LogShard.name)
        .where(LogEntry.leaf_hash == Record.leaf_hash, LogEntry.idx < LogPublished.size)
        .limit(1)
        .lateral("place")
    )
    return (
        sa.select(
            *(Record.id, Record.kind, Record.state, Record.listed),
            *(Record.created_at, Record.issued_at, Record.erased_at),
            *(Record.file_sha256, Record.pixel_sha256, Record.iscc),
            *(Record.width, Record.height, Record.media_type),
            *(Record.manifest_urn, Record.claim_sha256, Record.leaf_hash, Record.statement),
            *(Generation.model, Stamp.declared_model, Stamp.ai_origin),
            Report.sha256.label("report_sha256"),
            *(place.c.origin, place.c.idx, place.c.witnessed),
        )
        .outerjoin(Generation, Generation.record_id == Record.id)
        .outerjoin(Stamp, Stamp.record_id == Record.id)
        .outerjoin(Report, Report.record_id == Record.id)
        .outerjoin(place, sa.true())
        .order_by(Record.created_at, Record.id)
    )


@cache
def _with_hash(*columns: str) -> sa.Select[*tuple[Any, ...]]:
    alike = (getattr(Record, each) == sa.bindparam("value") for each in columns)
    return _viewed().where(sa.or_(*alike), Record.listed).limit(AT_MOST)


@cache
def _with_id() -> sa.Select[*tuple[Any, ...]]:
    return _viewed().where(Record.id == sa.bindparam("id"))


def _view(record: sa.Row[*tuple[Any, ...]]) -> RecordView:
    """From a row of `_viewed`."""
    shown = record.listed and record.erased_at is None
    leaf_hash = _hex(record.leaf_hash)
    return RecordView(
        id=str(record.id),
        kind=record.kind,
        state=record.state,
        created_at=_text(record.created_at) or "",
        issued_at=_text(record.issued_at),
        file_sha256=_hex(record.file_sha256) if shown else None,
        pixel_sha256=_hex(record.pixel_sha256) if shown else None,
        iscc=record.iscc if shown else None,
        width=record.width if shown else None,
        height=record.height if shown else None,
        media_type=record.media_type if shown else None,
        made=_made(record) if shown else None,
        manifest_urn=record.manifest_urn if shown else None,
        claim_sha256=_hex(record.claim_sha256) if shown else None,
        report_sha256=_hex(record.report_sha256) if shown else None,
        log=LogPlace(record.origin, record.idx, leaf_hash, record.witnessed) if leaf_hash and record.origin else None,
        redacted=record.erased_at is not None,
        blocked=_blocked(record),
    )


def _blocked(record: sa.Row[*tuple[Any, ...]]) -> Blocked | None:
    """As the record's own entry has it, so that page and log cannot differ."""
    if record.state != "abandoned" or record.statement is None or record.erased_at is not None:
        return None
    said = parse_statement(record.statement).payload
    if said["type"] != BLOCKED:
        return None
    return Blocked(
        reasons=said["reasons"],
        policy=said["policy"],
        evidence=said["commitments"]["evidence"],
        created_at=said["created_at"],
    )


def _made(record: sa.Row[*tuple[Any, ...]]) -> dict[str, Any] | None:
    """How the image came about, and who says so."""
    if record.kind == "generation":
        return {"by": "generated here", "model": record.model}
    if record.kind == "stamp":
        return {
            "by": "declared by its submitter",
            "declared_model": record.declared_model,
            "ai_origin": record.ai_origin,
        }
    return None


def _digest(field: str, text: str) -> bytes:
    """32 bytes from 64 hex digits, or an error that names the field."""
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32 or len(text) != 64:
        raise BadRequest(
            f"{field}: 64 hex digits are wanted, {len(text)} characters were given",
            code="hash_malformed",
            next_step="send the SHA-256 in hex, as `sha256sum` prints it",
        )
    return digest


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _text(value: dt.datetime | None) -> str | None:
    return None if value is None else value.astimezone(dt.UTC).isoformat()
