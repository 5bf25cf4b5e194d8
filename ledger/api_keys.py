"""API keys: who uses this ledger over HTTP, and as what. Making and revoking one are entries of the log.

A key is looked up by its digest for every request, so one that is revoked opens nothing from the next request on, in
every web process. Several keys of one holder count at once: make the next one, hand it over, then revoke the last.
The entry tells the key's id and role, never whose key it is. The first key of all comes with the log's first entry.
"""

import datetime as dt
import hashlib
import secrets
import uuid
from dataclasses import dataclass
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from ledger.database.tables.principals import ApiKey, Principal
from ledger.errors import BadRequest, Conflict, NotFound
from ledger.log import entries
from ledger.log.statement_types import sign_entry
from ledger.requests import check_declared
from ledger.runtime import Runtime

API_KEY = "lawful-ledger/api-key/1"

Role = Literal["submitter", "operator", "auditor", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class KeyLine:
    """A key without what opens anything. `revoked_at`: since when it counts no more, aware; None while it does."""

    id: uuid.UUID
    name: str
    role: str
    label: str
    created_at: dt.datetime
    revoked_at: dt.datetime | None


def make(
    session: Session, runtime: Runtime, name: str, role: Role, label: str, generator: str | None = None
) -> tuple[uuid.UUID, str]:
    """A key's id and the key for `name`, who is made when unknown. A role or generator on record is never changed.

    What is returned here is not stored anywhere. Raises BadRequest `submitter_name`, `model_malformed`, Conflict
    `submitter_differs`.
    """
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise BadRequest(
            f"name: one line of 1 to 200 characters is wanted, {len(name)} were given",
            code="submitter_name",
            next_step="name whoever will hold the key",
        )
    check_declared(generator, None, None)
    values = {"id": uuid7(), "name": name, "role": role, "generator": generator}
    session.execute(insert(Principal).values(values).on_conflict_do_nothing(index_elements=["name"]))
    known = session.execute(sa.select(Principal).where(Principal.name == name)).scalar_one()
    if (known.generator, known.role) != (generator, role):
        raise Conflict(
            f"{name} is registered as {known.role} with {known.generator or 'no generator'}",
            code="submitter_differs",
            next_step="name the same role and generator, or use another name for another one",
        )
    key_id, key = new_key(session, known.id, label)
    _log(session, runtime, key_id, role, valid=True)
    return key_id, key


def new_key(session: Session, principal_id: uuid.UUID, label: str) -> tuple[uuid.UUID, str]:
    """The row of a key of 256 random bits, without an entry: for whoever founds a ledger."""
    key = "lawful_" + secrets.token_urlsafe(32)
    row = ApiKey(id=uuid7(), principal_id=principal_id, key_sha256=_digest(key), label=label)
    session.add(row)
    session.flush()
    return row.id, key


def revoke(session: Session, runtime: Runtime, key_id: uuid.UUID) -> bool:
    """From the commit on it opens nothing. False where it was revoked before. Raises NotFound `api_key_missing`."""
    row = session.get(ApiKey, key_id, with_for_update=True)
    if row is None:
        raise NotFound(f"no API key {key_id}", code="api_key_missing", next_step="`lawful keys list` shows their ids")
    if row.revoked_at is not None:
        return False
    row.revoked_at = runtime.clock()
    role = session.get_one(Principal, row.principal_id).role
    _log(session, runtime, key_id, role, valid=False)
    return True


def keys(session: Session) -> list[KeyLine]:
    """All of them, oldest first."""
    rows = session.execute(
        sa.select(ApiKey.id, Principal.name, Principal.role, ApiKey.label, ApiKey.created_at, ApiKey.revoked_at)
        .join(Principal, Principal.id == ApiKey.principal_id)
        .order_by(ApiKey.id)
    )
    return [KeyLine(*row) for row in rows]


def principal_of(session: Session, key: str) -> Principal | None:
    """Whose key this is, unless it was revoked. Looked up by its digest, so no comparison leaks it by timing."""
    return session.execute(
        sa.select(Principal)
        .join(ApiKey, ApiKey.principal_id == Principal.id)
        .where(ApiKey.key_sha256 == _digest(key), ApiKey.revoked_at.is_(None))
    ).scalar_one_or_none()


def _log(session: Session, runtime: Runtime, key_id: uuid.UUID, role: str, *, valid: bool) -> None:
    payload = {
        "type": API_KEY,
        "key_id": str(key_id),
        "role": role,
        "valid": valid,
        "created_at": runtime.clock().isoformat(),
    }
    entries.append(session, sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
