"""What a generator learned from, in the log before the first image that it makes against a collection.

A record names weights and a snapshot; this says how the two are related. It rests on the list that came with the
weights (`models.learned_from`): the log shows that it was said before the image was made, not that it is complete.
"""

import hashlib
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger.database.tables.works import Snapshot, TrainingStatement, Work
from ledger.log.entries import append
from ledger.log.merkle import leaf_hash
from ledger.log.statement_types import sign_entry
from ledger.runtime import Runtime

TRAINED = "lawful-ledger/trained/1"


def declare(runtime: Runtime, model: Mapping[str, str], learned_from: Sequence[str] | None, snapshot: str) -> None:
    """Log which of a snapshot's works `model` learned from, by number, unless the log has it or nobody knows.

    `learned_from` are digests of pixels, sorted; `snapshot` is a digest, all in hex.
    """
    if learned_from is None:
        return
    weights, digest = bytes.fromhex(model["weights_sha256"]), bytes.fromhex(snapshot)
    with runtime.sessions.begin() as session:
        if session.get(TrainingStatement, (weights, digest)) is not None:
            return
        payload = {
            "type": TRAINED,
            "model": dict(model),
            "works": len(learned_from),
            "digest": hashlib.sha256("".join(f"{each}\n" for each in learned_from).encode()).hexdigest(),
            "snapshot": snapshot,
            "works_in_snapshot": _known(session, digest, learned_from),
            "created_at": runtime.clock().isoformat(),
        }
        entry = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
        row = {"weights_sha256": weights, "snapshot": digest, "leaf_hash": leaf_hash(entry)}
        first = insert(TrainingStatement).values(row).on_conflict_do_nothing().returning(TrainingStatement.leaf_hash)
        if session.scalar(first) is not None:  # else another worker said it at the same time
            append(session, entry)


def _known(session: Session, snapshot: bytes, learned_from: Sequence[str]) -> int:
    """How many of a snapshot's works were learned from."""
    frozen = (
        sa.select(Snapshot.collection_id, Snapshot.created_at)
        .where(Snapshot.digest == snapshot)
        .order_by(Snapshot.created_at.desc())
        .limit(1)
        .subquery()
    )
    asked = [bytes.fromhex(each) for each in learned_from]
    works = (
        sa.select(sa.func.count())
        .select_from(Work)
        .join(frozen, frozen.c.collection_id == Work.collection_id)
        .where(Work.created_at <= frozen.c.created_at)
        .where(Work.pixel_sha256 == sa.any_(sa.literal(asked, sa.ARRAY(sa.LargeBinary))))
    )
    return session.scalar(works) or 0
