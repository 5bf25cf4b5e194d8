"""What the log itself says of its witnesses: the policy in force, and claims that an operator chose not to believe.

Both are statements of the ledger in the log (`lawful-ledger/policy/1`, `lawful-ledger/override/1`), so that nobody
drops a witness, or goes on against the word of one, without everybody seeing it. Rows beside them name the entry.
"""

import datetime as dt
import hashlib

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger.database.tables.log import LogEntry, LogOutbox, LogPolicy, LogWitness
from ledger.errors import BadRequest
from ledger.log.entries import append
from ledger.log.policy import Policy
from ledger.log.statement_types import sign_entry
from ledger.log.statements import StatementKey

POLICY, OVERRIDE = "lawful-ledger/policy/1", "lawful-ledger/override/1"
LARGEST = 2**53 - 1
"""What JSON holds exactly; a claim beyond it counts as this one."""

_LOCK = int.from_bytes(hashlib.sha256(b"lawful-ledger/log/policy").digest()[:8], "big", signed=True)


def record_policy(
    session: Session, shard: str, origin: str, policy: Policy | None, key: StatementKey, now: dt.datetime
) -> bytes | None:
    """Append an entry if `policy` is not the one that the log last announced; returns its leaf hash, else None.

    In the caller's transaction, one caller at a time. No policy at all is announced only where there was one before.
    """
    session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    last = session.execute(
        sa.select(LogPolicy).where(LogPolicy.shard == shard).order_by(LogPolicy.number.desc()).limit(1)
    ).scalar()
    text = policy.text if policy is not None else ""
    if text == (last.text if last is not None else ""):
        return None
    digest = hashlib.sha256(text.encode())
    payload = {
        "type": POLICY,
        "origin": origin,
        "sha256": digest.hexdigest(),
        "text": text,
        "created_at": now.isoformat(),
    }
    leaf = append(session, sign_entry(payload, key, issuer=origin))
    number = last.number + 1 if last is not None else 0
    session.add(LogPolicy(shard=shard, number=number, sha256=digest.digest(), text=text, leaf_hash=leaf))
    session.flush()
    return leaf


def record_override(
    session: Session,
    shard: str,
    origin: str,
    witness_vkey: str,
    size: int,
    reason: str,
    key: StatementKey,
    now: dt.datetime,
) -> bytes:
    """Go on although this witness claims a tree of `size` that it cannot show; returns the entry's leaf hash.

    It counts for claims of up to that size, and only those that are not proven: a checkpoint that this log signed stops
    it whatever the operator says. Raises BadRequest `override_reason_missing`, StatementError `statement_undescribed`
    for a reason that no entry can hold.
    """
    if not reason.strip():
        raise BadRequest(
            "an override without a reason",
            code="override_reason_missing",
            next_step="Say why you believe the database and not the witness; everybody will read it in the log.",
        )
    size = min(size, LARGEST)
    payload = {
        "type": OVERRIDE,
        "origin": origin,
        "witness_vkey": witness_vkey,
        "size": size,
        "reason": reason,
        "created_at": now.isoformat(),
    }
    leaf = append(session, sign_entry(payload, key, issuer=origin))
    row = insert(LogWitness).values(
        shard=shard, vkey=witness_vkey, asked_at=now, overridden_size=size, override_leaf=leaf
    )
    session.execute(
        row.on_conflict_do_update(
            index_elements=[LogWitness.shard, LogWitness.vkey],
            set_={"overridden_size": row.excluded.overridden_size, "override_leaf": row.excluded.override_leaf},
        )
    )
    return leaf


def is_overridden(session: Session, shard: str, witness_vkey: str, size: int) -> bool:
    """Whether an operator's entry, in the log or on its way there, says to go on against a claim of this size."""
    row = session.get(LogWitness, (shard, witness_vkey))
    if row is None or row.overridden_size is None or min(size, LARGEST) > row.overridden_size:
        return False
    waiting = sa.select(LogOutbox.id).where(LogOutbox.leaf_hash == row.override_leaf)
    standing = sa.select(LogEntry.idx).where(LogEntry.shard == shard, LogEntry.leaf_hash == row.override_leaf)
    return session.execute(waiting).first() is not None or session.execute(standing).first() is not None
