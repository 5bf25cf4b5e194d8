"""What the log signs and hands out, as text: signed notes, checkpoints and proof files.

Formats: C2SP signed-note v1 (types 0x01 Ed25519 and 0x04 Ed25519 cosignature/v1), C2SP tlog-checkpoint,
C2SP tlog-proof v1, and for key files the text forms of Go's `golang.org/x/mod/sumdb/note`
(`PRIVATE+KEY+<name>+<id>+<key>`, `<name>+<id>+<key>`). Parsers accept exactly one spelling of everything.

What an opened note does not prove: that the log shows everybody the same one. Only witnesses' cosignatures speak to
that.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import BadRequest
from ledger.log.merkle import HASH_BYTES, MAX_SIZE

MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100
PROOF_HEADER = "c2sp.org/tlog-proof@v1"

_ED25519 = 0x01
_COSIGNATURE = 0x04
_SIGNATURE_LINE = re.compile(r"— (\S+) (\S+)")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")  # control characters, and what UTF-8 cannot write


class NoteError(BadRequest):
    """A note, checkpoint, proof file or key that is not well formed, or a note that its keys do not sign."""

    code = "note_malformed"

    def __init__(self, detail: str, *, code: str = "note_malformed") -> None:
        super().__init__(detail, code=code, next_step="Fetch it again from the log; never repair it by hand.")


# ---- keys ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoteSigner:
    """A log's Ed25519 key under its name (the origin). `repr` never shows the private key."""

    name: str
    private_key: Ed25519PrivateKey

    def __post_init__(self) -> None:
        _check_name(self.name)

    @classmethod
    def generate(cls, name: str) -> "NoteSigner":
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, skey: str) -> "NoteSigner":
        """From `PRIVATE+KEY+<name>+<id>+<key>`. Raises NoteError code `skey_malformed`, never quoting the text."""
        match skey.split("+", 4):
            case ["PRIVATE", "KEY", name, key_id, encoded]:
                secret = _unbase64(encoded, "skey_malformed")
                if len(secret) == 33 and secret[0] == _ED25519:
                    signer = cls(name, Ed25519PrivateKey.from_private_bytes(secret[1:]))
                    if signer.verifier.key_id.hex() == key_id:
                        return signer
        raise NoteError("not an Ed25519 signing key in the form PRIVATE+KEY+name+id+key", code="skey_malformed")

    @property
    def skey(self) -> str:
        """The private key as text. A secret: it belongs into a file of mode 0600."""
        encoded = base64.b64encode(bytes([_ED25519]) + self.private_key.private_bytes_raw()).decode()
        return f"PRIVATE+KEY+{self.name}+{self.verifier.key_id.hex()}+{encoded}"

    @property
    def verifier(self) -> "NoteVerifier":
        return NoteVerifier(self.name, self.private_key.public_key().public_bytes_raw())

    @property
    def vkey(self) -> str:
        return self.verifier.vkey


@dataclass(frozen=True)
class NoteVerifier:
    """A name and a 32-byte Ed25519 public key that somebody chose to trust, for `note` or `cosignature` lines."""

    name: str
    public_key: bytes
    kind: Literal["note", "cosignature"] = "note"

    def __post_init__(self) -> None:
        _check_name(self.name)

    @classmethod
    def parse(cls, vkey: str) -> "NoteVerifier":
        """From `<name>+<id>+<key>`; the id must be the key's. Raises NoteError code `vkey_malformed`."""
        match vkey.split("+", 2):
            case [name, key_id, encoded]:
                key = _unbase64(encoded, "vkey_malformed")
                if len(key) == 33 and key[0] in (_ED25519, _COSIGNATURE):
                    verifier = cls(name, key[1:], "note" if key[0] == _ED25519 else "cosignature")
                    if verifier.key_id.hex() == key_id:
                        return verifier
        raise NoteError("not a verifier key of type 0x01 or 0x04 in the form name+id+key", code="vkey_malformed")

    @property
    def _typed_key(self) -> bytes:
        return bytes([_ED25519 if self.kind == "note" else _COSIGNATURE]) + self.public_key

    @property
    def key_id(self) -> bytes:
        """First four bytes of SHA-256(name ‖ newline ‖ type ‖ public key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._typed_key).digest()[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._typed_key).decode()}"

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether `signature` (without its key id) is this key's over the note text."""
        message = text.encode()
        if self.kind == "cosignature":  # C2SP tlog-cosignature: u64 timestamp ‖ Ed25519 signature
            timestamp, signature = int.from_bytes(signature[:8], "big"), signature[8:]
            if timestamp > MAX_SIZE:
                return False
            message = b"cosignature/v1\ntime %d\n" % timestamp + message
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except InvalidSignature:
            return False
        return True


# ---- signed notes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SignatureLine:
    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True)
class Note:
    """A note taken apart, nothing verified: `text` ends in a newline, `signatures` are in the file's order."""

    text: str
    signatures: tuple[SignatureLine, ...]

    @classmethod
    def parse(cls, note: bytes) -> "Note":
        """Raises NoteError code `note_malformed` for anything that C2SP signed-note does not allow."""
        if len(note) > MAX_NOTE_BYTES:
            raise NoteError(f"a note of {len(note)} bytes; the limit is {MAX_NOTE_BYTES}")
        try:
            content = note.decode()
        except UnicodeDecodeError as error:
            raise NoteError("a note that is not UTF-8") from error
        if _FORBIDDEN.search(content):
            raise NoteError("a note with a control character")
        head, blank, tail = content.rpartition("\n\n")
        if not blank or not tail.endswith("\n"):
            raise NoteError("a note without signature lines after an empty line")
        lines = tail.removesuffix("\n").split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise NoteError(f"a note with {len(lines)} signatures; the limit is {MAX_SIGNATURES}")
        return cls(head + "\n", tuple(_signature_line(line) for line in lines))


def sign_note(text: str, *signers: NoteSigner) -> bytes:
    """Sign `text` (ending in a newline, without other control characters) with every signer, in order.

    Raises NoteError for a text that no note can carry or when there is no signer.
    """
    if not text.endswith("\n") or _FORBIDDEN.search(text):
        raise NoteError("a note's text must end in a newline and hold no other control character")
    if not signers:
        raise NoteError("a note needs a signature")
    lines = []
    for signer in signers:
        signature = signer.verifier.key_id + signer.private_key.sign(text.encode())
        lines.append(f"— {signer.name} {base64.b64encode(signature).decode()}\n")
    return (text + "\n" + "".join(lines)).encode()


@dataclass(frozen=True)
class OpenedNote:
    """A note's text and those of the given verifiers that signed it."""

    text: str
    signed_by: frozenset[NoteVerifier]


def open_note(note: bytes, verifiers: Sequence[NoteVerifier]) -> OpenedNote:
    """Verify a note as C2SP signed-note asks: lines by unknown keys are ignored, a known key's false line refuses all.

    Raises NoteError with code `note_malformed`, `note_signature_invalid` (a given key's line does not verify) or
    `note_unsigned` (no line by any given key).
    """
    parsed = Note.parse(note)
    signed_by, false_names = signers_of(parsed, verifiers)
    if false_names:
        raise NoteError(f"the signature by {false_names[0]} is false", code="note_signature_invalid")
    if not signed_by:
        raise NoteError("no signature by a key that was given", code="note_unsigned")
    return OpenedNote(parsed.text, signed_by)


def signers_of(note: Note, verifiers: Sequence[NoteVerifier]) -> tuple[frozenset[NoteVerifier], tuple[str, ...]]:
    """Which of the verifiers signed the note, and the names of those under whose name and id a line is false."""
    good: set[NoteVerifier] = set()
    false: list[str] = []
    for line in note.signatures:
        for verifier in verifiers:
            if (verifier.name, verifier.key_id) == (line.name, line.key_id):
                if verifier.verifies(note.text, line.signature):
                    good.add(verifier)
                else:
                    false.append(verifier.name)
    return frozenset(good), tuple(false)


# ---- checkpoints ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """A tree head: origin line, number of leaves, root of 32 bytes. Ours have no extension lines; others' are kept."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The note text to sign."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """From a note's text. Raises NoteError code `checkpoint_malformed`."""
        code = "checkpoint_malformed"
        if not text.endswith("\n") or _FORBIDDEN.search(text):
            raise NoteError("a checkpoint must end in a newline and hold no other control character", code=code)
        lines = text.removesuffix("\n").split("\n")
        if len(lines) < 3 or not all(lines):
            raise NoteError("a checkpoint has an origin, a size and a root, and no empty lines", code=code)
        origin, size, root, *extensions = lines
        return cls(origin, _decimal(size, code), _hash(root, code), tuple(extensions))


# ---- proof files ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TlogProof:
    """A `.tlog-proof`: an entry's index, its path of 32-byte hashes from the leaf's sibling up, and a signed note.

    `extra` is not authenticated by anything.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def to_bytes(self) -> bytes:
        lines = [PROOF_HEADER]
        if self.extra is not None:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines.extend(base64.b64encode(value).decode() for value in self.hashes)
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.checkpoint

    @classmethod
    def parse(cls, proof: bytes) -> "TlogProof":
        """Take a proof file apart; nothing is verified, but its checkpoint is a well-formed note.

        Raises NoteError with code `proof_malformed`, or `note_malformed` for its checkpoint.
        """
        code = "proof_malformed"
        if len(proof) > MAX_NOTE_BYTES:
            raise NoteError(f"a proof of {len(proof)} bytes; the limit is {MAX_NOTE_BYTES}", code=code)
        head, blank, checkpoint = proof.partition(b"\n\n")
        try:
            header, *lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise NoteError("a proof with other than ASCII before its checkpoint", code=code) from error
        if header != PROOF_HEADER or not blank:
            raise NoteError(f"a proof must start with {PROOF_HEADER} and end with a checkpoint", code=code)
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = _unbase64(lines.pop(0).removeprefix("extra "), code)
        if not lines or not lines[0].startswith("index "):
            raise NoteError("a proof without its index line", code=code)
        index = _decimal(lines[0].removeprefix("index "), code)
        if len(lines) > 64:
            raise NoteError(f"a proof with {len(lines) - 1} hashes; no tree is higher than 63", code=code)
        Note.parse(checkpoint)
        return cls(index, tuple(_hash(line, code) for line in lines[1:]), checkpoint, extra)


# ---- parts ---------------------------------------------------------------------------------------------------------


def _check_name(name: str) -> None:
    # str.split knows Unicode's spaces, the newline among them.
    if not name or "+" in name or name.split() != [name] or _FORBIDDEN.search(name):
        raise NoteError("a key's name must be non-empty, without spaces, control characters or plus signs")


def _signature_line(line: str) -> SignatureLine:
    match = _SIGNATURE_LINE.fullmatch(line)
    signature = _unbase64(match[2], "note_malformed") if match else b""
    if match is None or len(signature) < 5:
        raise NoteError("a signature line that is not: dash, name, signature")
    _check_name(match[1])
    return SignatureLine(match[1], signature[:4], signature[4:])


def _decimal(text: str, code: str) -> int:
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise NoteError("a number that is not plain decimal from 0 to 2^63 - 1", code=code)
    return int(text)


def _hash(text: str, code: str) -> bytes:
    value = _unbase64(text, code)
    if len(value) != HASH_BYTES:
        raise NoteError(f"a hash of {len(value)} bytes; it must have {HASH_BYTES}", code=code)
    return value


def _unbase64(text: str, code: str) -> bytes:
    """Standard base64 (RFC 4648 section 4), non-empty, and only the spelling that encoding gives back."""
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise NoteError("base64 that is not", code=code) from error
    if not value or base64.b64encode(value).decode() != text:
        raise NoteError("base64 in another than its canonical spelling, or empty", code=code)
    return value
