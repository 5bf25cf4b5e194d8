"""Tokens of auditors: they read in bulk, within a scope and until a day. A token is shown once; its digest is kept."""

import datetime as dt
import hashlib
import secrets
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from ledger.database.tables.principals import AuditorToken
from ledger.errors import BadRequest, NotAllowed, NotFound

Scope = Literal["entries", "exports"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
LONGEST = dt.timedelta(days=400)
MAX_LABEL_CHARS = 200


@dataclass(frozen=True)
class Auditor:
    """Who shows a token. `ended`: since when it counts no more, aware; None while it does."""

    id: uuid.UUID
    label: str
    scopes: frozenset[str]
    ended: dt.datetime | None


def new_token(
    session: Session, label: str, scopes: Collection[Scope], lasts: dt.timedelta, now: dt.datetime
) -> tuple[uuid.UUID, str]:
    """A token of 256 random bits and its id; what is returned here is not stored anywhere.

    Raises BadRequest `audit_token_malformed`: without a label or a scope, or beyond 400 days.
    """
    if not 0 < len(label) <= MAX_LABEL_CHARS or not scopes or not dt.timedelta(0) < lasts <= LONGEST:
        raise BadRequest(
            f"a label of {len(label)} characters, {len(scopes)} scopes, {lasts.days} days",
            code="audit_token_malformed",
            next_step=f"give 1 to {MAX_LABEL_CHARS} characters, one scope at least, and 1 to {LONGEST.days} days",
        )
    token = "lawful_audit_" + secrets.token_urlsafe(32)
    row = AuditorToken(
        id=uuid7(), token_sha256=_digest(token), label=label, scopes=sorted(set(scopes)), expires_at=now + lasts
    )
    session.add(row)
    session.flush()
    return row.id, token


def auditor_of(session: Session, token: str, now: dt.datetime) -> Auditor | None:
    """Whose token this is, ended or not. Looked up by its digest, so no comparison leaks it by timing."""
    row = session.execute(sa.select(AuditorToken).filter_by(token_sha256=_digest(token))).scalar_one_or_none()
    if row is None:
        return None
    ended = row.revoked_at or (row.expires_at if row.expires_at <= now else None)
    return Auditor(row.id, row.label, frozenset(row.scopes), ended)


def check(auditor: Auditor | None, scope: Scope) -> Auditor:
    """Raises NotAllowed `audit_token_unknown`, `audit_token_ended` (401), `audit_token_scope` (403)."""
    if auditor is None:
        raise NotAllowed(
            "no auditor's token of this ledger was sent",
            code="audit_token_unknown",
            status=401,
            next_step="send `Authorization: Bearer <token>`; the operator makes one with `lawful auditor add`",
        )
    if auditor.ended is not None:
        raise NotAllowed(
            f"this token ended on {auditor.ended:%Y-%m-%d}",
            code="audit_token_ended",
            status=401,
            next_step="ask the operator for another one",
        )
    if scope not in auditor.scopes:
        raise NotAllowed(
            f"this token is for {', '.join(sorted(auditor.scopes))}, not for {scope}",
            code="audit_token_scope",
            next_step=f"ask the operator for a token with the scope {scope}",
        )
    return auditor


def tokens(session: Session) -> list[AuditorToken]:
    """All of them, oldest first."""
    return list(session.scalars(sa.select(AuditorToken).order_by(AuditorToken.id)))


def revoke(session: Session, token_id: uuid.UUID, now: dt.datetime) -> None:
    """From now on it reads nothing. Twice is once. Raises NotFound `audit_token_missing`."""
    row = session.get(AuditorToken, token_id, with_for_update=True)
    if row is None:
        raise NotFound(
            f"no auditor's token {token_id}",
            code="audit_token_missing",
            next_step="`lawful auditor list` shows their ids",
        )
    row.revoked_at = row.revoked_at or now


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
