"""Receipts: laid out as RFC 9942 says, verified by somebody else's COSE, and refused in every other form."""

import hashlib
from collections.abc import Sequence
from typing import Any

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from hypothesis import given
from hypothesis import strategies as st
from pycose.algorithms import Es256
from pycose.headers import KID, Algorithm
from pycose.keys.curves import P256
from pycose.keys.ec2 import EC2Key
from pycose.messages.sign1message import Sign1Message

from ledger.log import merkle
from ledger.log.receipts import ReceiptError, receipt_key_id, sign_receipt, verify_receipt
from ledger.log.signing import SoftwareEs256Key

ISSUER = "example.org/ledger/2026"
KEY = SoftwareEs256Key.generate()
DER = KEY.public_key_der
ENTRIES = [b"entry %d" % i for i in range(40)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]


def path_of(index: int, size: int) -> list[bytes]:
    return merkle.inclusion_proof(merkle.reader_over(LEAVES[:size]), index, size)


def receipt_of(index: int, size: int) -> bytes:
    return sign_receipt(index, size, path_of(index, size), merkle.root(LEAVES[:size]), KEY, ISSUER)


RECEIPT = receipt_of(17, 20)  # the place of RFC 9942's own example


def code_of(receipt: bytes, entry: bytes = ENTRIES[17], key: bytes = DER) -> str:
    try:
        verify_receipt(receipt, entry, key)
    except ReceiptError as error:
        return error.code
    return "verified"


def parts(receipt: bytes) -> tuple[bytes, dict[Any, Any], object, bytes]:
    tag = cbor2.loads(receipt)
    assert tag.tag == 18
    protected, unprotected, payload, signature = tag.value
    return protected, dict(unprotected), payload, signature


def forged(
    header: dict[Any, Any] | None = None, proof: object = None, root: bytes | None = None, **changed: object
) -> bytes:
    """A receipt signed with the real key over whatever is asked for: only its form or its place can be wrong."""
    protected = cbor2.dumps(header, canonical=True) if header is not None else parts(RECEIPT)[0]
    signed = cbor2.dumps(["Signature1", protected, b"", root or merkle.root(LEAVES[:20])])
    body = [20, 17, path_of(17, 20)] if proof is None else proof
    unprotected = changed.get("unprotected", {396: {-1: [cbor2.dumps(body)]}})
    return cbor2.dumps(cbor2.CBORTag(18, [protected, unprotected, changed.get("payload"), KEY.sign(signed)]))


HEADER = {1: -7, 4: receipt_key_id(DER), 15: {1: ISSUER, 2: "tree/20"}, 395: 1}


# ---- the format -----------------------------------------------------------------------------------------------------


def test_a_receipt_is_laid_out_as_the_rfc_says() -> None:
    protected, unprotected, payload, signature = parts(RECEIPT)
    assert cbor2.loads(protected) == {
        1: -7,  # alg: ES256
        4: hashlib.sha256(DER).digest(),  # kid
        15: {1: ISSUER, 2: "tree/20"},  # CWT claims: iss, sub
        395: 1,  # vds: RFC9162_SHA256
    }
    ((proof,),) = [proofs for label, proofs in unprotected[396].items() if label == -1]  # vdp: inclusion proofs
    assert (len(unprotected), len(unprotected[396])) == (1, 1)
    assert cbor2.loads(proof) == [20, 17, path_of(17, 20)]  # tree-size, leaf-index, inclusion-path
    assert payload is None  # detached: the verifier works it out
    assert len(signature) == 64


def test_a_receipt_is_these_bytes() -> None:
    def text(value: str) -> bytes:
        return bytes([0x60 + len(value)]) + value.encode()

    def short_bytes(value: bytes) -> bytes:
        return b"\x58" + bytes([len(value)]) + value

    claims = b"\xa2" + b"\x01" + text(ISSUER) + b"\x02" + text("tree/20")
    header = b"\xa4" + b"\x01\x26" + b"\x04" + short_bytes(hashlib.sha256(DER).digest()) + b"\x0f" + claims
    header += b"\x19\x01\x8b\x01"
    path = path_of(17, 20)
    proof = b"\x83\x14\x11" + bytes([0x80 + len(path)]) + b"".join(short_bytes(value) for value in path)
    vdp = b"\xa1\x19\x01\x8c" + b"\xa1\x20" + b"\x81" + short_bytes(proof)
    assert len(header) < 256
    assert RECEIPT[:-64] == b"\xd2\x84" + short_bytes(header) + vdp + b"\xf6" + b"\x58\x40"


def test_the_signature_is_es256_over_the_sig_structure_of_the_root() -> None:
    protected, _, _, signature = parts(RECEIPT)
    signed = cbor2.dumps(["Signature1", protected, b"", merkle.root(LEAVES[:20])])
    key = load_der_public_key(DER)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.verify(encode_dss_signature(r, s), signed + b"\0", ec.ECDSA(hashes.SHA256()))


def test_every_entry_of_every_small_tree_has_a_receipt_that_verifies_for_it_alone() -> None:
    for size in range(2, 18):
        root = merkle.root(LEAVES[:size])
        for index in range(size):
            reading = verify_receipt(receipt := receipt_of(index, size), ENTRIES[index], DER)
            assert (reading.index, reading.size, reading.root, reading.issuer) == (index, size, root, ISSUER)
            assert code_of(receipt, ENTRIES[(index + 1) % size]) == "receipt_invalid"


# ---- somebody else's opinion ----------------------------------------------------------------------------------------


def pycose_key(public: ec.EllipticCurvePublicKey, d: bytes = b"") -> EC2Key:
    numbers = public.public_numbers()
    return EC2Key(crv=P256, x=numbers.x.to_bytes(32, "big"), y=numbers.y.to_bytes(32, "big"), d=d)


def test_pycose_verifies_our_receipts_over_the_root_and_over_nothing_else() -> None:
    for index, size in ((0, 2), (17, 20), (39, 40)):
        # Without the tag: pycose 1 asks for lists and dicts, and cbor2 6 gives neither below a tag.
        message = Sign1Message.from_cose_obj(cbor2.loads(receipt_of(index, size).removeprefix(b"\xd2")), True)
        assert message.payload is None
        assert (message.phdr[Algorithm], message.phdr[KID]) == (Es256, receipt_key_id(DER))
        message.key = pycose_key(KEY.private_key.public_key())
        assert message.verify_signature(detached_payload=merkle.root(LEAVES[:size]))
        assert not message.verify_signature(detached_payload=merkle.root(LEAVES[: size - 1]))


def test_a_receipt_that_pycose_signed_verifies_here() -> None:
    d = KEY.private_key.private_numbers().private_value.to_bytes(32, "big")
    message = Sign1Message(
        phdr={Algorithm: Es256, KID: receipt_key_id(DER), 15: {1: ISSUER, 2: "tree/20"}, 395: 1},
        uhdr={396: {-1: [cbor2.dumps([20, 17, path_of(17, 20)])]}},
        payload=None,
    )
    message.key = pycose_key(KEY.private_key.public_key(), d)
    reading = verify_receipt(message.encode(detached_payload=merkle.root(LEAVES[:20])), ENTRIES[17], DER)
    assert (reading.index, reading.size) == (17, 20)


# ---- what is not signed ---------------------------------------------------------------------------------------------


def test_a_tree_of_one_entry_gives_no_receipt() -> None:
    with pytest.raises(ReceiptError) as refusal:
        sign_receipt(0, 1, [], LEAVES[0], KEY, ISSUER)
    assert refusal.value.code == "receipt_needs_two_entries"


@pytest.mark.parametrize(
    ("index", "size", "path", "root", "issuer"),
    [
        (20, 20, path_of(17, 20), LEAVES[0], ISSUER),
        (-1, 20, path_of(17, 20), LEAVES[0], ISSUER),
        (0, 0, [], LEAVES[0], ISSUER),
        (17, 2**63, path_of(17, 20), LEAVES[0], ISSUER),
        (17, 20, path_of(17, 20)[1:], LEAVES[0], ISSUER),
        (17, 20, [*path_of(17, 20), LEAVES[0]], LEAVES[0], ISSUER),
        (17, 20, [], LEAVES[0], ISSUER),
        (17, 20, [value[:31] for value in path_of(17, 20)], LEAVES[0], ISSUER),
        (17, 20, path_of(17, 20), LEAVES[0][:31], ISSUER),
        (17, 20, path_of(17, 20), LEAVES[0], ""),
    ],
)
def test_no_receipt_is_signed_for_what_is_no_place_in_a_tree(
    index: int, size: int, path: Sequence[bytes], root: bytes, issuer: str
) -> None:
    with pytest.raises(ReceiptError) as refusal:
        sign_receipt(index, size, path, root, KEY, issuer)
    assert refusal.value.code == "receipt_malformed"


def test_a_key_elsewhere_that_answers_in_der_is_refused() -> None:
    class InDer:
        public_key_der = DER

        def sign(self, message: bytes) -> bytes:
            return KEY.private_key.sign(message, ec.ECDSA(hashes.SHA256()))

    with pytest.raises(ReceiptError, match="ES256 has 64"):
        sign_receipt(17, 20, path_of(17, 20), merkle.root(LEAVES[:20]), InDer(), ISSUER)


# ---- what does not verify -------------------------------------------------------------------------------------------


def test_the_forger_of_these_tests_can_make_a_good_one() -> None:
    assert code_of(forged()) == code_of(forged(HEADER)) == "verified"


@pytest.mark.parametrize(
    "path",
    [
        path_of(17, 20)[:-1],
        path_of(17, 20)[1:],
        [*path_of(17, 20), LEAVES[3]],
        [LEAVES[3], *path_of(17, 20)],
        path_of(17, 20)[::-1],
        [path_of(17, 20)[1], path_of(17, 20)[0], *path_of(17, 20)[2:]],
        [*path_of(17, 20)[:-1], LEAVES[3]],
        [value[:31] for value in path_of(17, 20)],
        [value + b"\0" for value in path_of(17, 20)],
        [b""],
        path_of(16, 20),
    ],
)
def test_another_path_does_not_verify(path: list[bytes]) -> None:
    assert code_of(forged(proof=[20, 17, path])) == "receipt_invalid"


@pytest.mark.parametrize("index", [-17, -1, 0, 16, 18, 19, 20, 21, 2**63, 2**64 - 1])
def test_another_index_does_not_verify(index: int) -> None:
    assert code_of(forged(proof=[20, index, path_of(17, 20)])) == "receipt_invalid"


@pytest.mark.parametrize("size", [0, 1, 17, 18, 19, 21, 32, 2**63, 2**64 - 1])
def test_another_size_does_not_verify_even_when_the_path_would_fit(size: int) -> None:
    # The RFC signs the root alone, and a path may fit two sizes. Here the size is signed, as the subject.
    proof = [size, 17, path_of(17, 20)]
    assert code_of(forged(proof=proof)) == "receipt_malformed"
    claimed = {**HEADER, 15: {1: ISSUER, 2: f"tree/{size}"}}
    _, _, _, signature = parts(RECEIPT)
    value = [cbor2.dumps(claimed, canonical=True), {396: {-1: [cbor2.dumps(proof)]}}, None, signature]
    assert code_of(cbor2.dumps(cbor2.CBORTag(18, value))) == "receipt_invalid"


@pytest.mark.parametrize(
    "header",
    [
        {},
        {key: value for key, value in HEADER.items() if key != 1},
        {key: value for key, value in HEADER.items() if key != 4},
        {key: value for key, value in HEADER.items() if key != 15},
        {key: value for key, value in HEADER.items() if key != 395},
        {**HEADER, 1: -8},
        {**HEADER, 1: "ES256"},
        {**HEADER, 4: receipt_key_id(DER)[:31]},
        {**HEADER, 4: receipt_key_id(DER).hex()},
        {**HEADER, 15: {1: ISSUER}},
        {**HEADER, 15: {1: "", 2: "tree/20"}},
        {**HEADER, 15: {1: ISSUER, 2: "tree/020"}},
        {**HEADER, 15: {1: ISSUER, 2: "tree/20", 3: "aud"}},
        {**HEADER, 395: 2},
        {**HEADER, 395: True},
        {**HEADER, 3: "text/plain"},
        {**HEADER, 2: [395]},
    ],
)
def test_another_header_is_refused_though_the_key_signed_it(header: dict[Any, Any]) -> None:
    assert code_of(forged(header)) == "receipt_malformed"


@pytest.mark.parametrize(
    "proof",
    [
        [20, 17],
        [20, 17, path_of(17, 20), 0],
        [20, 17, []],
        [20, 17, LEAVES[0]],
        [20, 17, [*path_of(17, 20)[:-1], 5]],
        [20, 17, [[value] for value in path_of(17, 20)]],
        [20.0, 17, path_of(17, 20)],
        [20, 17.0, path_of(17, 20)],
        ["20", 17, path_of(17, 20)],
        {0: 20, 1: 17, 2: path_of(17, 20)},
        [True, 17, path_of(17, 20)],
        b"",
        20,
    ],
)
def test_another_form_of_proof_is_refused(proof: object) -> None:
    assert code_of(forged(proof=proof)) == "receipt_malformed"


def test_true_is_no_second_spelling_of_one() -> None:
    receipt = receipt_of(1, 2)
    assert code_of(receipt, ENTRIES[1]) == "verified"
    protected, _, payload, signature = parts(receipt)
    for proof in ([2, True, path_of(1, 2)], [2, 1, path_of(1, 2)]):
        unprotected = {396: {-1: [cbor2.dumps(proof)]}}
        rebuilt = cbor2.dumps(cbor2.CBORTag(18, [protected, unprotected, payload, signature]))
        assert code_of(rebuilt, ENTRIES[1]) == ("receipt_malformed" if proof[1] is True else "verified")


@pytest.mark.parametrize(
    "unprotected",
    [
        {},
        {396: {}},
        {396: {-1: []}},
        {396: {-1: [cbor2.dumps([20, 17, path_of(17, 20)])] * 2}},
        {396: {-1: cbor2.dumps([20, 17, path_of(17, 20)])}},
        {396: {-1: [[20, 17, path_of(17, 20)]]}},
        {396: {-2: [cbor2.dumps([20, 17, path_of(17, 20)])]}},
        {396: {-1: [cbor2.dumps([20, 17, path_of(17, 20)])], -2: []}},
        {396: {-1: [cbor2.dumps([20, 17, path_of(17, 20)])]}, 4: b"kid"},
        {396.0: {-1: [cbor2.dumps([20, 17, path_of(17, 20)])]}},
    ],
)
def test_another_unprotected_header_is_refused(unprotected: dict[Any, Any]) -> None:
    assert code_of(forged(unprotected=unprotected)) == "receipt_malformed"


def test_an_attached_payload_is_refused() -> None:
    assert code_of(forged(payload=merkle.root(LEAVES[:20]))) == "receipt_malformed"


@pytest.mark.parametrize(
    "receipt",
    [
        b"",
        RECEIPT[1:],  # untagged
        RECEIPT[:-1],
        RECEIPT + b"\0",
        RECEIPT * 2,
        b"\xd9\x00\x12" + RECEIPT[1:],  # the same tag in a longer encoding
        b"\xd8\x3d" + RECEIPT,  # tagged as a CWT
        b"\xd2\x9f" + RECEIPT[2:] + b"\xff",  # an array of indefinite length
        RECEIPT[:-66] + b"\x58\x3f" + RECEIPT[-63:],
        RECEIPT[:-66] + b"\x58\x41" + RECEIPT[-64:] + b"\0",
        b"\xd2\x84" + b"\x00" * 8_192,
        b"\x81" * 5_000,
        b"not CBOR at all",
    ],
)
def test_bytes_that_are_no_receipt_are_refused(receipt: bytes) -> None:
    assert code_of(receipt) == "receipt_malformed"


def test_a_header_with_a_key_twice_or_out_of_order_is_refused() -> None:
    protected = parts(RECEIPT)[0]
    body = protected[1:]
    doubled = b"\xa5\x01\x26" + body
    swapped = b"\xa4" + body[2:] + body[:2]
    for header in (doubled, swapped):
        signature = KEY.sign(cbor2.dumps(["Signature1", header, b"", merkle.root(LEAVES[:20])]))
        unprotected = {396: {-1: [cbor2.dumps([20, 17, path_of(17, 20)])]}}
        assert code_of(cbor2.dumps(cbor2.CBORTag(18, [header, unprotected, None, signature]))) == "receipt_malformed"


def test_a_receipt_by_another_key_does_not_verify_though_it_names_this_one() -> None:
    other = SoftwareEs256Key.generate()
    by_other = sign_receipt(17, 20, path_of(17, 20), merkle.root(LEAVES[:20]), other, ISSUER)
    assert code_of(by_other) == "receipt_invalid"
    assert code_of(by_other, key=other.public_key_der) == "verified"
    protected, unprotected, payload, _ = parts(RECEIPT)
    signature = other.sign(cbor2.dumps(["Signature1", protected, b"", merkle.root(LEAVES[:20])]))
    assert code_of(cbor2.dumps(cbor2.CBORTag(18, [protected, unprotected, payload, signature]))) == "receipt_invalid"


def test_a_signature_over_another_root_does_not_verify() -> None:
    assert code_of(forged(root=merkle.root(LEAVES[:19]))) == "receipt_invalid"
    for signature in (bytes(64), b"\xff" * 64):
        protected, unprotected, payload, _ = parts(RECEIPT)
        receipt = cbor2.dumps(cbor2.CBORTag(18, [protected, unprotected, payload, signature]))
        assert code_of(receipt) == "receipt_invalid"


def test_a_key_of_another_kind_is_the_checkers_own_mistake() -> None:
    keys = (
        Ed25519PrivateKey.generate().public_key(),
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
    )
    ders = [key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in keys]
    for der in (*ders, b"", b"nonsense", DER[:-1], DER + b"\0"):
        assert code_of(RECEIPT, key=der) == "receipt_key_malformed"


@given(
    st.one_of(
        st.builds(
            lambda start, length, new: RECEIPT[:start] + new + RECEIPT[start + length :],
            st.integers(0, len(RECEIPT)),
            st.integers(0, 40),
            st.one_of(st.binary(max_size=4), st.just(RECEIPT)),
        ),
        st.binary(max_size=200),
        st.binary(max_size=60).map(lambda data: b"\xd2" + data),
    ).filter(lambda mutant: mutant != RECEIPT)
)
def test_no_changed_receipt_verifies(receipt: bytes) -> None:
    assert code_of(receipt) in {"receipt_malformed", "receipt_invalid"}


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_no_changed_header_or_proof_inside_of_a_receipt_verifies(header: bytes, proof: bytes) -> None:
    signature = parts(RECEIPT)[3]
    receipt = cbor2.dumps(cbor2.CBORTag(18, [header, {396: {-1: [proof]}}, None, signature]))
    assert code_of(receipt) == "receipt_malformed"
