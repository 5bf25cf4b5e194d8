"""Forgetting what a claim says: words, names, facts, reports and the salt go; its steps stay, and the log says so."""

import uuid
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.claims import moving, replies
from ledger.database.tables.claims import Claim, ClaimDocument, ClaimPicture, ClaimStep, SignedClaimReport
from ledger.database.tables.log import LogEntry, LogShard
from ledger.errors import Unavailable
from ledger.log import entries
from ledger.log.statement_types import sign_entry
from ledger.runtime import Runtime

ERASED = "lawful-ledger/erased/1"


class Asked(NamedTuple):
    """Why, and who asked, by role: the words of `ledger.erasure`, which go into the log."""

    reason: str
    asked_by: str


def erase_claim(runtime: Runtime, claim_id: uuid.UUID, asked: Asked) -> None:
    """Delete a claim's content on request. Its entries stay in the log and can no longer be opened from here; one more
    for each that committed to a document says that it went. Erasing again changes nothing.

    Copies of its report in other hands hold the salt, and stay what they were. Raises NotFound `claim_unknown`,
    Unavailable `log_timeout` while an entry has no index yet, `claim_moved` where another step was just taken.
    """
    wait_for_places(runtime, Claim.id == claim_id)
    with runtime.sessions.begin() as session:
        keys = _forget(session, runtime, moving.locked(session, claim_id), asked)
    replies.forget_files(runtime, keys)


def forget_about(session: Session, runtime: Runtime, record_id: uuid.UUID, asked: Asked) -> None:
    """With a record go the claims about it: their reports repeat its digests. What was handed in for them is swept."""
    for claim in session.scalars(sa.select(Claim).where(Claim.about == record_id).with_for_update()):
        _forget(session, runtime, claim, asked)


def wait_for_places(runtime: Runtime, which: sa.ColumnElement[bool]) -> None:
    """Until the log has every entry of these claims: a redaction names the entry by its index."""
    steps = sa.select(ClaimStep.leaf_hash).join(Claim, Claim.id == ClaimStep.claim_id).where(which)
    with runtime.sessions() as session:
        waiting = session.scalars(steps.where(~sa.exists().where(LogEntry.leaf_hash == ClaimStep.leaf_hash))).all()
    for leaf in waiting:
        entries.wait(runtime.sessions, runtime.shard, leaf, runtime.settings.issue_timeout)


def _forget(session: Session, runtime: Runtime, claim: Claim, asked: Asked) -> list[str]:
    if claim.erased_at is not None:
        return []
    now = runtime.clock()
    documented = session.execute(
        sa.select(ClaimStep.number, ClaimStep.leaf_hash, LogShard.origin, LogEntry.idx)
        .join(
            ClaimDocument,
            sa.and_(ClaimDocument.claim_id == ClaimStep.claim_id, ClaimDocument.number == ClaimStep.number),
        )
        .outerjoin(LogEntry, LogEntry.leaf_hash == ClaimStep.leaf_hash)
        .outerjoin(LogShard, LogShard.name == LogEntry.shard)
        .where(ClaimStep.claim_id == claim.id)
        .order_by(ClaimStep.number)
    ).all()
    if any(row.idx is None for row in documented):  # a step was taken since `wait_for_places`
        raise Unavailable(
            "the claim has just moved on, and its newest entry has no place in the log yet",
            code="claim_moved",
            next_step="ask again in a moment; nothing was deleted",
        )
    for row in documented:
        payload = {
            "type": ERASED,
            "origin": row.origin,
            "index": row.idx,
            "leaf": row.leaf_hash.hex(),
            "reason": asked.reason,
            "asked_by": asked.asked_by,
            "created_at": now.isoformat(),
        }
        entry = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
        leaf = entries.append(session, entry)
        claim.erased_leaf = claim.erased_leaf or leaf
    session.execute(sa.delete(SignedClaimReport).where(SignedClaimReport.claim_id == claim.id))
    session.execute(sa.delete(ClaimPicture).where(ClaimPicture.claim_id == claim.id))
    session.execute(sa.delete(ClaimDocument).where(ClaimDocument.claim_id == claim.id))
    keys = replies.release(session, claim.id)
    claim.salt, claim.identity_id, claim.erased_at = None, None, now
    session.flush()
    return keys
