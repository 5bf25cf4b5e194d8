"""What can be said of an image, in six separate answers and one sentence. The checks are numbered once, in
`ledger.verdict`.

Absent, unreadable, altered, expired, untrusted and unrecorded are different answers, and none of them says how an image
was made. Trust comes from keys the checker chose (`log_vkeys`, `anchors_pem`), never from the file.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from attribution.evidence import Evidence
from attribution.fingerprints import Fingerprints, fingerprint
from ledger import lookup
from ledger.credentials.read import CredentialReading, read_credential
from ledger.database.tables.log import LogShard
from ledger.database.tables.records import Record
from ledger.decoding.reading import IN_THIS_PROCESS, FileReader
from ledger.file_proof import UNKNOWN_LOG, LedgerClaim, Trust, read_ledger_claim
from ledger.log.policy import Policy
from ledger.lookup import Candidate, RecordView
from ledger.verdict import (
    Answers,
    Check,
    FoundBy,
    LedgerAnswer,
    LookedUp,
    all_checks,
    credential_facts,
    verdict,
)

Examine = Callable[[NDArray[np.uint8], Fingerprints], Evidence]


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


def verify(
    data: bytes,
    *,
    session: Session | None,
    anchors_pem: str,
    log_vkeys: Sequence[str],
    examine: Examine | None,
    now: dt.datetime,
    files: FileReader = IN_THIS_PROCESS,
    witness_vkeys: Sequence[str] = (),
    policy: Policy | None = None,
) -> Verification:
    """Look at a PNG, JPEG or WebP with anybody's credentials or none.

    `session` None: nothing is looked up, the ledger answer rests on the proof in the file alone. `examine` None: the
    collection is not searched. `log_vkeys`, `witness_vkeys` and `policy` are whom the checker believes; the logs and
    witnesses of the policy count as given. `files` opens the file: a stranger's, behind walls where anything is at
    stake. Raises ImageError for bytes that are no readable image, NoteError
    `vkey_malformed` for a key that is none; hostile credentials never raise.
    """
    image = files.decode(data)
    found = fingerprint(data, image.pixels)
    reading = files.read_credential(data, image.media_type, anchors_pem=anchors_pem, now=now)
    claim = read_ledger_claim(reading, found.pixel_sha256, Trust(log_vkeys, witness_vkeys, policy))
    evidence = examine(image.pixels, found) if examine is not None else None  # first: no transaction is open over it
    looked = _look_up(session, found, claim, reading) if session is not None else LookedUp()
    answers = _answers(reading, _ledger_answer(session is not None, claim, looked))
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
        credential=credential_facts(reading, claim),
        checks=all_checks(image, reading, claim, looked, evidence, session is not None),
        checked_at=now.isoformat(),
    )


class IssuedLook(NamedTuple):
    """What the file of one record says of itself and of its record: `verify`'s answers, without another look-up."""

    verdict: str
    answers: Answers
    reading: CredentialReading
    claim: LedgerClaim


def look_at_issued(
    data: bytes,
    view: RecordView,
    *,
    session: Session,
    anchors_pem: str,
    trust: Trust,
    now: dt.datetime,
) -> IssuedLook:
    """Look at the file that the listed record `view` was issued with. Its pixels need no decoding: `view` has their
    hash, and a file that lost its credential in storage still is that record's.

    It says nothing of a copy that somebody else holds: that is `verify`'s to look at.
    """
    assert view.pixel_sha256 is not None
    assert view.media_type is not None
    reading = read_credential(data, view.media_type, anchors_pem=anchors_pem, now=now)
    claim = read_ledger_claim(reading, view.pixel_sha256, trust)
    own = claim.leaf_hash is not None and view.log is not None and view.log.leaf_hash == claim.leaf_hash.hex()
    named = view if own else _named_record(session, claim)
    looked = LookedUp(
        records=[view],
        found_by="credential" if named is not None else "file_sha256",
        by_file=True,
        by_pixels=True,
        contradiction=_contradiction(session, claim, named, reading),
    )
    answers = _answers(reading, _ledger_answer(True, claim, looked))
    return IssuedLook(verdict(answers, looked, claim, True), answers, reading, claim)


# ---- looking up ----------------------------------------------------------------------------------------------------


def _look_up(session: Session, found: Fingerprints, claim: LedgerClaim, reading: CredentialReading) -> LookedUp:
    by_file = lookup.find(session, file_sha256=found.file_sha256)
    by_pixels = lookup.find(session, pixel_sha256=found.pixel_sha256)
    named = _named_record(session, claim)
    records = {record.id: record for record in [*([named] if named else []), *by_file, *by_pixels]}
    candidates = lookup.similar(session, found, exclude=records)
    looked = LookedUp(
        records=sorted(records.values(), key=lambda record: (record.created_at, record.id)),
        candidates=candidates,
        by_file=bool(by_file),
        by_pixels=bool(by_pixels),
        redacted=named is not None and named.redacted,
        contradiction=_contradiction(session, claim, named, reading),
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


def _contradiction(
    session: Session, claim: LedgerClaim, named: RecordView | None, reading: CredentialReading
) -> str | None:
    """Where what the file says of its entry disagrees with the entry; a code, or None.

    A statement of ours that comes with a stranger's proof is still a statement of ours: it is held to what it says.
    """
    if not claim.present or (claim.proof_code in UNKNOWN_LOG and named is None):
        return None
    if claim.contradiction is not None:
        return claim.contradiction
    if named is None:
        origin = None if claim.proof is None else claim.proof.origin
        ours = session.scalar(sa.select(LogShard.name).where(LogShard.origin == origin))
        return "entry_without_record" if ours else None  # another log's that this checker believes too
    # The URN alone is a name that any signer may choose; the claim's hash is not.
    if not named.redacted and (reading.manifest_urn, reading.claim_sha256) != (named.manifest_urn, named.claim_sha256):
        return "credential_is_not_the_issued_one"
    return None


def _conflicts(records: list[RecordView]) -> list[str]:
    """Several records of the same pixels are all shown; where they say different things of the origin, that is said."""
    models = set()
    for record in records:
        made = record.made or {}
        model = made.get("model")
        models.add(model["name"] if isinstance(model, dict) else made.get("declared_model"))
    models.discard(None)
    if len(models) > 1:
        return [
            f"{len(records)} records of the same pixels name {len(models)} different models; the earliest comes first"
        ]
    return []


def _answers(reading: CredentialReading, ledger: LedgerAnswer) -> Answers:
    return Answers(
        credential=reading.credential,
        content=reading.content,
        signature=reading.signature,
        signer=reading.signer,
        ingredients=reading.ingredients,
        ledger=ledger,
    )


def _ledger_answer(asked: bool, claim: LedgerClaim, looked: LookedUp) -> LedgerAnswer:
    if not asked:
        return _by_the_file(claim)
    if looked.contradiction is not None:
        return "contradicts"
    if looked.redacted:
        return "redacted"
    if looked.records or claim.is_proven:
        return "recorded"
    return "similar" if looked.candidates else "not_recorded"


def _by_the_file(claim: LedgerClaim) -> LedgerAnswer:
    """Without a ledger to ask, only a log whose key was given can speak for the file or against it; and what cannot be
    read is no log's."""
    if claim.proof_code in {*UNKNOWN_LOG, "ledger_assertion_malformed"}:
        return "not_checked"
    if claim.contradiction is not None:
        return "contradicts"
    return "recorded" if claim.is_proven else "not_checked"
