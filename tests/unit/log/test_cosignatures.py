"""Cosignatures: written to the specification's bytes, counted for their own time, key and text only."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.log.cosignatures import Cosigner, add_signatures, cosigned_at, parse_signature_lines, timestamp_of
from ledger.log.notes import Checkpoint, Note, NoteError, NoteSigner, NoteVerifier, SignatureLine, open_note, sign_note
from ledger.log.signing import SoftwareKey

# The key pair of RFC 8032 section 7.1, TEST 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")

WITNESS = Cosigner("witness.example.com/w1", SoftwareKey(Ed25519PrivateKey.from_private_bytes(SEED)))
LOG = NoteSigner.generate("example.com/behind-the-sofa")
# The checkpoint and the time of C2SP tlog-cosignature's example.
TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
TIME = 1_679_315_147
NOTE = sign_note(TEXT, LOG)
LINE = WITNESS.cosign(TEXT, TIME)


def line_of(signed: bytes) -> SignatureLine:
    (line,) = parse_signature_lines(signed)
    return line


# ---- the format -----------------------------------------------------------------------------------------------------


def test_a_cosignature_is_written_as_the_specification_says() -> None:
    key_id = hashlib.sha256(b"witness.example.com/w1\n\x04" + PUBLIC).digest()[:4]
    message = b"cosignature/v1\ntime 1679315147\n" + TEXT.encode()
    signature = Ed25519PrivateKey.from_private_bytes(SEED).sign(message)
    blob = key_id + bytes.fromhex("00000000641850cb") + signature
    assert b"\xe2\x80\x94 witness.example.com/w1 " + base64.b64encode(blob) + b"\n" == LINE
    key = base64.b64encode(b"\x04" + PUBLIC).decode()
    assert WITNESS.vkey == f"witness.example.com/w1+{key_id.hex()}+{key}"
    secret = base64.b64encode(b"\x04" + SEED).decode()
    assert WITNESS.skey == f"PRIVATE+KEY+witness.example.com/w1+{key_id.hex()}+{secret}"
    assert Cosigner.parse(WITNESS.skey).skey == WITNESS.skey


def test_the_specifications_example_carries_the_time_that_its_text_gives() -> None:
    # Without the stray "\n" that the specification prints within the base64.
    lines = (
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZ"
        "qhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    )
    assert timestamp_of(line_of(lines.encode())) == TIME


def test_the_answer_of_a_witness_in_the_specification_is_read_line_by_line() -> None:
    answer = (
        "— witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQLrdk3DXDqI5G2HgLatV"
        "s0pWh6Up69HVOw==\n"
        "— witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt64vWhO+DlkL0+UfzuOBMh9Chd"
        "MkP1vi/lCAsmlw==\n"
        "— witness.example/w2 AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbYKA7nC3HNJhm/kWl7oJlqU3"
        "rXXvpysAdyP3wQ==\n"
    ).encode()
    lines = parse_signature_lines(answer)
    assert [line.name for line in lines] == ["witness.example/w1", "witness.example/w1", "witness.example/w2"]
    assert [line.key_id.hex() for line in lines] == ["08ca7ee8", "23bac4a6", "016ba2f1"]
    assert b"".join(line.to_bytes() for line in lines) == answer


@given(st.integers(0, 2**63 - 1))
def test_every_time_comes_back_as_it_went(at: int) -> None:
    signed = WITNESS.cosign(TEXT, at)
    assert timestamp_of(line_of(signed)) == at
    assert cosigned_at(Note.parse(NOTE + signed), [WITNESS.verifier]) == {WITNESS.verifier: at}


def test_extension_lines_are_cosigned_with_the_rest() -> None:
    extended = TEXT + "an extension\n"
    signed = line_of(WITNESS.cosign(extended, TIME))
    assert WITNESS.verifier.verifies(extended, signed.signature)
    assert not WITNESS.verifier.verifies(TEXT, signed.signature)


# ---- what is not signed, and what does not count ---------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a note\n", TEXT[:-1], TEXT + "\n", TEXT.replace("20852163", "020852163")])
def test_only_a_checkpoint_is_cosigned(text: str) -> None:
    with pytest.raises(NoteError) as refusal:
        WITNESS.cosign(text, TIME)
    assert refusal.value.code == "checkpoint_malformed"


@pytest.mark.parametrize("at", [-1, 2**63, 2**64])
def test_a_time_that_no_cosignature_holds_is_refused(at: int) -> None:
    with pytest.raises(NoteError) as refusal:
        WITNESS.cosign(TEXT, at)
    assert refusal.value.code == "cosignature_malformed"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb"])
def test_a_name_that_no_line_can_hold_is_refused(name: str) -> None:
    with pytest.raises(NoteError):
        Cosigner.generate(name)


def test_a_log_key_is_no_cosigner_and_a_cosigners_no_log_key() -> None:
    for parse, skey in ((Cosigner.parse, LOG.skey), (NoteSigner.parse, WITNESS.skey)):
        with pytest.raises(NoteError) as refusal:
            parse(skey)
        assert refusal.value.code == "skey_malformed"
    # The same 32 bytes under both types are two keys: neither's line is the other's.
    as_log = NoteSigner(WITNESS.name, WITNESS.key)
    assert as_log.verifier.key_id != WITNESS.verifier.key_id
    assert cosigned_at(Note.parse(NOTE + as_log.sign(TEXT)), [WITNESS.verifier, as_log.verifier]) == {}


@pytest.mark.parametrize("length", [1, 8, 63, 64, 71, 73, 136])
def test_a_signature_of_another_length_is_no_cosignature(length: int) -> None:
    signature = (line_of(LINE).signature * 2)[:length]
    line = SignatureLine(WITNESS.name, WITNESS.verifier.key_id, signature)
    assert not WITNESS.verifier.verifies(TEXT, signature)
    with pytest.raises(NoteError) as refusal:
        timestamp_of(line)
    assert refusal.value.code == "cosignature_malformed"
    assert cosigned_at(Note.parse(NOTE + line.to_bytes()), [WITNESS.verifier]) == {}


def test_a_time_beyond_the_range_is_no_cosignature_though_it_was_signed() -> None:
    at = 2**63
    signature = at.to_bytes(8, "big") + WITNESS.key.sign(b"cosignature/v1\ntime %d\n" % at + TEXT.encode())
    assert not WITNESS.verifier.verifies(TEXT, signature)
    with pytest.raises(NoteError):
        timestamp_of(SignatureLine(WITNESS.name, WITNESS.verifier.key_id, signature))


@given(st.integers(0, 71), st.integers(1, 255))
def test_no_byte_of_a_cosignature_can_be_changed(place: int, change: int) -> None:
    signature = bytearray(line_of(LINE).signature)
    signature[place] ^= change
    assert not WITNESS.verifier.verifies(TEXT, bytes(signature))


def test_a_witnesss_time_is_its_earliest_and_others_lines_are_passed_over() -> None:
    stranger = Cosigner.generate(WITNESS.name)
    lines = WITNESS.cosign(TEXT, TIME + 5) + stranger.cosign(TEXT, TIME - 9) + WITNESS.cosign(TEXT, TIME)
    note = Note.parse(NOTE + lines)
    assert cosigned_at(note, [WITNESS.verifier, LOG.verifier]) == {WITNESS.verifier: TIME}
    assert cosigned_at(note, []) == {}


# ---- merging --------------------------------------------------------------------------------------------------------


def test_lines_are_added_behind_the_notes_own() -> None:
    other = Cosigner.generate("w2.example")
    second = other.cosign(TEXT, TIME)
    merged = add_signatures(NOTE, LINE + second)
    assert merged == NOTE + LINE + second
    opened = open_note(merged, [LOG.verifier, WITNESS.verifier, other.verifier])
    assert opened.signed_by == {LOG.verifier, WITNESS.verifier, other.verifier}
    assert Checkpoint.parse(opened.text).size == 20_852_163


def test_each_key_has_one_line_and_what_was_there_stays() -> None:
    later = WITNESS.cosign(TEXT, TIME + 60)
    forged = SignatureLine(LOG.name, LOG.verifier.key_id, bytes(64)).to_bytes()
    assert add_signatures(NOTE, forged + LINE + later) == NOTE + LINE
    assert add_signatures(NOTE + LINE, later) == NOTE + LINE
    # Another key under the same name is another key.
    other = Cosigner.generate(WITNESS.name).cosign(TEXT, TIME)
    assert add_signatures(NOTE + LINE, other) == NOTE + LINE + other


def test_merging_again_changes_nothing() -> None:
    once = add_signatures(NOTE, LINE)
    assert add_signatures(once, LINE) == once


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"\n",
        LINE[:-1],
        LINE + b"\n",
        b"\n" + LINE,
        LINE + b"trailing",
        LINE.replace(b"\xe2\x80\x94", b"-"),
        LINE.replace(b" ", b"  "),
        LINE.replace(b"\n", b"\r\n"),
        LINE.replace(b"witness", b"wit+ness"),
        LINE[:-4] + b"\n",
        b"\xff" + LINE,
        LINE * 101,
        b"\xe2\x80\x94 " + b"n" * 1_000_000 + b" AAAAAAAA\n",
    ],
)
def test_anything_but_signature_lines_is_refused(lines: bytes) -> None:
    with pytest.raises(NoteError) as refusal:
        add_signatures(NOTE, lines)
    assert refusal.value.code == "note_malformed"


def test_a_note_does_not_grow_beyond_its_limit() -> None:
    keys = [Cosigner.generate(f"w{i}.example") for i in range(100)]
    lines = b"".join(key.cosign(TEXT, TIME) for key in keys)
    with pytest.raises(NoteError, match="101 signatures"):
        add_signatures(NOTE, lines)
    with pytest.raises(NoteError):
        add_signatures(b"no note", LINE)


# ---- keys elsewhere -------------------------------------------------------------------------------------------------


class KeptElsewhere:
    """A key as a KMS offers it: it signs, and shows its public half only."""

    def __init__(self, announced: bytes | None = None) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(SEED)
        self.public_key = announced or self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def test_a_key_kept_elsewhere_cosigns_to_the_same_bytes_and_has_no_text() -> None:
    remote = Cosigner(WITNESS.name, KeptElsewhere())
    assert remote.cosign(TEXT, TIME) == LINE
    assert remote.vkey == WITNESS.vkey
    with pytest.raises(NoteError) as refusal:
        _ = remote.skey
    assert refusal.value.code == "key_not_here"


def test_a_key_that_is_not_the_announced_one_signs_nothing() -> None:
    wrong = KeptElsewhere(announced=SoftwareKey.generate().public_key)
    with pytest.raises(NoteError) as by_witness:
        Cosigner("w.example", wrong).cosign(TEXT, TIME)
    with pytest.raises(NoteError) as by_log:
        sign_note(TEXT, NoteSigner("log.example", wrong))
    assert by_witness.value.code == by_log.value.code == "key_signs_wrongly"


def test_no_secret_is_shown_by_repr() -> None:
    secret = base64.b64encode(b"\x04" + SEED).decode()
    for shown in (repr(WITNESS), repr(WITNESS.key), repr(WITNESS.verifier)):
        assert secret not in shown
        assert SEED.hex() not in shown
        assert repr(SEED) not in shown


def test_a_public_key_of_another_length_is_refused() -> None:
    for length in (0, 31, 33):
        with pytest.raises(NoteError) as refusal:
            NoteVerifier("w.example", bytes(length), "cosignature")
        assert refusal.value.code == "vkey_malformed"
