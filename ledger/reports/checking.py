"""What a report document proves, from the document alone and keys that the checker chose. The checks go on with the
numbers of `ledger.verdict`, whose sixteen are made of the picture that the document carries.

No database is needed, no network is used and no clock but the one given. What a document without a fault does not
prove: that what the report says is true; that nothing happened since (a key declared stolen, a deletion); without
witnesses' keys, that the log shows everybody one tree.
"""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy.orm import Session

from ledger.claims.examined import drawings_named
from ledger.errors import BadRequest
from ledger.file_proof import CONTRADICTIONS, LedgerClaim, Trust, read_assertion
from ledger.issue import CLAIM_DOMAIN, FILE_DOMAIN
from ledger.issue import ISSUED as ISSUED_TYPE
from ledger.log import merkle
from ledger.log.announcements import KeyHistory
from ledger.log.notes import NoteError, TlogProof
from ledger.log.receipts import ReceiptError, verify_receipt
from ledger.log.statements import StatementError, check_signature, commitment, parse_statement
from ledger.log.timestamps import TimestampError, verify_timestamp
from ledger.log.verify import check_tlog_proof
from ledger.reports import dossier as parts
from ledger.reports.claim_checking import CLAIM_CHECKS, CLAIM_FAULTS, check_claim, prove_decision
from ledger.reports.claim_schema import ClaimReportBody, read_claim_report
from ledger.reports.dossier import AnyDossier, ClaimDossier, Dossier, files_of, match_name, part_of, picture_of
from ledger.reports.forms import (
    MAX_DOCUMENT_BYTES,
    MAX_PARTS,
    Form,
    check_size,
    dossier_of,
    form_of,
    read_json,
    read_zip,
)
from ledger.reports.render import render
from ledger.reports.schema import ReportBody, read_report
from ledger.reports.signature import SignatureReading, attachments, read_signature
from ledger.verdict import CHECKS, Check, Result, link, plain, proven_by, unproven, witness_code
from ledger.verify import Verification, verify
from ledger.web.wording import CLAIM_KINDS
from models.errors import ImageError

REPORT_CHECKS = (
    "The document is signed, and the signature covers all of it",
    "The document's signer is one this checker trusts",
    "The document is signed with a certificate that the log announced",
    "The document's pages are what its attachments say, drawn again",
    "The files are those that the dossier lists, and those beside the document are those attached to it",
    "The log's inclusion proof of the statement holds under a log key this checker was given",
    "Witnesses this checker was given have signed for that checkpoint",
    "The statement is signed with a key that the log announced",
    "The statement is about this very report",
    "The statement is about the pixels that the report names",
    "The log's receipt for the statement holds",
    "The log says which file was issued, and it is the picture in the document",
    "The drawings are those that the report names",
    "A timestamp authority this checker trusts has seen the log with the statement in it",
)

FILES_CHECK = 21
PIXELS_CHECK, ISSUED_CHECK = 26, 28  # of a record; a claim's entry commits to its report alone, and issues nothing
FAULTS = (
    CONTRADICTIONS
    | CLAIM_FAULTS
    | {
        "altered": "it was changed after it was signed",
        "unsigned": "nobody has signed it",
        "unreadable": "its signature cannot be read",
        "certificate_not_announced": "it is signed with a certificate that the log has not announced",
        "certificate_compromised": "it is signed with a certificate that the log had declared stolen",
        "pages_differ": "its pages are not what its attachments say",
        "files_differ": "the files beside it are not those attached to it",
        "files_not_listed": "one of its files is not the one that its dossier lists",
        "receipt_invalid": "its receipt is not the log's",
        "issued_entry_malformed": "the entry that is to say which file was issued cannot be read",
        "issued_entry_not_proven": "the entry that is to say which file was issued is not shown to be in the log",
        "issued_for_another_statement": "the entry that is to say which file was issued is about another statement",
        "issued_another_file": "the picture in it is not the one that was issued",
        "picture_changed": "the picture in it has other pixels than its report names",
        "drawing_changed": "one of its drawings is not the one that its report names",
    }
)
"""Codes that speak against a document, in half a sentence."""

Document = Literal["intact", "altered", "unsigned", "unreadable", "none"]


class ReportAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """`document`: of the signed PDF (none: the form has none). `report`: recorded says that a given log key proves that
    the log holds the statement about this very report, and what else the document carries agrees with it."""

    document: Document
    signer: Literal["trusted", "expired", "unknown", "not_checked"]
    report: Literal["recorded", "contradicts", "not_checked"]


class ReportVerification(msgspec.Struct, frozen=True, kw_only=True):
    """All that one look at a report document found. `picture` is what `lawful verify` finds of the picture in it.
    `claim_id` and `outcome` are a claim's; `record_id` is then the record claimed on."""

    verdict: str
    form: Form
    document_sha256: str
    record_id: str | None
    claim_id: str | None
    outcome: str | None
    origin: str
    answers: ReportAnswers
    signer: str | None
    signed_by: str | None
    stamped_at: str | None
    checkpoint_stamped_at: str | None
    picture: Verification | None
    checks: list[Check]
    checked_at: str


@dataclass(frozen=True)
class Opened:
    """A document taken apart: what it carries, and its PDF where it has one."""

    form: Form
    dossier: AnyDossier
    pdf: bytes | None
    beside: AnyDossier | None = None  # what lies beside the PDF in a zip


def open_document(data: bytes) -> Opened:
    """Raises BadRequest `report_document_malformed`, `report_without_proofs`, TooLarge `report_document_too_large`."""
    check_size(len(data))
    form = form_of(data)
    if form == "json":
        return Opened(form, read_json(data), None)
    if form == "pdf":
        return Opened(form, _attached(data), data)
    beside, pdf = read_zip(data)
    return Opened(form, beside if pdf is None else _attached(pdf), pdf, beside)


def _attached(pdf: bytes) -> AnyDossier:
    return dossier_of(attachments(pdf, MAX_PARTS, MAX_DOCUMENT_BYTES))


def check_document(
    data: bytes, *, trust: Trust, roots_pem: str, now: dt.datetime, session: Session | None = None
) -> ReportVerification:
    """Repeat every check on a report document. `trust` and `roots_pem` are whom the checker believes: logs, witnesses,
    and the roots of certificates and timestamp authorities. With a `session` the picture is looked up as well.

    Raises as `open_document`, BadRequest `report_malformed`, and NoteError `vkey_malformed` for a checker's key.
    """
    opened = open_document(data)
    dossier = opened.dossier
    signature = read_signature(opened.pdf, roots_pem=roots_pem, now=now) if opened.pdf is not None else None
    picture = _picture(dossier, trust, roots_pem, now, session)
    said = _of_claim(dossier, picture, trust) if isinstance(dossier, ClaimDossier) else _of_record(
        dossier, picture, trust
    )  # fmt: skip
    claim, history = said.claim, said.history
    stamped_at, stamp = _timestamp(dossier, trust, roots_pem)
    announced = _announced(signature, history)
    believed = announced[0] == "pass" or (signature is not None and signature.signer == "trusted")
    results = {
        17: _whole(signature),
        18: _signer(signature),
        19: announced,
        20: _pages(opened, believed=believed),
        FILES_CHECK: _files(opened),
        22: link(claim.proof_code, good="inclusion_proven"),
        23: link(witness_code(claim), good="witnessed"),
        24: link(claim.key_code, good="statement_key_announced"),
        25: link(claim.report_code, good="report_matches"),
        27: _receipt(dossier, claim, history),
        29: _drawings(dossier, said.drawings),
        30: stamp,
    } | said.results
    names = dict(enumerate((*REPORT_CHECKS, *CLAIM_CHECKS), start=len(CHECKS) + 1))
    checks = [
        Check(step=number, name=names[number], result=result, code=code)
        for number, (result, code) in sorted(results.items())
    ]
    # A file that was exchanged is not the one listed either: the check that is about this very file says more.
    telling = sorted(checks, key=lambda check: check.step == FILES_CHECK)
    fault = next((check.code for check in telling if check.result == "fail"), None)
    answers = ReportAnswers(
        document=signature.whole if signature is not None else "none",
        signer=signature.signer if signature is not None else "not_checked",
        report=_report_answer(claim, fault),
    )
    return ReportVerification(
        verdict=_verdict(said.body, answers, claim, fault, {check.code for check in checks}),
        form=opened.form,
        document_sha256=hashlib.sha256(data).hexdigest(),
        record_id=said.record_id,
        claim_id=said.claim_id,
        outcome=said.outcome,
        origin=plain(claim.proof.origin if claim.proof is not None else dossier.facts.origin),
        answers=answers,
        signer=signature.signer_name if signature is not None else None,
        signed_by=signature.certificate_sha256 if signature is not None else None,
        stamped_at=signature.stamped_at.isoformat() if signature is not None and signature.stamped_at else None,
        checkpoint_stamped_at=stamped_at.isoformat() if stamped_at is not None else None,
        picture=picture,
        checks=[*(picture.checks if picture is not None else []), *checks],
        checked_at=now.isoformat(),
    )


@dataclass(frozen=True)
class _Said:
    """The report in a document and what the log's word on it is worth, with the checks that only its kind has."""

    body: ReportBody | ClaimReportBody
    claim: LedgerClaim
    history: KeyHistory | None
    drawings: list[str]
    results: dict[int, tuple[Result, str]]
    record_id: str | None
    claim_id: str | None = None
    outcome: str | None = None


def _of_record(dossier: Dossier, picture: Verification | None, trust: Trust) -> _Said:
    body = read_report(part_of(dossier, parts.REPORT))
    claim, history = read_assertion(_assertion(dossier, body), None, body.image.pixel_sha256, trust)
    results = {
        PIXELS_CHECK: link(claim.pixels_code, good="pixels_match"),
        ISSUED_CHECK: _issued(dossier, body, picture, claim, history, trust),
    }
    return _Said(body, claim, history, body.evidence.drawings, results, body.record_id)


def _of_claim(dossier: ClaimDossier, picture: Verification | None, trust: Trust) -> _Said:
    body = read_claim_report(part_of(dossier, parts.REPORT))
    claim, history = prove_decision(dossier, trust)
    own = check_claim(dossier, body, picture, history, trust)
    results = dict(enumerate(own, start=len(CHECKS) + len(REPORT_CHECKS) + 1))
    drawn = drawings_named(body.evidence, body.facts)
    return _Said(body, claim, history, drawn, results, body.claim.about, body.claim.claim_id, body.decision.outcome)


def is_bad(found: ReportVerification) -> bool:
    """Whether a check speaks against the document. What could not be checked, for want of a key, does not."""
    return any(check.result == "fail" for check in found.checks if check.step > len(CHECKS))


# ---- the document ----------------------------------------------------------------------------------------------------


def _whole(signature: SignatureReading | None) -> tuple[Result, str]:
    if signature is None:
        return "skip", "no_document"
    return ("pass" if signature.whole == "intact" else "fail"), signature.whole


def _signer(signature: SignatureReading | None) -> tuple[Result, str]:
    if signature is None or signature.signer == "not_checked":
        return "skip", "not_checked"
    return ("pass" if signature.signer == "trusted" else "info"), signature.signer


def _announced(signature: SignatureReading | None, history: KeyHistory | None) -> tuple[Result, str]:
    """A certificate that was ever declared stolen speaks for no document: when it signed, only the thief could say."""
    if signature is None or signature.certificate_sha256 is None or history is None:
        return "skip", "not_checked"
    known = history.key("credentials", bytes.fromhex(signature.certificate_sha256))
    if known is None:
        return "fail", "certificate_not_announced"
    return ("pass", "certificate_announced") if known.compromised is None else ("fail", "certificate_compromised")


def _pages(opened: Opened, *, believed: bool) -> tuple[Result, str]:
    """Drawn again from the attachments, the pages have the bytes before the signature. A stranger's are not drawn."""
    if opened.pdf is None or not believed:
        return "skip", "no_document" if opened.pdf is None else "not_checked"
    try:
        drawn = render(opened.dossier)
    except Exception:  # noqa: BLE001 - a believed signer's dossier may hold anything: what cannot be drawn is not these pages
        return "fail", "pages_differ"
    if opened.pdf.startswith(drawn):
        return "pass", "pages_match"
    same = opened.dossier.facts.software == parts.software()
    return ("fail", "pages_differ") if same else ("info", "drawn_by_another_version")


def _files(opened: Opened) -> tuple[Result, str]:
    """The files of the zip are those of the PDF, and all of them are those that dossier.json lists."""
    if opened.dossier.facts.parts != parts.digests(opened.dossier.parts):
        return "fail", "files_not_listed"
    if opened.pdf is None or opened.beside is None:
        return "skip", "not_checked"
    same = files_of(opened.beside) == files_of(opened.dossier)
    return ("pass", "files_match") if same else ("fail", "files_differ")


# ---- the log's word --------------------------------------------------------------------------------------------------


def _assertion(dossier: Dossier, body: ReportBody) -> dict[str, Any]:
    """The parts in the form of a credential's ledger assertion, which is checked the same way."""
    return {
        "statement": base64.b64encode(part_of(dossier, parts.STATEMENT)).decode(),
        "salt": dossier.facts.salt,
        "tlog_proof": part_of(dossier, parts.PROOF).decode("utf-8", "replace"),
        "keys": _json(part_of(dossier, parts.KEYS)),
        "report_sha256": hashlib.sha256(part_of(dossier, parts.REPORT)).hexdigest(),
        "record_id": body.record_id,
    }


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return ()  # neither absent nor a list: malformed


def _receipt(dossier: AnyDossier, claim: LedgerClaim, history: KeyHistory | None) -> tuple[Result, str]:
    if parts.RECEIPT not in dossier.parts or history is None:
        return "skip", "not_checked"
    for (use, _), key in history.keys.items():
        if use != "receipts":
            continue
        try:
            reading = verify_receipt(dossier.parts[parts.RECEIPT], dossier.parts[parts.STATEMENT], key.public_key)
        except ReceiptError:
            continue
        assert claim.proof is not None
        if (reading.index, reading.size, reading.issuer) == (claim.proof.index, claim.proof.size, claim.proof.origin):
            return ("pass", "receipt_holds") if key.compromised is None else ("info", "receipt_key_compromised")
    return "fail", "receipt_invalid"


def _issued(
    dossier: Dossier,
    body: ReportBody,
    picture: Verification | None,
    claim: LedgerClaim,
    history: KeyHistory | None,
    trust: Trust,
) -> tuple[Result, str]:
    if picture is not None and picture.pixel_sha256 != body.image.pixel_sha256:
        return "fail", "picture_changed"
    if history is None or not claim.is_proven:
        return "skip", "not_checked"
    try:
        entry, proof_text = part_of(dossier, parts.ISSUED), part_of(dossier, parts.ISSUED_PROOF)
        statement = parse_statement(entry)
        proof = check_tlog_proof(entry, proof_text, trust.logs)
        if statement.payload["type"] != ISSUED_TYPE:
            return "fail", "issued_entry_malformed"
        key = history.key("statements", statement.kid)
        if not proof.inclusion or proof.log_key != "trusted" or key is None or key.suspect_at(proof.index):
            return "fail", "issued_entry_not_proven"
        check_signature(statement, key.public_key)
        if statement.payload["leaf"] != merkle.leaf_hash(part_of(dossier, parts.STATEMENT)).hex():
            return "fail", "issued_for_another_statement"
        return _is_issued(dossier, picture, statement.payload["commitments"])
    except (KeyError, TypeError, ValueError, StatementError, NoteError, BadRequest):
        return "fail", "issued_entry_malformed"


def _is_issued(dossier: Dossier, picture: Verification | None, committed: dict[str, str]) -> tuple[Result, str]:
    salt = bytes.fromhex(dossier.facts.salt)
    told = picture.file_sha256 if picture is not None else dossier.facts.look.file_sha256
    if commitment(FILE_DOMAIN, salt, bytes.fromhex(told)).hex() != committed["file"]:
        return "fail", "issued_another_file"
    if picture is None:
        return "info", "picture_not_in_the_document"
    claimed = picture.credential.get("claim_sha256")
    if claimed is None or commitment(CLAIM_DOMAIN, salt, bytes.fromhex(claimed)).hex() != committed["claim"]:
        return "fail", "issued_another_file"
    return "pass", "issued_file"


def _drawings(dossier: AnyDossier, digests: Sequence[str]) -> tuple[Result, str]:
    named = {match_name(digest): digest for digest in digests}
    if any(name.startswith("match-") and name not in named for name in dossier.parts):
        return "fail", "drawing_changed"
    for name, digest in named.items():
        if name in dossier.parts and hashlib.sha256(dossier.parts[name]).hexdigest() != digest:
            return "fail", "drawing_changed"
    if not named:
        return "skip", "no_drawings"
    return ("pass", "drawings_match") if set(named) <= set(dossier.parts) else ("info", "drawing_missing")


def _timestamp(dossier: AnyDossier, trust: Trust, roots_pem: str) -> tuple[dt.datetime | None, tuple[Result, str]]:
    """An authority that the checker does not know shows nothing, and contradicts nothing."""
    if parts.TIMESTAMP not in dossier.parts or parts.TIMESTAMP_PROOF not in dossier.parts:
        return None, ("info", "no_timestamp")
    if not roots_pem.strip():
        return None, ("info", "timestamp_root_not_given")
    try:
        proof_text = dossier.parts[parts.TIMESTAMP_PROOF]
        proof = check_tlog_proof(part_of(dossier, parts.STATEMENT), proof_text, trust.logs)
        if not proof.inclusion or proof.log_key != "trusted":
            return None, ("info", "timestamp_of_an_unproven_tree")
        text = TlogProof.parse(proof_text).note.text
        at = verify_timestamp(dossier.parts[parts.TIMESTAMP], text, roots_pem)
    except TimestampError as error:
        return None, ("info", error.code)
    except (NoteError, BadRequest):
        return None, ("info", "timestamp_malformed")
    return at, ("pass", "timestamp_verified")


def _picture(
    dossier: AnyDossier, trust: Trust, roots_pem: str, now: dt.datetime, session: Session | None
) -> Verification | None:
    picture = picture_of(dossier)
    if picture is None:
        return None
    try:
        return verify(
            picture,
            session=session,
            anchors_pem=roots_pem,
            log_vkeys=trust.log_vkeys,
            witness_vkeys=trust.witness_vkeys,
            policy=trust.policy,
            examine=None,
            now=now,
        )
    except ImageError as error:
        raise BadRequest(
            f"the picture in the document: {error.detail}", code=error.code, next_step=error.next_step
        ) from error


# ---- in words --------------------------------------------------------------------------------------------------------


def _report_answer(claim: LedgerClaim, fault: str | None) -> Literal["recorded", "contradicts", "not_checked"]:
    if fault is not None:
        return "contradicts"
    return "recorded" if claim.is_proven else "not_checked"


def _verdict(
    body: ReportBody | ClaimReportBody, answers: ReportAnswers, claim: LedgerClaim, fault: str | None, codes: set[str]
) -> str:
    """One sentence for somebody who reads no more."""
    if fault is not None:
        return f"Do not rely on this document: {FAULTS.get(fault, fault)}."
    document = {
        "none": "there is no signed document among these files",
        "intact": "the document is as it was signed",
    }[answers.document]
    if not claim.is_proven:
        return f"Nothing is proven here of the ledger's part{unproven(claim)}; {document}."
    by = ", under a certificate that the log announced" if "certificate_announced" in codes else ""
    file = ", and the picture in it is the file that was issued" if "issued_file" in codes else ""
    open_end = "; whether its pages say what is attached, only the version that drew them can tell"
    drawn = open_end if "drawn_by_another_version" in codes else ""
    assert claim.proof is not None
    return (
        f"{_decided(body)}The log {plain(claim.proof.origin)} holds the statement about this very report, "
        f"{proven_by(claim)}; {document}{by}{file}{drawn}."
    )


def _decided(body: ReportBody | ClaimReportBody) -> str:
    if isinstance(body, ReportBody):
        return ""
    decision = body.decision
    return (
        f"The claim “{CLAIM_KINDS[body.claim.kind]}” is {decision.outcome}; that the claimant is the artist is"
        f" {decision.claimant}. "
    )
