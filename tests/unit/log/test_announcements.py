"""Keys as the log's own entries announce them: whom a reader may believe, and from which entry on."""

from typing import Any

import pytest

from ledger.log.announcements import (
    GENESIS,
    KEYS,
    Announcement,
    KeyHistory,
    PublicKey,
    Retirement,
    read_announcement,
)
from ledger.log.signing import SoftwareEs256Key
from ledger.log.statement_types import sign_entry
from ledger.log.statements import StatementError, StatementKey, parse_statement, sign_statement

ORIGIN, VKEY, AT = "example.org/ledger/2026", "example.org/ledger/2026+00000000+AA", "2026-11-22T12:00:00+00:00"
FIRST, SECOND, THIRD = (StatementKey.generate() for _ in range(3))


def public(key: StatementKey) -> PublicKey:
    return PublicKey("statements", key.public_key)


def genesis(key: StatementKey = FIRST, by: StatementKey | None = None) -> bytes:
    said = Announcement(GENESIS, ORIGIN, VKEY, (public(key),), ())
    return sign_entry(said.payload(AT), by or key, issuer=ORIGIN)


def follows(
    old: StatementKey, new: StatementKey, *, by: StatementKey | None = None, compromised: bool = False
) -> bytes:
    said = Announcement(KEYS, ORIGIN, VKEY, (public(new),), (Retirement("statements", old.kid, compromised),))
    return sign_entry(said.payload(AT), by or old, issuer=ORIGIN)


def learnt(*found: bytes) -> KeyHistory:
    history = KeyHistory()
    for index, entry in enumerate(found):
        history.learn(index, entry)
    return history


def refusal(*found: bytes) -> str:
    with pytest.raises(StatementError) as refused:
        learnt(*found)
    return refused.value.code


def test_a_reader_passes_from_one_key_to_the_next() -> None:
    history = learnt(genesis(), follows(FIRST, SECOND), follows(SECOND, THIRD))
    known = [history.key("statements", key.kid) for key in (FIRST, SECOND, THIRD)]
    assert [(key.since, key.retired, key.compromised) for key in known if key is not None] == [
        (0, 1, None),
        (1, 2, None),
        (2, None, None),
    ]


def test_a_stolen_key_is_suspect_after_the_entry_that_says_so_and_not_before() -> None:
    known = learnt(genesis(), follows(FIRST, SECOND, compromised=True)).key("statements", FIRST.kid)
    assert known is not None
    assert [known.suspect_at(index) for index in range(4)] == [False, False, True, True]


def test_keys_of_other_uses_are_learnt_too() -> None:
    receipts = PublicKey("receipts", SoftwareEs256Key.generate().public_key_der)
    said = Announcement(GENESIS, ORIGIN, VKEY, (public(FIRST), receipts), ())
    known = learnt(sign_entry(said.payload(AT), FIRST, issuer=ORIGIN)).key("receipts", receipts.kid)
    assert known is not None
    assert known.public_key == receipts.public_key


def test_entries_of_other_types_announce_nothing() -> None:
    entry = sign_statement({"type": "something/1", "keys": []}, FIRST, ORIGIN, "something")
    assert KeyHistory().learn(0, entry) is None


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param((genesis(by=SECOND),), id="a genesis signed by a key it does not announce"),
        pytest.param((genesis(), genesis(SECOND)), id="a second genesis"),
        pytest.param((genesis(), follows(FIRST, SECOND, by=SECOND)), id="a key that announces itself"),
        pytest.param((genesis(), follows(FIRST, SECOND), follows(SECOND, THIRD, by=FIRST)), id="by a retired key"),
        pytest.param((genesis(), follows(THIRD, SECOND, by=FIRST)), id="retires a key nobody announced"),
    ],
)
def test_an_announcement_without_authority_is_not_believed(entries: tuple[bytes, ...]) -> None:
    assert refusal(*entries) == "announcement_not_believed"


def _payload(**changes: Any) -> dict[str, Any]:
    return Announcement(GENESIS, ORIGIN, VKEY, (public(FIRST),), ()).payload(AT) | changes


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(_payload(keys=None), id="no keys"),
        pytest.param(_payload(keys=[{"use": "statements", "kid": "00" * 32, "public_key": "00" * 32}]), id="false kid"),
        pytest.param(_payload(keys=[{"use": "letters", "kid": "", "public_key": ""}]), id="unknown use"),
        pytest.param(_payload(retired=[{"use": "receipts", "kid": "zz", "compromised": False}]), id="no hex"),
        pytest.param(_payload(retired=[{"use": "receipts", "kid": "AA" * 32, "compromised": True}]), id="upper case"),
        pytest.param(_payload(retired=[{"use": "receipts", "kid": "aa" * 32, "compromised": 1}]), id="not a truth"),
        pytest.param(_payload(further="field"), id="a further field"),
        pytest.param(_payload(origin=7), id="origin not a text"),
    ],
)
def test_an_announcement_in_another_form_is_refused(payload: dict[str, Any]) -> None:
    entry = sign_statement(payload, FIRST, ORIGIN, GENESIS)
    with pytest.raises(StatementError) as refused:
        read_announcement(parse_statement(entry))
    assert refused.value.code == "announcement_malformed"


def test_what_is_said_reads_back_as_it_was_meant() -> None:
    said = Announcement(KEYS, ORIGIN, VKEY, (public(SECOND),), (Retirement("statements", FIRST.kid, compromised=True),))
    assert read_announcement(parse_statement(sign_entry(said.payload(AT), FIRST, issuer=ORIGIN))) == said
