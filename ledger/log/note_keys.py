"""The keys that sign notes, and one line of what they sign.

Formats: C2SP signed-note v1 (types 0x01 Ed25519 and 0x04 Ed25519 cosignature/v1) and, for key files, the text forms of
Go's `golang.org/x/mod/sumdb/note`: `PRIVATE+KEY+<name>+<id>+<key>`, `<name>+<id>+<key>`. One spelling each.

A key's id is 32 bits: it tells keys apart and identifies nobody. What a verifying key proves is as good as the way by
which the checker came to hold it.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import BadRequest
from ledger.log.merkle import MAX_SIZE
from ledger.log.signing import Ed25519Signer, SoftwareKey, is_ed25519_key

FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
"""What no note holds: control characters other than newline, and what UTF-8 cannot write."""

_SIGNATURE_LINE = re.compile(r"— (\S+) (\S+)")


_NEXT_STEP = {
    "vkey_malformed": "Give the key as its owner publishes it: name+id+key.",
    "skey_malformed": "Restore the key file from its backup; do not make a new key in its place.",
    "key_not_here": "Export it from wherever it is kept, if it may leave that place at all.",
    "key_signs_wrongly": "Compare the key behind the call with the one that was announced.",
    "cosignature_malformed": "Ask the witness again; if it answers the same, tell its operator.",
}


class NoteError(BadRequest):
    """A note, checkpoint, proof file or key that is not well formed, or a note that its keys do not sign."""

    code = "note_malformed"

    def __init__(self, detail: str, *, code: str = "note_malformed", next_step: str | None = None) -> None:
        step = next_step or _NEXT_STEP.get(code, "Fetch it again from the log; never repair it by hand.")
        super().__init__(detail, code=code, next_step=step)


Kind = Literal["note", "cosignature"]
"""What a key signs: a log's note text as it stands (0x01), or a checkpoint a witness saw, with the time (0x04)."""

_TYPES: dict[Kind, int] = {"note": 0x01, "cosignature": 0x04}


@dataclass(frozen=True)
class NoteSigner:
    """A log's Ed25519 key under its name (the origin); the key may be in memory or behind a call. `repr` shows none."""

    name: str
    key: Ed25519Signer

    def __post_init__(self) -> None:
        _check_name(self.name, "skey_malformed")

    @classmethod
    def generate(cls, name: str) -> "NoteSigner":
        return cls(name, SoftwareKey.generate())

    @classmethod
    def parse(cls, skey: str) -> "NoteSigner":
        """From `PRIVATE+KEY+<name>+<id>+<key>`. Raises NoteError code `skey_malformed`, never quoting the text."""
        return cls(*parse_skey(skey, "note"))

    @property
    def skey(self) -> str:
        """The private key as text. A secret: it belongs into a file of mode 0600.

        Raises NoteError code `key_not_here` when the key is not in this process's memory.
        """
        return write_skey(self.verifier, self.key)

    @cached_property
    def verifier(self) -> "NoteVerifier":
        return NoteVerifier(self.name, self.key.public_key)

    @property
    def vkey(self) -> str:
        return self.verifier.vkey

    def sign(self, text: str) -> bytes:
        """The line `— <name> base64(id ‖ signature)` with its newline.

        Raises NoteError for a text that no note can hold, and with code `key_signs_wrongly`.
        """
        check_text(text)
        return signature_line(self.verifier, text, self.key.sign(text.encode()))


def parse_skey(skey: str, kind: Kind) -> tuple[str, SoftwareKey]:
    """Name and key of a signing key of this kind. Raises NoteError code `skey_malformed`, never quoting the text."""
    match skey.split("+", 4):
        case ["PRIVATE", "KEY", name, key_id, encoded]:
            _check_name(name, "skey_malformed")
            secret = from_base64(encoded, "skey_malformed")
            if len(secret) == 33 and secret[0] == _TYPES[kind]:
                key = SoftwareKey(Ed25519PrivateKey.from_private_bytes(secret[1:]))
                if NoteVerifier(name, key.public_key, kind).key_id.hex() == key_id:
                    return name, key
    raise NoteError(f"not an Ed25519 {kind} key in the form PRIVATE+KEY+name+id+key", code="skey_malformed")


def write_skey(verifier: "NoteVerifier", key: Ed25519Signer) -> str:
    """The signing key as text. Raises NoteError code `key_not_here` for one outside of this process."""
    if not isinstance(key, SoftwareKey):
        raise NoteError(f"the key of {verifier.name} is not in this process; it has no text form", code="key_not_here")
    encoded = base64.b64encode(bytes([_TYPES[verifier.kind]]) + key.private_key.private_bytes_raw()).decode()
    return f"PRIVATE+KEY+{verifier.name}+{verifier.key_id.hex()}+{encoded}"


@dataclass(frozen=True)
class NoteVerifier:
    """A name and a 32-byte Ed25519 public key that somebody chose to trust, for `note` or `cosignature` lines."""

    name: str
    public_key: bytes
    """Raw (RFC 8032), 32 bytes."""
    kind: Kind = "note"

    def __post_init__(self) -> None:
        _check_name(self.name, "vkey_malformed")
        if not is_ed25519_key(self.public_key):
            raise NoteError("a public key that is no Ed25519 key, or one that fits anybody", code="vkey_malformed")

    @classmethod
    def parse(cls, vkey: str) -> "NoteVerifier":
        """From `<name>+<id>+<key>`; the id must be the key's. Raises NoteError code `vkey_malformed`."""
        match vkey.split("+", 2):
            case [name, key_id, encoded]:
                key = from_base64(encoded, "vkey_malformed")
                for kind, number in _TYPES.items():
                    if len(key) == 33 and key[0] == number:
                        verifier = cls(name, key[1:], kind)
                        if verifier.key_id.hex() == key_id:
                            return verifier
        raise NoteError("not a verifier key of type 0x01 or 0x04 in the form name+id+key", code="vkey_malformed")

    @property
    def _typed_key(self) -> bytes:
        return bytes([_TYPES[self.kind]]) + self.public_key

    @cached_property
    def key_id(self) -> bytes:
        """First four bytes of SHA-256(name ‖ newline ‖ type ‖ public key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._typed_key).digest()[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._typed_key).decode()}"

    def made(self, line: "SignatureLine") -> bool:
        """Whether the line stands under this key's name and id. That alone is no signature."""
        return (self.name, self.key_id) == (line.name, line.key_id)

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether `signature` (without its key id) is this key's over the note text."""
        message = text.encode()
        if self.kind == "cosignature":  # C2SP tlog-cosignature: u64 timestamp ‖ Ed25519 signature
            timestamp, signature = int.from_bytes(signature[:8], "big"), signature[8:]
            if timestamp > MAX_SIZE:
                return False
            message = cosigned_message(text, timestamp)
        if len(signature) != 64:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def cosigned_message(text: str, timestamp: int) -> bytes:
    """What a cosignature/v1 signs (C2SP tlog-cosignature): a header line, the time in Unix seconds, the note text."""
    return b"cosignature/v1\ntime %d\n" % timestamp + text.encode()


# ---- lines ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SignatureLine:
    """A line `— <name> base64(id ‖ signature)`; a cosignature's first 8 bytes are its time."""

    name: str
    key_id: bytes
    signature: bytes

    @classmethod
    def parse(cls, line: str) -> "SignatureLine":
        """From a line without its newline. Raises NoteError code `note_malformed`."""
        match = _SIGNATURE_LINE.fullmatch(line)
        signature = from_base64(match[2], "note_malformed") if match else b""
        if match is None or len(signature) < 5:
            raise NoteError("a signature line that is not: dash, name, signature")
        _check_name(match[1], "note_malformed")
        return cls(match[1], signature[:4], signature[4:])

    def to_bytes(self) -> bytes:
        return f"— {self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n".encode()


def signature_line(verifier: NoteVerifier, text: str, signature: bytes) -> bytes:
    """A fresh signature as a line. Raises NoteError code `key_signs_wrongly` unless it verifies.

    A key behind a call may be another than the one that was announced, and one false line refuses a whole note.
    """
    if not verifier.verifies(text, signature):
        raise NoteError(f"the key of {verifier.name} does not sign as its public key says", code="key_signs_wrongly")
    return SignatureLine(verifier.name, verifier.key_id, signature).to_bytes()


# ---- parts ---------------------------------------------------------------------------------------------------------


def check_text(text: str) -> None:
    """Refuse a text that no note can hold: NoteError code `note_malformed`."""
    if not text.endswith("\n") or FORBIDDEN.search(text):
        raise NoteError("a note's text must end in a newline and hold no other control character")


def _check_name(name: str, code: str) -> None:
    # str.split knows Unicode's spaces, the newline among them.
    if not name or "+" in name or name.split() != [name] or FORBIDDEN.search(name):
        raise NoteError("a key's name must be non-empty, without spaces, control characters or plus signs", code=code)


def from_base64(text: str, code: str) -> bytes:
    """Standard base64 (RFC 4648 section 4), non-empty, and only the spelling that encoding gives back."""
    try:
        value = binascii.a2b_base64(text)  # lenient, and quick; what it passes over does not come back below
    except ValueError as error:
        raise NoteError("base64 that is not", code=code) from error
    if not value or binascii.b2a_base64(value, newline=False).decode() != text:
        raise NoteError("base64 in another than its canonical spelling, or empty", code=code)
    return value
