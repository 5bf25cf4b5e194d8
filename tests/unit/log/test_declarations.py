"""The quick check of submitters' statements takes what the general one takes, and nothing else."""

import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.errors import LedgerError
from ledger.log import cbor_sequence
from ledger.log.declarations import DECLARATION, BatchRefused, Signers, checked, issuer_of
from ledger.log.statements import StatementError, StatementKey, sign_statement, verify_statement

KEY = StatementKey.generate()
ISSUER = issuer_of(uuid.UUID(int=7))
SIGNERS = Signers(ISSUER, {KEY.kid: KEY.public_key}, frozenset())


def declared(number: int, created_at: str = "2026-11-22T05:00:00Z") -> bytes:
    payload = {"type": DECLARATION, "commitment": f"{number:064x}", "created_at": created_at}
    return sign_statement(payload, KEY, ISSUER, DECLARATION)


RAW = declared(1)


@given(st.lists(st.integers(0, 2**256 - 1), min_size=1, max_size=20))
def test_a_sequence_is_taken_apart_where_it_was_put_together(numbers: list[int]) -> None:
    statements = [declared(number) for number in numbers]
    assert checked(b"".join(statements), SIGNERS, batch=True) == statements
    for item, raw in zip(cbor_sequence.items(b"".join(statements)), statements, strict=True):
        assert item.raw == raw
        assert verify_statement(raw, KEY.public_key).raw == raw


@given(st.integers(0, len(RAW) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_by_both_checks_or_by_none(position: int, value: int) -> None:
    changed = RAW[:position] + bytes([value]) + RAW[position + 1 :]
    try:
        verify_statement(changed, KEY.public_key)
        expected = changed == RAW
    except StatementError:
        expected = False
    try:
        checked(changed, SIGNERS, batch=False)
        taken = True
    except LedgerError:
        taken = False
    assert taken == expected == (changed == RAW)


@given(st.binary(max_size=600), st.integers(0, 3))
@example(b"\xd2\x84\x5a\x00\x01\x00\x00", 0)
@example(b"\xd2\x84\x59", 0)
@example(b"\xd2\x84\x5b" + bytes(8), 0)
@example(RAW[:-1], 1)
@example(RAW + b"\xa0", 1)
def test_whatever_is_sent_the_answer_is_one_of_ours_and_names_the_first_fault(noise: bytes, before: int) -> None:
    body = b"".join([declared(number) for number in range(before)]) + noise
    try:
        taken = checked(body, SIGNERS, batch=True)
    except LedgerError as fault:
        refused = fault
    else:
        assert b"".join(taken) == body
        return
    if isinstance(refused, BatchRefused):
        assert before <= refused.index <= before + 2
        assert 400 <= refused.status < 500
    else:
        assert (refused.code, body) == ("batch_empty", b"")


def test_a_revoked_key_is_another_answer_than_an_unknown_one() -> None:
    for signers, code in (
        (Signers(ISSUER, {}, frozenset({KEY.kid})), "submitter_key_revoked"),
        (Signers(ISSUER, {}, frozenset()), "submitter_key_unknown"),
        (Signers("submitter/other", {KEY.kid: KEY.public_key}, frozenset()), "submitter_differs"),
    ):
        with pytest.raises(LedgerError) as refused:
            checked(RAW, signers, batch=False)
        assert (refused.value.code, refused.value.status) == (code, 403)
