"""Declarations: statements that a submitter signs, alone or a thousand in a body, and what is wrong with them.

A declaration commits to something of the submitter's own: type, salted commitment, time, and nothing else, so that no
words of anybody's stand in the log for ever. Its issuer is `submitter/<principal id>`, its subject its type.
What a logged declaration proves: that the holder of the key made this commitment, and that it existed when the log took
it. Neither what it commits to, nor that its `created_at` is true.
"""

import datetime as dt
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import BadRequest, LedgerError, NotAllowed, TooLarge
from ledger.log import cbor_sequence
from ledger.log.cbor_sequence import Sign1
from ledger.log.statements import StatementError, parse_statement

DECLARATION = "lawful-ledger/declaration/1"
MAX_BATCH = 1_000
MAX_BATCH_BYTES = 4 * 2**20

# The payload in RFC 8785 form, which leaves no choice but these three values: what matches needs no JSON parser.
_PAYLOAD = re.compile(
    rb'\{"commitment":"[0-9a-f]{64}",'
    rb'"created_at":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|\+00:00))",'
    rb'"type":"lawful-ledger/declaration/1"\}'
)
_LARGEST_INTEGER = 2**53 - 1  # RFC 8785 section 3.2.2.3, by way of I-JSON


@dataclass(frozen=True)
class Signers:
    """Whose statements are taken: the issuer they must name, raw public keys by their id, and ids of revoked ones."""

    issuer: str
    keys: Mapping[bytes, bytes]
    revoked: frozenset[bytes]


class BatchRefused(LedgerError):
    """Nothing of the batch was taken: the statement at `index` (from 0) has the fault that code and status name."""

    def __init__(self, index: int, fault: LedgerError) -> None:
        super().__init__(
            f"statement {index}: {fault.detail}", code=fault.code, next_step=fault.next_step, status=fault.status
        )
        self.index = index


def issuer_of(principal_id: uuid.UUID) -> str:
    """The `iss` that this principal's statements carry."""
    return f"submitter/{principal_id}"


def checked(body: bytes, signers: Signers, *, batch: bool) -> list[bytes]:
    """The statements of `body`, every one of them right: one COSE_Sign1, or with `batch` a CBOR sequence of 1 to 1,000.

    Raises TooLarge `batch_too_large` (over 1,000 statements or 4 MiB), BadRequest `batch_empty`, and for the first
    statement at fault BatchRefused (without `batch` the fault itself) with the codes `entry_too_large`,
    `statement_malformed`, `statement_duplicate_key`, `statement_not_a_number`, `statement_integer_too_large`,
    `statement_signature_invalid`, `declaration_malformed`, `submitter_key_unknown`, `submitter_key_revoked`,
    `submitter_differs`.
    """
    if len(body) > MAX_BATCH_BYTES:
        raise _batch_too_large(f"{len(body)} bytes; at most {MAX_BATCH_BYTES} are taken at once")
    if not body:
        raise BadRequest("a body of 0 bytes", code="batch_empty", next_step="send at least one signed statement")
    taken: list[bytes] = []
    known: dict[bytes, Ed25519PublicKey] = {}
    try:
        for item in cbor_sequence.items(body):
            if not batch and len(item.raw) != len(body):
                raise StatementError(f"{len(body) - len(item.raw)} bytes after the statement")
            if len(taken) == MAX_BATCH:
                raise _batch_too_large(f"more than {MAX_BATCH} statements")
            key = known.get(item.protected)
            if key is None:
                key = known[item.protected] = _signer(item, signers)
            _check_payload(item)
            _check_signature(item, key)
            taken.append(item.raw)
    except StatementError as fault:
        advised = BadRequest(fault.detail, code=fault.code, next_step="sign the statement anew, as docs/log.md shows")
        raise (BatchRefused(len(taken), advised) if batch else advised) from fault
    except (NotAllowed, TooLarge) as fault:
        if batch and fault.code != "batch_too_large":
            raise BatchRefused(len(taken), fault) from fault
        raise
    return taken


def _signer(item: Sign1, signers: Signers) -> Ed25519PublicKey:
    """The key that this protected header names, once the header is right. The statement is otherwise not checked."""
    try:
        statement = parse_statement(item.raw)
    except StatementError as fault:
        raise _precise(item, fault) from fault
    if statement.kid in signers.revoked:
        raise NotAllowed(
            f"the key {statement.kid.hex()[:16]}… was revoked",
            code="submitter_key_revoked",
            next_step="sign with another registered key; the operator registers one with `lawful keys register`",
        )
    key = signers.keys.get(statement.kid)
    if key is None:
        raise NotAllowed(
            f"the key {statement.kid.hex()[:16]}… is not registered for this submitter",
            code="submitter_key_unknown",
            next_step="sign with a registered key; the operator registers one with `lawful keys register`",
        )
    if (statement.issuer, statement.subject) != (signers.issuer, DECLARATION):
        raise NotAllowed(
            "issuer or subject of the statement are not this submitter's",
            code="submitter_differs",
            next_step=f"sign as issuer {signers.issuer} with subject {DECLARATION}",
        )
    return Ed25519PublicKey.from_public_bytes(key)


def _check_payload(item: Sign1) -> None:
    match = _PAYLOAD.fullmatch(item.payload)
    if match is not None and _is_a_time(match[1]):
        return
    try:
        parse_statement(item.raw)
    except StatementError as fault:
        raise _precise(item, fault) from fault
    raise StatementError(
        "a payload that is not type, commitment (64 lower-case hex digits) and created_at (ISO 8601 in UTC)",
        code="declaration_malformed",
    )


def _is_a_time(text: bytes) -> bool:
    try:
        dt.datetime.fromisoformat(text.decode())
    except ValueError:
        return False
    return True


def _check_signature(item: Sign1, key: Ed25519PublicKey) -> None:
    try:
        key.verify(item.signature, item.signed)
    except InvalidSignature as error:
        raise StatementError("the statement's signature is wrong", code="statement_signature_invalid") from error


def _precise(item: Sign1, fault: StatementError) -> StatementError:
    """The fault, by its own name where it is one that a signer's software makes easily."""
    try:
        cbor2.loads(item.protected, max_depth=8)
        cbor2.loads(item.protected, max_depth=8, allow_duplicate_keys=False)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        if "duplicate" in str(error).lower():
            return StatementError("a key stands twice in the protected header", code="statement_duplicate_key")
        return fault
    try:
        json.loads(item.payload, object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer)
    except StatementError as precise:
        return precise
    except (ValueError, RecursionError):
        pass
    return fault


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise StatementError("a key stands twice in the payload", code="statement_duplicate_key")
    return dict(pairs)


def _constant(_: str) -> None:
    raise StatementError("NaN or an infinity, which JSON has not", code="statement_not_a_number")


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > _LARGEST_INTEGER:
        raise StatementError("an integer beyond 2^53 - 1", code="statement_integer_too_large")
    return int(digits)


def _batch_too_large(detail: str) -> TooLarge:
    return TooLarge(detail, code="batch_too_large", next_step=f"send at most {MAX_BATCH} statements and 4 MiB at once")
