"""Signed notes, checkpoints and proof files: others' examples open, and nothing has two spellings."""

import base64
import hashlib
from collections.abc import Callable
from typing import TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.log.merkle import leaf_hash
from ledger.log.notes import Checkpoint, Note, NoteError, NoteSigner, NoteVerifier, TlogProof, open_note, sign_note
from ledger.log.signing import SoftwareKey

T = TypeVar("T")
R = TypeVar("R")

SIGNER = NoteSigner("example.org/ledger/2026", SoftwareKey(Ed25519PrivateKey.from_private_bytes(bytes(32))))
OTHER = NoteSigner("example.org/ledger/2027", SoftwareKey(Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))))
CHECKPOINT = Checkpoint(SIGNER.name, 3, leaf_hash(b"root"))
NOTE = sign_note(CHECKPOINT.text, SIGNER, OTHER)
PROOF = TlogProof(2, (leaf_hash(b"a"), leaf_hash(b"b")), NOTE, b"extra")

# The example of Go's package golang.org/x/mod/sumdb/note, whose format this is.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = (
    GO_TEXT + "\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """`data` with one stretch replaced: cut, doubled, overwritten or with bytes put in."""
    return st.builds(
        lambda start, length, new: data[:start] + new + data[start + length :],
        st.integers(0, len(data)),
        st.integers(0, 40),
        st.one_of(
            st.binary(max_size=4), st.sampled_from([b"\n", b"\n\n", b" ", b"0", b"=", b"+", b"\xe2\x80\x94 ", data])
        ),
    ).filter(lambda mutant: mutant != data)


def attempt(parse: Callable[[T], R], data: T) -> R | str:
    """What `parse` makes of the data, or the code with which it refuses them."""
    try:
        return parse(data)
    except NoteError as error:
        return error.code


def rebuilt(note: Note) -> bytes:
    lines = [f"— {s.name} {base64.b64encode(s.key_id + s.signature).decode()}\n" for s in note.signatures]
    return (note.text + "\n" + "".join(lines)).encode()


# ---- signing and opening --------------------------------------------------------------------------------------------


def test_the_example_of_the_go_package_opens_and_is_signed_to_the_same_bytes() -> None:
    opened = open_note(GO_NOTE, [NoteVerifier.parse(GO_VKEY)])
    assert opened.text == GO_TEXT
    signer = NoteSigner.parse(GO_SKEY)
    assert (signer.vkey, signer.skey) == (GO_VKEY, GO_SKEY)
    assert sign_note(GO_TEXT, signer) == GO_NOTE


def test_a_note_opens_for_each_of_its_signers_and_says_who_signed() -> None:
    assert open_note(NOTE, [SIGNER.verifier]).signed_by == {SIGNER.verifier}
    assert open_note(NOTE, [OTHER.verifier, SIGNER.verifier]).signed_by == {SIGNER.verifier, OTHER.verifier}
    assert open_note(NOTE, [SIGNER.verifier]).text == CHECKPOINT.text


def test_a_note_without_a_line_by_a_given_key_does_not_open() -> None:
    stranger = NoteSigner.generate(SIGNER.name)  # the same name, another key: its lines are another's
    for verifiers in ([], [stranger.verifier]):
        with pytest.raises(NoteError) as refusal:
            open_note(NOTE, verifiers)
        assert refusal.value.code == "note_unsigned"


def test_a_false_line_of_a_known_key_refuses_the_whole_note() -> None:
    forged = NOTE.replace(b"\n3\n", b"\n4\n")
    with pytest.raises(NoteError) as refusal:
        open_note(forged, [SIGNER.verifier])
    assert refusal.value.code == "note_signature_invalid"


def test_a_good_line_beside_a_false_one_by_the_same_key_does_not_help() -> None:
    good = sign_note("text\n", SIGNER)
    false = base64.b64encode(SIGNER.verifier.key_id + bytes(64)).decode()
    with pytest.raises(NoteError) as refusal:
        open_note(good + f"— {SIGNER.name} {false}\n".encode(), [SIGNER.verifier])
    assert refusal.value.code == "note_signature_invalid"


def test_a_note_carries_sixteen_signatures_and_refuses_hundreds() -> None:
    signers = [NoteSigner.generate(f"witness{i}.example") for i in range(16)]
    assert len(open_note(sign_note("text\n", *signers), [s.verifier for s in signers]).signed_by) == 16
    with pytest.raises(NoteError, match="101 signatures"):
        Note.parse(sign_note("text\n", *[SIGNER] * 101))


def test_a_cosignature_counts_for_its_time_and_its_text_only() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes([7] * 32))
    witness = NoteVerifier("witness.example", key.public_key().public_bytes_raw(), "cosignature")
    time = 1_679_315_147
    signature = key.sign(f"cosignature/v1\ntime {time}\n{CHECKPOINT.text}".encode())
    line = time.to_bytes(8, "big") + signature
    assert witness.verifies(CHECKPOINT.text, line)
    assert not witness.verifies(CHECKPOINT.text, (time + 1).to_bytes(8, "big") + signature)
    assert not witness.verifies(CHECKPOINT.text.replace("3", "4", 1), line)
    assert not witness.verifies(CHECKPOINT.text, signature)
    assert not witness.verifies(CHECKPOINT.text, bytes([255] * 8) + signature)
    # The same key as a log's would sign another message under another id.
    assert not NoteVerifier(witness.name, witness.public_key).verifies(CHECKPOINT.text, line)
    assert NoteVerifier(witness.name, witness.public_key).key_id != witness.key_id
    assert NoteVerifier.parse(witness.vkey) == witness


@given(st.integers(0, 63), st.integers(1, 255))
def test_no_byte_of_a_signature_can_be_changed(place: int, change: int) -> None:
    signature = bytearray(Note.parse(NOTE).signatures[0].signature)
    assert SIGNER.verifier.verifies(CHECKPOINT.text, bytes(signature))
    signature[place] ^= change
    assert not SIGNER.verifier.verifies(CHECKPOINT.text, bytes(signature))


@pytest.mark.parametrize("length", [0, 1, 63, 65, 72, 128])
def test_a_signature_of_another_length_is_false(length: int) -> None:
    signature = (Note.parse(NOTE).signatures[0].signature * 2)[:length]
    assert not SIGNER.verifier.verifies(CHECKPOINT.text, signature)


def test_the_signatures_of_two_notes_cannot_be_exchanged() -> None:
    other = sign_note(Checkpoint(SIGNER.name, 4, CHECKPOINT.root).text, SIGNER)
    swapped = NOTE.partition(b"\n\n")[0] + b"\n\n" + other.partition(b"\n\n")[2]
    with pytest.raises(NoteError) as refusal:
        open_note(swapped, [SIGNER.verifier])
    assert refusal.value.code == "note_signature_invalid"


def test_the_order_of_the_lines_does_not_matter() -> None:
    first, second = (line.to_bytes() for line in Note.parse(NOTE).signatures)
    reordered = CHECKPOINT.text.encode() + b"\n" + second + first
    assert open_note(reordered, [SIGNER.verifier, OTHER.verifier]).signed_by == {SIGNER.verifier, OTHER.verifier}


def test_a_single_line_is_what_a_note_carries() -> None:
    assert CHECKPOINT.text.encode() + b"\n" + SIGNER.sign(CHECKPOINT.text) + OTHER.sign(CHECKPOINT.text) == NOTE
    with pytest.raises(NoteError):
        SIGNER.sign("no newline")


def test_the_specifications_example_note_is_taken_apart_at_its_last_empty_line() -> None:
    text = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n"
    signature = "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc="
    note = Note.parse(f"{text}\n— quasimodo.example/salvatore {signature}\n".encode())
    assert note.text == text
    (line,) = note.signatures
    assert (line.name, line.key_id.hex(), len(line.signature)) == ("quasimodo.example/salvatore", "367ba04b", 64)


# ---- one spelling ---------------------------------------------------------------------------------------------------


@given(st.one_of(mutations(NOTE), st.binary(max_size=200)))
def test_a_note_that_parses_is_written_back_to_the_same_bytes_and_a_changed_one_never_opens(data: bytes) -> None:
    note = attempt(Note.parse, data)
    if isinstance(note, str):
        assert note == "note_malformed"
        return
    assert rebuilt(note) == data
    if note.text != CHECKPOINT.text:
        with pytest.raises(NoteError):
            open_note(data, [SIGNER.verifier])


@given(st.one_of(mutations(CHECKPOINT.text.encode()), st.binary(max_size=100)))
def test_a_checkpoint_that_parses_is_written_back_to_the_same_text(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    checkpoint = attempt(Checkpoint.parse, text)
    assert checkpoint == "checkpoint_malformed" if isinstance(checkpoint, str) else checkpoint.text == text


@given(st.one_of(mutations(PROOF.to_bytes()), st.binary(max_size=100)))
def test_a_proof_file_that_parses_is_written_back_to_the_same_bytes(data: bytes) -> None:
    proof = attempt(TlogProof.parse, data)
    if isinstance(proof, str):
        assert proof in {"proof_malformed", "note_malformed"}
    else:
        assert proof.to_bytes() == data


@given(st.sampled_from([SIGNER.vkey, GO_VKEY]).flatmap(lambda vkey: mutations(vkey.encode())))
def test_a_verifier_key_has_one_spelling(data: bytes) -> None:
    vkey = data.decode("utf-8", "surrogateescape")
    verifier = attempt(NoteVerifier.parse, vkey)
    assert isinstance(verifier, str) or verifier.vkey == vkey


@given(mutations(SIGNER.skey.encode()))
def test_a_signing_key_has_one_spelling(data: bytes) -> None:
    skey = data.decode("utf-8", "surrogateescape")
    signer = attempt(NoteSigner.parse, skey)
    assert isinstance(signer, str) or signer.skey == skey


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.one_of(st.none(), st.binary(min_size=1, max_size=50)),
)
def test_every_proof_file_comes_back_as_it_went(index: int, hashes: list[bytes], extra: bytes | None) -> None:
    proof = TlogProof(index, tuple(hashes), NOTE, extra)
    assert TlogProof.parse(proof.to_bytes()) == proof


def test_the_proof_file_is_laid_out_as_the_specification_says() -> None:
    a, b = (base64.b64encode(leaf_hash(letter)).decode() for letter in (b"a", b"b"))
    head = f"c2sp.org/tlog-proof@v1\nextra ZXh0cmE=\nindex 2\n{a}\n{b}\n\n".encode()
    assert PROOF.to_bytes() == head + NOTE


# ---- refused one by one ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text\n",
        b"text\n\n",
        NOTE[:-1],
        NOTE + b"\n",
        NOTE.replace(b"\n\n", b"\n"),
        NOTE.replace(b"\n", b"\r\n"),
        NOTE.replace(b"\xe2\x80\x94", b"-"),
        NOTE + b"\xe2\x80\x94 name\n",
        NOTE + b"\xe2\x80\x94 name AAAA\n",
        NOTE + b"\xe2\x80\x94 na+me AAAAAAAA\n",
        NOTE + b"\xe2\x80\x94 name  AAAAAAAA\n",
        NOTE + "— na\u2003me AAAAAAAA\n".encode(),
        NOTE + b"\xe2\x80\x94 name AAAAAAB=\n",
        NOTE + b"\xe2\x80\x94 name AAAA_AAA\n",
        b"\xff" + NOTE,
        b"\0" + NOTE,
        b"x" * 1_000_001,
    ],
)
def test_a_note_outside_of_the_format_is_refused(note: bytes) -> None:
    with pytest.raises(NoteError) as refusal:
        Note.parse(note)
    assert refusal.value.code == "note_malformed"
    assert refusal.value.next_step


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n1\n",
        CHECKPOINT.text[:-1],
        CHECKPOINT.text + "\n",
        "\n" + CHECKPOINT.text,
        *(
            CHECKPOINT.text.replace("\n3\n", f"\n{size}\n")
            for size in ("03", "+3", "-3", " 3", "3 ", "3.0", "0x3", "", "٣")
        ),
        CHECKPOINT.text.replace("\n3\n", f"\n{2**63}\n"),
        CHECKPOINT.text.replace("=", ""),
        CHECKPOINT.text.replace("\n3\n", "\n3\nAAAA\n"),
    ],
)
def test_a_checkpoint_outside_of_the_format_is_refused(text: str) -> None:
    with pytest.raises(NoteError) as refusal:
        Checkpoint.parse(text)
    assert refusal.value.code == "checkpoint_malformed"


def test_anothers_extension_lines_are_kept_since_they_are_signed() -> None:
    text = CHECKPOINT.text + "an extension\n"
    assert Checkpoint.parse(text).extensions == ("an extension",)
    assert Checkpoint.parse(text).text == text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"tlog-proof@v1", b"tlog-proof@v2"),
        (b"index 2", b"index 02"),
        (b"index 2", b"index -1"),
        (b"index 2", b"Index 2"),
        (b"index 2\n", b""),
        (b"index 2\n", b"index 2\nindex 2\n"),
        (b"extra ZXh0cmE=", b"extra "),
        (b"extra ZXh0cmE=", b"extra ZXh0cmF="),
        (b"extra ZXh0cmE=\n", b"extra ZXh0cmE=\nextra ZXh0cmE=\n"),
        (b"\n\n", b"\nAAAA\n\n"),
        (b"index 2\n", b"index 2\n" + (base64.b64encode(bytes(32)) + b"\n") * 62),
    ],
)
def test_a_proof_file_outside_of_the_format_is_refused(old: bytes, new: bytes) -> None:
    assert PROOF.to_bytes().count(old) >= 1
    with pytest.raises(NoteError) as refusal:
        TlogProof.parse(PROOF.to_bytes().replace(old, new, 1))
    assert refusal.value.code == "proof_malformed"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb", "a\0b", " a", "a\udc80"])
def test_a_name_that_no_signature_line_can_hold_is_refused(name: str) -> None:
    with pytest.raises(NoteError):
        NoteSigner.generate(name)


@pytest.mark.parametrize("name", ["", "a b", "a\u00a0b", "a\nb"])
def test_a_key_with_such_a_name_is_the_checkers_mistake_not_the_files(name: str) -> None:
    for parse, text, code in (
        (NoteVerifier.parse, SIGNER.vkey, "vkey_malformed"),
        (NoteSigner.parse, SIGNER.skey, "skey_malformed"),
    ):
        with pytest.raises(NoteError) as refusal:
            parse(text.replace(SIGNER.name, name))
        assert refusal.value.code == code


def test_a_key_of_an_unknown_type_is_refused() -> None:
    for kind in (0x00, 0x02, 0x05, 0x06, 0xFF):
        typed = bytes([kind]) + SIGNER.verifier.public_key
        key_id = hashlib.sha256(SIGNER.name.encode() + b"\n" + typed).hexdigest()[:8]
        with pytest.raises(NoteError) as refusal:
            NoteVerifier.parse(f"{SIGNER.name}+{key_id}+{base64.b64encode(typed).decode()}")
        assert refusal.value.code == "vkey_malformed"


def test_a_key_kept_elsewhere_signs_to_the_same_bytes_and_has_no_text() -> None:
    class KeptElsewhere:
        public_key = SIGNER.verifier.public_key

        def sign(self, message: bytes) -> bytes:
            return SIGNER.key.sign(message)

    remote = NoteSigner(SIGNER.name, KeptElsewhere())
    assert sign_note(CHECKPOINT.text, remote, OTHER) == NOTE
    assert remote.vkey == SIGNER.vkey
    with pytest.raises(NoteError) as refusal:
        _ = remote.skey
    assert refusal.value.code == "key_not_here"


@pytest.mark.parametrize("text", ["", "no newline", "a\rb\n", "a\tb\n"])
def test_a_text_that_no_note_can_hold_is_not_signed(text: str) -> None:
    with pytest.raises(NoteError):
        sign_note(text, SIGNER)


def test_a_note_without_a_signer_is_not_made() -> None:
    with pytest.raises(NoteError):
        sign_note("text\n")


def test_a_refused_signing_key_is_not_quoted() -> None:
    signer = NoteSigner.generate("example.org/log")
    secret = signer.skey.split("+", 4)[4]  # base64 may hold a plus sign itself
    with pytest.raises(NoteError) as refusal:
        NoteSigner.parse(signer.skey.replace("example", "another"))
    assert refusal.value.code == "skey_malformed"
    assert secret not in str(refusal.value)
    assert secret not in repr(signer)
