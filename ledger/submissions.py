"""Statements that submitters sign themselves: checked against the keys registered for them, then put into the log.

An entry of the log announces each key that a submitter may sign with. A batch is taken whole or not at all, and once
only under its idempotency key. What may be declared, and how it is checked, is in `ledger.log.declarations`.
"""

import hashlib
import re
import uuid
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger.database.tables.principals import Principal, Submission, SubmitterKey
from ledger.errors import BadRequest, Conflict, NotFound
from ledger.log import entries, merkle
from ledger.log.declarations import Signers, issuer_of
from ledger.log.signing import is_ed25519_key
from ledger.log.statement_types import sign_entry
from ledger.log.statements import key_id
from ledger.runtime import Runtime

SUBMITTER_KEY = "lawful-ledger/submitter-key/1"
SUBMITTER_KEY_REVOKED = "lawful-ledger/submitter-key-revoked/1"
MAX_KEY_CHARS = 200

# ---- keys ----------------------------------------------------------------------------------------------------------


class AnnouncedEntry(NamedTuple):
    """The entry that tells of a key, and its leaf hash: 32 bytes."""

    entry: bytes
    leaf_hash: bytes


class Registered(NamedTuple):
    """A submitter's key by its id, the issuer its statements name, and its announcement unless it had one before."""

    kid: bytes
    issuer: str
    announced: AnnouncedEntry | None


def parse_hex_key(text: str) -> bytes:
    """32 bytes (a raw Ed25519 key, or a key's id) from 64 hex digits. Raises BadRequest `submitter_key_malformed`."""
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise BadRequest(
            f"{len(text)} characters; a key or its id is 64 hex digits",
            code="submitter_key_malformed",
            next_step="give the 32 bytes of the raw Ed25519 key (RFC 8032) in hex, without any wrapping",
        )
    return bytes.fromhex(text)


def register_key(session: Session, runtime: Runtime, name: str, public_key: bytes) -> Registered:
    """Let the submitter `name` sign statements with this raw Ed25519 key; an entry of the log announces it.

    Registered twice is registered once. Raises NotFound `submitter_unknown`, BadRequest `submitter_key_malformed`,
    Conflict `submitter_key_taken` (another's key, or one that was revoked).
    """
    if not is_ed25519_key(public_key):
        raise BadRequest(
            "these 32 bytes are no Ed25519 key that only one party can sign with",
            code="submitter_key_malformed",
            next_step="make a key pair with any Ed25519 tool and give its public half",
        )
    principal_id = session.scalar(sa.select(Principal.id).where(Principal.name == name))
    if principal_id is None:
        raise NotFound(
            f"no submitter is called {name[:80]!r}",
            code="submitter_unknown",
            next_step="make one with `lawful keys api NAME`; its API key is needed to submit as well",
        )
    kid = key_id(public_key)
    payload = {
        "type": SUBMITTER_KEY,
        "submitter": str(principal_id),
        "kid": kid.hex(),
        "ed25519": public_key.hex(),
        "created_at": runtime.clock().isoformat(),
    }
    entry = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
    leaf_hash = merkle.leaf_hash(entry)
    row = {"kid": kid, "principal_id": principal_id, "public_key": public_key, "leaf_hash": leaf_hash}
    inserted = session.execute(
        insert(SubmitterKey).values(row).on_conflict_do_nothing(index_elements=["kid"]).returning(SubmitterKey.kid)
    ).scalar()
    if inserted is not None:
        return Registered(kid, issuer_of(principal_id), AnnouncedEntry(entry, entries.append(session, entry)))
    known = session.get_one(SubmitterKey, kid)
    if known.principal_id != principal_id or known.revoked_at is not None:
        raise Conflict(
            "this key was revoked" if known.principal_id == principal_id else "this key is another submitter's",
            code="submitter_key_taken",
            next_step="make a new key; one that was registered once is never given to anybody again",
        )
    return Registered(kid, issuer_of(principal_id), None)


def revoke_key(session: Session, runtime: Runtime, kid: bytes) -> AnnouncedEntry | None:
    """Take nothing more that this key signs; an entry says so. What it signed before stands. None when it was revoked
    already. Raises NotFound `submitter_key_missing`."""
    known = session.get(SubmitterKey, kid, with_for_update=True)
    if known is None:
        raise NotFound(
            f"no key {kid.hex()[:16]}… is registered",
            code="submitter_key_missing",
            next_step="the key's id is the SHA-256 of its 32 bytes",
        )
    if known.revoked_at is not None:
        return None
    known.revoked_at = runtime.clock()
    payload = {"type": SUBMITTER_KEY_REVOKED, "kid": kid.hex(), "created_at": known.revoked_at.isoformat()}
    entry = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
    return AnnouncedEntry(entry, entries.append(session, entry))


# ---- taking --------------------------------------------------------------------------------------------------------


def signers_of(session: Session, principal_id: uuid.UUID) -> Signers:
    """Whose statements this principal may send."""
    rows = session.execute(
        sa.select(SubmitterKey.kid, SubmitterKey.public_key, SubmitterKey.revoked_at).where(
            SubmitterKey.principal_id == principal_id
        )
    ).all()
    return Signers(
        issuer_of(principal_id),
        {kid: key for kid, key, revoked_at in rows if revoked_at is None},
        frozenset(kid for kid, _, revoked_at in rows if revoked_at is not None),
    )


def take(
    session: Session, principal_id: uuid.UUID, statements: Sequence[bytes], *, idempotency_key: str | None, body: bytes
) -> list[bytes]:
    """Append `checked` statements in the caller's transaction, in their order; returns their leaf hashes.

    A body sent again under its key is appended once. Raises BadRequest `idempotency_key_too_long`, Conflict
    `idempotency_key_reused` for another body.
    """
    if idempotency_key is not None and not _is_first(session, principal_id, idempotency_key, body):
        return [merkle.leaf_hash(statement) for statement in statements]
    return entries.append_many(session, statements)


def _is_first(session: Session, principal_id: uuid.UUID, idempotency_key: str, body: bytes) -> bool:
    if len(idempotency_key) > MAX_KEY_CHARS:
        raise BadRequest(
            f"Idempotency-Key: {len(idempotency_key)} characters, at most {MAX_KEY_CHARS}",
            code="idempotency_key_too_long",
            next_step="send a UUID",
        )
    body_sha256 = hashlib.sha256(body).digest()
    name = {"principal_id": principal_id, "idempotency_key": idempotency_key}
    inserted = session.execute(
        insert(Submission)
        .values(**name, body_sha256=body_sha256)
        .on_conflict_do_nothing()
        .returning(Submission.idempotency_key)
    ).scalar()
    if inserted is None and session.get_one(Submission, name).body_sha256 != body_sha256:
        raise Conflict(
            "this Idempotency-Key was used for another body",
            code="idempotency_key_reused",
            next_step="send a new key for new statements, or the very same body again",
        )
    return inserted is not None


# ---- where they stand ------------------------------------------------------------------------------------------------


class SubmittedStatement(msgspec.Struct, frozen=True):
    """A statement by its leaf hash; its index once the log holds it."""

    leaf_hash: str
    index: int | None = None


class Submitted(msgspec.Struct, frozen=True):
    """Statements that were taken, in the order they were sent. `size` is the checkpoint's that covers all of them."""

    statements: list[SubmittedStatement]
    size: int | None = None


def places(session: Session, shard: str, leaves: Sequence[bytes], until: entries.Fact) -> Submitted:
    """Where the statements stand under the newest published, or witnessed, checkpoint; `size` only if it covers all."""
    heads = "log_published" if until == "integrated" else "log_witnessed_heads"
    rows = session.execute(
        sa.text(
            f"""
            WITH head AS MATERIALIZED (SELECT size FROM {heads} WHERE shard = :shard)
            SELECT entry.leaf_hash, entry.idx, head.size
            FROM head JOIN log_entries entry ON entry.shard = :shard AND entry.idx < head.size
            WHERE entry.leaf_hash = ANY(:leaves)
            """  # noqa: S608 - one of the two names above
        ),
        {"shard": shard, "leaves": list(leaves)},
    ).all()
    found = {bytes(leaf): index for leaf, index, _ in rows}
    complete = all(leaf in found for leaf in leaves)
    return Submitted(
        [SubmittedStatement(leaf.hex(), found.get(leaf)) for leaf in leaves],
        rows[0].size if rows and complete else None,
    )
