"""Every parser of what comes from outside answers hostile bytes with its one kind of error, soon, and in little memory.

Inputs are good files with stretches cut, doubled, overwritten and exchanged, CBOR of every type put where a statement
or a receipt has its parts, and a few files as large as they may get.
"""

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.examples.log import example
from ledger.errors import LedgerError, NotFound
from ledger.log.announcements import KeyHistory, read_announcement
from ledger.log.cbor_sequence import items
from ledger.log.cosignatures import Cosigner, add_signatures, cosigned_at, parse_signature_lines
from ledger.log.notes import Checkpoint, Note, NoteError, NoteSigner, NoteVerifier, TlogProof, open_note
from ledger.log.policy import Policy
from ledger.log.receipts import ReceiptError, verify_receipt
from ledger.log.statements import (
    MAX_ENTRY_BYTES,
    Statement,
    StatementError,
    StatementKey,
    parse_statement,
    sign_statement,
    verify_statement,
)
from ledger.log.tiles import TilePath
from ledger.log.verify import check_tlog_proof
from ledger.witness.witness import Submission

FILES = example.files()
ENTRY, PROOF, RECEIPT = FILES["entry-4.cose"], FILES["entry-4.tlog-proof"], FILES["entry-4.receipt"]
NOTE, POLICY = FILES["checkpoint"], FILES["policy"]
TEXT, LINES = NOTE.decode().split("\n\n")
VERIFIERS = [example.LOG.verifier, *(witness.verifier for witness in example.WITNESSES)]
VKEYS = [verifier.vkey for verifier in VERIFIERS]
STATEMENT_KEY, RECEIPT_KEY = example.STATEMENTS[1].public_key, example.RECEIPTS.public_key_der
REQUEST = Submission.write(7, example.path_of(4), NOTE)
LIMIT = 2.0
"""Seconds that one hostile input may take."""


def as_text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """Text comes from UTF-8; what is not is another layer's to refuse, but lone surrogates get through JSON."""
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def learn(entry: bytes) -> object:
    return KeyHistory().learn(0, entry)


Target = tuple[Callable[[bytes], object], tuple[type[LedgerError], ...], list[bytes]]
TARGETS: dict[str, Target] = {
    "note": (Note.parse, (NoteError,), [NOTE]),
    "opened note": (lambda data: open_note(data, VERIFIERS), (NoteError,), [NOTE]),
    "cosigned note": (lambda data: cosigned_at(Note.parse(data), VERIFIERS), (NoteError,), [NOTE]),
    "checkpoint": (as_text(Checkpoint.parse), (NoteError,), [TEXT.encode() + b"\n"]),
    "signature lines": (parse_signature_lines, (NoteError,), [LINES.encode()]),
    "added lines": (lambda data: add_signatures(NOTE, data), (NoteError,), [LINES.encode()]),
    "added to a note": (lambda data: add_signatures(data, LINES.encode()), (NoteError,), [NOTE]),
    "verifier key": (as_text(NoteVerifier.parse), (NoteError,), [vkey.encode() for vkey in VKEYS]),
    "log key": (as_text(NoteSigner.parse), (NoteError,), [example.LOG.skey.encode()]),
    "witness key": (as_text(Cosigner.parse), (NoteError,), [example.WITNESSES[0].skey.encode()]),
    "proof": (TlogProof.parse, (NoteError,), [PROOF]),
    "checked proof": (
        lambda data: check_tlog_proof(ENTRY, data, VKEYS[:1], VKEYS[1:], example.POLICY),
        (NoteError,),
        [PROOF],
    ),
    "policy": (as_text(Policy.parse), (NoteError,), [POLICY]),
    "statement": (parse_statement, (StatementError,), list(example.entries()[:5])),
    "signed statement": (lambda data: verify_statement(data, STATEMENT_KEY), (StatementError,), [ENTRY]),
    "announcement": (lambda data: read_announcement(parse_statement(data)), (StatementError,), [example.entries()[0]]),
    "learnt announcement": (learn, (StatementError,), [example.entries()[0], example.entries()[3]]),
    "receipt": (lambda data: verify_receipt(data, ENTRY, RECEIPT_KEY), (ReceiptError,), [RECEIPT]),
    "receipt key": (lambda data: verify_receipt(RECEIPT, ENTRY, data), (ReceiptError,), [RECEIPT_KEY]),
    "statements in a row": (lambda data: list(items(data)), (LedgerError,), [ENTRY * 3]),
    "witness request": (Submission.parse, (NoteError,), [REQUEST]),
    "tile path": (as_text(TilePath.parse), (NotFound,), [b"0/x001/x234/067", b"entries/001.p/44", b"63/000.p/255"]),
}


def answered(target: str, data: bytes) -> bool:
    """Whether the target reads the data or refuses them in its documented way; any other exception gets out."""
    read, errors, _ = TARGETS[target]
    try:
        read(data)
    except errors as error:
        return bool(error.code and error.next_step)
    return True


def within_limits(target: str, data: bytes) -> None:
    started = time.process_time()
    assert answered(target, data)
    assert time.process_time() - started < LIMIT


TOKENS = [
    b"\n", b"\n\n", b" ", b"\t", b"\r", b"\0", b"+", b"=", b"-", b"0", b"9" * 5000, b"\xe2\x80\x94 ", b"\xc2\x85",
    b"\xed\xa0\x80", b"\xff", b"\x7f", b"AAAA", b"\xd2\x84", b"\xd8\x1c", b"\xd8\x1d\x00", b"\xc2\x5a\xff\xff\xff\xff",
    b"\x9b" + b"\xff" * 8, b"\x5b" + b"\x7f" * 8, b"\xf9\x7e\x00", b"\xa0", b"[" * 3000, b'{"a":1,"a":1}',
    b"1e400", b"NaN", b'"\\ud800"', b"9007199254740993",
]  # fmt: skip
edits = st.lists(
    st.tuples(
        st.floats(0, 1),  # where
        st.integers(0, 40),  # how much is taken away there
        st.one_of(
            st.binary(max_size=6), st.sampled_from(TOKENS), st.floats(0, 1)
        ),  # what comes instead; a number: its own
    ),
    min_size=1,
    max_size=5,
)


def edited(data: bytes, changes: list[tuple[float, int, bytes | float]]) -> bytes:
    for where, taken, new in changes:
        at = int(where * len(data))
        put = new if isinstance(new, bytes) else data[int(new * len(data)) :][: max(taken, 8)]
        data = data[:at] + put + data[at + taken :]
    return data


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_changed_file_is_read_or_refused(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(TARGETS[name][2]))
    within_limits(name, edited(seed, data.draw(edits)))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=10, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    within_limits(name, data)


# ---- CBOR of other shapes -------------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.binary(max_size=40), st.text(max_size=20),
    st.builds(cbor2.CBORSimpleValue, st.one_of(st.integers(0, 19), st.integers(32, 255))),
)  # fmt: skip
keys = st.one_of(st.sampled_from([1, 2, 3, 4, 15, -1, 395, 396, True, "1"]), st.integers(-70000, 70000))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(keys, inner, max_size=5),
        st.builds(
            cbor2.CBORTag,
            st.sampled_from(
                [0, 1, 2, 3, 4, 5, 18, 24, 25, 28, 29, 30, 35, 36, 37, 43000, 55799, 100, 256, 258, 260, 261]
            ),
            inner,
        ),
        inner.map(cbor2.dumps),  # CBOR within a byte string
    ),
    max_leaves=12,
)


@settings(max_examples=30, deadline=None)
@given(st.one_of(values, st.tuples(values, values, values, values).map(lambda four: cbor2.CBORTag(18, list(four)))))
def test_other_cbor_is_no_statement_and_no_receipt(value: object) -> None:
    data = cbor2.dumps(value)
    for name in ("statement", "receipt", "statements in a row"):
        within_limits(name, data)


@settings(max_examples=30, deadline=None)
@given(values, values, values, st.sampled_from([0, 1, 2, 3]))
def test_a_receipt_with_one_part_of_another_type_is_refused(
    protected: object, proof: object, part: object, at: int
) -> None:
    parts = list(cbor2.loads(RECEIPT).value)
    parts[at] = part
    for changed in (
        parts,
        [cbor2.dumps(protected), *parts[1:]],
        [parts[0], {396: {-1: [cbor2.dumps(proof)]}}, None, bytes(64)],
    ):
        within_limits("receipt", cbor2.dumps(cbor2.CBORTag(18, changed)))


@settings(max_examples=25, deadline=None)
@given(values, values)
def test_a_statement_with_a_header_of_another_shape_is_refused(protected: object, kid: object) -> None:
    header = {1: -8, 3: "x", 4: kid, 15: {1: "iss", 2: "sub"}}
    for changed in (protected, header, {**header, 15: protected}):
        within_limits("statement", cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps(changed), {}, b"{}", bytes(64)])))


# ---- announcements, whose signature is good but whose content is the enemy's -----------------------------------------

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), st.text(max_size=70)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=12), inner, max_size=3)),
    max_leaves=6,
)
key_values = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {
            "use": st.one_of(st.sampled_from(["statements", "receipts"]), json_values),
            "kid": st.one_of(st.just(example.STATEMENTS[0].kid.hex()), json_values),
            "public_key": st.one_of(st.binary(max_size=33).map(bytes.hex), json_values),
        }
    ),
)


@settings(max_examples=30, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["lawful-ledger/genesis/1", "lawful-ledger/keys/1"]),
            "origin": json_values,
            "log_vkey": json_values,
            "keys": st.one_of(json_values, st.lists(key_values, max_size=3)),
            "retired": st.one_of(json_values, st.lists(key_values, max_size=2)),
            "created_at": json_values,
        }
    )
)
def test_a_signed_announcement_of_anything_is_read_or_refused(payload: dict[str, Any]) -> None:
    entry = sign_statement(payload, example.STATEMENTS[0], issuer="x", subject="y")
    within_limits("learnt announcement", entry)


class Brief:
    """A key of fewer bytes than any key has; signs with nothing."""

    public_key = b"abc"

    def sign(self, message: bytes) -> bytes:
        return bytes(64)


def test_a_key_that_is_no_key_is_refused_wherever_it_is_announced() -> None:
    key = StatementKey(Brief())
    announced = {"use": "statements", "kid": key.kid.hex(), "public_key": key.public_key.hex()}
    payload = {**example.genesis().payload("2026-01-01T00:00:00+00:00"), "keys": [announced]}
    entry = sign_statement(payload, key, issuer="x", subject="y")
    assert isinstance(parse_statement(entry), Statement)
    with pytest.raises(StatementError):
        KeyHistory().learn(0, entry)


# ---- as large as it gets --------------------------------------------------------------------------------------------

LARGE = {
    "note of one megabyte": ("opened note", NOTE.replace(b"300\n", b"300\n" + b"x" * 990_000 + b"\n", 1)),
    "note of empty lines": ("note", b"\n" * 1_000_000),
    "note of a hundred thousand lines": ("note", TEXT.encode() + b"\n\n" + LINES.encode() * 2500),
    "note of a hundred good lines": ("opened note", TEXT.encode() + b"\n\n" + LINES.encode() * 33),
    "checkpoint of many lines": ("checkpoint", TEXT.encode() + b"\n" + b"x\n" * 400_000),
    "lines of one megabyte": ("signature lines", LINES.encode() * 2500),
    "proof of many hashes": ("checked proof", PROOF.replace(b"\n\n", b"\n" + b"A" * 43 + b"=\n\n", 1) * 1000),
    "policy of many groups": (
        "policy",
        b"".join(b"group %d any %s\n" % (i, b"one" if not i else b"%d" % (i - 1)) for i in range(2000)),
    ),
    "policy of one line": ("policy", b"quorum " + b" " * 29_000 + b"none\n"),
    "statement of nested arrays": ("statement", b"\x81" * MAX_ENTRY_BYTES),
    "statement of nested tags": ("statement", b"\xd8\x1c" * (MAX_ENTRY_BYTES // 2)),
    "statement of nested JSON": (
        "statement",
        cbor2.dumps(cbor2.CBORTag(18, [cbor2.loads(ENTRY).value[0], {}, b"[" * 65_000, bytes(64)])),
    ),
    "statement of a long number": (
        "statement",
        cbor2.dumps(cbor2.CBORTag(18, [cbor2.loads(ENTRY).value[0], {}, b'{"a":' + b"9" * 64_000 + b"}", bytes(64)])),
    ),
    "receipt of nested arrays": ("receipt", b"\x81" * 8_000),
    "receipt of a path without end": ("receipt", b"\xd2\x84\x40\xa1\x19\x01\x8c\xa1\x20\x9a\xff\xff\xff\xff"),
    "row of small statements": ("statements in a row", ENTRY * 5_000),
    "request of many lines": ("witness request", b"old 1\n" + b"A\n" * 400_000 + b"\n" + NOTE),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_takes_little_time_and_memory(name: str) -> None:
    target, data = LARGE[name]
    within_limits(target, data)
    tracemalloc.start()
    try:
        assert answered(target, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64_000_000
