"""The keys that the log announced, as rows: which one is in force, and what became of those before it.

A row is written in the transaction that appends its entry, so that neither stands without the other. Whoever verifies
looks a kid up here; who does not trust the rows finds the same in the log (`ledger.log.announcements.KeyHistory`).
"""

import datetime as dt
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.database.tables.log import AnnouncedKey, LogEntry
from ledger.errors import NotFound
from ledger.log.announcements import KeyUse, PublicKey


def announce(session: Session, keys: Iterable[PublicKey], entry: bytes, leaf_hash: bytes) -> None:
    """Write down, in the caller's transaction, that `entry` announces these keys."""
    session.execute(
        sa.insert(AnnouncedKey),
        [
            {"use": key.use, "kid": key.kid, "public_key": key.public_key, "entry": entry, "leaf_hash": leaf_hash}
            for key in keys
        ],
    )


def retire(session: Session, use: KeyUse, kid: bytes, at: dt.datetime, compromised_leaf: bytes | None) -> None:
    """Write down that this key signs no more; `compromised_leaf` names the entry that calls it compromised."""
    session.execute(
        sa.update(AnnouncedKey)
        .where(AnnouncedKey.use == use, AnnouncedKey.kid == kid)
        .values(
            retired_at=sa.func.coalesce(AnnouncedKey.retired_at, at),
            compromised_leaf=sa.func.coalesce(AnnouncedKey.compromised_leaf, compromised_leaf),
        )
    )


def in_force(session: Session, *, lock: bool = False) -> dict[KeyUse, bytes]:
    """use → kid of the key that signs now, empty before the genesis. `lock`: nobody else changes them until the
    transaction ends."""
    query = sa.select(AnnouncedKey.use, AnnouncedKey.kid).where(AnnouncedKey.retired_at.is_(None))
    rows = session.execute(query.order_by(AnnouncedKey.use).with_for_update() if lock else query)
    return {row.use: row.kid for row in rows}


def announced_public_key(session: Session, use: KeyUse, kid: bytes) -> bytes:
    """The public key with this kid, in force or not: raw Ed25519 (statements), SubjectPublicKeyInfo (receipts, reports)
    or certificate (credentials). Raises NotFound code `key_not_announced`.

    That a key was announced does not say that it may be believed at every index: see `compromised_since`.
    """
    return _row(session, use, kid).public_key


def announcement(session: Session, use: KeyUse, kid: bytes) -> tuple[bytes, bytes]:
    """(entry, leaf hash) of the statement that announced this key. Raises NotFound code `key_not_announced`."""
    row = _row(session, use, kid)
    return row.entry, row.leaf_hash


def compromised_since(session: Session, shard: str, use: KeyUse, kid: bytes) -> int | None:
    """The index of the entry that says somebody else may have this key; None where none says so, or not yet.

    What the key signed and is logged at a larger index proves nothing; what stands before it stays as it is.
    """
    return session.execute(
        sa.select(LogEntry.idx)
        .join(AnnouncedKey, AnnouncedKey.compromised_leaf == LogEntry.leaf_hash)
        .where(LogEntry.shard == shard, AnnouncedKey.use == use, AnnouncedKey.kid == kid)
    ).scalar()


def _row(session: Session, use: KeyUse, kid: bytes) -> AnnouncedKey:
    row = session.get(AnnouncedKey, (use, kid))
    if row is None:
        raise NotFound(
            f"no entry of this log announced the {use} key {kid.hex()}",
            code="key_not_announced",
            next_step="Check it against the log that it belongs to, or ask its operator where it was announced.",
        )
    return row
