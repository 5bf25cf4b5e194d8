"""Who may say what in a log, as an auditor learns it from the entries themselves."""

import msgspec
import pytest

from ledger.audit.entries import MOST_TYPES, EntryAuditor, LearntKey
from ledger.log.announcements import GENESIS, KEYS, Announcement, PublicKey, Retirement
from ledger.log.statements import StatementKey, sign_statement

ORIGIN = "ledger.example.org/2026"
SUBMITTER = "submitter/0192f0c1-0000-7000-8000-000000000001"


def announced(key: StatementKey) -> PublicKey:
    return PublicKey("statements", key.public_key)


def announcement(kind: str, signer: StatementKey, *new: StatementKey, retired: tuple[Retirement, ...] = ()) -> bytes:
    said = Announcement(kind, ORIGIN, "a vkey", tuple(announced(key) for key in new), retired)
    return sign_statement(said.payload("2026-01-01T00:00:00+00:00"), signer, issuer=ORIGIN, subject=kind)


def statement(signer: StatementKey, number: int = 0, kind: str = "some/1", issuer: str = ORIGIN) -> bytes:
    return sign_statement({"type": kind, "number": number}, signer, issuer=issuer, subject=kind)


def submitter_key(signer: StatementKey, key: StatementKey, **changed: str) -> bytes:
    payload = {
        "type": "lawful-ledger/submitter-key/1",
        "submitter": SUBMITTER.removeprefix("submitter/"),
        "kid": key.kid.hex(),
        "ed25519": key.public_key.hex(),
        "created_at": "2026-01-01T00:00:00+00:00",
    }
    return sign_statement(payload | changed, signer, issuer=ORIGIN, subject=payload["type"])


def judged(*entries: bytes, auditor: EntryAuditor | None = None, start: int = 0) -> tuple[EntryAuditor, list[str]]:
    auditor = auditor or EntryAuditor()
    findings = [auditor.judge(start + offset, entry) for offset, entry in enumerate(entries)]
    return auditor, [finding.code for finding in findings if finding is not None]


@pytest.fixture
def own() -> StatementKey:
    return StatementKey.generate()


@pytest.fixture
def other() -> StatementKey:
    return StatementKey.generate()


def test_statements_by_the_key_that_the_genesis_announces_are_verified(own: StatementKey) -> None:
    auditor, found = judged(announcement(GENESIS, own, own), statement(own), statement(own, 1))
    assert found == []
    assert dict(auditor.statements) == {"verified": 3}
    assert dict(auditor.types) == {GENESIS: 1, "some/1": 2}
    assert auditor.seen_to == 3


def test_a_key_that_nothing_announced_is_found(own: StatementKey, other: StatementKey) -> None:
    _, found = judged(announcement(GENESIS, own, own), statement(other))
    assert found == ["statement_key_unknown"]


def test_behind_a_gap_an_unknown_key_may_have_been_announced_there(own: StatementKey, other: StatementKey) -> None:
    auditor, _ = judged(announcement(GENESIS, own, own))
    finding = auditor.judge(500, statement(other))
    assert finding is None
    assert auditor.statements["unchecked"] == 1
    assert auditor.seen_to == 1


def test_a_false_signature_is_found_wherever_it_stands(own: StatementKey) -> None:
    auditor, _ = judged(announcement(GENESIS, own, own))
    entry = bytearray(statement(own))
    entry[-1] ^= 1
    finding = auditor.judge(500, bytes(entry))
    assert finding is not None
    assert (finding.code, finding.index, finding.holds) == ("statement_signature_invalid", 500, False)


def test_a_rotated_key_is_learnt_from_its_announcement(own: StatementKey, other: StatementKey) -> None:
    rotation = announcement(KEYS, own, other, retired=(Retirement("statements", own.kid, False),))
    auditor, found = judged(announcement(GENESIS, own, own), rotation, statement(other), statement(own))
    assert found == []
    assert auditor.statements["verified"] == 4


def test_a_rotation_by_a_key_that_was_never_in_force_is_not_believed(own: StatementKey, other: StatementKey) -> None:
    _, found = judged(announcement(GENESIS, own, own), announcement(KEYS, other, other), statement(other))
    assert found == ["announcement_not_believed", "statement_key_unknown"]


def test_what_a_compromised_key_signs_later_is_found(own: StatementKey, other: StatementKey) -> None:
    rotation = announcement(KEYS, own, other, retired=(Retirement("statements", own.kid, True),))
    _, found = judged(announcement(GENESIS, own, own), statement(own), rotation, statement(own, 1), statement(other))
    assert found == ["statement_key_compromised"]


def test_a_submitter_speaks_for_himself_only(own: StatementKey, other: StatementKey) -> None:
    genesis, registered = announcement(GENESIS, own, own), submitter_key(own, other)
    _, found = judged(genesis, registered, statement(other, issuer=SUBMITTER))
    assert found == []
    _, found = judged(genesis, registered, statement(other, issuer=ORIGIN), statement(other, issuer=SUBMITTER + "0"))
    assert found == ["statement_issuer", "statement_issuer"]


def test_a_submitter_can_neither_announce_nor_register_keys(own: StatementKey, other: StatementKey) -> None:
    third = StatementKey.generate()
    genesis, registered = announcement(GENESIS, own, own), submitter_key(own, other)
    _, found = judged(genesis, registered, announcement(KEYS, other, third), statement(third))
    assert found == ["announcement_not_believed", "statement_key_unknown"]
    _, found = judged(genesis, registered, submitter_key(other, third), statement(third, issuer=SUBMITTER))
    assert found == ["statement_issuer", "statement_key_unknown"]


@pytest.mark.parametrize("changed", [{"ed25519": "00"}, {"ed25519": "zz" * 32}, {"kid": "00" * 32}])
def test_a_submitter_s_key_in_another_form_is_found(
    own: StatementKey, other: StatementKey, changed: dict[str, str]
) -> None:
    _, found = judged(announcement(GENESIS, own, own), submitter_key(own, other, **changed))
    assert found == ["announcement_malformed"]


def test_on_another_log_what_is_no_statement_is_opaque(own: StatementKey) -> None:
    auditor, found = judged(b"an entry", b"", bytes(65_535))
    assert found == []
    assert dict(auditor.statements) == {"opaque": 3}
    _, found = judged(announcement(GENESIS, own, own), b"an entry")
    assert found == ["entry_no_statement"]


def test_a_genesis_elsewhere_than_first_is_not_believed(own: StatementKey) -> None:
    _, found = judged(b"an entry", announcement(GENESIS, own, own), statement(own))
    assert found == ["announcement_not_believed", "statement_key_unknown"]


def test_a_key_that_was_given_verifies_a_log_that_announces_none(own: StatementKey) -> None:
    auditor, found = judged(b"an entry", statement(own), auditor=EntryAuditor.of([own.public_key]))
    assert found == []
    assert dict(auditor.statements) == {"opaque": 1, "verified": 1}


def test_what_was_learnt_survives_being_written_down(own: StatementKey, other: StatementKey) -> None:
    third = StatementKey.generate()
    rotation = announcement(KEYS, own, third, retired=(Retirement("statements", own.kid, True),))
    auditor, found = judged(announcement(GENESIS, own, own), submitter_key(own, other), rotation)
    assert found == []
    written = msgspec.json.decode(msgspec.json.encode(auditor.learnt()), type=list[LearntKey])
    later = EntryAuditor.of([], written, auditor.seen_to)
    later, found = judged(
        statement(third), statement(other, issuer=SUBMITTER), statement(own), b"none", auditor=later, start=3
    )
    assert found == ["statement_key_compromised", "entry_no_statement"]
    assert later.seen_to == 7


def test_reading_an_announcement_again_changes_nothing(own: StatementKey, other: StatementKey) -> None:
    """A sample comes back to old bundles: the key that signed a rotation is retired by then."""
    rotation = announcement(KEYS, own, other, retired=(Retirement("statements", own.kid, False),))
    entries = [announcement(GENESIS, own, own), rotation, statement(other)]
    auditor, _ = judged(*entries)
    keys = dict(auditor.history.keys)
    again, found = judged(*entries, auditor=auditor)
    assert found == []
    assert again.statements == {"verified": 6}
    assert again.history.keys == keys


def test_a_log_that_invents_types_fills_no_memory(own: StatementKey) -> None:
    auditor = EntryAuditor.of([own.public_key])
    judged(*(statement(own, kind=f"type/{i}/" + "x" * 1000) for i in range(MOST_TYPES + 50)), auditor=auditor)
    assert len(auditor.types) == MOST_TYPES + 1
    assert max(len(kind) for kind in auditor.types) <= 80
    assert auditor.types.total() == MOST_TYPES + 50


# ---- what the gate refused -------------------------------------------------------------------------------------------


def refused(signer: StatementKey, *reasons: str, issuer: str = ORIGIN) -> bytes:
    payload = {
        "type": "lawful-ledger/blocked/1",
        "record_id": SUBMITTER.removeprefix("submitter/"),
        "kind": "generation",
        "created_at": "2026-01-01T00:00:00+00:00",
        "commitments": {"pixels": "00" * 32, "evidence": "11" * 32},
        "reasons": list(reasons),
        "policy": {"identity": "block", "copy": "block", "refused": "warn", "alpha": "0.001"},
        "model": None,
        "snapshot": None,
    }
    return sign_statement(payload, signer, issuer=issuer, subject=payload["type"])


def test_refusals_are_counted_by_reason(own: StatementKey) -> None:
    auditor, found = judged(
        announcement(GENESIS, own, own), refused(own, "copy_of_work"), refused(own, "copy_of_work", "artist_refused")
    )
    assert found == []
    assert dict(auditor.blocked) == {"copy_of_work": 2, "artist_refused": 1}


def test_a_refusal_that_gives_no_reason_or_another_is_found(own: StatementKey) -> None:
    _, found = judged(announcement(GENESIS, own, own), refused(own), refused(own, "we_did_not_like_it"))
    assert found == ["statement_undescribed", "statement_undescribed"]


def test_a_submitter_refuses_nothing_in_the_ledgers_name(own: StatementKey, other: StatementKey) -> None:
    auditor, found = judged(
        announcement(GENESIS, own, own), submitter_key(own, other), refused(other, "copy_of_work", issuer=SUBMITTER)
    )
    assert found == []
    assert not auditor.blocked
