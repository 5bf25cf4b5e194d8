"""The parsers of what comes from outside: the log's formats, the JSON of reports, what a query holds."""

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from attribution import evidence
from benchmarks.fuzz.mutation import sign1, value
from benchmarks.fuzz.target import Target
from docs.examples.log import example
from ledger.bindings import ALG, codes_of
from ledger.errors import BadRequest, LedgerError, NotFound
from ledger.log.announcements import KeyHistory, read_announcement
from ledger.log.cbor_sequence import items
from ledger.log.cosignatures import Cosigner, add_signatures, cosigned_at, parse_signature_lines
from ledger.log.notes import Checkpoint, Note, NoteError, NoteSigner, NoteVerifier, TlogProof, open_note
from ledger.log.policy import Policy
from ledger.log.receipts import ReceiptError, verify_receipt
from ledger.log.statements import StatementError, parse_statement, sign_statement, verify_statement
from ledger.log.tiles import TilePath
from ledger.log.verify import check_tlog_proof
from ledger.reports.claim_schema import read_claim_report, read_steps
from ledger.reports.forms import dossier_of, read_json, to_json
from ledger.reports.schema import read_report
from ledger.reports.signature import attachments
from ledger.witness.witness import Submission

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
FILES = example.files()
ENTRY, PROOF, RECEIPT = FILES["entry-4.cose"], FILES["entry-4.tlog-proof"], FILES["entry-4.receipt"]
NOTE, POLICY = FILES["checkpoint"], FILES["policy"]
TEXT, LINES = NOTE.decode().split("\n\n")
VERIFIERS = [example.LOG.verifier, *(witness.verifier for witness in example.WITNESSES)]
VKEYS = [verifier.vkey for verifier in VERIFIERS]
STATEMENT_KEY, RECEIPT_KEY = example.STATEMENTS[1].public_key, example.RECEIPTS.public_key_der
REQUEST = Submission.write(7, example.path_of(4), NOTE)


def as_text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """Text comes from UTF-8; what is not is another layer's to refuse, but lone surrogates get through JSON."""
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def learn(entry: bytes) -> object:
    return KeyHistory().learn(0, entry)


def golden(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((GOLDEN / "log").glob(pattern))]


def signed(draw: random.Random) -> bytes:
    """A statement whose signature is good and whose content is anything; often it has the shape of an announcement."""
    names = ("origin", "log_vkey", "keys", "retired", "created_at")
    kind = draw.choice(("lawful-ledger/genesis/1", "lawful-ledger/keys/1"))
    payload = {"type": kind, **{name: value(draw, draw.randrange(5)) for name in names}}
    try:
        return sign_statement(payload, example.STATEMENTS[0], issuer="x", subject="y")
    except (LedgerError, ValueError):  # what cannot be signed is no statement
        return sign1(draw)


def _json(draw: random.Random) -> bytes:
    return json.dumps(value(draw)).encode()


def _reports() -> dict[str, Target]:
    files = attachments((GOLDEN / "reports" / "0.1.0" / "report.pdf").read_bytes(), 64, 2**26)
    report = files["report.json"]
    whole = to_json(dossier_of(files))
    answer = msgspec.json.encode(json.loads(report)["evidence"])
    step = json.dumps([{"statement": "AAAA", "tlog_proof": "AAAA", "document": {"a": 1}}]).encode()
    return {
        "report": Target(read_report, (BadRequest,), [report], _json),
        "bundled report": Target(read_json, (BadRequest,), [whole, report], _json),
        "claim report": Target(read_claim_report, (BadRequest,), [report], _json),
        "steps of a claim": Target(read_steps, (BadRequest,), [step], _json),
        "evidence": Target(evidence.from_json, (msgspec.DecodeError,), [answer], _json),
    }


PARSERS: dict[str, Target] = {
    "note": Target(Note.parse, (NoteError,), [NOTE, *golden("*/checkpoint")]),
    "opened note": Target(lambda data: open_note(data, VERIFIERS), (NoteError,), [NOTE]),
    "cosigned note": Target(lambda data: cosigned_at(Note.parse(data), VERIFIERS), (NoteError,), [NOTE]),
    "checkpoint": Target(as_text(Checkpoint.parse), (NoteError,), [TEXT.encode() + b"\n"]),
    "signature lines": Target(parse_signature_lines, (NoteError,), [LINES.encode()]),
    "added lines": Target(lambda data: add_signatures(NOTE, data), (NoteError,), [LINES.encode()]),
    "added to a note": Target(lambda data: add_signatures(data, LINES.encode()), (NoteError,), [NOTE]),
    "verifier key": Target(as_text(NoteVerifier.parse), (NoteError,), [vkey.encode() for vkey in VKEYS]),
    "log key": Target(as_text(NoteSigner.parse), (NoteError,), [example.LOG.skey.encode()]),
    "witness key": Target(as_text(Cosigner.parse), (NoteError,), [example.WITNESSES[0].skey.encode()]),
    "proof": Target(TlogProof.parse, (NoteError,), [PROOF, *golden("*/*.tlog-proof")]),
    "checked proof": Target(
        lambda data: check_tlog_proof(ENTRY, data, VKEYS[:1], VKEYS[1:], example.POLICY), (NoteError,), [PROOF]
    ),
    "policy": Target(as_text(Policy.parse), (NoteError,), [POLICY]),
    "statement": Target(
        parse_statement, (StatementError,), [*example.entries()[:5], *golden("*/*.cose")], sign1
    ),
    "signed statement": Target(lambda data: verify_statement(data, STATEMENT_KEY), (StatementError,), [ENTRY], signed),
    "announcement": Target(
        lambda data: read_announcement(parse_statement(data)), (StatementError,), [example.entries()[0]], signed
    ),
    "learnt announcement": Target(learn, (StatementError,), [example.entries()[0], example.entries()[3]], signed),
    "receipt": Target(lambda data: verify_receipt(data, ENTRY, RECEIPT_KEY), (ReceiptError,), [RECEIPT], sign1),
    "receipt key": Target(lambda data: verify_receipt(RECEIPT, ENTRY, data), (ReceiptError,), [RECEIPT_KEY]),
    "statements in a row": Target(lambda data: list(items(data)), (LedgerError,), [ENTRY * 3]),
    "witness request": Target(Submission.parse, (NoteError,), [REQUEST]),
    "tile path": Target(
        as_text(TilePath.parse), (NotFound,), [b"0/x001/x234/067", b"entries/001.p/44", b"63/000.p/255"]
    ),
    "soft binding": Target(
        as_text(partial(codes_of, ALG)), (BadRequest,), [b"SVNDQzpFRURXWFJLVlpTSEFYT1NR", b"ISCC:EEDWXRKVZSHAXOSQ"]
    ),
    **_reports(),
}  # fmt: skip
