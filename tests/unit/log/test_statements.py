"""Statements: readable by another COSE library, one spelling, and nothing gets through that was not signed."""

import hashlib
import json
from typing import Any

import cbor2
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st
from pycose.headers import KID, Algorithm, ContentType
from pycose.keys import OKPKey
from pycose.messages import Sign1Message

from ledger.log import statements
from ledger.log.signing import SoftwareKey
from ledger.log.statements import (
    CONTENT_TYPE,
    StatementError,
    StatementKey,
    commitment,
    key_id,
    parse_statement,
    sign_statement,
    verify_statement,
)

PRIVATE = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
KEY = StatementKey(SoftwareKey(PRIVATE))
ISSUER, SUBJECT = "example.org/ledger/2026", "record:0192"
PAYLOAD = {"version": "statement/1", "type": "generation", "commitment": "ab" * 32, "digests": {"b": "1", "a": "2"}}
RAW = sign_statement(PAYLOAD, KEY, ISSUER, SUBJECT)

# A whole float beyond 2^53 would be written as an integer that JSON readers round.
floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) < 2**53 or abs(x) >= 1e21)
numbers = st.one_of(st.integers(-(2**53) + 1, 2**53 - 1), floats)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


def header(**changes: object) -> bytes:
    """The protected header of RAW, with some of its values changed (alg, content_type, kid, claims) or others added."""
    values = {"alg": -8, "content_type": CONTENT_TYPE, "kid": KEY.kid, "claims": {1: ISSUER, 2: SUBJECT}} | changes
    labels: dict[str, object] = {"alg": 1, "content_type": 3, "kid": 4, "claims": 15}
    return cbor2.dumps(
        {labels.get(name, name): value for name, value in values.items() if value is not None}, canonical=True
    )


def signed(protected: bytes, body: bytes, unprotected: dict[Any, Any] | None = None, tag: int | None = 18) -> bytes:
    """A COSE_Sign1 over any header and any payload, validly signed by KEY."""
    signature = PRIVATE.sign(cbor2.dumps(["Signature1", protected, b"", body]))
    parts = [protected, unprotected or {}, body, signature]
    return cbor2.dumps(parts if tag is None else cbor2.CBORTag(tag, parts), canonical=True)


BODY = rfc8785.dumps(PAYLOAD)


def refusal(raw: bytes) -> str:
    with pytest.raises(StatementError) as raised:
        verify_statement(raw, KEY.public_key)
    assert raised.value.next_step
    return raised.value.code


# ---- what it is -----------------------------------------------------------------------------------------------------


def test_a_statement_says_who_signed_what_about_which_subject() -> None:
    statement = verify_statement(RAW, KEY.public_key)
    assert (statement.payload, statement.issuer, statement.subject) == (PAYLOAD, ISSUER, SUBJECT)
    assert statement.kid == hashlib.sha256(KEY.public_key).digest() == key_id(KEY.public_key)
    assert statement.raw == RAW
    assert parse_statement(RAW) == statement


def test_pycose_reads_and_verifies_a_statement() -> None:
    # pycose's own decode() wants the list and dict that older versions of cbor2 gave inside a tag: the tag is cut off.
    assert RAW[0] == 0xC0 + 18
    message = Sign1Message.from_cose_obj(cbor2.loads(RAW[1:]), allow_unknown_attributes=True)
    message.key = OKPKey(crv="ED25519", x=KEY.public_key)
    assert message.verify_signature()
    assert message.uhdr == {}
    assert message.phdr[Algorithm].fullname == "EDDSA"
    assert message.phdr[KID] == KEY.kid
    assert message.phdr[ContentType] == CONTENT_TYPE
    assert dict(message.phdr[15]) == {1: ISSUER, 2: SUBJECT}
    assert json.loads(message.payload) == PAYLOAD
    message.payload = message.payload.replace(b"generation", b"generatiom")
    assert not message.verify_signature()


def test_a_statement_that_pycose_signs_is_the_same_bytes() -> None:
    phdr = {Algorithm: "EDDSA", ContentType: CONTENT_TYPE, KID: KEY.kid, 15: {1: ISSUER, 2: SUBJECT}}
    message = Sign1Message(phdr=phdr, payload=BODY)
    message.key = OKPKey(crv="ED25519", x=KEY.public_key, d=PRIVATE.private_bytes_raw())
    assert message.encode() == RAW


@given(st.dictionaries(st.text(), json_values, max_size=6))
def test_every_json_object_comes_back_and_signs_to_the_same_bytes_again(payload: dict[str, Any]) -> None:
    raw = sign_statement(payload, KEY, ISSUER, SUBJECT)
    statement = verify_statement(raw, KEY.public_key)
    assert statement.payload == payload
    assert sign_statement(statement.payload, KEY, ISSUER, SUBJECT) == raw


def test_the_order_of_a_payloads_keys_does_not_change_the_statement() -> None:
    assert sign_statement(dict(reversed(PAYLOAD.items())), KEY, ISSUER, SUBJECT) == RAW


# ---- what gets through ----------------------------------------------------------------------------------------------


def test_the_tests_own_signer_makes_what_is_accepted() -> None:
    assert signed(header(), BODY) == RAW  # so that each refusal below is for the one thing that it changes


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_no_changed_byte_gets_through(place: int, change: int) -> None:
    assert refusal(RAW[:place] + bytes([RAW[place] ^ change]) + RAW[place + 1 :])


@given(
    st.one_of(
        st.binary(max_size=300),
        st.integers(0, len(RAW) - 1).map(lambda n: RAW[:n]),
        st.binary(min_size=1).map(lambda b: RAW + b),
    )
)
def test_foreign_cut_and_lengthened_bytes_are_refused(raw: bytes) -> None:
    assert refusal(raw) == "statement_malformed"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(signed(header(), BODY, tag=None), id="without its tag"),
        pytest.param(signed(header(), BODY, tag=98), id="tagged as COSE_Sign"),
        pytest.param(signed(header(), BODY, {4: b"kid"}), id="unprotected header"),
        pytest.param(signed(header(alg=-7), BODY), id="ES256 claimed"),
        pytest.param(signed(header(alg=-19), BODY), id="another number for Ed25519"),
        pytest.param(signed(header(alg=None), BODY), id="no algorithm"),
        pytest.param(signed(header(content_type="application/json"), BODY), id="another content type"),
        pytest.param(signed(header(kid=None), BODY), id="no key id"),
        pytest.param(signed(header(kid=KEY.kid.hex()), BODY), id="key id as text"),
        pytest.param(signed(header(kid=KEY.kid[:8]), BODY), id="short key id"),
        pytest.param(signed(header(claims=None), BODY), id="no claims"),
        pytest.param(signed(header(claims={1: ISSUER}), BODY), id="no subject"),
        pytest.param(signed(header(claims={1: ISSUER, 2: ""}), BODY), id="empty subject"),
        pytest.param(signed(header(claims={1: "", 2: SUBJECT}), BODY), id="empty issuer"),
        pytest.param(signed(header(claims={1: ISSUER, 2: 7}), BODY), id="subject not text"),
        pytest.param(signed(header(claims={1: ISSUER, 2: SUBJECT, 6: 1}), BODY), id="further claim"),
        pytest.param(signed(header(crit=[99]), BODY), id="further header"),
        pytest.param(signed(b"", BODY), id="empty protected header"),
        pytest.param(signed(cbor2.dumps(7), BODY), id="protected header not a map"),
        pytest.param(signed(header() + b"\0", BODY), id="bytes after the protected header"),
        pytest.param(signed(header()[:1] + header()[3:] + header()[1:3], BODY), id="header keys unsorted"),
        pytest.param(signed(b"\xbf" + header()[1:] + b"\xff", BODY), id="header of indefinite length"),
        pytest.param(signed(b"\xa5" + header()[1:3] + header()[1:], BODY), id="header key twice"),
        pytest.param(signed(b"\xb8\x04" + header()[1:], BODY), id="header length in two bytes"),
        pytest.param(signed(header(), b""), id="empty payload"),
        pytest.param(signed(header(), b"[]"), id="payload not an object"),
        pytest.param(signed(header(), b"{} "), id="payload with a space"),
        pytest.param(signed(header(), b'{"b":1,"a":1}'), id="payload keys unsorted"),
        pytest.param(signed(header(), b'{"a":1,"a":1}'), id="payload key twice"),
        pytest.param(signed(header(), b'{"a":1.0}'), id="payload number in another form"),
        pytest.param(signed(header(), b'{"a":NaN}'), id="payload with NaN"),
        pytest.param(signed(header(), b'{"a":1e999}'), id="payload with infinity"),
        pytest.param(signed(header(), b'{"a":9007199254740993}'), id="payload with an integer beyond 2^53"),
        pytest.param(signed(header(), b'{"a":"\\u0041"}'), id="payload with a needless escape"),
        pytest.param(signed(header(), b'{"a":"\\ud800"}'), id="payload with half a surrogate pair"),
        pytest.param(signed(header(), b'{"a":"\xff"}'), id="payload not UTF-8"),
        pytest.param(signed(header(), b'{"a":' + b"[" * 60_000 + b"]" * 2 + b"}"), id="payload nested without end"),
        pytest.param(b"\xd2" + b"\x81" * 60_000, id="CBOR nested without end"),
        pytest.param(b"\xd2\x9b" + b"\xff" * 8, id="array of 2^64 - 1 parts"),
        pytest.param(b"\xd2\x84\x5b" + b"\x7f" * 8, id="string of nearly 2^63 bytes"),
        pytest.param(signed(header(), b'{"a":"' + b"x" * 65_535 + b'"}'), id="longer than an entry may be"),
    ],
)
def test_a_validly_signed_message_of_another_form_is_refused(raw: bytes) -> None:
    assert refusal(raw) == "statement_malformed"


def test_a_false_signature_and_anothers_key_are_told_apart() -> None:
    assert refusal(RAW[:-1] + bytes([RAW[-1] ^ 1])) == "statement_signature_invalid"
    with pytest.raises(StatementError) as raised:
        verify_statement(RAW, StatementKey.generate().public_key)
    assert raised.value.code == "statement_key_mismatch"


@pytest.mark.parametrize(
    "payload", [{"a": 2**53}, {"a": 2.0**53}, {"a": float("nan")}, {"a": b"bytes"}, {"a": "\ud800"}, {"a": {1}}]
)
def test_a_payload_without_canonical_form_is_not_signed(payload: dict[str, Any]) -> None:
    with pytest.raises(StatementError) as raised:
        sign_statement(payload, KEY, ISSUER, SUBJECT)
    assert raised.value.code == "statement_payload"


def test_a_statement_fits_an_entry_to_the_last_byte() -> None:
    room = 65_535 - len(sign_statement({"a": "x" * 60_000}, KEY, ISSUER, SUBJECT)) + 60_000
    assert len(sign_statement({"a": "x" * room}, KEY, ISSUER, SUBJECT)) == 65_535
    with pytest.raises(StatementError) as raised:
        sign_statement({"a": "x" * (room + 1)}, KEY, ISSUER, SUBJECT)
    assert raised.value.code == "statement_too_large"


@pytest.mark.parametrize(("issuer", "subject"), [("", SUBJECT), (ISSUER, "")])
def test_a_statement_has_an_issuer_and_a_subject(issuer: str, subject: str) -> None:
    with pytest.raises(StatementError):
        sign_statement(PAYLOAD, KEY, issuer, subject)


# ---- keys and commitments -------------------------------------------------------------------------------------------


def test_a_statement_is_signed_by_any_key_that_signs_ed25519() -> None:
    class Elsewhere:
        """As a KMS gives it: the private key stays where it is."""

        public_key = KEY.public_key

        def sign(self, message: bytes) -> bytes:
            return PRIVATE.sign(message)

    assert sign_statement(PAYLOAD, StatementKey(Elsewhere()), ISSUER, SUBJECT) == RAW


def test_a_commitment_is_the_hash_of_domain_salt_and_digest() -> None:
    salt, digest = bytes(range(32)), hashlib.sha256(b"pixels").digest()
    assert commitment("image/1", salt, digest) == hashlib.sha256(b"image/1\0" + salt + digest).digest()
    assert commitment("image/1", salt, digest) != commitment("image/2", salt, digest)
    assert commitment("image/1", salt, digest) != commitment("image/1", digest, salt)


@pytest.mark.parametrize(
    ("domain", "salt", "digest"),
    [
        ("", bytes(32), bytes(32)),
        ("a\0b", bytes(32), bytes(32)),
        ("é", bytes(32), bytes(32)),
        ("a", bytes(31), bytes(33)),
        ("a", b"", bytes(32)),
    ],
)
def test_a_commitment_whose_parts_could_be_cut_elsewhere_is_refused(domain: str, salt: bytes, digest: bytes) -> None:
    with pytest.raises(StatementError) as raised:
        commitment(domain, salt, digest)
    assert raised.value.code == "commitment_invalid"


any_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), any_json, max_size=4), st.booleans(), st.booleans())
def test_the_fast_way_to_read_a_payload_takes_nothing_that_rfc_8785_does_not(
    payload: dict[str, object], ascii_only: bool, sort: bool
) -> None:
    for body in (
        json.dumps(payload, ensure_ascii=ascii_only, sort_keys=sort, separators=(",", ":")).encode("utf-8", "replace"),
        json.dumps(payload, ensure_ascii=ascii_only, sort_keys=sort).encode("utf-8", "replace"),
    ):
        read = statements._plain_payload(body)
        assert read is None or rfc8785.dumps(read) == body
