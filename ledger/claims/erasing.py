"""Forgetting what a claim says: words, names, facts, reports and the salt go; its steps stay, and name nobody."""

import datetime as dt
import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.claims import moving, replies
from ledger.database.claims import Claim, ClaimDocument
from ledger.runtime import Runtime


def erase_claim(runtime: Runtime, claim_id: uuid.UUID) -> None:
    """Delete a claim's content on request. Its entries stay in the log and can no longer be opened from here.

    Copies of its report in other hands hold the salt, and stay what they were. Raises NotFound `claim_unknown`.
    """
    with runtime.sessions.begin() as session:
        claim = moving.locked(session, claim_id)
        keys = _forget(session, claim, runtime.clock())
    replies.forget_files(runtime, keys)


def forget_about(session: Session, record_id: uuid.UUID, now: dt.datetime) -> None:
    """With a record go the claims about it: their reports repeat its digests."""
    for claim in session.scalars(sa.select(Claim).where(Claim.about == record_id).with_for_update()):
        _forget(session, claim, now)


def _forget(session: Session, claim: Claim, now: dt.datetime) -> list[str]:
    session.execute(sa.delete(ClaimDocument).where(ClaimDocument.claim_id == claim.id))
    keys = replies.release(session, claim.id)
    claim.salt, claim.identity_id = None, None
    claim.erased_at = claim.erased_at or now
    session.flush()
    return keys
