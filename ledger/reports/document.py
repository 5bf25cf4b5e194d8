"""A report as a signed PDF: drawn up when it is first wanted, then the same bytes for everybody.

A record has one; a claim one for each step since it was decided, so that no answer is left out of what is handed on.
"""

import hashlib
import uuid

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger.claims import moving, views
from ledger.database.tables.claims import Claim, SignedClaimReport
from ledger.database.tables.records import Record, SignedReport
from ledger.errors import NotFound
from ledger.reports.claim_dossier import gather_claim
from ledger.reports.dossier import AnyDossier, ClaimDossier, Dossier, gather
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
    pdf = _signed(runtime, dossier, f"record {record_id}")
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


def signed_claim_pdf(runtime: Runtime, claim_id: uuid.UUID) -> bytes:
    """The PDF of a decided claim as it stands after its newest step, kept as a record's is.

    Raises as `ledger.reports.claim_dossier.gather_claim`, and as `signed_pdf` does.
    """
    with runtime.sessions() as session:
        views.newest_decision(session, claim_id)
        kept = _kept_of_claim(session, claim_id, moving.newest(session, claim_id).number)
        if kept is not None:
            return kept
        dossier = gather_claim(session, runtime, claim_id)
    pdf = _signed(runtime, dossier, f"claim {claim_id}")
    number = dossier.facts.step
    with runtime.sessions.begin() as session:
        moving.locked(session, claim_id)  # as above: it is erased before this or after it, not meanwhile
        views.newest_decision(session, claim_id)
        row = {"claim_id": claim_id, "number": number, "sha256": hashlib.sha256(pdf).digest(), "pdf": pdf}
        adding = insert(SignedClaimReport).values(row)
        session.execute(adding.on_conflict_do_nothing(index_elements=["claim_id", "number"]))
        kept = _kept_of_claim(session, claim_id, number)
        assert kept is not None
        return kept


def signed_dossier(runtime: Runtime, record_id: uuid.UUID) -> tuple[Dossier, bytes]:
    """The PDF, and the dossier that it carries: every other form of the report is made from that one."""
    pdf = signed_pdf(runtime, record_id)
    dossier = _carried(pdf)
    assert isinstance(dossier, Dossier)
    return dossier, pdf


def signed_claim_dossier(runtime: Runtime, claim_id: uuid.UUID) -> tuple[ClaimDossier, bytes]:
    """As `signed_dossier`, of a claim."""
    pdf = signed_claim_pdf(runtime, claim_id)
    dossier = _carried(pdf)
    assert isinstance(dossier, ClaimDossier)
    return dossier, pdf


def _carried(pdf: bytes) -> AnyDossier:
    return dossier_of(attachments(pdf, MAX_PARTS, MAX_DOCUMENT_BYTES))


def _signed(runtime: Runtime, dossier: AnyDossier, about: str) -> bytes:
    """Drawn and signed outside of any transaction: an authority may take its time."""
    settings = runtime.settings
    return sign_document(
        render(dossier, runtime.files),
        runtime.keys.credential,
        about=about,
        origin=settings.origin,
        tsa_url=settings.tsa_url,
    )


def _kept(session: Session, record_id: uuid.UUID) -> bytes | None:
    return session.scalar(
        sa.select(SignedReport.pdf)
        .join(Record, Record.id == SignedReport.record_id)
        .where(SignedReport.record_id == record_id, Record.listed)
    )


def _kept_of_claim(session: Session, claim_id: uuid.UUID, number: int) -> bytes | None:
    return session.scalar(
        sa.select(SignedClaimReport.pdf)
        .join(Claim, Claim.id == SignedClaimReport.claim_id)
        .where(SignedClaimReport.claim_id == claim_id, SignedClaimReport.number == number, Claim.erased_at.is_(None))
    )


def _unknown(record_id: uuid.UUID) -> NotFound:
    return NotFound(
        f"no report for {record_id}", code="report_unknown", next_step="look the record up by the file's hash"
    )
