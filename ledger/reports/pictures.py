"""The drawings of a report: matched regions, named in its evidence by the SHA-256 of their PNG."""

import re

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.database.tables.records import Picture, Record
from ledger.errors import NotFound

NAME = re.compile(r"([0-9a-f]{64})\.png")


def picture(session: Session, name: str) -> bytes:
    """The PNG of `<SHA-256 in hex>.png`, while a record that has it is issued and not erased. Raises NotFound."""
    matched = NAME.fullmatch(name)
    found = None
    if matched is not None:
        found = session.scalar(
            sa.select(Picture.png)
            .join(Record, Record.id == Picture.record_id)
            .where(Picture.sha256 == bytes.fromhex(matched[1]), Record.listed)
            .limit(1)
        )
    if found is None:
        raise NotFound(
            "no issued record has a picture of this name",
            code="picture_unknown",
            next_step="take the name from the evidence of a record's report; a deleted record's pictures go with it",
        )
    return found
