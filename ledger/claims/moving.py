"""Moving a claim on: the only place that writes a step, its entry and its document, all in one transaction."""

import hashlib
import secrets
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import rfc8785
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from ledger.claims.facts import Kind
from ledger.claims.steps import Event, Role, after
from ledger.database.tables.claims import Claim, ClaimDocument, ClaimStep
from ledger.errors import Conflict, NotFound
from ledger.log import entries
from ledger.log.statement_types import sign_entry
from ledger.log.statements import commitment
from ledger.runtime import Runtime

DOCUMENT_DOMAIN = "lawful-ledger/claim-document/1"
PREFIX = "lawful-ledger/claim-"  # and the state that the step leads to: the names in ledger.log.statement_types
NAMES_ITS_ROLE = frozenset({"answer", "appeal", "close", "withdraw"})


def begin(
    session: Session,
    runtime: Runtime,
    *,
    claim_id: uuid.UUID,
    kind: Kind,
    role: Role,
    identity_id: uuid.UUID | None,
    about: uuid.UUID | None,
    work_id: uuid.UUID | None,
    shown_work: str | None,
    document: Mapping[str, Any],
) -> Claim:
    """The claim with its first step. Durable, and bound for the log, when the caller's transaction commits.

    `shown_work` is the work's id for the log: None for one that may not be named.
    """
    claim = Claim(
        id=claim_id, kind=kind, identity_id=identity_id, about=about, work_id=work_id, salt=secrets.token_bytes(32)
    )
    session.add(claim)
    session.flush()
    said = {"kind": kind, "about": None if about is None else str(about), "work_id": shown_work}
    _write(session, runtime, claim, None, "open", role, document, said)
    return claim


def take(
    session: Session,
    runtime: Runtime,
    claim_id: uuid.UUID,
    event: Event,
    role: Role,
    *,
    document: Mapping[str, Any] | None = None,
    said: Mapping[str, Any] | None = None,
) -> ClaimStep:
    """Take one step in the caller's transaction. `document` goes into a row, `said` into the entry.

    Whoever comes second waits for the first and then finds the claim moved on; the table's own keys would refuse the
    row in any case. Raises NotFound `claim_unknown`, Conflict `claim_not_now`, `claim_erased` or
    `claim_appealed_already`, NotAllowed `claim_not_yours`.
    """
    claim = locked(session, claim_id)
    if claim.erased_at is not None:
        raise Conflict("the claim's content was deleted on request", code="claim_erased", next_step="open a new claim")
    last = newest(session, claim_id)
    if event == "appeal" and _has_appealed(session, claim_id, role):
        raise Conflict(
            f"the {role} has appealed before",
            code="claim_appealed_already",
            next_step="the newest decision stands; a court may see it otherwise",
        )
    return _write(session, runtime, claim, last, event, role, document, dict(said or {}))


def locked(session: Session, claim_id: uuid.UUID) -> Claim:
    """The claim's row, held until the transaction ends. Raises NotFound `claim_unknown`."""
    claim = session.execute(sa.select(Claim).where(Claim.id == claim_id).with_for_update()).scalar_one_or_none()
    if claim is None:
        raise unknown(claim_id)
    return claim


def newest(session: Session, claim_id: uuid.UUID) -> ClaimStep:
    """The step that says where the claim stands. Raises NotFound `claim_unknown`."""
    found = session.scalars(
        sa.select(ClaimStep).where(ClaimStep.claim_id == claim_id).order_by(ClaimStep.number.desc()).limit(1)
    ).one_or_none()
    if found is None:
        raise unknown(claim_id)
    return found


def last_steps() -> "sa.Subquery":
    """The newest step of every claim, for a query to join."""
    newest_first = sa.select(ClaimStep).order_by(ClaimStep.claim_id, ClaimStep.number.desc())
    return newest_first.ext(distinct_on(ClaimStep.claim_id)).subquery()


def unknown(claim_id: uuid.UUID) -> NotFound:
    return NotFound(f"no claim {claim_id}", code="claim_unknown", next_step="see /claims for those that there are")


def new_id() -> uuid.UUID:
    return uuid7()


def _has_appealed(session: Session, claim_id: uuid.UUID, role: Role) -> bool:
    appeal = sa.select(ClaimStep.number).where(
        ClaimStep.claim_id == claim_id, ClaimStep.event == "appeal", ClaimStep.by_role == role
    )
    return session.scalar(appeal) is not None


def _write(
    session: Session,
    runtime: Runtime,
    claim: Claim,
    last: ClaimStep | None,
    event: Event,
    role: Role,
    document: Mapping[str, Any] | None,
    said: dict[str, Any],
) -> ClaimStep:
    state = after(None if last is None else last.state, event, role)  # type: ignore[arg-type]  # the column's words
    now = runtime.clock()
    payload = {"type": f"{PREFIX}{state}/1", "claim_id": str(claim.id), "created_at": now.isoformat(), **said}
    if last is not None:
        payload["previous"] = last.leaf_hash.hex()
    if event in NAMES_ITS_ROLE:
        payload["by_role"] = role
    body = None
    if document is not None:
        assert claim.salt is not None
        body = rfc8785.dumps(msgspec.to_builtins(document))
        digest = hashlib.sha256(body).digest()
        payload["commitments"] = {"document": commitment(DOCUMENT_DOMAIN, claim.salt, digest).hex()}
    entry = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
    step = ClaimStep(
        claim_id=claim.id,
        number=0 if last is None else last.number + 1,
        previous=None if last is None else last.number,
        before=None if last is None else last.state,
        event=event,
        state=state,
        by_role=role,
        leaf_hash=entries.append(session, entry),
        created_at=now,
    )
    session.add(step)
    session.flush()
    if body is not None:
        session.add(ClaimDocument(claim_id=claim.id, number=step.number, body=body))
        session.flush()
    return step
