"""What stands behind entries of the log: the record or the claim that each is about, erased since or not."""

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.database.tables.claims import Claim
from ledger.database.tables.records import Record


class Subject(NamedTuple):
    """A row that entries are about. `kind` is a record's, None for a claim. `erased_leaf`: the redaction's entry."""

    id: uuid.UUID
    kind: str | None
    erased_at: dt.datetime | None
    erased_leaf: bytes | None


class Behind(NamedTuple):
    """What one entry is about: a record, a claim of which it is a step, or neither."""

    record: Subject | None
    claim: Subject | None

    @property
    def erased(self) -> Subject | None:
        """What was erased since, so that the entry is shown as redacted."""
        return next((each for each in self if each is not None and each.erased_at is not None), None)


def behind(session: Session, said: Sequence[tuple[bytes, Mapping[str, Any]]]) -> list[Behind]:
    """What each entry, given by its leaf hash and its payload, is about.

    A record is named in the payload or known by its leaf: looks are not named in their entries.
    """
    leaves = [leaf for leaf, _ in said]
    named = [_id(payload.get("record_id")) for _, payload in said]
    steps = [_id(payload.get("claim_id")) for _, payload in said]
    records: dict[bytes | uuid.UUID | None, Subject] = {}
    for leaf, record_id, kind, erased_at, erased_leaf in session.execute(
        sa.select(Record.leaf_hash, Record.id, Record.kind, Record.erased_at, Record.erased_leaf).where(
            sa.or_(Record.leaf_hash.in_(leaves), Record.id.in_(_known(named)))
        )
    ):
        records[record_id] = Subject(record_id, kind, erased_at, erased_leaf)
        if leaf is not None:
            records[leaf] = records[record_id]
    claims = _claims(session, _known(steps))
    return [
        Behind(records.get(leaf) or records.get(record_id), claims.get(claim_id))
        for leaf, record_id, claim_id in zip(leaves, named, steps, strict=True)
    ]


def _claims(session: Session, ids: set[uuid.UUID]) -> dict[uuid.UUID | None, Subject]:
    if not ids:
        return {}
    rows = session.execute(sa.select(Claim.id, Claim.erased_at, Claim.erased_leaf).where(Claim.id.in_(ids)))
    return {claim_id: Subject(claim_id, None, erased_at, leaf) for claim_id, erased_at, leaf in rows}


def _known(ids: Iterable[uuid.UUID | None]) -> set[uuid.UUID]:
    return {each for each in ids if each is not None}


def _id(said: object) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(said))
    except ValueError:
        return None
