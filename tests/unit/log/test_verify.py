"""Reading a proof file: inclusion, the log's key and the witnesses are three facts, none taken from the file."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import merkle
from ledger.log.notes import Checkpoint, NoteError, NoteSigner, NoteVerifier, TlogProof, sign_note
from ledger.log.verify import check_tlog_proof

LOG = NoteSigner("example.org/ledger/2026", Ed25519PrivateKey.from_private_bytes(bytes(32)))
ENTRIES = [b"entry %d" % i for i in range(11)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]
READ = merkle.reader_over(LEAVES)
HEAD = Checkpoint(LOG.name, 11, merkle.root(LEAVES))


def proof_of(index: int, checkpoint: bytes) -> bytes:
    return TlogProof(index, tuple(merkle.inclusion_proof(READ, index, 11)), checkpoint).to_bytes()


def cosigned(note: bytes, name: str, key: Ed25519PrivateKey, text: str = HEAD.text) -> tuple[bytes, str]:
    """The note with one more line, by a witness; and the witness's vkey."""
    witness = NoteVerifier(name, key.public_key().public_bytes_raw(), "cosignature")
    signature = key.sign(f"cosignature/v1\ntime 1700000000\n{text}".encode())
    line = base64.b64encode(witness.key_id + (1_700_000_000).to_bytes(8, "big") + signature).decode()
    return note + f"— {name} {line}\n".encode(), witness.vkey


NOTE = sign_note(HEAD.text, LOG)
PROOF = proof_of(7, NOTE)


@pytest.mark.parametrize("index", range(11))
def test_an_entry_with_its_proof_and_a_trusted_key_is_recorded(index: int) -> None:
    reading = check_tlog_proof(ENTRIES[index], proof_of(index, NOTE), [LOG.vkey])
    assert (reading.origin, reading.index, reading.size) == (LOG.name, index, 11)
    assert (reading.inclusion, reading.log_key, reading.witnesses) == (True, "trusted", 0)
    assert reading.note.startswith(f"This is entry {index} of 11 in {LOG.name}; no witness")


def test_another_entry_is_not_included_though_the_key_is_trusted() -> None:
    reading = check_tlog_proof(ENTRIES[6], PROOF, [LOG.vkey])
    assert (reading.inclusion, reading.log_key) == (False, "trusted")
    assert "does not show" in reading.note


def test_without_the_checkers_keys_the_log_is_unknown() -> None:
    for vkeys in ([], [NoteSigner.generate(LOG.name).vkey], [NoteSigner.generate("example.org/other").vkey]):
        reading = check_tlog_proof(ENTRIES[7], PROOF, vkeys)
        assert (reading.inclusion, reading.log_key) == (True, "unknown")
        assert "no key that was given" in reading.note


def test_a_log_that_anybody_makes_up_for_the_entry_is_not_trusted() -> None:
    forger = NoteSigner.generate(LOG.name)
    head = Checkpoint(LOG.name, 1, merkle.leaf_hash(b"forged"))
    forged = TlogProof(0, (), sign_note(head.text, forger)).to_bytes()
    reading = check_tlog_proof(b"forged", forged, [LOG.vkey])
    assert (reading.inclusion, reading.log_key) == (True, "unknown")


def test_a_trusted_key_speaks_for_its_own_origin_only() -> None:
    other = sign_note(Checkpoint("example.org/elsewhere", 11, HEAD.root).text, LOG)
    assert check_tlog_proof(ENTRIES[7], proof_of(7, other), [LOG.vkey]).log_key == "unknown"


def test_a_checkpoint_changed_after_signing_is_invalid() -> None:
    changed = NOTE.replace(b"\n11\n", b"\n12\n")
    reading = check_tlog_proof(ENTRIES[7], proof_of(7, changed), [LOG.vkey])
    assert reading.log_key == "invalid"


def test_witnesses_count_once_each_and_only_when_given() -> None:
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([i] * 32)) for i in (1, 2, 3)]
    note, first = cosigned(NOTE, "w1.example", keys[0])
    note, second = cosigned(note, "w2.example", keys[1])
    note, _ = cosigned(note, "w3.example", keys[2])
    note, again = cosigned(note, "w1-again.example", keys[0])
    note, _ = cosigned(note, "w1.example", keys[0])
    proof = proof_of(7, note)
    assert check_tlog_proof(ENTRIES[7], proof, [LOG.vkey]).witnesses == 0
    assert check_tlog_proof(ENTRIES[7], proof, [LOG.vkey], [first, second]).witnesses == 2
    assert check_tlog_proof(ENTRIES[7], proof, [LOG.vkey], [first, again]).witnesses == 1
    assert check_tlog_proof(ENTRIES[7], proof, [], [first]).log_key == "unknown"


def test_a_false_line_of_a_known_witness_refuses_the_note() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))
    note, vkey = cosigned(NOTE, "w1.example", key, text="another text\n")
    reading = check_tlog_proof(ENTRIES[7], proof_of(7, note), [LOG.vkey], [vkey])
    assert (reading.log_key, reading.witnesses) == ("invalid", 0)
    assert "w1.example" in reading.note
    assert check_tlog_proof(ENTRIES[7], proof_of(7, note), [LOG.vkey]).log_key == "trusted"


def test_a_logs_key_is_no_witness_and_a_witnesss_no_log() -> None:
    witness = NoteVerifier("w1.example", LOG.verifier.public_key, "cosignature").vkey
    for logs, witnesses in (([witness], []), ([LOG.vkey], [LOG.vkey]), (["nonsense"], [])):
        with pytest.raises(NoteError) as refusal:
            check_tlog_proof(ENTRIES[7], PROOF, logs, witnesses)
        assert refusal.value.code == "vkey_malformed"


@given(
    st.builds(
        lambda start, length, new: PROOF[:start] + new + PROOF[start + length :],
        st.integers(0, len(PROOF)),
        st.integers(0, 50),
        st.one_of(st.binary(max_size=6), st.just(PROOF)),
    ).filter(lambda mutant: mutant != PROOF)
)
def test_no_changed_proof_file_reads_as_recorded_under_another_head_or_index(proof: bytes) -> None:
    try:
        reading = check_tlog_proof(ENTRIES[7], proof, [LOG.vkey])
    except NoteError:
        return
    if reading.inclusion and reading.log_key == "trusted":
        # What is left to change: extra data and lines by unknown keys, which prove nothing.
        assert (reading.origin, reading.index, reading.size) == (LOG.name, 7, 11)


@pytest.mark.parametrize("code", ["proof_malformed", "note_malformed", "checkpoint_malformed"])
def test_a_file_that_is_no_proof_says_which_part_is_not(code: str) -> None:
    proofs = {
        "proof_malformed": b"PNG",
        "note_malformed": PROOF[:-1],
        "checkpoint_malformed": proof_of(7, sign_note("a note\n", LOG)),
    }
    with pytest.raises(NoteError) as refusal:
        check_tlog_proof(ENTRIES[7], proofs[code], [LOG.vkey])
    assert refusal.value.code == code
