"""What was found, put into words: the numbered checks, the six answers, the sentence. No look-ups, no cryptography."""

from typing import Any, Literal

import msgspec

from attribution.evidence import Evidence
from ledger.credentials.answers import FAILURES
from ledger.credentials.read import CredentialReading
from ledger.file_proof import CONTRADICTIONS as BY_THE_FILE
from ledger.file_proof import LedgerClaim
from ledger.lookup import Candidate, RecordView
from ledger.times import day
from models.images import DecodedImage

MAX_SHOWN_CHARS = 4096

# One list for code, command line, page and report.
CHECKS = (
    "The file is an image this ledger reads",
    "A C2PA credential is present",
    "The credential's hash fits the file's bytes",
    "The credential's signature is valid",
    "The signer is one this checker trusts",
    "The ingredients' credentials are intact",
    "The log's inclusion proof in the credential holds under a log key this checker was given",
    "Witnesses this checker was given have signed for the same log",
    "The logged statement is signed with a key that the log announced",
    "The logged statement is about these very pixels",
    "The logged statement is about the report that the credential names",
    "The credential is signed with a certificate that the log announced",
    "The ledger holds a record of this file",
    "The ledger holds a record of these pixels",
    "Records that look alike (soft bindings)",
    "Compared with the collection",
)

# What the file says of its ledger entry, and how it disagrees (docs/decisions/0003-what-contradicts.md).
CONTRADICTIONS = BY_THE_FILE | {
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


class LookedUp(msgspec.Struct, kw_only=True):
    """What the ledger's tables said of a file."""

    found_by: FoundBy | None = None
    records: list[RecordView] = []
    candidates: list[Candidate] = []
    conflicts: list[str] = []
    by_file: bool = False
    by_pixels: bool = False
    redacted: bool = False
    contradiction: str | None = None


def verdict(answers: Answers, looked: LookedUp, claim: LedgerClaim, asked: bool) -> str:
    """One sentence for somebody who reads no more. It claims nothing that the six answers do not."""
    origin = _origin(looked)
    match answers.ledger:
        case "contradicts":
            why = CONTRADICTIONS[looked.contradiction or claim.contradiction or "ledger_assertion_malformed"]
            return f"Do not rely on this file's credential: {why}."
        case "redacted":
            return "The ledger held a record of this image; its content was deleted on request."
        case "recorded" if not looked.records:
            return (
                f"The log {_log(claim)} holds a statement about these very pixels, {proven_by(claim)}; the credential"
                f" around it is {_state(answers)}{_certificate(claim)}, and whether it is the one that was issued"
                " was not asked."
            )
        case "recorded" if answers.credential == "present" and looked.found_by != "credential":
            return f"{origin}; this file carries another credential than the one issued, which is {_state(answers)}."
        case "recorded" if answers.credential == "present":
            return f"{origin}; its credential is {_state(answers)}."
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
            return f"Not in this ledger; it carries somebody's credential, which is {_state(answers)}."
    if answers.credential == "absent":
        return "No credential was found and the ledger was not asked; that says nothing about how it was made."
    return f"The ledger was not asked{unproven(claim)}; the credential is {_state(answers)}."


def _log(claim: LedgerClaim) -> str:
    return plain(claim.proof.origin) if claim.proof else "that it names"


def unproven(claim: LedgerClaim) -> str:
    """Why the log's proof in the file, where it has one, shows nothing to this checker."""
    why = {
        "log_key_not_given": "no log key was given, so nothing shows that its proof is truly one",
        "log_key_unknown": "no key given here is that log's, so nothing shows that its proof is truly one",
        "another_logs_proof": "no key given here is that log's, and the statement is from another log",
        "inclusion_proven": "the file does not show that the key behind its entry is the ledger's",
        "ledger_assertion_malformed": "it cannot be read",
    }
    if claim.proof_code not in why:
        return ""
    return f", and what the file says of the log {_log(claim)} is not proven: {why[claim.proof_code]}"


def proven_by(claim: LedgerClaim) -> str:
    """By whose keys the log is believed, and what is open where too few have signed."""
    signed, given = (claim.proof.witnesses if claim.proof else 0), claim.witnesses_given
    open_end = "so its operator could show others another log"
    if not given:
        return f"proved by the log key given; no witness key was given, {open_end}"
    of_them = f"{signed or 'none'} of the {given} witness{'es' if given > 1 else ''} given"
    if witness_code(claim) == "witnessed":
        return f"proved by the log key given, and {of_them} signed for the same log"
    fewer = "" if not signed else ", fewer than the policy asks for"
    return f"proved by the log key given; {of_them} signed for it{fewer}, {open_end}"


def _certificate(claim: LedgerClaim) -> str:
    return ", under a certificate that the log announced" if claim.certificate_code == "certificate_announced" else ""


def witness_code(claim: LedgerClaim) -> str:
    """Whether those the checker believes saw the log too: with a policy its quorum, else at least one of them."""
    if claim.proof_code != "inclusion_proven" or claim.proof is None:
        return "not_checked"
    if not claim.witnesses_given:
        return "witness_key_not_given"
    if not claim.proof.witnesses:
        return "not_witnessed"
    return "witnessed_below_quorum" if claim.proof.quorum is False else "witnessed"


def _origin(looked: LookedUp) -> str:
    if not looked.records:
        return "In this ledger"
    first = looked.records[0]
    what = {"generation": "Generated by this ledger's operator", "stamp": "Stamped here as declared by its submitter"}
    return f"{what.get(first.kind, 'Recorded')} on {day(first.created_at)}"


def _state(answers: Answers) -> str:
    if answers.credential == "unreadable":
        return "unreadable"
    if answers.credential == "remote_only":
        return "kept elsewhere and was not fetched"
    if answers.content == "altered":
        return "broken: the file was changed after signing"
    if answers.signature == "invalid":
        return "not validly signed"
    if answers.content != "intact" or answers.signature == "not_checked":
        return "present but could not be checked"
    if answers.signature == "expired":
        return "intact, with a certificate that has expired"
    if answers.ingredients == "broken":
        return "intact, but one of its ingredients is not"
    return "intact" + (
        " and signed by a trusted signer" if answers.signer == "trusted" else ", from a signer we do not know"
    )


def credential_facts(reading: CredentialReading, claim: LedgerClaim) -> dict[str, Any]:
    """The raw facts behind the answers, for whoever wants to see everything.

    They are kept with the look, so strangers' JSON goes in only by the fields that are known, bounded, and without the
    salt, which would open the entry's commitments after the record was erased.
    """
    said = reading.ledger or {}
    known = ("schema", "origin", "record_id", "canonical", "pixel_sha256", "report_sha256", "lookup_url", "tlog_proof")
    finding = (reading.attribution or {}).get("finding")
    return {
        "manifest_urn": reading.manifest_urn,
        "claim_sha256": reading.claim_sha256,
        "claim_generator": reading.claim_generator,
        "signer": reading.signer_name,
        "signed_at": reading.signed_at,
        "remote_url": reading.remote_url,
        "codes": [plain(code) for code in reading.codes[:100]],
        "trust_list_sha256": reading.trust_list_sha256,
        "ledger": {name: plain(said[name]) for name in known if name in said} or None,
        "finding": plain(finding) if finding is not None else None,
        "log_proof": msgspec.to_builtins(claim.proof) if claim.proof else None,
    }


def plain(value: object) -> str:
    """Text that a database and a page can hold, whatever a stranger wrote."""
    kept = str(value)[:MAX_SHOWN_CHARS]
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in kept)


def all_checks(
    image: DecodedImage,
    reading: CredentialReading,
    claim: LedgerClaim,
    looked: LookedUp,
    evidence: Evidence | None,
    asked: bool,
) -> list[Check]:
    present = reading.credential == "present"
    results: list[tuple[Result, str]] = [
        ("pass", image.media_type),
        ("pass" if present else ("info" if reading.credential == "absent" else "fail"), reading.credential),
        (_graded(reading.content, good={"intact"}, bad={"altered"}), _coded(reading.content, reading)),
        (_graded(reading.signature, good={"valid"}, bad={"invalid"}), _coded(reading.signature, reading)),
        (_graded(reading.signer, good={"trusted"}, bad=set()), reading.signer),
        (_graded(reading.ingredients, good={"intact"}, bad={"broken"}), reading.ingredients),
        link(claim.proof_code, good="inclusion_proven"),
        link(witness_code(claim), good="witnessed"),
        link(claim.key_code, good="statement_key_announced"),
        link(claim.pixels_code, good="pixels_match"),
        link(claim.report_code, good="report_matches"),
        link(claim.certificate_code, good="certificate_announced"),
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


def _coded(answer: str, reading: CredentialReading) -> str:
    """The answer, with the raw code that made it so."""
    return next((f"{answer}: {code}" for code in reading.codes if FAILURES.get(code) == answer), answer)


def link(code: str, *, good: str) -> tuple[Result, str]:
    """One link of the file's own chain. What the checker has no key for is open, not wrong."""
    if code == good:
        return "pass", code
    if code in CONTRADICTIONS:
        return "fail", code
    return ("skip" if code in {"no_ledger_assertion", "no_statement", "not_checked"} else "info"), code
