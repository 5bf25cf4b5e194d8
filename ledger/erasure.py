"""Forget a record on request: its content goes, its place in the log stays, and the log says that it went."""

import uuid

import sqlalchemy as sa

from ledger.database.tables import Generation, Record, Report, Stamp
from ledger.errors import BadRequest, NotFound
from ledger.log import sequencer
from ledger.log.statements import sign_statement
from ledger.runtime import Runtime

ERASED = "lawful-ledger/erased/1"
ROLES = ("artist", "depicted person", "submitter", "court", "operator")


def erase(runtime: Runtime, record_id: uuid.UUID, *, reason: str, asked_by: str) -> None:
    """Delete what an issued record says of an image: file, fingerprints, salt, prompt, report. Twice is harmless.

    Without the salt the entry's commitments can no longer be opened from here. Copies of the file that others hold
    still carry theirs: such a copy is then answered `redacted`, never `not_recorded`. `reason` goes into the public log
    and must name nobody; `asked_by` is a role.
    """
    if asked_by not in ROLES:
        raise BadRequest(
            f"asked_by: {asked_by[:40]!r} is no role", code="role_unknown", next_step=f"name one of {', '.join(ROLES)}"
        )
    with runtime.sessions.begin() as session:
        record = session.execute(sa.select(Record).where(Record.id == record_id).with_for_update()).scalar_one_or_none()
        if record is None or record.state != "issued" or record.leaf_hash is None:
            raise NotFound(
                f"no issued record {record_id}", code="record_unknown", next_step="look the file up by its hash"
            )
        if record.erased_at is not None:
            return
        now = runtime.clock()
        payload = {
            "type": ERASED,
            "record_id": str(record_id),
            "leaf": record.leaf_hash.hex(),
            "reason": reason[:500],
            "asked_by": asked_by,
            "created_at": now.isoformat(),
        }
        sequencer.append(
            session, sign_statement(payload, runtime.keys.statements, issuer=runtime.settings.origin, subject=ERASED)
        )
        file_key = record.file_key
        record.erased_at, record.listed = now, False
        for column in ("file_sha256", "submitted_sha256", "pixel_sha256", "iscc", "iscc_instance", "iscc_bits", "pdq"):
            setattr(record, column, None)
        for column in ("salt", "file_key", "manifest_urn", "claim_sha256", "request_sha256"):
            setattr(record, column, None)
        session.execute(sa.delete(Report).where(Report.record_id == record_id))
        session.execute(
            sa.update(Generation).where(Generation.record_id == record_id).values(prompt=None, prompt_salt=None)
        )
        session.execute(
            sa.update(Stamp).where(Stamp.record_id == record_id).values(prompt=None, prompt_commitment=None)
        )
    # After the commit: a crash here leaves a file that no row names, never a row that names no file.
    if file_key:
        runtime.storage.delete(file_key)
