"""Who recorded this? By file, by pixels, by ISCC, by id; and what merely looks alike. No log, no networks, no HTTP."""

import datetime as dt
import uuid
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from attribution.fingerprints import Fingerprints, bits, iscc_bits
from ledger.database.tables import Generation, LogEntry, LogShard, Record, Report, Stamp
from ledger.errors import BadRequest, NotFound

# Bits of 256 that may differ before two pictures are no longer called alike. Unrelated pictures differ in 120 to 132;
# re-encoding and halving change up to 6. See docs/decisions for the measured false-match rate.
SOFT_BITS = {"iscc": 24, "pdq": 32}
SOFT_LIMIT = 10


class RecordView(msgspec.Struct, frozen=True, kw_only=True):
    """A record as anyone may see it. `redacted` ones keep their place in the log and nothing else."""

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
    log: dict[str, Any] | None
    redacted: bool


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
    limit: int = 100,
) -> list[RecordView]:
    """Issued generations and stamps with exactly this hash, earliest first. Give one of the three.

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
        digest = _digest("file_sha256", file_sha256)
        where = sa.or_(Record.file_sha256 == digest, Record.submitted_sha256 == digest)
    elif pixel_sha256 is not None:
        where = Record.pixel_sha256 == _digest("pixel_sha256", pixel_sha256)
    else:
        assert iscc is not None
        if not iscc.startswith("ISCC:") or len(iscc) > 100:
            raise BadRequest(
                "iscc: an ISCC in text form is wanted", code="iscc_malformed", next_step="send it as ISCC:… in full"
            )
        where = Record.iscc == iscc
    return _views(session, sa.select(Record).where(where, Record.listed), limit)


def find_any(session: Session, digest: str) -> list[RecordView]:
    """For `/r/<hash>`: 64 hex digits that may name a file or its pixels; the file first."""
    return find(session, file_sha256=digest) or find(session, pixel_sha256=digest)


def by_id(session: Session, record_id: uuid.UUID) -> RecordView:
    """The record in any state (its owner asks how far it is); one that is not issued shows no hashes and no file."""
    record = session.get(Record, record_id)
    if record is None:
        raise NotFound(
            f"no record {record_id}", code="record_unknown", next_step="look the file up by its hash instead"
        )
    return _view(session, record)


def by_manifest(session: Session, manifest_urn: str) -> list[RecordView]:
    return _views(session, sa.select(Record).where(Record.manifest_urn == manifest_urn, Record.listed), 10)


def similar(session: Session, found: Fingerprints, limit: int = SOFT_LIMIT) -> list[Candidate]:
    """Listed records whose ISCC Image-Code or PDQ is within `SOFT_BITS`, nearest first.

    The index search is approximate: a near record may be missed. What is returned was measured exactly.
    """
    candidates: dict[str, Candidate] = {}
    for binding, column, code in (
        ("iscc", Record.iscc_bits, iscc_bits(found.iscc)),
        ("pdq", Record.pdq, found.pdq),
    ):
        nearest = session.scalars(
            sa.select(Record)
            .where(Record.listed, column.is_not(None))
            .order_by(column.op("<~>")(sa.cast(bits(code), column.type)))
            .limit(limit)
        ).all()
        for record in nearest:
            stored = getattr(record, column.key)
            differing = sum(a != b for a, b in zip(str(stored), bits(code), strict=True))
            if differing <= SOFT_BITS[binding]:
                candidate = Candidate(
                    record=_view(session, record),
                    binding=binding,
                    bits_differing=differing,
                    bits_allowed=SOFT_BITS[binding],
                )
                known = candidates.get(candidate.record.id)
                if known is None or candidate.bits_differing < known.bits_differing:
                    candidates[candidate.record.id] = candidate
    return sorted(candidates.values(), key=lambda each: (each.bits_differing, each.record.created_at))[:limit]


def report(session: Session, record_id: uuid.UUID) -> bytes:
    """The report of an issued record, byte for byte as its statement commits to it."""
    body = session.execute(
        sa.select(Report.body).join(Record, Record.id == Report.record_id).where(Record.id == record_id, Record.listed)
    ).scalar()
    if body is None:
        raise NotFound(
            f"no report for {record_id}", code="report_unknown", next_step="look the record up by the file's hash"
        )
    return body


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


def _views(session: Session, query: "sa.Select[Record]", limit: int) -> list[RecordView]:
    return [
        _view(session, record) for record in session.scalars(query.order_by(Record.created_at, Record.id).limit(limit))
    ]


def _view(session: Session, record: Record) -> RecordView:
    shown = record.listed and record.erased_at is None
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
        made=_made(session, record) if shown else None,
        manifest_urn=record.manifest_urn if shown else None,
        claim_sha256=_hex(record.claim_sha256) if shown else None,
        report_sha256=_hex(
            session.execute(sa.select(Report.sha256).where(Report.record_id == record.id)).scalar() if shown else None
        ),
        log=_log(session, record.leaf_hash),
        redacted=record.erased_at is not None,
    )


def _made(session: Session, record: Record) -> dict[str, Any] | None:
    if record.kind == "generation":
        generation = session.get_one(Generation, record.id)
        return {"by": "generated here", "model": generation.model}
    if record.kind == "stamp":
        stamp = session.get_one(Stamp, record.id)
        return {"by": "declared by its submitter", "declared_model": stamp.declared_model, "ai_origin": stamp.ai_origin}
    return None


def _log(session: Session, leaf_hash: bytes | None) -> dict[str, Any] | None:
    """Where the log holds the record's statement; None while it is on its way."""
    if leaf_hash is None:
        return None
    row = session.execute(
        sa.select(LogShard.origin, LogEntry.idx)
        .join(LogEntry, LogEntry.shard == LogShard.name)
        .where(LogEntry.leaf_hash == leaf_hash)
    ).first()
    return None if row is None else {"origin": row.origin, "index": row.idx, "leaf_hash": leaf_hash.hex()}


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
