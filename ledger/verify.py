"""What can be said of an image, in six separate answers and one sentence. The checks are numbered once, here.

Absent, unreadable, altered, expired, untrusted and unrecorded are different answers, and none of them says how an image
was made. Trust comes from keys the checker chose (`log_vkeys`, `anchors_pem`), never from the file.
"""

import base64
import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from attribution.evidence import Evidence
from attribution.fingerprints import Fingerprints, fingerprint
from ledger import lookup
from ledger.credentials.read import CredentialReading, read_credential
from ledger.database.tables import Record
from ledger.issue import PIXELS_DOMAIN
from ledger.log.merkle import leaf_hash
from ledger.log.notes import NoteError
from ledger.log.statements import StatementError, commitment, parse_statement
from ledger.log.verify import ProofReading, check_tlog_proof
from ledger.lookup import Candidate, RecordView
from models.images import DecodedImage, Limits, decode

Examine = Callable[[NDArray[np.uint8], Fingerprints], Evidence]

# One list for code, command line, page and report.
CHECKS = (
    "The file is an image this ledger reads",
    "A C2PA credential is present",
    "The credential's hash fits the file's bytes",
    "The credential's signature is valid",
    "The signer is one this checker trusts",
    "The ingredients' credentials are intact",
    "The log's inclusion proof in the credential holds under a log key this checker was given",
    "The logged statement is about these very pixels",
    "The ledger holds a record of this file",
    "The ledger holds a record of these pixels",
    "Records that look alike (soft bindings)",
    "Compared with the collection",
)

# What the file says of its ledger entry, and how it disagrees (docs/decisions/0003-what-contradicts.md).
CONTRADICTIONS = {
    "statement_is_about_other_pixels": "the ledger entry it points to is about other pixels than these",
    "inclusion_proof_invalid": "its proof does not lead into the log it names",
    "log_signature_invalid": "its proof is not signed by the log it names",
    "ledger_assertion_malformed": "what it says of the ledger cannot be read",
    "entry_without_record": "the ledger holds no record for the entry it points to",
    "credential_is_not_the_issued_one": "the ledger issued its entry with another credential than this one",
}

Result = Literal["pass", "fail", "info", "skip"]
FoundBy = Literal["credential", "file_sha256", "pixel_sha256", "soft_binding", "copy"]
LedgerAnswer = Literal["recorded", "similar", "not_recorded", "redacted", "contradicts", "not_checked"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    step: int
    name: str
    result: Result
    code: str


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    credential: Literal["present", "absent", "unreadable", "remote_only"]
    content: Literal["intact", "altered", "not_checked"]
    signature: Literal["valid", "invalid", "expired", "not_checked"]
    signer: Literal["trusted", "unknown", "not_checked"]
    ingredients: Literal["none", "intact", "broken", "not_checked"]
    ledger: LedgerAnswer


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one look at a file found. `verification_id` names its own entry when the look was recorded."""

    verdict: str
    file_sha256: str
    pixel_sha256: str
    answers: Answers
    found_by: FoundBy | None
    records: list[RecordView]
    candidates: list[Candidate]
    conflicts: list[str]
    evidence: Evidence | None
    credential: dict[str, Any]
    checks: list[Check]
    checked_at: str
    verification_id: str | None = None


class LedgerClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What the credential in the file says of the ledger, and how far the file itself proves it."""

    present: bool
    record_id: str | None = None
    leaf_hash: bytes | None = None
    proof: ProofReading | None = None
    proof_code: str = "no_ledger_assertion"
    pixels_match: bool | None = None  # None: the statement could not be opened


def verify(
    data: bytes,
    *,
    session: Session | None,
    anchors_pem: str,
    log_vkeys: Sequence[str],
    examine: Examine | None,
    now: dt.datetime,
    limits: Limits | None = None,
) -> Verification:
    """Look at a PNG, JPEG or WebP with anybody's credentials or none.

    `session` None: nothing is looked up, the ledger answer rests on the proof in the file alone. `examine` None: the
    collection is not searched. Raises ImageError for bytes that are no readable image; hostile credentials never raise.
    """
    image = decode(data, limits or Limits())
    found = fingerprint(data, image.pixels)
    reading = read_credential(data, image.media_type, anchors_pem=anchors_pem, now=now)
    claim = read_ledger_claim(reading, found, log_vkeys)
    looked = _look_up(session, found, claim, reading) if session is not None else _LookedUp()
    evidence = examine(image.pixels, found) if examine is not None else None
    answers = Answers(
        credential=reading.credential,
        content=reading.content,
        signature=reading.signature,
        signer=reading.signer,
        ingredients=reading.ingredients,
        ledger=_ledger_answer(session is not None, claim, looked),
    )
    return Verification(
        verdict=verdict(answers, looked, claim, session is not None),
        file_sha256=found.file_sha256,
        pixel_sha256=found.pixel_sha256,
        answers=answers,
        found_by=looked.found_by,
        records=looked.records,
        candidates=looked.candidates,
        conflicts=looked.conflicts,
        evidence=evidence,
        credential=_credential_facts(reading, claim),
        checks=_checks(image, reading, claim, looked, evidence, session is not None),
        checked_at=now.isoformat(),
    )


def read_ledger_claim(reading: CredentialReading, found: Fingerprints, log_vkeys: Sequence[str]) -> LedgerClaim:
    """Check the ledger assertion of the active manifest against the file and the given log keys, without a database.

    A valid proof shows that the log behind a given key holds the statement. It does not show that the credential around
    it is the one the ledger issued, nor, without witnesses, that the log shows everybody the same tree.
    """
    said = reading.ledger
    if said is None:
        return LedgerClaim(present=False)
    try:
        entry = base64.b64decode(str(said["statement"]), validate=True)
        salt = bytes.fromhex(str(said["salt"]))
        proof_text = str(said["tlog_proof"]).encode()
        statement = parse_statement(entry)
        committed = str(statement.payload["commitments"]["pixels"])
        record_id = str(statement.payload["record_id"])
        proof = check_tlog_proof(entry, proof_text, log_vkeys)
    except (KeyError, TypeError, ValueError, StatementError, NoteError) as error:
        if getattr(error, "code", "") == "vkey_malformed":  # the checker's own key, not the file's fault
            raise
        return LedgerClaim(present=True, proof_code="ledger_assertion_malformed")
    opened = commitment(PIXELS_DOMAIN, salt, bytes.fromhex(found.pixel_sha256)).hex()
    return LedgerClaim(
        present=True,
        record_id=record_id,
        leaf_hash=leaf_hash(entry),
        proof=proof,
        proof_code=_proof_code(proof),
        pixels_match=opened == committed,
    )


def _proof_code(proof: ProofReading) -> str:
    if not proof.inclusion:
        return "inclusion_proof_invalid"
    return {"trusted": "inclusion_proven", "unknown": "log_key_unknown", "invalid": "log_signature_invalid"}[
        proof.log_key
    ]


# ---- looking up ----------------------------------------------------------------------------------------------------


class _LookedUp(msgspec.Struct, kw_only=True):
    found_by: FoundBy | None = None
    records: list[RecordView] = []
    candidates: list[Candidate] = []
    conflicts: list[str] = []
    by_file: bool = False
    by_pixels: bool = False
    redacted: bool = False
    contradiction: str | None = None


def _look_up(session: Session, found: Fingerprints, claim: LedgerClaim, reading: CredentialReading) -> _LookedUp:
    by_file = lookup.find(session, file_sha256=found.file_sha256)
    by_pixels = lookup.find(session, pixel_sha256=found.pixel_sha256)
    named = _named_record(session, claim)
    records = {record.id: record for record in [*([named] if named else []), *by_file, *by_pixels]}
    candidates = lookup.similar(session, found)
    looked = _LookedUp(
        records=sorted(records.values(), key=lambda record: (record.created_at, record.id)),
        candidates=[each for each in candidates if each.record.id not in records],
        by_file=bool(by_file),
        by_pixels=bool(by_pixels),
        redacted=named is not None and named.redacted,
        contradiction=_contradiction(claim, named, reading),
    )
    if named is not None:
        looked.found_by = "credential"
    elif by_file:
        looked.found_by = "file_sha256"
    elif by_pixels:
        looked.found_by = "pixel_sha256"
    elif looked.candidates:
        looked.found_by = "soft_binding"
    looked.conflicts = _conflicts(by_pixels)
    return looked


def _named_record(session: Session, claim: LedgerClaim) -> RecordView | None:
    """The record whose logged statement the file carries, byte for byte."""
    if claim.leaf_hash is None:
        return None
    record_id = session.execute(
        sa.select(Record.id).where(
            Record.leaf_hash == claim.leaf_hash, sa.or_(Record.listed, Record.erased_at.is_not(None))
        )
    ).scalar()
    return None if record_id is None else lookup.by_id(session, record_id)


def _contradiction(claim: LedgerClaim, named: RecordView | None, reading: CredentialReading) -> str | None:
    """Where what the file says of its entry disagrees with the entry; a code, or None."""
    if not claim.present or claim.proof_code == "log_key_unknown":
        return None
    if claim.pixels_match is False:
        return "statement_is_about_other_pixels"
    if claim.proof_code in {"inclusion_proof_invalid", "log_signature_invalid", "ledger_assertion_malformed"}:
        return claim.proof_code
    if named is None:
        return "entry_without_record"
    if not named.redacted and reading.manifest_urn != named.manifest_urn:
        return "credential_is_not_the_issued_one"
    return None


def _conflicts(records: list[RecordView]) -> list[str]:
    """Several records of the same pixels are all shown; where they say different things of the origin, that is said."""
    origins = {str((record.made or {}).get("model") or (record.made or {}).get("declared_model")) for record in records}
    if len(records) > 1 and len(origins) > 1:
        return [
            f"{len(records)} records of the same pixels name {len(origins)} different origins; the earliest comes first"
        ]
    return []


def _ledger_answer(asked: bool, claim: LedgerClaim, looked: _LookedUp) -> LedgerAnswer:
    if not asked:
        if claim.proof_code == "inclusion_proven":
            return "recorded" if claim.pixels_match else "contradicts"
        return "not_checked"
    if looked.contradiction is not None:
        return "contradicts"
    if looked.redacted:
        return "redacted"
    if looked.records:
        return "recorded"
    return "similar" if looked.candidates else "not_recorded"


# ---- saying it -----------------------------------------------------------------------------------------------------


def verdict(answers: Answers, looked: _LookedUp, claim: LedgerClaim, asked: bool) -> str:
    """One sentence for somebody who reads no more. It claims nothing that the six answers do not."""
    origin = _origin(looked)
    match answers.ledger:
        case "contradicts":
            why = CONTRADICTIONS[looked.contradiction or "statement_is_about_other_pixels"]
            return f"Do not rely on this file's credential: {why}."
        case "redacted":
            return "The ledger held a record of this image; its content was deleted on request."
        case "recorded" if not asked:
            return f"The log {claim.proof.origin if claim.proof else ''} holds a statement about these very pixels."
        case "recorded" if answers.content == "intact" and answers.credential == "present":
            return f"{origin}; its credential is intact{_signed(answers)}."
        case "recorded" if answers.credential == "present":
            return f"{origin}; the credential in this file is {_flaw(answers)}."
        case "recorded":
            found_by = "bytes" if looked.by_file else "pixels"
            return f"{origin}; this copy carries no readable credential and was found by its {found_by}."
        case "similar":
            nearest = looked.candidates[0]
            return (
                f"Looks like record {nearest.record.id} ({nearest.bits_differing} of {nearest.bits_total} bits "
                "differ); that is a candidate, not a finding."
            )
        case "not_recorded" if answers.credential == "absent":
            return "Not in this ledger and without a credential, which says nothing about how it was made."
        case "not_recorded":
            return f"Not in this ledger; it carries somebody's credential, which is {_flaw(answers)}."
    if answers.credential == "absent":
        return "No credential was found and the ledger was not asked; that says nothing about how it was made."
    return f"The ledger was not asked; the credential is {_flaw(answers)}."


def _origin(looked: _LookedUp) -> str:
    if not looked.records:
        return "In this ledger"
    first = looked.records[0]
    what = {"generation": "Generated by this ledger's operator", "stamp": "Stamped here as declared by its submitter"}
    return f"{what.get(first.kind, 'Recorded')} on {first.created_at[:10]}"


def _signed(answers: Answers) -> str:
    return " and signed by a trusted signer" if answers.signer == "trusted" else " (its signer is not one we know)"


def _flaw(answers: Answers) -> str:
    if answers.credential == "unreadable":
        return "unreadable"
    if answers.credential == "remote_only":
        return "kept elsewhere and was not fetched"
    if answers.content == "altered":
        return "broken: the file was changed after signing"
    if answers.signature == "expired":
        return "intact, with a certificate that has expired"
    if answers.signature == "invalid":
        return "not validly signed"
    if answers.ingredients == "broken":
        return "intact, but one of its ingredients is not"
    return "intact" + (
        " and signed by a trusted signer" if answers.signer == "trusted" else ", from a signer we do not know"
    )


def _credential_facts(reading: CredentialReading, claim: LedgerClaim) -> dict[str, Any]:
    """The raw facts behind the answers, for whoever wants to see everything."""
    return {
        "manifest_urn": reading.manifest_urn,
        "claim_sha256": reading.claim_sha256,
        "claim_generator": reading.claim_generator,
        "signer": reading.signer_name,
        "signed_at": reading.signed_at,
        "remote_url": reading.remote_url,
        "codes": list(reading.codes),
        "trust_list_sha256": reading.trust_list_sha256,
        "ledger": reading.ledger,
        "attribution": reading.attribution,
        "log_proof": msgspec.to_builtins(claim.proof) if claim.proof else None,
    }


def _checks(
    image: DecodedImage,
    reading: CredentialReading,
    claim: LedgerClaim,
    looked: _LookedUp,
    evidence: Evidence | None,
    asked: bool,
) -> list[Check]:
    present = reading.credential == "present"
    code = reading.codes[0] if reading.codes else ""
    results: list[tuple[Result, str]] = [
        ("pass", image.media_type),
        ("pass" if present else ("info" if reading.credential == "absent" else "fail"), reading.credential),
        (_graded(reading.content, good={"intact"}, bad={"altered"}), _coded(reading.content, code)),
        (_graded(reading.signature, good={"valid"}, bad={"invalid"}), _coded(reading.signature, code)),
        (_graded(reading.signer, good={"trusted"}, bad=set()), reading.signer),
        (_graded(reading.ingredients, good={"intact"}, bad={"broken"}), reading.ingredients),
        _proof_result(claim),
        _pixels_result(claim),
        ("pass" if looked.by_file else "info", "recorded" if looked.by_file else "not_recorded")
        if asked
        else ("skip", "not_checked"),
        ("pass" if looked.by_pixels else "info", "recorded" if looked.by_pixels else "not_recorded")
        if asked
        else ("skip", "not_checked"),
        ("info", f"candidates_{len(looked.candidates)}") if asked else ("skip", "not_checked"),
        ("info", evidence.statement) if evidence is not None else ("skip", "not_compared"),
    ]
    return [
        Check(step=number, name=name, result=result, code=said)
        for number, (name, (result, said)) in enumerate(zip(CHECKS, results, strict=True), start=1)
    ]


def _graded(answer: str, *, good: set[str], bad: set[str]) -> Result:
    if answer in good:
        return "pass"
    if answer in bad:
        return "fail"
    return "skip" if answer == "not_checked" else "info"


def _coded(answer: str, code: str) -> str:
    return f"{answer}: {code}" if code and answer not in {"intact", "valid", "not_checked"} else answer


def _proof_result(claim: LedgerClaim) -> tuple[Result, str]:
    if not claim.present:
        return "skip", claim.proof_code
    if claim.proof_code == "inclusion_proven":
        return "pass", claim.proof_code
    return ("info" if claim.proof_code == "log_key_unknown" else "fail"), claim.proof_code


def _pixels_result(claim: LedgerClaim) -> tuple[Result, str]:
    if claim.pixels_match is None:
        return "skip", "no_statement"
    return ("pass", "pixels_match") if claim.pixels_match else ("fail", "statement_is_about_other_pixels")
