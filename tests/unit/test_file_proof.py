"""The chain in a file, link by link: log key → announcement → statement key → statement → pixels, report, certificate.

The log here is a real tree with real signatures, made in memory; nothing is founded, stored or asked.
"""

import base64
import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.credentials.read import CredentialReading
from ledger.file_proof import CONTRADICTIONS, LedgerClaim, Trust, read_ledger_claim
from ledger.issue import RECORD, REPORT_DOMAIN
from ledger.log import merkle
from ledger.log.announcements import GENESIS, KEYS, Announcement, PublicKey, Retirement
from ledger.log.cosignatures import Cosigner, add_signatures
from ledger.log.notes import Checkpoint, NoteError, NoteSigner, TlogProof, sign_note
from ledger.log.policy import Policy
from ledger.log.statement_types import PIXELS_DOMAIN, sign_entry
from ledger.log.statements import StatementKey, commitment, sign_statement

NOW = "2026-11-22T10:00:00+00:00"
PIXELS = hashlib.sha256(b"the pixels").hexdigest()
REPORT = hashlib.sha256(b"the report").hexdigest()


@dataclass
class Ledger:
    """A ledger as far as a file shows one: keys, entries, and the file's ledger assertion."""

    origin: str = "example.org/ledger/2026"
    certificate: bytes = b"a certificate of the ledger"
    statements: StatementKey = field(default_factory=StatementKey.generate)
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    entries: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = NoteSigner.generate(self.origin)
        keys = [PublicKey("statements", self.statements.public_key), PublicKey("credentials", self.certificate)]
        self.announce(GENESIS, self.statements, keys)

    def announce(
        self, kind: str, signer: StatementKey, keys: list[PublicKey], retired: tuple[Retirement, ...] = ()
    ) -> int:
        payload = Announcement(kind, self.origin, self.log.vkey, tuple(keys), retired).payload(NOW)
        return self.append(sign_entry(payload, signer, issuer=self.origin))

    def append(self, entry: bytes) -> int:
        self.entries.append(entry)
        return len(self.entries) - 1

    def record(self, signer: StatementKey | None = None, issuer: str | None = None) -> int:
        commitments = {
            "pixels": commitment(PIXELS_DOMAIN, self.salt, bytes.fromhex(PIXELS)).hex(),
            "report": commitment(REPORT_DOMAIN, self.salt, bytes.fromhex(REPORT)).hex(),
        }
        payload = {"type": RECORD, "commitments": commitments}
        return self.append(sign_statement(payload, signer or self.statements, issuer or self.origin, RECORD))

    def checkpoint(self, *witnesses: Cosigner) -> bytes:
        text = Checkpoint(self.origin, len(self.entries), merkle.root(self.leaves)).text
        note = sign_note(text, self.log)
        for witness in witnesses:
            note = add_signatures(note, witness.cosign(text, 1_790_000_000))
        return note

    @property
    def leaves(self) -> list[bytes]:
        return [merkle.leaf_hash(entry) for entry in self.entries]

    def proof(self, index: int, checkpoint: bytes | None = None) -> str:
        path = merkle.inclusion_proof(merkle.reader_over(self.leaves), index, len(self.leaves))
        return TlogProof(index, tuple(path), checkpoint or self.checkpoint()).to_bytes().decode()

    def said(self, index: int, announced: tuple[int, ...] = (0,), checkpoint: bytes | None = None) -> dict[str, Any]:
        """The ledger assertion of a file whose statement is the entry at `index`."""
        checkpoint = checkpoint or self.checkpoint()
        return {
            "statement": base64.b64encode(self.entries[index]).decode(),
            "salt": self.salt.hex(),
            "report_sha256": REPORT,
            "tlog_proof": self.proof(index, checkpoint),
            "keys": [
                {
                    "statement": base64.b64encode(self.entries[each]).decode(),
                    "tlog_proof": self.proof(each, checkpoint),
                }
                for each in announced
            ],
        }


def claim(
    said: dict[str, Any] | None, trust: Trust, *, certificate: bytes = b"a certificate of the ledger"
) -> LedgerClaim:
    reading = CredentialReading(
        "present",
        dt.datetime.now(dt.UTC),
        "",
        ledger=said,
        certificate_sha256=hashlib.sha256(certificate).hexdigest(),
    )
    return read_ledger_claim(reading, PIXELS, trust)


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger()
    made.record()
    for number in range(5):
        made.append(b"another entry %d" % number)
    return made


@pytest.fixture
def trust(ledger: Ledger) -> Trust:
    return Trust([ledger.log.vkey])


def test_from_the_logs_key_alone_every_link_is_proven(ledger: Ledger, trust: Trust) -> None:
    found = claim(ledger.said(1), trust)
    assert found.is_proven
    assert found.contradiction is None
    assert (found.proof_code, found.key_code, found.pixels_code, found.report_code, found.certificate_code) == (
        "inclusion_proven", "statement_key_announced", "pixels_match", "report_matches", "certificate_announced",
    )  # fmt: skip


def test_without_a_key_or_with_another_one_nothing_is_proven_and_nothing_contradicted(ledger: Ledger) -> None:
    for trust, code in (
        (Trust(), "log_key_not_given"),
        (Trust([Ledger().log.vkey]), "log_key_unknown"),
    ):
        found = claim(ledger.said(1), trust)
        assert (found.proof_code, found.key_code, found.certificate_code) == (code, "not_checked", "not_checked")
        assert not found.is_proven
        assert found.contradiction is None


def test_another_ledgers_file_is_whole_and_not_this_logs(trust: Trust) -> None:
    other = Ledger("elsewhere.example/ledger/2026")
    found = claim(other.said(other.record()), trust)
    assert found.proof_code == "log_key_unknown"
    assert claim(other.said(1), Trust([other.log.vkey])).is_proven


def test_a_statement_of_ours_under_another_logs_valid_proof_is_told_apart(ledger: Ledger, trust: Trust) -> None:
    other = Ledger("elsewhere.example/ledger/2026")
    said = {**ledger.said(1), "tlog_proof": other.proof(other.append(ledger.entries[1]))}
    assert claim(said, trust).proof_code == "another_logs_proof"
    believed = claim(said, Trust([ledger.log.vkey, other.log.vkey]))
    assert believed.contradiction == "another_logs_statement"
    assert not believed.is_proven


def test_the_proof_of_another_entry_is_no_proof(ledger: Ledger, trust: Trust) -> None:
    found = claim({**ledger.said(1), "tlog_proof": ledger.proof(2)}, trust)
    assert found.contradiction == found.proof_code == "inclusion_proof_invalid"


def test_a_false_signature_under_the_logs_name_refuses_the_checkpoint(ledger: Ledger, trust: Trust) -> None:
    said = ledger.said(1)
    head, _, tail = said["tlog_proof"].partition("\n\n")
    text, _, line = tail.partition("\n\n— ")
    name, _, signature = line.strip().partition(" ")
    raw = bytearray(base64.b64decode(signature))
    raw[-1] ^= 1
    said["tlog_proof"] = f"{head}\n\n{text}\n\n— {name} {base64.b64encode(raw).decode()}\n"
    found = claim(said, trust)
    assert found.contradiction == found.proof_code == "log_signature_invalid"


def test_a_swapped_salt_opens_neither_commitment(ledger: Ledger, trust: Trust) -> None:
    found = claim({**ledger.said(1), "salt": secrets.token_hex(32)}, trust)
    assert (found.pixels_code, found.report_code) == ("salt_does_not_open", "salt_does_not_open")
    assert found.contradiction == "salt_does_not_open"


def test_other_pixels_and_another_report_are_told_apart_from_another_salt(ledger: Ledger, trust: Trust) -> None:
    reading = CredentialReading("present", dt.datetime.now(dt.UTC), "", ledger=ledger.said(1))
    other = read_ledger_claim(reading, hashlib.sha256(b"other pixels").hexdigest(), trust)
    assert other.contradiction == "statement_is_about_other_pixels"
    report = claim({**ledger.said(1), "report_sha256": hashlib.sha256(b"kinder").hexdigest()}, trust)
    assert (report.contradiction, report.pixels_code) == ("statement_is_about_another_report", "pixels_match")


def test_a_key_that_no_entry_announces_does_not_speak_for_the_ledger(ledger: Ledger, trust: Trust) -> None:
    """Somebody got an entry into the log and announces nothing, or only the ledger's own key."""
    index = ledger.record(StatementKey.generate())
    assert claim(ledger.said(index), trust).contradiction == "statement_key_not_announced"


def test_a_file_without_announcements_is_not_proven_and_not_contradicted(ledger: Ledger, trust: Trust) -> None:
    said = ledger.said(1)
    del said["keys"]
    found = claim(said, trust)
    assert (found.proof_code, found.key_code) == ("inclusion_proven", "announcement_absent")
    assert not found.is_proven
    assert found.contradiction is None


def test_an_announcement_counts_only_under_the_checkpoint_that_was_checked(ledger: Ledger, trust: Trust) -> None:
    forger = Ledger()
    forged = {**ledger.said(1), "keys": forger.said(forger.record())["keys"]}
    assert claim(forged, trust).contradiction == "announcement_not_proven"
    said = ledger.said(1)
    said["keys"][0]["tlog_proof"] = ledger.proof(3, TlogProof.parse(said["tlog_proof"].encode()).checkpoint)
    assert claim(said, trust).contradiction == "announcement_not_proven"


def test_an_announcement_in_the_log_that_the_ledger_did_not_sign_is_not_believed(ledger: Ledger, trust: Trust) -> None:
    """The log may hold other people's statements: a second genesis, or new keys signed by whoever they belong to."""
    thief = StatementKey.generate()
    keys = [PublicKey("statements", thief.public_key)]
    for announced in ((ledger.announce(GENESIS, thief, keys),), (0, ledger.announce(KEYS, thief, keys))):
        index = ledger.record(thief)
        assert claim(ledger.said(index, announced), trust).contradiction == "announcement_not_believed"


@pytest.mark.parametrize("keys", ["none", [], {}, [{}], [{"statement": "?", "tlog_proof": ""}], [None] * 65])
def test_announcements_of_nonsense_are_malformed(ledger: Ledger, trust: Trust, keys: object) -> None:
    assert claim({**ledger.said(1), "keys": keys}, trust).contradiction == "announcement_malformed"


def test_an_entry_that_announces_nothing_is_no_announcement(ledger: Ledger, trust: Trust) -> None:
    assert claim(ledger.said(1, (0, 1)), trust).contradiction == "announcement_not_believed"


def test_after_a_rotation_old_and_new_files_are_proven_by_the_chain_they_carry(ledger: Ledger, trust: Trust) -> None:
    fresh = StatementKey.generate()
    old = Retirement("statements", ledger.statements.kid, compromised=False)
    rotation = ledger.announce(KEYS, ledger.statements, [PublicKey("statements", fresh.public_key)], (old,))
    index = ledger.record(fresh)
    assert claim(ledger.said(index, (0, rotation)), trust).is_proven
    assert claim(ledger.said(1), trust).is_proven
    assert claim(ledger.said(index), trust).contradiction == "statement_key_not_announced"


def test_what_a_stolen_key_signed_after_the_theft_was_logged_is_not_believed(ledger: Ledger, trust: Trust) -> None:
    fresh = StatementKey.generate()
    stolen = Retirement("statements", ledger.statements.kid, compromised=True)
    rotation = ledger.announce(KEYS, ledger.statements, [PublicKey("statements", fresh.public_key)], (stolen,))
    late = ledger.record()
    assert claim(ledger.said(late, (0, rotation)), trust).contradiction == "statement_key_compromised"
    assert claim(ledger.said(1, (0, rotation)), trust).is_proven


def test_a_key_speaks_only_from_its_announcement_on(trust: Trust, ledger: Ledger) -> None:
    fresh = StatementKey.generate()
    early = ledger.record(fresh)
    rotation = ledger.announce(KEYS, ledger.statements, [PublicKey("statements", fresh.public_key)])
    assert claim(ledger.said(early, (0, rotation)), trust).contradiction == "statement_key_not_announced"


def test_a_statement_that_its_announced_key_did_not_sign_is_false(ledger: Ledger, trust: Trust) -> None:
    forger = StatementKey.generate()
    forger.__dict__["kid"] = ledger.statements.kid
    assert claim(ledger.said(ledger.record(forger)), trust).contradiction == "statement_signature_invalid"


def test_a_credential_under_another_certificate_is_not_the_ledgers(ledger: Ledger, trust: Trust) -> None:
    found = claim(ledger.said(1), trust, certificate=b"a stranger's")
    assert (found.contradiction, found.key_code) == ("certificate_not_announced", "statement_key_announced")


@pytest.mark.parametrize(
    ("signing", "given", "policy", "witnesses", "quorum"),
    [
        (0, 0, None, 0, None),
        (2, 0, None, 0, None),
        (2, 3, None, 2, None),
        (1, 0, "2", 1, False),
        (2, 0, "2", 2, True),
        (3, 0, "2", 3, True),
    ],
)
def test_witnesses_count_as_far_as_the_checker_chose_them(
    ledger: Ledger, signing: int, given: int, policy: str | None, witnesses: int, quorum: bool | None
) -> None:
    them = [Cosigner.generate(f"w{number}.example") for number in range(3)]
    lines = [f"log {ledger.log.vkey}"] + [f"witness w{number} {each.vkey}" for number, each in enumerate(them)]
    text = "\n".join([*lines, f"group g {policy} w0 w1 w2", "quorum g", ""])
    trust = Trust(
        [] if policy else [ledger.log.vkey],
        [each.vkey for each in them[:given]],
        Policy.parse(text) if policy else None,
    )
    found = claim(ledger.said(1, checkpoint=ledger.checkpoint(*them[:signing])), trust)
    assert found.is_proven  # the witnesses are a fact of their own
    assert found.proof is not None
    assert (found.proof.witnesses, found.proof.quorum) == (witnesses, quorum)


def test_a_key_of_the_checkers_own_that_is_none_is_his_mistake_and_not_the_files(ledger: Ledger) -> None:
    with pytest.raises(NoteError) as refusal:
        claim(ledger.said(1), Trust(["nonsense"]))
    assert refusal.value.code == "vkey_malformed"


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)
FIXED = Ledger()
FIXED.record()


@given(st.sampled_from(["statement", "salt", "report_sha256", "tlog_proof", "keys"]), json)
def test_no_assertion_whatever_it_holds_raises_or_passes_for_proven(name: str, value: object) -> None:
    found = claim({**FIXED.said(1), name: value}, Trust([FIXED.log.vkey]))
    assert not found.is_proven
    assert found.contradiction in CONTRADICTIONS or found.key_code == "announcement_absent"
