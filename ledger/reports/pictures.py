"""The drawings of a report: matched regions, named in its evidence by the SHA-256 of their PNG."""

import re

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.database.tables.records import Picture, Record, Report
from ledger.errors import NotFound
from ledger.naming import withdrawn_pictures
from ledger.reports.schema import read_report

NAME = re.compile(r"([0-9a-f]{64})\.png")


def picture(session: Session, name: str) -> bytes:
    """The PNG of `<SHA-256 in hex>.png`, while a record that has it is issued and not erased, and the work in it may be
    named. Raises NotFound."""
    matched = NAME.fullmatch(name)
    found = None
    if matched is not None:
        found = session.execute(
            sa.select(Picture.png, Report.body)
            .join(Record, Record.id == Picture.record_id)
            .join(Report, Report.record_id == Picture.record_id)
            .where(Picture.sha256 == bytes.fromhex(matched[1]), Record.listed)
            .limit(1)
        ).one_or_none()
    if matched is None or found is None or matched[1] in withdrawn_pictures(session, read_report(found.body).evidence):
        raise NotFound(
            "no issued record has a picture of this name",
            code="picture_unknown",
            next_step="take the name from the evidence of a record's report; a deleted record's pictures go with it",
        )
    png: bytes = found.png
    return png
