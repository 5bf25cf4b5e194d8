"""Reading a proof file: inclusion, the log's key and the witnesses are three facts, none taken from the file."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import merkle
from ledger.log.cosignatures import Cosigner
from ledger.log.notes import Checkpoint, NoteError, NoteSigner, TlogProof, sign_note
from ledger.log.policy import Policy
from ledger.log.signing import SoftwareKey
from ledger.log.verify import check_tlog_proof

LOG = NoteSigner("example.org/ledger/2026", SoftwareKey(Ed25519PrivateKey.from_private_bytes(bytes(32))))
ENTRIES = [b"entry %d" % i for i in range(11)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]
READ = merkle.reader_over(LEAVES)
HEAD = Checkpoint(LOG.name, 11, merkle.root(LEAVES))


def proof_of(index: int, checkpoint: bytes) -> bytes:
    return TlogProof(index, tuple(merkle.inclusion_proof(READ, index, 11)), checkpoint).to_bytes()


def witness(seed: int, name: str = "") -> Cosigner:
    key = SoftwareKey(Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32)))
    return Cosigner(name or f"w{seed}.example", key)


W1, W2, W3 = witness(1), witness(2), witness(3)
TIME = 1_700_000_000
NOTE = sign_note(HEAD.text, LOG)
PROOF = proof_of(7, NOTE)


@pytest.mark.parametrize("index", range(11))
def test_an_entry_with_its_proof_and_a_trusted_key_is_recorded(index: int) -> None:
    reading = check_tlog_proof(ENTRIES[index], proof_of(index, NOTE), [LOG.vkey])
    assert (reading.origin, reading.index, reading.size) == (LOG.name, index, 11)
    assert (reading.inclusion, reading.log_key, reading.witnesses) == (True, "trusted", 0)
    assert (reading.quorum, reading.witnessed_at) == (None, None)
    assert reading.note == (
        f"This is entry {index} of 11 in {LOG.name}, by the log's own signature; "
        "no witness's key was given here, so the operator could show others another log."
    )


def test_another_entry_is_not_included_though_the_key_is_trusted() -> None:
    reading = check_tlog_proof(ENTRIES[6], PROOF, [LOG.vkey])
    assert (reading.inclusion, reading.log_key) == (False, "trusted")
    assert "does not show" in reading.note


def test_without_a_key_nothing_is_proven_and_the_sentence_says_so() -> None:
    reading = check_tlog_proof(ENTRIES[7], PROOF, [])
    assert (reading.inclusion, reading.log_key) == (True, "unknown")
    assert reading.note == (
        f"By the file's own word this is entry 7 of 11 in {LOG.name}; "
        "no log's key was given here, and anybody can make up a log."
    )


def test_keys_of_other_logs_do_not_make_this_one_known() -> None:
    for other in (NoteSigner.generate(LOG.name), NoteSigner.generate("example.org/other")):
        reading = check_tlog_proof(ENTRIES[7], PROOF, [other.vkey])
        assert (reading.inclusion, reading.log_key) == (True, "unknown")
        assert "no key that was given here signed for that log" in reading.note


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


# ---- witnesses ------------------------------------------------------------------------------------------------------


def cosigned(*lines: tuple[Cosigner, int]) -> bytes:
    return proof_of(7, NOTE + b"".join(key.cosign(HEAD.text, at) for key, at in lines))


def policy_of(k: int, *witnesses: Cosigner, log: str = "") -> Policy:
    lines = [f"log {log}"] if log else []
    lines += [f"witness w{i} {key.vkey}" for i, key in enumerate(witnesses)]
    lines += [f"group g {k} {' '.join(f'w{i}' for i in range(len(witnesses)))}", "quorum g"]
    return Policy.parse("".join(f"{line}\n" for line in lines))


def test_witnesses_count_once_each_and_only_when_given() -> None:
    again = witness(1, "w1-again.example")
    proof = cosigned((W1, TIME), (W2, TIME), (W3, TIME), (again, TIME), (W1, TIME))
    assert check_tlog_proof(ENTRIES[7], proof, [LOG.vkey]).witnesses == 0
    assert check_tlog_proof(ENTRIES[7], proof, [LOG.vkey], [W1.vkey, W2.vkey]).witnesses == 2
    assert check_tlog_proof(ENTRIES[7], proof, [LOG.vkey], [W1.vkey, again.vkey]).witnesses == 1
    assert check_tlog_proof(ENTRIES[7], proof, [LOG.vkey], [W1.vkey, W1.vkey]).witnesses == 1
    assert check_tlog_proof(ENTRIES[7], proof, [], [W1.vkey]).log_key == "unknown"


def test_the_time_is_the_latest_witnesss_and_of_one_witness_the_earliest() -> None:
    proof = cosigned((W1, TIME + 9), (W2, TIME + 5), (W1, TIME), (W3, TIME + 99))
    for witnesses, expected in (([W1], TIME), ([W1, W2], TIME + 5), ([W3, W1], TIME + 99)):
        reading = check_tlog_proof(ENTRIES[7], proof, [LOG.vkey], [key.vkey for key in witnesses])
        assert reading.witnessed_at == expected
    assert "2 of the 2 witnesses" in reading.note
    assert "2023-11-14T22:14:59Z by its own clock" in reading.note
    assert "is for a policy to say" in reading.note


def test_a_time_beyond_the_calendar_is_reported_as_it_is() -> None:
    for at, said in ((0, "1970-01-01T00:00:00Z"), (253_402_300_799, "9999-12-31"), (2**63 - 1, f"{2**63 - 1} seconds")):
        reading = check_tlog_proof(ENTRIES[7], cosigned((W1, at)), [LOG.vkey], [W1.vkey])
        assert reading.witnessed_at == at
        assert said in reading.note


def test_a_policy_brings_its_keys_and_says_whether_the_witnesses_are_enough() -> None:
    policy = policy_of(2, W1, W2, W3, log=LOG.vkey)
    for signers, quorum in (([], False), ([W1], False), ([W1, W3], True), ([W1, W2, W3], True)):
        reading = check_tlog_proof(ENTRIES[7], cosigned(*((key, TIME) for key in signers)), [], policy=policy)
        assert (reading.inclusion, reading.log_key, reading.witnesses) == (True, "trusted", len(signers))
        assert reading.quorum is quorum
        assert ("meets the policy" in reading.note) is quorum
        assert ("could show others another log" in reading.note) is not quorum


def test_only_the_policys_own_witnesses_make_its_quorum() -> None:
    policy = policy_of(1, W1)
    proof = cosigned((W2, TIME), (W3, TIME))
    reading = check_tlog_proof(ENTRIES[7], proof, [LOG.vkey], [W2.vkey, W3.vkey], policy)
    assert (reading.log_key, reading.witnesses, reading.quorum) == ("trusted", 2, False)
    renamed = cosigned((witness(1, "another.example"), TIME))
    assert check_tlog_proof(ENTRIES[7], renamed, [LOG.vkey], (), policy).quorum is False
    both = check_tlog_proof(ENTRIES[7], cosigned((W1, TIME), (W2, TIME)), [LOG.vkey], [W1.vkey, W2.vkey], policy)
    assert (both.witnesses, both.quorum) == (2, True)


def test_a_policy_that_asks_for_no_witness_is_met_and_the_sentence_still_warns() -> None:
    reading = check_tlog_proof(ENTRIES[7], PROOF, [LOG.vkey], policy=Policy.parse("quorum none\n"))
    assert (reading.log_key, reading.quorum, reading.witnesses) == ("trusted", True, 0)
    assert "asks for no witness, so the operator could show others another log" in reading.note


def test_a_quorum_without_a_trusted_log_key_is_not_recorded() -> None:
    reading = check_tlog_proof(ENTRIES[7], cosigned((W1, TIME)), [], policy=policy_of(1, W1))
    assert (reading.log_key, reading.quorum) == ("unknown", True)
    assert "no log's key was given here" in reading.note
    other = policy_of(1, W1, log=NoteSigner.generate("example.org/other").vkey)
    assert check_tlog_proof(ENTRIES[7], cosigned((W1, TIME)), [], policy=other).log_key == "unknown"


def test_cosignatures_do_not_help_an_entry_that_is_not_there() -> None:
    reading = check_tlog_proof(ENTRIES[6], cosigned((W1, TIME)), [LOG.vkey], policy=policy_of(1, W1))
    assert (reading.inclusion, reading.quorum) == (False, True)
    assert "does not show" in reading.note


def test_a_false_line_of_a_known_witness_refuses_the_note() -> None:
    false = W1.cosign(Checkpoint(LOG.name, 12, HEAD.root).text, TIME)
    proof = proof_of(7, NOTE + false + W2.cosign(HEAD.text, TIME))
    reading = check_tlog_proof(ENTRIES[7], proof, [LOG.vkey], [W2.vkey], policy_of(1, W1, W2))
    assert (reading.log_key, reading.witnesses, reading.quorum, reading.witnessed_at) == ("invalid", 0, False, None)
    assert "w1.example" in reading.note
    assert check_tlog_proof(ENTRIES[7], proof, [LOG.vkey]).log_key == "trusted"


def test_the_logs_own_key_is_not_its_own_witness() -> None:
    own = Cosigner(LOG.name, LOG.key)
    reading = check_tlog_proof(ENTRIES[7], cosigned((own, TIME)), [LOG.vkey], [own.vkey], policy_of(1, own))
    assert (reading.log_key, reading.witnesses, reading.quorum) == ("trusted", 0, False)


def test_a_logs_key_is_no_witness_and_a_witnesss_no_log() -> None:
    for logs, witnesses in (([W1.vkey], []), ([LOG.vkey], [LOG.vkey]), (["nonsense"], []), ([], ["nonsense"])):
        with pytest.raises(NoteError) as refusal:
            check_tlog_proof(ENTRIES[7], PROOF, logs, witnesses)
        assert refusal.value.code == "vkey_malformed"


# ---- changed files --------------------------------------------------------------------------------------------------

PATH = merkle.inclusion_proof(READ, 7, 11)


@pytest.mark.parametrize(
    "hashes",
    [
        [],
        PATH[1:],
        PATH[:-1],
        [*PATH, PATH[0]],
        PATH[::-1],
        [PATH[1], PATH[0], *PATH[2:]],
        [*PATH[:-1], LEAVES[0]],
        merkle.inclusion_proof(READ, 6, 11),
    ],
)
def test_another_path_does_not_include(hashes: list[bytes]) -> None:
    reading = check_tlog_proof(ENTRIES[7], TlogProof(7, tuple(hashes), NOTE).to_bytes(), [LOG.vkey])
    assert (reading.inclusion, reading.log_key) == (False, "trusted")


@pytest.mark.parametrize("index", [0, 6, 8, 10, 11, 12, 2**63 - 1])
def test_another_index_does_not_include(index: int) -> None:
    reading = check_tlog_proof(ENTRIES[7], TlogProof(index, tuple(PATH), NOTE).to_bytes(), [LOG.vkey])
    assert (reading.inclusion, reading.log_key) == (False, "trusted")


@pytest.mark.parametrize("size", [0, 1, 7, 8, 17, 2**63 - 1])
def test_another_size_does_not_include_though_the_log_signed_it(size: int) -> None:
    # Sizes 9 to 16 would: this path does not tell them apart. It is the signature over the checkpoint that does.
    note = sign_note(Checkpoint(LOG.name, size, HEAD.root).text, LOG)
    reading = check_tlog_proof(ENTRIES[7], TlogProof(7, tuple(PATH), note).to_bytes(), [LOG.vkey])
    assert (reading.inclusion, reading.log_key) == (False, "trusted")


@pytest.mark.parametrize("proof", [b"", PROOF[1:], PROOF[:-1], PROOF + b"\n", PROOF + b"x", PROOF * 2, b"\n" + PROOF])
def test_a_file_cut_short_or_with_something_behind_it_is_refused(proof: bytes) -> None:
    with pytest.raises(NoteError):
        check_tlog_proof(ENTRIES[7], proof, [LOG.vkey])


def test_no_byte_of_a_witnessed_proof_can_be_changed_and_leave_it_recorded_and_witnessed() -> None:
    policy = policy_of(1, W1, log=LOG.vkey)
    proof = cosigned((W1, TIME))
    assert check_tlog_proof(ENTRIES[7], proof, [], policy=policy).quorum is True
    for place in range(len(proof)):
        changed = bytearray(proof)
        changed[place] ^= 1
        try:
            reading = check_tlog_proof(ENTRIES[7], bytes(changed), [], policy=policy)
        except NoteError:
            continue
        assert not (reading.inclusion and reading.log_key == "trusted" and reading.quorum)


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
