"""A record's report as a signed PDF: drawn up when it is first wanted, then the same bytes for everybody."""

import hashlib
import uuid

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger.database.tables.records import Record, SignedReport
from ledger.errors import NotFound
from ledger.reports.dossier import Dossier, gather
from ledger.reports.forms import MAX_DOCUMENT_BYTES, MAX_PARTS, dossier_of
from ledger.reports.render import render
from ledger.reports.signature import attachments, sign_document
from ledger.runtime import Runtime


def signed_pdf(runtime: Runtime, record_id: uuid.UUID) -> bytes:
    """The PDF of an issued record. Whoever asks first has it drawn up, from the state of the log at that moment; of two
    who ask at once, one is kept and both get that one.

    Raises as `ledger.reports.dossier.gather`, Unavailable `tsa_down` where an authority is set and does not answer
    (then nothing is kept), and as the keys do.
    """
    with runtime.sessions() as session:
        kept = _kept(session, record_id)
        if kept is not None:
            return kept
        dossier = gather(session, runtime, record_id)
    settings = runtime.settings
    pdf = sign_document(  # outside of any transaction: an authority may take its time
        render(dossier),
        runtime.keys.credential,
        record_id=str(record_id),
        origin=settings.origin,
        tsa_url=settings.tsa_url,
    )
    with runtime.sessions.begin() as session:
        # An erasure that came in between waits for us or we for it, and then there is no listed record.
        listed = session.scalar(sa.select(Record.listed).where(Record.id == record_id).with_for_update())
        if not listed:
            raise _unknown(record_id)
        row = {"record_id": record_id, "sha256": hashlib.sha256(pdf).digest(), "pdf": pdf}
        session.execute(insert(SignedReport).values(row).on_conflict_do_nothing(index_elements=["record_id"]))
        kept = _kept(session, record_id)
        assert kept is not None
        return kept


def signed_dossier(runtime: Runtime, record_id: uuid.UUID) -> tuple[Dossier, bytes]:
    """The PDF, and the dossier that it carries: every other form of the report is made from that one."""
    pdf = signed_pdf(runtime, record_id)
    return dossier_of(attachments(pdf, MAX_PARTS, MAX_DOCUMENT_BYTES)), pdf


def _kept(session: Session, record_id: uuid.UUID) -> bytes | None:
    return session.scalar(
        sa.select(SignedReport.pdf)
        .join(Record, Record.id == SignedReport.record_id)
        .where(SignedReport.record_id == record_id, Record.listed)
    )


def _unknown(record_id: uuid.UUID) -> NotFound:
    return NotFound(
        f"no report for {record_id}", code="report_unknown", next_step="look the record up by the file's hash"
    )
