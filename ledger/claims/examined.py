"""What a claim's examination found: the comparison itself, what its page shows of it, and the drawings that it names.

Drawings are kept with the claim whose examination made them, and go with its documents. There are some only of an
image that is on record: one that was handed in is shown to nobody.
"""

import uuid
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from attribution.evidence import Evidence
from ledger.claims.facts import CopyFact, Facts
from ledger.database.tables.claims import Claim, ClaimDocument, ClaimPicture, ClaimStep
from ledger.naming import may_be_named, nameable, withdrawn_pictures


class Compared(NamedTuple):
    """The image against the collection and, where one is named, beside one work; the drawings of both by the SHA-256
    (hex) of their PNG."""

    evidence: Evidence
    copy: CopyFact | None
    drawings: Mapping[str, bytes]


class Seen(msgspec.Struct, frozen=True):
    """Of an examination's document, what drawings belong to."""

    facts: Facts
    evidence: Evidence

    @property
    def work_is_drawn(self) -> bool:
        """Whether the drawing beside the named work shows that work too."""
        return self.facts.work.work_id is not None


def drawings_named(evidence: Evidence, facts: Facts) -> list[str]:
    """The drawings that an examination names: beside the named work first, then the matches of the collection."""
    beside = facts.copy.picture if facts.copy is not None else None
    return list(dict.fromkeys([*([beside] if beside else []), *evidence.drawings]))


def newest(session: Session, claim_id: uuid.UUID) -> Seen | None:
    """The examination behind the newest decision as it may be shown now; None before one, and after an erasure."""
    decided = (
        sa.select(ClaimStep.previous)
        .where(ClaimStep.claim_id == claim_id, ClaimStep.event == "decide")
        .order_by(ClaimStep.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    body = session.scalar(
        sa.select(ClaimDocument.body).where(ClaimDocument.claim_id == claim_id, ClaimDocument.number == decided)
    )
    if body is None:
        return None
    seen = msgspec.json.decode(body, type=Seen)
    facts = seen.facts
    if facts.copy is not None and facts.copy.picture in _withdrawn(session, seen):
        facts = msgspec.structs.replace(facts, copy=msgspec.structs.replace(facts.copy, picture=None))
    return Seen(facts, nameable(session, seen.evidence))


def drawings(session: Session, claim_id: uuid.UUID, number: int) -> dict[str, bytes]:
    """What the examination in step `number` drew, by the SHA-256 (hex) of the PNG."""
    rows = session.scalars(
        sa.select(ClaimPicture).where(ClaimPicture.claim_id == claim_id, ClaimPicture.number == number)
    )
    return {each.sha256.hex(): each.png for each in rows}


def drawing(session: Session, sha256: bytes) -> bytes | None:
    """The PNG with this digest, of any claim that is not erased, while the work in it may be named."""
    row = session.execute(
        sa.select(ClaimPicture.png, ClaimDocument.body)
        .join(Claim, Claim.id == ClaimPicture.claim_id)
        .join(
            ClaimDocument,
            sa.and_(ClaimDocument.claim_id == ClaimPicture.claim_id, ClaimDocument.number == ClaimPicture.number),
        )
        .where(ClaimPicture.sha256 == sha256, Claim.erased_at.is_(None))
        .limit(1)
    ).one_or_none()
    if row is None or sha256.hex() in _withdrawn(session, msgspec.json.decode(row.body, type=Seen)):
        return None
    png: bytes = row.png
    return png


def _withdrawn(session: Session, seen: Seen) -> set[str]:
    """Drawings that show a work which may no longer be named."""
    found = withdrawn_pictures(session, seen.evidence)
    own = seen.facts.copy.picture if seen.facts.copy is not None else None
    if own is not None and seen.work_is_drawn and not may_be_named(session, str(seen.facts.work.work_id)):
        found.add(own)
    return found
