"""What people do to a claim once it is there: the other side answers, either side appeals, the claimant withdraws it,
the operator or the calendar closes it."""

import datetime as dt
import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger import jobs
from ledger.claims import moving
from ledger.claims.opening import MAX_WORDS_CHARS, is_text
from ledger.claims.steps import Role
from ledger.database.tables.claims import Claim
from ledger.database.tables.principals import Principal
from ledger.database.tables.records import Record
from ledger.errors import BadRequest, NotAllowed
from ledger.runtime import Runtime

REPLY_SCHEMA = "lawful-ledger/claim-reply/1"
REPLY_TIME = dt.timedelta(days=14)
"""How long after a decision either side can answer or appeal before the ledger closes the claim."""


def answer(session: Session, runtime: Runtime, claim_id: uuid.UUID, role: Role, words: str) -> None:
    """The other side's reply, kept beside the decision. Raises as `moving.take` does, BadRequest `reply_malformed`."""
    moving.take(session, runtime, claim_id, "answer", role, document=_reply(claim_id, words))


def appeal(session: Session, runtime: Runtime, claim_id: uuid.UUID, role: Role, words: str) -> None:
    """Ask for another examination, once for each side. What was proven or put on record meanwhile then counts."""
    moving.take(session, runtime, claim_id, "appeal", role, document=_reply(claim_id, words))
    jobs.defer(session, "examine", claim_id)


def withdraw(session: Session, runtime: Runtime, claim_id: uuid.UUID) -> list[str]:
    """The claimant takes it back. Returns the storage keys to delete once this is committed."""
    moving.take(session, runtime, claim_id, "withdraw", "claimant")
    return release(session, claim_id)


def close(session: Session, runtime: Runtime, claim_id: uuid.UUID, role: Role) -> list[str]:
    """The newest decision stands. Returns the storage keys to delete once this is committed."""
    moving.take(session, runtime, claim_id, "close", role)
    return release(session, claim_id)


def close_due(runtime: Runtime) -> int:
    """Close what was decided or answered REPLY_TIME ago and was not appealed; returns how many."""
    last = moving.last_steps()
    with runtime.sessions() as session:
        due = session.scalars(
            sa.select(last.c.claim_id)
            .join(Claim, Claim.id == last.c.claim_id)
            .where(
                Claim.erased_at.is_(None),
                last.c.state.in_(("decided", "answered")),
                last.c.created_at < runtime.clock() - REPLY_TIME,
            )
        ).all()
    for claim_id in due:
        with runtime.sessions.begin() as session:
            moving.locked(session, claim_id)
            if moving.newest(session, claim_id).state not in {"decided", "answered"}:
                continue
            keys = close(session, runtime, claim_id, "ledger")
        forget_files(runtime, keys)
    return len(due)


def release(session: Session, claim_id: uuid.UUID) -> list[str]:
    """Files that were handed in are kept while the claim can be examined again, and not a day longer."""
    claim = session.get_one(Claim, claim_id)
    keys = [key for key in (claim.image_key, claim.work_key) if key is not None]
    claim.image_key = claim.work_key = None
    session.flush()
    return keys


def forget_files(runtime: Runtime, keys: list[str]) -> None:
    for key in keys:
        runtime.storage.delete(key)


def role_of_principal(session: Session, claim_id: uuid.UUID, principal_id: uuid.UUID) -> Role:
    """As whom the holder of an API key speaks: the operator, or whoever put the image on record.

    Raises NotFound `claim_unknown`, NotAllowed `claim_not_yours`.
    """
    claim = session.get(Claim, claim_id)
    if claim is None:
        raise moving.unknown(claim_id)
    if session.scalar(sa.select(Principal.role).where(Principal.id == principal_id)) == "operator":
        return "operator"
    if claim.about is not None:
        owner = session.scalar(sa.select(Record.principal_id).where(Record.id == claim.about))
        if owner == principal_id:
            return "submitter"
    raise not_yours()


def require_claimant(session: Session, claim_id: uuid.UUID, identity_id: uuid.UUID) -> None:
    """Raises NotFound `claim_unknown`, NotAllowed `claim_not_yours`."""
    claim = session.get(Claim, claim_id)
    if claim is None:
        raise moving.unknown(claim_id)
    if claim.identity_id != identity_id:
        raise not_yours()


def not_yours() -> NotAllowed:
    return NotAllowed(
        "this claim is between others",
        code="claim_not_yours",
        next_step="sign in as the claimant, or use the key that the image was recorded with",
    )


def _reply(claim_id: uuid.UUID, words: str) -> dict[str, str]:
    if not words.strip() or len(words) > MAX_WORDS_CHARS or not is_text(words):
        raise BadRequest(
            f"words: 1 to {MAX_WORDS_CHARS} characters of plain text are wanted, {len(words)} were given",
            code="reply_malformed",
            next_step="say in a few sentences what the decision does not know",
        )
    return {"schema": REPLY_SCHEMA, "claim_id": str(claim_id), "words": words}
