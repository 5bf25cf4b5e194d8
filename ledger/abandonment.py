"""Records that are never issued: what failed, and what the near-copy gate refused. Whatever was logged is answered.

    accepted ──▶ abandoned   failed: the log never heard of it
    accepted ──▶ abandoned   refused by the gate: a `blocked` entry says by which reasons and policy
    signed   ──▶ abandoned   failed: an `abandoned` entry answers the record's own

Entry and state change are one transaction, so no refusal is missing from the log. Nothing of the picture is kept.
"""

import hashlib
import secrets
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import rfc8785
import sqlalchemy as sa
from sqlalchemy.orm import Session

from attribution.evidence import Evidence
from ledger.database.tables.records import Record, Report, Verification
from ledger.errors import LedgerError
from ledger.gate import refusal
from ledger.log import sequencer
from ledger.log.statement_types import PIXELS_DOMAIN, sign_entry
from ledger.log.statements import commitment
from ledger.lookup import BLOCKED
from ledger.runtime import Runtime
from models.errors import ModelError

ABANDONED = "lawful-ledger/abandoned/1"

EVIDENCE_DOMAIN = "lawful-ledger/evidence/1"


def failure(error: BaseException) -> dict[str, Any]:
    """What is stored of the error that ended a job: told to whoever asks, so nothing internal."""
    if isinstance(error, LedgerError | ModelError):
        return {"code": error.code, "detail": error.detail, "next_step": error.next_step, "status": error.status}
    return {
        "code": "internal_error",
        "detail": "the job failed for a reason of the server's own",
        "next_step": "submit it again; the operator finds the cause in the worker's log",
        "status": 500,
    }


def abandon(runtime: Runtime, record_id: uuid.UUID, failure: Mapping[str, Any]) -> bytes | None:
    """End a record that can never be issued. A statement already handed to the log is answered by an `abandoned` entry.

    A sealed record is past the point where it could fail for its own reasons; it is left to be finished, as is a look
    that was answered. Returns the leaf hash of what the log holds last of an abandoned record, None where it holds
    nothing.
    """
    with runtime.sessions.begin() as session:
        record = locked(session, record_id)
        looked = record.kind == "verification" and record.state == "signed"  # a finished look stays finished
        if record.state not in {"accepted", "signed"} or looked:
            return record.leaf_hash if record.state == "abandoned" else None
        leaf = None
        if record.state == "signed":
            assert record.leaf_hash is not None
            payload = {
                "type": ABANDONED,
                "record_id": str(record_id),
                "leaf": record.leaf_hash.hex(),
                "reason": failure["code"],
            }
            entry = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
            leaf = sequencer.append(session, entry)
        keys = _give_up(session, record, failure)
    for key in keys:
        runtime.storage.delete(key)
    return leaf


def refuse_blocked(
    runtime: Runtime, record_id: uuid.UUID, evidence: Evidence, pixel_sha256: str, model: Mapping[str, str] | None
) -> None:
    """Let allowed and warned images pass; abandon what the gate blocks, with a `blocked` entry.

    The entry has the gate's reasons and policy for everybody, and salted commitments to the canonical pixels
    (`pixel_sha256`, hex) and to the evidence; the latter stays in a row, unlisted, so that a court can have the
    commitment opened, and goes when the record is erased. Raises Conflict `near_copy_blocked` once that is durable.
    """
    error = refusal(evidence.gate)
    if error is None:
        return
    assert evidence.gate is not None
    body = rfc8785.dumps(msgspec.to_builtins(evidence))
    with runtime.sessions.begin() as session:
        record = locked(session, record_id)
        if record.state != "accepted":  # another worker refused it, or it was given up meanwhile
            raise error
        salt, digest = secrets.token_bytes(32), hashlib.sha256(body).digest()
        payload = {
            "type": BLOCKED,
            "record_id": str(record_id),
            "kind": record.kind,
            "created_at": runtime.clock().isoformat(),
            "commitments": {
                "pixels": commitment(PIXELS_DOMAIN, salt, bytes.fromhex(pixel_sha256)).hex(),
                "evidence": commitment(EVIDENCE_DOMAIN, salt, digest).hex(),
            },
            "reasons": list(evidence.gate.reasons),
            "policy": dict(evidence.gate.policy),
            "model": dict(model) if model else None,
            "snapshot": evidence.snapshot.digest if evidence.snapshot else None,
        }
        record.salt = salt
        record.pixel_sha256 = bytes.fromhex(pixel_sha256)
        record.statement = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
        record.leaf_hash = sequencer.append(session, record.statement)
        session.add(Report(record_id=record_id, sha256=digest, body=body))
        keys = _give_up(session, record, failure(error))
    for key in keys:
        runtime.storage.delete(key)
    raise error


def locked(session: Session, record_id: uuid.UUID) -> Record:
    """The row, held until the transaction ends: states only move one way, and one process at a time moves them."""
    return session.execute(sa.select(Record).where(Record.id == record_id).with_for_update()).scalar_one()


def _give_up(session: Session, record: Record, failure: Mapping[str, Any]) -> list[str]:
    """The storage keys of what was handed in: to be deleted once the row says that nothing needs them."""
    record.state = "abandoned"
    record.failure = dict(failure)
    look = session.get(Verification, record.id)
    return [key for key in (record.source_key, look.upload_key if look is not None else None) if key]
