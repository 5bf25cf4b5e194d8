"""Forget a record on request: its content goes, its place in the log stays, and the log says that it went."""

import hashlib
import uuid
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger import lookup
from ledger.claims.erasing import Asked, forget_about, wait_for_places
from ledger.database.tables.claims import Claim
from ledger.database.tables.log import LogEntry, LogShard
from ledger.database.tables.records import (
    Credit,
    Generation,
    Picture,
    Record,
    Report,
    SignedReport,
    Stamp,
    Verification,
)
from ledger.errors import BadRequest, Conflict, NotFound
from ledger.log import entries
from ledger.log.statement_types import sign_entry
from ledger.runtime import Runtime

ERASED = "lawful-ledger/erased/1"
ROLES = ("artist", "depicted person", "submitter", "court", "operator")
REASONS = ("requested", "ordered", "mistake")
EMPTIED = (
    "file_sha256", "submitted_sha256", "pixel_sha256", "iscc", "iscc_instance", "iscc_bits", "pdq", "width", "height",
    "salt", "manifest_urn", "claim_sha256", "request_sha256", "principal_id",
)  # fmt: skip


@dataclass(frozen=True)
class Erasure:
    """Where the record's entry stands in the log, and the leaf of the entry that says it was erased. Both are None for
    a record that never reached the log."""

    index: int | None
    leaf_hash: bytes | None


def erase(runtime: Runtime, record_id: uuid.UUID, *, reason: str, asked_by: str) -> Erasure:
    """Delete what a finished record says of an image, and what looks at it were told of it.

    File, fingerprints, salt, prompt, report (the signed PDF too), declared model, the submitter's name for it and the
    link to the submitter go. Without the salt the entry's commitments can no longer be opened from here. Erasing again
    finishes what a crash left. `reason` and `asked_by` are words from fixed lists: both go into the public log, which
    must name nobody.

    What it does not reach: copies of the file that others hold, which still carry the salt (such a copy is then
    answered `redacted`, never `not_recorded`); another record of the same pixels, which is another's; the database's
    write-ahead log, its dead rows until they are vacuumed, and backups: those go by their own rules.

    Raises BadRequest `erasure_words`, NotFound `record_unknown`, Conflict `record_unfinished`, Unavailable
    `log_timeout` for a record whose entry has no index yet.
    """
    for field, value, known in (("reason", reason, REASONS), ("asked_by", asked_by, ROLES)):
        if value not in known:
            raise BadRequest(
                f"{field}: {value[:40]!r} is not known",
                code="erasure_words",
                next_step=f"use one of: {', '.join(known)}",
            )
    _wait_for_index(runtime, record_id)
    wait_for_places(runtime, Claim.about == record_id)
    with runtime.sessions.begin() as session:
        record = _finished(session, record_id, lock=True)
        if record.erased_at is None:
            _forget(session, runtime, record, reason, asked_by)
        place = _place(session, record.leaf_hash)
        erasure = Erasure(place[1] if place else None, record.erased_leaf)
        file_key = record.file_key
    if file_key:  # after the commit: a row may outlive its file, no file outlives its row
        delete_file(runtime, record_id, file_key)
    return erasure


def delete_file(runtime: Runtime, record_id: uuid.UUID, file_key: str) -> None:
    """The last step of an erasure: the file, then the key that holds its digest."""
    runtime.storage.delete(file_key)
    with runtime.sessions.begin() as session:
        session.execute(sa.update(Record).where(Record.id == record_id).values(file_key=None))


def refuse_erased(session: Session, principal_id: uuid.UUID, idempotency_key: str | None) -> None:
    """A client that tries again and again must not bring back what was deleted. Raises NotFound `record_redacted`."""
    if idempotency_key is None:
        return
    erased = sa.select(Record.id).where(
        Record.principal_id.is_(None), Record.idempotency_key == _erased_key(principal_id, idempotency_key)
    )
    if session.scalar(erased.limit(1)) is not None:
        raise NotFound("this request's record was deleted", code="record_redacted", next_step="send a new key")


def _erased_key(principal_id: uuid.UUID | None, idempotency_key: str) -> str:
    """What stays of an erased record's Idempotency-Key: enough to know a late retry by, and no word of it."""
    digest = hashlib.sha256(f"{principal_id} {idempotency_key}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"erased:{digest}"


def _finished(session: Session, record_id: uuid.UUID, *, lock: bool = False) -> Record:
    wanted = sa.select(Record).where(Record.id == record_id)
    record = session.execute(wanted.with_for_update() if lock else wanted).scalar_one_or_none()
    if record is None:
        raise NotFound(f"no record {record_id}", code="record_unknown", next_step="look the file up by its hash")
    if record.state not in {"issued", "abandoned"} and (record.kind, record.state) != ("verification", "signed"):
        raise Conflict(
            f"record {record_id} is still being made",
            code="record_unfinished",
            next_step="erase it once it is done",
        )
    return record


def _wait_for_index(runtime: Runtime, record_id: uuid.UUID) -> None:
    """The redaction names the entry by its index, so the log has to have it. A look's entry may still be waiting."""
    with runtime.sessions() as session:
        leaf = _finished(session, record_id).leaf_hash
        if leaf is None or _place(session, leaf) is not None:
            return
    entries.wait(runtime.sessions, runtime.shard, leaf, runtime.settings.issue_timeout)


def _place(session: Session, leaf_hash: bytes | None) -> tuple[str, int] | None:
    """(origin, index) of an entry, in whichever shard it stands."""
    row = session.execute(
        sa.select(LogShard.origin, LogEntry.idx)
        .join(LogEntry, LogEntry.shard == LogShard.name)
        .where(LogEntry.leaf_hash == leaf_hash)
        .limit(1)
    ).one_or_none()
    return None if row is None else (row.origin, row.idx)


def _forget(session: Session, runtime: Runtime, record: Record, reason: str, asked_by: str) -> None:
    """Everything but the file, in the transaction that hands the redaction to the log."""
    now = runtime.clock()
    place = _place(session, record.leaf_hash)
    if record.leaf_hash is not None and place is not None:
        payload = {
            "type": ERASED,
            "origin": place[0],
            "index": place[1],
            "leaf": record.leaf_hash.hex(),
            "reason": reason,
            "asked_by": asked_by,
            "created_at": now.isoformat(),
        }
        entry = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
        record.erased_leaf = entries.append(session, entry)
    looks = sa.or_(
        sa.and_(Record.pixel_sha256.is_not(None), Record.pixel_sha256 == record.pixel_sha256),
        Record.id.in_(_looks_told(session, {"records": [{"id": str(record.id)}]})),
    )
    of_looks = sa.select(Record.id).where(Record.kind == "verification", looks, Record.id != record.id)
    session.execute(sa.update(Verification).where(Verification.record_id.in_(of_looks)).values(result=None))
    session.execute(
        sa.update(Record).where(Record.id.in_(of_looks)).values(pixel_sha256=None, salt=None, erased_at=now)
    )  # fmt: skip
    if record.idempotency_key is not None:
        record.idempotency_key = _erased_key(record.principal_id, record.idempotency_key)
    record.erased_at, record.listed = now, False
    for column in EMPTIED:
        setattr(record, column, None)
    if record.failure is not None:  # its detail may quote what was asked for
        record.failure = {"code": record.failure.get("code"), "detail": "its content was deleted on request"}
    session.flush()
    of_record = {"record_id": record.id}
    session.execute(sa.delete(Report).filter_by(**of_record))
    session.execute(sa.delete(Picture).filter_by(**of_record))
    session.execute(sa.delete(SignedReport).filter_by(**of_record))
    session.execute(sa.delete(Credit).filter_by(**of_record))
    session.execute(
        sa.update(Generation).filter_by(**of_record).values(prompt=None, prompt_salt=None, unknown_words=None)
    )
    session.execute(
        sa.update(Stamp).filter_by(**of_record).values(
            prompt=None, prompt_salt=None, prompt_commitment=None, declared_model=None, parent_manifest_urn=None
        )
    )  # fmt: skip
    session.execute(sa.update(Verification).filter_by(**of_record).values(result=None))
    _redact_candidates(session, record)
    forget_about(session, runtime, record.id, Asked(reason, asked_by))


def _looks_told(session: Session, what: dict[str, object]) -> list[uuid.UUID]:
    """Looks whose answer contains this piece of JSON. Walks all of them: erasures are rare, an index is for ever."""
    return list(session.scalars(sa.select(Verification.record_id).where(Verification.result.contains(what))))


def _redact_candidates(session: Session, record: Record) -> None:
    """Looks at other pictures that were told "looks like this one" keep their answers, with an empty record in it."""
    mine = str(record.id)
    redacted = msgspec.to_builtins(lookup.by_id(session, record.id))
    for look_id in _looks_told(session, {"candidates": [{"record": {"id": mine}}]}):
        look = session.get_one(Verification, look_id)
        told = dict(look.result or {})
        told["candidates"] = [
            {**each, "record": redacted} if each["record"]["id"] == mine else each for each in told["candidates"]
        ]
        look.result = told
