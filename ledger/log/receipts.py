"""Receipts: the log's word, as COSE, that an entry stands in its tree. Made from the same tree as the proof files.

Format: RFC 9942 section 5.2, RFC9162_SHA256 (vds 1) with ES256: a COSE_Sign1 (RFC 9052), tagged 18, in the
deterministic encoding of RFC 8949 section 4.2.1. Protected header, exactly: 1 alg ES256 (-7), 4 kid (SHA-256 of the
key's SubjectPublicKeyInfo), 15 CWT claims (RFC 9597) {1 iss, 2 sub}, 395 vds. Unprotected: 396 vdp {-1: [one inclusion
proof]}, a byte string of CBOR [tree size, leaf index, path]. Payload detached: the root, which the verifier works out.
RFC 9942 leaves the tree's size unsigned; here it is signed too, as the subject `tree/<size>`.

What a receipt does not prove: that others see the same tree. A receipt carries no cosignatures and its root need not be
a published checkpoint's, so each travels with its proof file (`notes.TlogProof`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cbor2
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ledger.errors import BadRequest
from ledger.log.merkle import HASH_BYTES, ProofError, leaf_hash, root_by_inclusion
from ledger.log.signing import Es256Signer

CONTENT_TYPE = "application/cose"
MAX_RECEIPT_BYTES = 8_192
"""63 hashes of 34 bytes, a header and a signature need less than half of it."""

_TAG = 18
_ES256 = -7
_RFC9162_SHA256 = 1
_ALG, _KID, _CLAIMS, _VDS, _VDP = 1, 4, 15, 395, 396
_ISSUER, _SUBJECT = 1, 2
_INCLUSION = -1


class ReceiptError(BadRequest):
    """Bytes that are no receipt of ours (`receipt_malformed`), or one that does not hold (`receipt_invalid`)."""

    code = "receipt_malformed"

    def __init__(self, detail: str, *, code: str = "receipt_malformed", next_step: str | None = None) -> None:
        step = next_step or "Ask the log for a fresh receipt; if that fails too, check the entry's tlog-proof."
        super().__init__(detail, code=code, next_step=step)


@dataclass(frozen=True)
class ReceiptReading:
    """What a valid receipt says: the entry is at `index` in the issuer's tree of `size` leaves, root `root`."""

    index: int
    size: int
    root: bytes
    issuer: str


def receipt_key_id(public_key_der: bytes) -> bytes:
    """kid of a receipt key: SHA-256 of its SubjectPublicKeyInfo in DER, 32 bytes."""
    return hashlib.sha256(public_key_der).digest()


def sign_receipt(index: int, size: int, path: Sequence[bytes], root: bytes, signer: Es256Signer, issuer: str) -> bytes:
    """The receipt for the leaf at `index` of the tree (`size`, `root`), whose inclusion path is `path`.

    The caller vouches that path and root belong together and that the tree is published. ECDSA is randomised: each
    call gives other bytes. Raises ReceiptError with code `receipt_needs_two_entries` at size 1 (RFC 9942 has no empty
    path), `receipt_malformed` for an index beyond the size, hashes of another length, an empty issuer, or a signer
    that gives other than 64 bytes.
    """
    if size == 1:
        raise ReceiptError(
            "a tree of one entry has no inclusion path, so no receipt",
            code="receipt_needs_two_entries",
            next_step="Ask again when the log has a second entry.",
        )
    if len(root) != HASH_BYTES or not issuer:
        raise ReceiptError("a receipt needs a root of 32 bytes and an issuer")
    try:
        root_by_inclusion(bytes(HASH_BYTES), index, size, path)  # no leaf is at hand: for its checks of the path's form
    except ProofError as error:
        raise ReceiptError(error.detail) from error
    protected = _protected(receipt_key_id(signer.public_key_der), issuer, size)
    signature = signer.sign(_signed_bytes(protected, root))
    if len(signature) != 64:
        raise ReceiptError(f"the receipt key gave a signature of {len(signature)} bytes; ES256 has 64")
    return _envelope(protected, size, index, path, signature)


def verify_receipt(receipt: bytes, entry: bytes, public_key_der: bytes) -> ReceiptReading:
    """Check a receipt for `entry`, the leaf's bytes, with a P-256 key that the checker chose; never one from a file.

    `public_key_der` is a SubjectPublicKeyInfo. As RFC 9942 asks, the path is applied first and the signature is
    checked over the root that results, so one answer stands for both. Raises ReceiptError with code
    `receipt_malformed` (not a receipt, or in another than its one encoding), `receipt_invalid` (another key, entry,
    place or root) or `receipt_key_malformed` (the given key is no P-256 key).
    """
    key = _public_key(public_key_der)
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise ReceiptError(f"a receipt of {len(receipt)} bytes; the limit is {MAX_RECEIPT_BYTES}")
    match _decode(receipt):
        case cbor2.CBORTag(tag=18, value=[bytes(protected), {396: {-1: [bytes(proof)]}}, None, bytes(signature)]):
            pass
        case _:
            raise ReceiptError("not a tagged COSE_Sign1 with one inclusion proof and a detached payload")
    match _decode(protected):
        case {4: bytes(kid), 15: {1: str(issuer)}}:
            pass
        case _:
            raise ReceiptError("a protected header without key id and issuer")
    size, index, path = _inclusion(proof)
    # What was read is written again and must give the same bytes. This alone refuses trailing data, unsorted or
    # doubled keys, further headers, another algorithm or structure, and a subject of another size.
    if _protected(kid, issuer, size) != protected or _envelope(protected, size, index, path, signature) != receipt:
        raise ReceiptError("a header or an encoding that receipts do not have")
    if not issuer or len(kid) != 32 or len(signature) != 64:
        raise ReceiptError(f"a key id of {len(kid)} and a signature of {len(signature)} bytes; 32 and 64 expected")
    if kid != receipt_key_id(public_key_der):
        raise ReceiptError("the receipt names another key", code="receipt_invalid")
    try:
        root = root_by_inclusion(leaf_hash(entry), index, size, path)
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.verify(encode_dss_signature(r, s), _signed_bytes(protected, root), ec.ECDSA(hashes.SHA256()))
    except ProofError as error:
        raise ReceiptError(error.detail, code="receipt_invalid") from error
    except InvalidSignature as error:
        raise ReceiptError("the signature is not over the root that this entry leads to", code="receipt_invalid") from (
            error
        )
    return ReceiptReading(index, size, root, issuer)


def _inclusion(proof: bytes) -> tuple[int, int, list[bytes]]:
    """Tree size, leaf index and path of RFC 9942's inclusion-proof; the path has at least one element."""
    match _decode(proof):
        # true is an int to Python, and would be a second spelling of 1
        case [int(size), int(index), [_, *_] as path] if not isinstance(size, bool) and not isinstance(index, bool):
            hashes = [value for value in path if isinstance(value, bytes)]
            if len(hashes) == len(path):
                return size, index, hashes
    raise ReceiptError("an inclusion proof that is not: tree size, leaf index, path of one hash or more")


def _public_key(public_key_der: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(public_key_der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ReceiptError("not a public key in DER", code="receipt_key_malformed") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ReceiptError("a public key of another kind than P-256", code="receipt_key_malformed")
    return key


def _decode(data: bytes) -> object:
    try:
        return cbor2.loads(data, max_depth=8, allow_indefinite=False, allow_duplicate_keys=False)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        raise ReceiptError("not CBOR") from error


def _protected(kid: bytes, issuer: str, size: int) -> bytes:
    claims = {_ISSUER: issuer, _SUBJECT: f"tree/{size}"}
    return cbor2.dumps({_ALG: _ES256, _KID: kid, _CLAIMS: claims, _VDS: _RFC9162_SHA256}, canonical=True)


def _signed_bytes(protected: bytes, root: bytes) -> bytes:
    """Sig_structure of RFC 9052 section 4.4, without external data, over the detached payload."""
    return cbor2.dumps(["Signature1", protected, b"", root], canonical=True)


def _envelope(protected: bytes, size: int, index: int, path: Sequence[bytes], signature: bytes) -> bytes:
    proof = cbor2.dumps([size, index, list(path)], canonical=True)
    return cbor2.dumps(cbor2.CBORTag(_TAG, [protected, {_VDP: {_INCLUSION: [proof]}}, None, signature]), canonical=True)
