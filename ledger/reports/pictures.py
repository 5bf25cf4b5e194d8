"""The drawings of a report: matched regions, named in its evidence by the SHA-256 of their PNG."""

import re

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.claims.examined import drawing
from ledger.database.tables.records import Picture, Record, Report
from ledger.errors import NotFound
from ledger.naming import withdrawn_pictures
from ledger.reports.schema import read_report

NAME = re.compile(r"([0-9a-f]{64})\.png")


def picture(session: Session, name: str) -> bytes:
    """The PNG of `<SHA-256 in hex>.png`, while a record that has it is issued and not erased, or a claim that has it is
    not erased, and the work in it may be named. Raises NotFound `picture_unknown`."""
    matched = NAME.fullmatch(name)
    sha256 = bytes.fromhex(matched[1]) if matched is not None else b""
    png = _of_record(session, sha256) or drawing(session, sha256)
    if png is None:
        raise NotFound(
            "no issued record and no claim has a picture of this name",
            code="picture_unknown",
            next_step="take the name from the evidence of a report; what is deleted takes its pictures along",
        )
    return png


def _of_record(session: Session, sha256: bytes) -> bytes | None:
    found = session.execute(
        sa.select(Picture.png, Report.body)
        .join(Record, Record.id == Picture.record_id)
        .join(Report, Report.record_id == Picture.record_id)
        .where(Picture.sha256 == sha256, Record.listed)
        .limit(1)
    ).one_or_none()
    if found is None or sha256.hex() in withdrawn_pictures(session, read_report(found.body).evidence):
        return None
    png: bytes = found.png
    return png
