"""What a file itself proves of its place in a log, from keys that the checker chose. No database, no network, no clock.

The chain, each link checked here and numbered in `ledger.verdict`:

    log key (given) ─▶ checkpoint ─▶ announcement: an entry that names keys ─▶ statement key ─▶ statement ─▶ pixels
                            │                        └─▶ certificate behind the credential          └─▶ report
                            └─▶ the statement's own entry

All of it travels in the credential's ledger assertion (`ledger.reports.build.ledger_assertion`). What a whole chain
does not prove: that what the statement says is true; that this very credential is the one that was issued (only the
ledger knows); that no later entry says a key was stolen; nor, without witnesses, that the log shows everybody one tree.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from ledger.credentials.read import CredentialReading
from ledger.issue import RECORD, REPORT_DOMAIN
from ledger.log import merkle
from ledger.log.announcements import KeyHistory
from ledger.log.notes import Checkpoint, Note, NoteError, TlogProof
from ledger.log.policy import Policy
from ledger.log.statement_types import PIXELS_DOMAIN
from ledger.log.statements import Statement, StatementError, check_signature, commitment, parse_statement
from ledger.log.verify import ProofReading, check_tlog_proof

MAX_ANNOUNCEMENTS = 64
"""Of one file: the genesis and one entry a rotation. Whoever writes more wants a checker to be busy."""


CONTRADICTIONS = {
    "statement_is_about_other_pixels": "the ledger entry it points to is about other pixels than these",
    "statement_is_about_another_report": "the ledger entry it points to is about another report than the one it names",
    "salt_does_not_open": "the salt it carries does not open what the ledger entry it points to commits to",
    "inclusion_proof_invalid": "its proof does not lead into the log it names",
    "log_signature_invalid": "its proof is not signed by the log it names",
    "another_logs_statement": "its proof leads into another log than the one its statement is from",
    "ledger_assertion_malformed": "what it says of the ledger cannot be read",
    "statement_key_not_announced": "its ledger entry is signed with a key that the log has not announced",
    "statement_key_compromised": "its ledger entry is signed with a key that the log had declared stolen",
    "statement_signature_invalid": "its ledger entry is not signed with the key it names",
    "announcement_not_proven": "the entry that is to announce its keys is not shown to be in the log",
    "announcement_not_believed": "the entry that is to announce its keys is not signed by a key of that log's",
    "announcement_malformed": "the entry that is to announce its keys cannot be read",
    "certificate_not_announced": "it is signed with a certificate that the log has not announced",
    "certificate_compromised": "it is signed with a certificate that the log had declared stolen",
}
"""How what a file says of its ledger entry disagrees with the entry, or with itself, in half a sentence."""

UNKNOWN_LOG = frozenset({"log_key_not_given", "log_key_unknown", "another_logs_proof"})
"""Codes of proofs by logs that the checker has no key of: they show nothing, and contradict nothing."""


@dataclass(frozen=True)
class Trust:
    """The keys a checker chose; none of them ever comes from the file. Logs and witnesses of the policy count too."""

    log_vkeys: Sequence[str] = ()
    witness_vkeys: Sequence[str] = ()
    policy: Policy | None = None

    @property
    def logs(self) -> list[str]:
        named = [verifier.vkey for verifier in self.policy.log_verifiers] if self.policy else []
        return list(dict.fromkeys([*self.log_vkeys, *named]))

    @property
    def witnesses(self) -> list[str]:
        named = [verifier.vkey for verifier in self.policy.witness_verifiers] if self.policy else []
        return list(dict.fromkeys([*self.witness_vkeys, *named]))


class LedgerClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What the credential in a file says of the ledger, and how far the file itself proves it: one code a link.

    `proof_code`: inclusion_proven · log_key_not_given, log_key_unknown, another_logs_proof (nothing shown either way)
    · log_signature_invalid, inclusion_proof_invalid · ledger_assertion_malformed · no_ledger_assertion.
    `key_code`, `certificate_code`: of the statement's key and the credential's certificate. `pixels_code`,
    `report_code`: of the two commitments; no_pixels for an entry that commits to a report alone. `witnesses_given`: how
    many witness keys the checker has.
    """

    present: bool
    leaf_hash: bytes | None = None
    proof: ProofReading | None = None
    proof_code: str = "no_ledger_assertion"
    key_code: str = "not_checked"
    pixels_code: str = "no_statement"
    report_code: str = "no_statement"
    certificate_code: str = "not_checked"
    witnesses_given: int = 0
    policy_given: bool = False

    @property
    def contradiction(self) -> str | None:
        """The first link that speaks against the file by its own word and the given keys; a key of `CONTRADICTIONS`."""
        codes = (self.pixels_code, self.proof_code, self.report_code, self.key_code, self.certificate_code)
        return next((code for code in codes if code in CONTRADICTIONS), None)

    @property
    def is_proven(self) -> bool:
        """Whether a given log key proves that the ledger's own statement about these very pixels, or this very report
        of a claim, is in that log."""
        return (
            (self.proof_code, self.key_code, self.report_code)
            == ("inclusion_proven", "statement_key_announced", "report_matches")
            and self.pixels_code in {"pixels_match", "no_pixels"}
        )  # fmt: skip


class EntryProof(NamedTuple):
    """How far a proof shows that a log holds an entry, signed with a key that it announced: the codes of `LedgerClaim`.
    `history`: the keys announced, where they are believed."""

    proof: ProofReading
    code: str
    key_code: str
    history: KeyHistory | None


def read_ledger_claim(reading: CredentialReading, pixel_sha256: str, trust: Trust) -> LedgerClaim:
    """Check the ledger assertion of the active manifest against the pixels (SHA-256 of the canonical form, hex).

    Hostile assertions give codes. Raises NoteError `vkey_malformed` for a key of the checker's own that is none.
    """
    if reading.ledger is None:
        return LedgerClaim(present=False)
    return read_assertion(reading.ledger, reading.certificate_sha256, pixel_sha256, trust)[0]


def read_assertion(
    said: Mapping[str, Any], certificate_sha256: str | None, pixel_sha256: str, trust: Trust
) -> tuple[LedgerClaim, KeyHistory | None]:
    """As `read_ledger_claim`, for a ledger assertion from anywhere; with the keys that it announces, where the proof
    holds under a given log key and the announcements are believed. Raises as it does."""
    try:
        return _read(said, certificate_sha256, pixel_sha256, trust)
    except (KeyError, TypeError, ValueError, StatementError, NoteError) as error:
        if getattr(error, "code", "") == "vkey_malformed":  # the checker's own key, not the file's fault
            raise
        return LedgerClaim(present=True, proof_code="ledger_assertion_malformed"), None


def _read(
    said: Mapping[str, Any], certificate: str | None, pixel_sha256: str, trust: Trust
) -> tuple[LedgerClaim, KeyHistory | None]:
    entry = base64.b64decode(str(said["statement"]), validate=True)
    statement = parse_statement(entry)
    if statement.payload["type"] != RECORD:  # a look commits to pixels as well, and is no record
        raise ValueError("a statement of another type")
    proof_text = str(said["tlog_proof"]).encode()
    proven = prove_entry(entry, statement, proof_text, said.get("keys"), trust)
    pixels_code, report_code = _open(said, statement, pixel_sha256)
    claim = LedgerClaim(
        present=True,
        leaf_hash=merkle.leaf_hash(entry),
        proof=proven.proof,
        proof_code=proven.code,
        key_code=proven.key_code,
        pixels_code=pixels_code,
        report_code=report_code,
        certificate_code=_certificate_code(proven.history, certificate, proven.proof.index)
        if proven.history is not None
        else "not_checked",
        witnesses_given=len(trust.witnesses),
        policy_given=trust.policy is not None,
    )
    return claim, proven.history


def prove_entry(entry: bytes, statement: Statement, proof_text: bytes, keys: object, trust: Trust) -> EntryProof:
    """Check `entry`, which reads as `statement`, against its tlog-proof and the announcements of `keys` that travel
    with it. Raises NoteError, also `vkey_malformed` for a key of the checker's own that is none."""
    proof = check_tlog_proof(entry, proof_text, trust.logs, trust.witnesses, trust.policy)
    code = _proof_code(proof, statement, trust)
    if code != "inclusion_proven":
        return EntryProof(proof, code, "not_checked", None)
    checkpoint = proof_text.partition(b"\n\n")[2]  # of a proof that was parsed, so that is where it begins
    history = _announced(keys, checkpoint, statement.issuer)
    if isinstance(history, str):
        return EntryProof(proof, code, history, None)
    return EntryProof(proof, code, _key_code(history, statement, proof.index), history)


def _proof_code(proof: ProofReading, statement: Statement, trust: Trust) -> str:
    """The key comes first: what a log that the checker does not know proves, or fails to, contradicts nothing."""
    if proof.log_key == "invalid":
        return "log_signature_invalid"
    if proof.log_key == "unknown":
        if not trust.logs:
            return "log_key_not_given"
        return "another_logs_proof" if proof.origin != statement.issuer else "log_key_unknown"
    if not proof.inclusion:
        return "inclusion_proof_invalid"
    return "inclusion_proven" if proof.origin == statement.issuer else "another_logs_statement"


def _open(said: Mapping[str, Any], statement: Statement, pixel_sha256: str) -> tuple[str, str]:
    """Open both commitments with the salt in the file. Where neither opens, the salt is not theirs."""
    salt = bytes.fromhex(str(said["salt"]))
    report_sha256 = bytes.fromhex(str(said["report_sha256"]))
    committed = statement.payload["commitments"]
    pixels = commitment(PIXELS_DOMAIN, salt, bytes.fromhex(pixel_sha256)).hex() == str(committed["pixels"])
    report = commitment(REPORT_DOMAIN, salt, report_sha256).hex() == str(committed["report"])
    if not pixels and not report:
        return "salt_does_not_open", "salt_does_not_open"
    return (
        "pixels_match" if pixels else "statement_is_about_other_pixels",
        "report_matches" if report else "statement_is_about_another_report",
    )


def _announced(said: object, checkpoint: bytes, origin: str) -> KeyHistory | str:
    """The keys that entries under `checkpoint`, whose signature was checked, announce; or a code that says why none.

    The announcements come in the log's order, each with a tlog-proof that ends in this very checkpoint.
    """
    if said is None:
        return "announcement_absent"
    if not isinstance(said, list) or not 0 < len(said) <= MAX_ANNOUNCEMENTS:
        return "announcement_malformed"
    tree = Checkpoint.parse(Note.parse(checkpoint).text)
    history = KeyHistory()
    for each in said:
        try:
            entry = base64.b64decode(str(each["statement"]), validate=True)
            proof = TlogProof.parse(str(each["tlog_proof"]).encode())
            if proof.checkpoint != checkpoint:
                return "announcement_not_proven"
            merkle.verify_inclusion(merkle.leaf_hash(entry), proof.index, tree.size, proof.hashes, tree.root)
            announcement = history.learn(proof.index, entry)
        except merkle.ProofError:
            return "announcement_not_proven"
        except StatementError as error:
            return error.code if error.code.startswith("announcement_") else "announcement_malformed"
        except (KeyError, TypeError, ValueError, NoteError):
            return "announcement_malformed"
        if announcement is None or announcement.origin != origin:
            return "announcement_not_believed"
    return history


def _key_code(history: KeyHistory, statement: Statement, index: int) -> str:
    known = history.key("statements", statement.kid)
    if known is None or known.since > index:
        return "statement_key_not_announced"
    if known.suspect_at(index):
        return "statement_key_compromised"
    try:
        check_signature(statement, known.public_key)
    except StatementError:
        return "statement_signature_invalid"
    return "statement_key_announced"


def _certificate_code(history: KeyHistory, certificate_sha256: str | None, index: int) -> str:
    if certificate_sha256 is None:
        return "certificate_unreadable"
    known = history.key("credentials", bytes.fromhex(certificate_sha256))
    if known is None:
        return "certificate_not_announced"
    return "certificate_compromised" if known.suspect_at(index) else "certificate_announced"
