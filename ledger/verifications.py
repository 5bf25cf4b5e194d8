"""A look at an image, as a record: accepted, done by the worker, logged unlisted; the image is not kept."""

import secrets
import uuid
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from ledger import jobs
from ledger.database.tables.records import Record
from ledger.database.tables.records import Verification as VerificationRow
from ledger.errors import NotFound
from ledger.log import sequencer
from ledger.log.statement_types import PIXELS_DOMAIN, sign_entry
from ledger.log.statements import commitment
from ledger.runtime import Runtime
from ledger.verify import Verification

LOOK = "lawful-ledger/verification/1"


def accept_verification(
    session: Session, runtime: Runtime, *, image: bytes, principal_id: uuid.UUID | None
) -> uuid.UUID:
    """Keep the upload until the worker has looked at it. Raises ImageError and Unavailable `queue_full` before anything
    is stored."""
    jobs.require_room(session, "verify")
    runtime.files.decode(image)
    record_id = uuid7()
    key = f"uploads/{record_id}"
    runtime.storage.put(key, image)
    session.add(Record(id=record_id, kind="verification", state="accepted", listed=False, principal_id=principal_id))
    session.flush()
    session.add(VerificationRow(record_id=record_id, upload_key=key))
    session.flush()
    jobs.defer(session, "verify", record_id)
    return record_id


def record(runtime: Runtime, record_id: uuid.UUID, found: Verification) -> None:
    """Store what was found and hand its entry to the log, then forget the image.

    The entry commits, salted, to the pixels, beside the answers: without the row it cannot be tied to an image.
    """
    salt = secrets.token_bytes(32)
    found = msgspec.structs.replace(found, verification_id=str(record_id))
    result = msgspec.to_builtins(found)
    pixels = bytes.fromhex(found.pixel_sha256)
    payload = {
        "type": LOOK,  # without the record's id: who knows that may read the whole answer
        "created_at": found.checked_at,
        "commitments": {"pixels": commitment(PIXELS_DOMAIN, salt, pixels).hex()},
        "answers": msgspec.to_builtins(found.answers),
    }
    entry = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
    with runtime.sessions.begin() as session:
        row = session.execute(
            sa.select(Record).where(Record.id == record_id, Record.state == "accepted").with_for_update()
        ).scalar_one_or_none()
        if row is None:  # another worker was faster; its answer stands
            return
        row.leaf_hash = sequencer.append(session, entry)
        row.statement = entry
        row.salt = salt
        row.state = "signed"
        row.pixel_sha256 = pixels
        look = session.get_one(VerificationRow, record_id)
        look.result = result
        upload_key, look.upload_key = look.upload_key, None
    if upload_key:
        runtime.storage.delete(upload_key)


def result(session: Session, record_id: uuid.UUID) -> dict[str, Any] | None:
    """The answer as JSON builtins (`ledger.verify.Verification`), or None while it is pending.

    Raises NotFound for an id that is no verification, and the stored failure when the look failed.
    """
    row = session.execute(
        sa.select(Record.state, Record.failure, Record.erased_at, VerificationRow.result)
        .join(VerificationRow, VerificationRow.record_id == Record.id)
        .where(Record.id == record_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"no verification {record_id}", code="verification_unknown", next_step="verify the file again")
    if row.state == "abandoned":
        raise jobs.failure_of(row.failure)
    if row.erased_at is not None:
        raise NotFound(
            "this verification's answer was deleted on request",
            code="record_redacted",
            next_step="verify the file again",
        )
    return row.result  # type: ignore[no-any-return]
