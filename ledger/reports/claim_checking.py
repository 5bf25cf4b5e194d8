"""What a claim's report proves of the claim: the checks that only it has, from the dossier and given keys alone.

Their numbers go on after those of a record's report (`ledger.reports.checking`). What they do not prove: that the facts
were gathered rightly. Who repeats the comparison needs image, work and collection.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import rfc8785

from ledger.claims import rules
from ledger.claims.deciding import EXAMINED_SCHEMA
from ledger.claims.moving import DOCUMENT_DOMAIN, PREFIX
from ledger.claims.steps import TRANSITIONS
from ledger.file_proof import LedgerClaim, Trust, prove_entry
from ledger.log import merkle
from ledger.log.announcements import KeyHistory
from ledger.log.notes import NoteError
from ledger.log.statements import Statement, StatementError, check_signature, commitment, parse_statement
from ledger.log.verify import check_tlog_proof
from ledger.reports.claim_schema import ClaimReportBody, LoggedStep, read_steps
from ledger.reports.dossier import KEYS, PROOF, REPORT, STATEMENT, STEPS, ClaimDossier, part_of
from ledger.verdict import Result
from ledger.verify import Verification

CLAIM_CHECKS = (
    "The decision is what the published rules make of the facts, and the log's entry says the same",
    "The claim's steps are one chain of entries in the log, and this decision is the newest",
    "What was claimed, examined and replied is what those entries commit to",
    "The picture in the document is the one claimed on",
)

CLAIM_FAULTS = {
    "decision_differs": "its decision is not what the rules make of its facts",
    "entry_says_otherwise": "the log's entry says another decision than it does",
    "step_malformed": "one of the claim's steps cannot be read",
    "step_not_proven": "one of the claim's steps is not shown to be in the log",
    "steps_broken": "the claim's steps are not one chain that ends with its decision",
    "step_says_otherwise": "what it says was claimed, examined or replied is not what the log's entries commit to",
    "another_picture": "the picture in it is not the one claimed on",
}

_UNREADABLE = (KeyError, TypeError, ValueError, RecursionError, StatementError, NoteError)


def prove_decision(dossier: ClaimDossier, trust: Trust) -> tuple[LedgerClaim, KeyHistory | None]:
    """How far the dossier proves that the log holds the decision with this very report, as `read_assertion` does for a
    record. The entry commits to no pixels: the report that it commits to names them."""
    try:
        entry = part_of(dossier, STATEMENT)
        statement = parse_statement(entry)
        if statement.payload["type"] != f"{PREFIX}decided/1":
            raise ValueError("a statement of another type")
        keys = json.loads(part_of(dossier, KEYS))
        proven = prove_entry(entry, statement, part_of(dossier, PROOF), keys, trust)
        opens = _opens(statement, dossier.facts.salt, part_of(dossier, REPORT))
    except _UNREADABLE as error:
        if getattr(error, "code", "") == "vkey_malformed":  # the checker's own key, not the file's fault
            raise
        return LedgerClaim(present=True, proof_code="ledger_assertion_malformed"), None
    claim = LedgerClaim(
        present=True,
        leaf_hash=merkle.leaf_hash(entry),
        proof=proven.proof,
        proof_code=proven.code,
        key_code=proven.key_code,
        pixels_code="no_pixels",
        report_code="report_matches" if opens else "statement_is_about_another_report",
        witnesses_given=len(trust.witnesses),
        policy_given=trust.policy is not None,
    )
    return claim, proven.history


def check_claim(
    dossier: ClaimDossier,
    body: ClaimReportBody,
    picture: Verification | None,
    history: KeyHistory | None,
    trust: Trust,
) -> list[tuple[Result, str]]:
    """One result for each of CLAIM_CHECKS. Raises BadRequest `report_malformed` for steps that are no list."""
    steps = read_steps(dossier.parts[STEPS]) if STEPS in dossier.parts else []
    chain = _chain(dossier, body, steps, history, trust)
    return [
        _decision(dossier, body),
        chain,
        _documents(dossier, steps) if chain[0] == "pass" else ("skip", "not_checked"),
        _picture(body, picture),
    ]


def _decision(dossier: ClaimDossier, body: ClaimReportBody) -> tuple[Result, str]:
    said = body.decision
    try:
        logged = parse_statement(part_of(dossier, STATEMENT)).payload
        entry = (logged["outcome"], logged["claimant"], logged["rules"], logged["grounds"])
    except _UNREADABLE:
        return "skip", "not_checked"  # check 22 has said so
    if entry != (said.outcome, said.claimant, said.rules, [ground.code for ground in said.grounds]):
        return "fail", "entry_says_otherwise"
    if said.rules != rules.VERSION:
        return "info", "decided_by_other_rules"
    return ("pass", "decision_follows") if rules.decide(body.facts) == said else ("fail", "decision_differs")


def _chain(
    dossier: ClaimDossier,
    body: ClaimReportBody,
    steps: Sequence[LoggedStep],
    history: KeyHistory | None,
    trust: Trust,
) -> tuple[Result, str]:
    if history is None or STEPS not in dossier.parts:
        return "skip", "not_checked"
    state, previous, decided = None, None, b""
    for step in steps:
        try:
            entry = base64.b64decode(step.statement, validate=True)
            statement = parse_statement(entry)
            if not _is_logged(entry, statement, step, history, trust):
                return "fail", "step_not_proven"
            said = statement.payload
            reached = str(said["type"]).removeprefix(PREFIX).removesuffix("/1")
            known = any((each.before, each.state) == (state, reached) for each in TRANSITIONS)
            if not known or said["claim_id"] != body.claim.claim_id or said.get("previous") != previous:
                return "fail", "steps_broken"
        except _UNREADABLE:
            return "fail", "step_malformed"
        state, previous = reached, merkle.leaf_hash(entry).hex()
        decided = entry if reached == "decided" else decided
    return ("pass", "steps_follow") if decided == part_of(dossier, STATEMENT) else ("fail", "steps_broken")


def _is_logged(entry: bytes, statement: Statement, step: LoggedStep, history: KeyHistory, trust: Trust) -> bool:
    proof = check_tlog_proof(entry, step.tlog_proof.encode(), trust.logs)
    key = history.key("statements", statement.kid)
    if not proof.inclusion or proof.log_key != "trusted" or key is None:
        return False
    check_signature(statement, key.public_key)
    return key.since <= proof.index and not key.suspect_at(proof.index)


def _documents(dossier: ClaimDossier, steps: Sequence[LoggedStep]) -> tuple[Result, str]:
    """The report repeats what was claimed and what its own examination found; answers and appeals travel beside it."""
    report = json.loads(part_of(dossier, REPORT))
    entries = [base64.b64decode(step.statement) for step in steps]
    decision = entries.index(part_of(dossier, STATEMENT))
    said: dict[int, dict[str, Any] | None] = {
        number: step.document
        for number, (step, entry) in enumerate(zip(steps, entries, strict=True))
        if _reached(entry) in {"answered", "appealed"}
    }
    said[0] = report["claim"]
    said[decision - 1] = {"schema": EXAMINED_SCHEMA} | {
        "claim_id": report["claim"]["claim_id"], "facts": report["facts"], "evidence": report["evidence"]
    }  # fmt: skip
    try:
        same = all(
            document is not None
            and _opens(parse_statement(entries[number]), dossier.facts.salt, rfc8785.dumps(document))
            for number, document in said.items()
        )
    except _UNREADABLE:
        same = False
    return ("pass", "steps_say_this") if same else ("fail", "step_says_otherwise")


def _reached(entry: bytes) -> str:
    return str(parse_statement(entry).payload["type"]).removeprefix(PREFIX).removesuffix("/1")


def _opens(statement: Statement, salt: str, document: bytes) -> bool:
    committed = statement.payload["commitments"]["document"]
    digest = hashlib.sha256(document).digest()
    return bool(commitment(DOCUMENT_DOMAIN, bytes.fromhex(salt), digest).hex() == committed)


def _picture(body: ClaimReportBody, picture: Verification | None) -> tuple[Result, str]:
    if picture is None:
        return "skip", "picture_not_in_the_document"
    same = picture.pixel_sha256 == body.claim.image.pixel_sha256
    return ("pass", "picture_claimed_on") if same else ("fail", "another_picture")
