"""Forget a record on request: its content goes, its place in the log stays, and the log says that it went."""

import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.database.tables import Generation, Record, Report, Stamp, Verification
from ledger.errors import BadRequest, Conflict, NotFound
from ledger.log import sequencer
from ledger.log.statements import sign_statement
from ledger.runtime import Runtime

ERASED = "lawful-ledger/erased/1"
ROLES = ("artist", "depicted person", "submitter", "court", "operator")
REASONS = ("requested", "ordered", "mistake")
IDENTIFYING = (
    "file_sha256", "submitted_sha256", "pixel_sha256", "iscc", "iscc_instance", "iscc_bits", "pdq",
    "salt", "manifest_urn", "claim_sha256", "request_sha256",
)  # fmt: skip


def erase(runtime: Runtime, record_id: uuid.UUID, *, reason: str, asked_by: str) -> None:
    """Delete what a finished record says of an image, and what looks at the same pixels were told of it.

    File, fingerprints, salt, prompt, report and declared model go. Without the salt the entry's commitments can no
    longer be opened from here. Copies of the file that others hold still carry theirs: such a copy is then answered
    `redacted`, never `not_recorded`. Erasing again finishes what a crash left. `reason` and `asked_by` are words from
    fixed lists: both go into the public log, which must name nobody.
    """
    for field, value, known in (("reason", reason, REASONS), ("asked_by", asked_by, ROLES)):
        if value not in known:
            raise BadRequest(
                f"{field}: {value[:40]!r} is not known",
                code="erasure_words",
                next_step=f"use one of: {', '.join(known)}",
            )
    with runtime.sessions.begin() as session:
        record = session.execute(sa.select(Record).where(Record.id == record_id).with_for_update()).scalar_one_or_none()
        if record is None:
            raise NotFound(f"no record {record_id}", code="record_unknown", next_step="look the file up by its hash")
        if not _is_finished(record):
            raise Conflict(
                f"record {record_id} is still being made",
                code="record_unfinished",
                next_step="erase it once it is done",
            )
        if record.erased_at is None:
            _forget(session, runtime, record, reason, asked_by)
        file_key = record.file_key
    if file_key:
        runtime.storage.delete(file_key)
        with runtime.sessions.begin() as session:
            session.execute(sa.update(Record).where(Record.id == record_id).values(file_key=None))


def _is_finished(record: Record) -> bool:
    return record.state in {"issued", "abandoned"} or (record.kind == "verification" and record.state == "signed")


def _forget(session: Session, runtime: Runtime, record: Record, reason: str, asked_by: str) -> None:
    """Everything but the file, which goes after the commit: a row may outlive its file, no file outlives its row."""
    now = runtime.clock()
    if record.leaf_hash is not None:
        payload = {
            "type": ERASED,
            "leaf": record.leaf_hash.hex(),
            "reason": reason,
            "asked_by": asked_by,
            "created_at": now.isoformat(),
        }
        sequencer.append(
            session, sign_statement(payload, runtime.keys.statements, issuer=runtime.settings.origin, subject=ERASED)
        )
    if record.pixel_sha256 is not None:
        looks = sa.select(Record.id).where(Record.kind == "verification", Record.pixel_sha256 == record.pixel_sha256)
        session.execute(sa.update(Verification).where(Verification.record_id.in_(looks)).values(result=None))
        session.execute(
            sa.update(Record).where(Record.id.in_(looks), Record.id != record.id).values(
                pixel_sha256=None, salt=None, erased_at=now
            )
        )  # fmt: skip
    record.erased_at, record.listed = now, False
    for column in IDENTIFYING:
        setattr(record, column, None)
    of_record = {"record_id": record.id}
    session.execute(sa.delete(Report).filter_by(**of_record))
    session.execute(sa.update(Generation).filter_by(**of_record).values(prompt=None, prompt_salt=None))
    session.execute(
        sa.update(Stamp).filter_by(**of_record).values(
            prompt=None, prompt_salt=None, prompt_commitment=None, declared_model=None, parent_manifest_urn=None
        )
    )  # fmt: skip
    session.execute(sa.update(Verification).filter_by(**of_record).values(result=None))
