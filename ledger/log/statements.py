"""Statements: what the log's entries are. A signed JSON object as COSE_Sign1, in one spelling only.

Format: COSE_Sign1 (RFC 9052 section 4.2), tagged 18, unprotected header empty so that one leaf hash serves C2SP
proofs and SCITT receipts alike. Protected header, exactly: 1 alg EdDSA (-8), 3 content type, 4 kid (SHA-256 of the raw
public key), 15 CWT claims (RFC 9597) {1 iss, 2 sub}. Payload: JSON in RFC 8785 form, an object. CBOR in the
deterministic encoding of RFC 8949 section 4.2.1. A parser that accepted a second spelling would let one statement
stand in the log twice.

What a valid signature does not prove: that the statement is true, or in any log.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

import cbor2
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import BadRequest
from ledger.log.signing import Ed25519Signer, SoftwareKey

MAX_ENTRY_BYTES = 65_535
"""An entry bundle of C2SP tlog-tiles gives each entry a length of 16 bits."""

CONTENT_TYPE = "application/vnd.lawful-ledger.statement+json"
SALT_BYTES = 32

_TAG = 18
_EDDSA = -8
_ALG, _CONTENT_TYPE, _KID, _CLAIMS = 1, 3, 4, 15
_ISSUER, _SUBJECT = 1, 2


class StatementError(BadRequest):
    """Bytes that are no statement of ours, or one that the given key did not sign."""

    code = "statement_malformed"

    def __init__(self, detail: str, *, code: str = "statement_malformed") -> None:
        super().__init__(detail, code=code, next_step="Take the statement's bytes from the log's entry, unchanged.")


@dataclass(frozen=True)
class StatementKey:
    """The Ed25519 key that signs statements, wherever it is kept; apart from the log's key."""

    key: Ed25519Signer

    @classmethod
    def generate(cls) -> "StatementKey":
        return cls(SoftwareKey.generate())

    @cached_property
    def public_key(self) -> bytes:
        """Raw, 32 bytes (RFC 8032)."""
        return self.key.public_key

    @cached_property
    def kid(self) -> bytes:
        return key_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


@dataclass(frozen=True)
class Statement:
    """A statement taken apart. `raw` is the entry as the log holds it, `signed` the bytes that `signature` is over. It
    alone does not say that anyone checked it."""

    payload: dict[str, Any]
    kid: bytes
    issuer: str
    subject: str
    raw: bytes
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def key_id(public_key: bytes) -> bytes:
    """kid of a raw Ed25519 public key: its SHA-256."""
    return hashlib.sha256(public_key).digest()


def commitment(domain: str, salt: bytes, digest: bytes) -> bytes:
    """SHA-256(domain ‖ 0x00 ‖ salt ‖ digest): a 32-byte name for erasable content that is useless without its salt.

    `domain` is ASCII and says what is committed to, `salt` 32 random bytes, `digest` a SHA-256. Raises StatementError
    code `commitment_invalid`. It hides the digest only while the salt is secret; a published salt makes it findable.
    """
    if not domain.isascii() or not domain.isprintable() or not domain:
        raise StatementError("a commitment's domain must be printable ASCII", code="commitment_invalid")
    if len(salt) != SALT_BYTES or len(digest) != 32:
        detail = (
            f"a commitment needs a salt of {SALT_BYTES} and a digest of 32 bytes, not {len(salt)} and {len(digest)}"
        )
        raise StatementError(detail, code="commitment_invalid")
    return hashlib.sha256(domain.encode() + b"\0" + salt + digest).digest()


def sign_statement(payload: Mapping[str, Any], key: StatementKey, issuer: str, subject: str) -> bytes:
    """Sign a JSON object; returns the COSE_Sign1 bytes that become the log's entry. Same input, same bytes.

    Raises StatementError with code `statement_payload` (no RFC 8785 form: integers beyond 2^53, NaN, a type that JSON
    has not), `statement_too_large` (over 65,535 bytes signed) or `statement_malformed` (empty issuer or subject).
    """
    _check_claims(issuer, subject)
    try:
        body = rfc8785.dumps(dict(payload))
        _payload(body)  # a float such as 2.0**53 is written as an integer that no reader takes back
    except (ValueError, RecursionError, StatementError) as error:
        raise StatementError(f"a payload without canonical JSON form: {error}", code="statement_payload") from error
    protected = _protected(key.kid, issuer, subject)
    signature = key.sign(_signed_bytes(protected, body))
    raw = _envelope(protected, body, signature)
    if len(raw) > MAX_ENTRY_BYTES:
        detail = f"a statement of {len(raw)} bytes; the limit is {MAX_ENTRY_BYTES}"
        raise StatementError(detail, code="statement_too_large")
    return raw


def parse_statement(raw: bytes) -> Statement:
    """Take a statement apart. Raises StatementError code `statement_malformed` for any other spelling or content."""
    return _parse(raw)


def verify_statement(raw: bytes, public_key: bytes) -> Statement:
    """Parse and check the signature with a raw 32-byte Ed25519 public key that the caller trusts for the issuer.

    Raises StatementError with code `statement_malformed`, `statement_key_mismatch` (signed by another key) or
    `statement_signature_invalid`.
    """
    statement = _parse(raw)
    check_signature(statement, public_key)
    return statement


def check_signature(statement: Statement, public_key: bytes) -> None:
    """As `verify_statement`, for a statement that is parsed already."""
    if statement.kid != key_id(public_key):
        raise StatementError("the statement names another key", code="statement_key_mismatch")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(statement.signature, statement.signed)
    except (InvalidSignature, ValueError) as error:  # ValueError: 32 bytes that are no key
        raise StatementError("the statement's signature is wrong", code="statement_signature_invalid") from error


def _parse(raw: bytes) -> Statement:
    if len(raw) > MAX_ENTRY_BYTES:
        raise StatementError(f"a statement of {len(raw)} bytes; the limit is {MAX_ENTRY_BYTES}")
    match _decode(raw):
        case cbor2.CBORTag(tag=18, value=[bytes(protected), _, bytes(body), bytes(signature)]):
            pass
        case _:
            raise StatementError("not a tagged COSE_Sign1 of four parts")
    match _decode(protected):
        case {4: bytes(kid), 15: {1: str(issuer), 2: str(subject)}}:
            pass
        case _:
            raise StatementError("a protected header without key id, issuer and subject")
    _check_claims(issuer, subject)
    # What was read is written again and must give the same bytes. This alone refuses trailing data, unsorted or
    # doubled keys, indefinite lengths, further headers, another algorithm and anything in the unprotected header.
    if _protected(kid, issuer, subject) != protected or _envelope(protected, body, signature) != raw:
        raise StatementError("a header or an encoding that statements do not have")
    if len(kid) != 32 or len(signature) != 64:
        raise StatementError(f"a key id of {len(kid)} and a signature of {len(signature)} bytes; 32 and 64 expected")
    return Statement(_payload(body), kid, issuer, subject, raw, _signed_bytes(protected, body), signature)


def _decode(data: bytes) -> object:
    try:
        return cbor2.loads(data, max_depth=8, allow_indefinite=False, allow_duplicate_keys=False)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        raise StatementError("not CBOR") from error


def _payload(body: bytes) -> dict[str, Any]:
    if (plain := _plain_payload(body)) is not None:
        return plain
    try:
        payload = json.loads(body)
        canonical = rfc8785.dumps(payload)
    except (ValueError, RecursionError) as error:
        raise StatementError("a payload that is not JSON") from error
    if not isinstance(payload, dict) or canonical != body:
        raise StatementError("a payload that is not a JSON object in RFC 8785 form")
    return payload


def _plain_payload(body: bytes) -> dict[str, Any] | None:
    """The payload, where it is ASCII without floats or large integers and in RFC 8785 form; None: look closer.

    There the form is what the standard library writes, ten times faster: keys sort by character, `json` escapes as
    RFC 8785 section 3.2.2.2 says, integers have one spelling.
    """
    if not body.isascii():
        return None
    try:
        payload = json.loads(body, parse_int=_small_integer, parse_float=_refuse, parse_constant=_refuse)
        if not isinstance(payload, dict) or _PLAIN(payload).encode() != body:
            return None
    except (ValueError, RecursionError):
        return None
    return payload


_PLAIN = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def _small_integer(text: str) -> int:
    return int(text) if len(text) < 16 else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)


def _check_claims(issuer: str, subject: str) -> None:
    if not issuer or not subject:
        raise StatementError("a statement needs an issuer and a subject")


def _protected(kid: bytes, issuer: str, subject: str) -> bytes:
    header = {_ALG: _EDDSA, _CONTENT_TYPE: CONTENT_TYPE, _KID: kid, _CLAIMS: {_ISSUER: issuer, _SUBJECT: subject}}
    return cbor2.dumps(header, canonical=True)


def _signed_bytes(protected: bytes, body: bytes) -> bytes:
    """Sig_structure of RFC 9052 section 4.4, without external data."""
    return cbor2.dumps(["Signature1", protected, b"", body], canonical=True)


def _envelope(protected: bytes, body: bytes, signature: bytes) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(_TAG, [protected, {}, body, signature]), canonical=True)
