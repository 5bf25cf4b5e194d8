"""Cosignatures: what a witness says about a checkpoint, and when it said so.

Format: C2SP tlog-cosignature v1, type 0x04 (Ed25519): a signature line whose signature is 72 bytes, a big-endian u64
of Unix seconds and an Ed25519 signature over `cosignature/v1`, the time and the checkpoint's whole note text.

What a cosignature proves: that this witness, by its own clock, had then seen no larger tree of that origin, and found
this one consistent with all it had seen before. It says nothing about entries, nor about extension lines, and one
witness alone may be the log's friend: a policy (`policy`) says how many are enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ledger.log.merkle import MAX_SIZE
from ledger.log.note_keys import cosigned_message, parse_skey, signature_line, write_skey
from ledger.log.notes import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Checkpoint,
    Note,
    NoteError,
    NoteVerifier,
    SignatureLine,
)
from ledger.log.signing import Ed25519Signer, SoftwareKey


@dataclass(frozen=True)
class Cosigner:
    """A witness's Ed25519 key under its name. It is no log's key: the type is part of the key's id."""

    name: str
    key: Ed25519Signer

    def __post_init__(self) -> None:
        _ = self.verifier  # refuses a name that no signature line can hold

    @classmethod
    def generate(cls, name: str) -> "Cosigner":
        return cls(name, SoftwareKey.generate())

    @classmethod
    def parse(cls, skey: str) -> "Cosigner":
        """From `PRIVATE+KEY+<name>+<id>+<key>` of type 0x04. Raises NoteError code `skey_malformed`."""
        return cls(*parse_skey(skey, "cosignature"))

    @property
    def skey(self) -> str:
        """The private key as text, a secret. Raises NoteError code `key_not_here` for a key outside of this process."""
        return write_skey(self.verifier, self.key)

    @cached_property
    def verifier(self) -> NoteVerifier:
        return NoteVerifier(self.name, self.key.public_key, "cosignature")

    @property
    def vkey(self) -> str:
        return self.verifier.vkey

    def cosign(self, checkpoint_text: str, at: int) -> bytes:
        """One signature line with its newline, over a checkpoint's note text, at `at` Unix seconds.

        The caller has verified the log's signature and consistency; this only signs. Raises NoteError with code
        `checkpoint_malformed` for a text that is no checkpoint, `cosignature_malformed` for a time before 1970 or
        beyond 2^63 - 1, `key_signs_wrongly` as notes.signature_line.
        """
        Checkpoint.parse(checkpoint_text)
        if not 0 <= at <= MAX_SIZE:
            raise NoteError(f"a cosignature's time must be 0 to 2^63 - 1, not {at}", code="cosignature_malformed")
        signature = at.to_bytes(8, "big") + self.key.sign(cosigned_message(checkpoint_text, at))
        return signature_line(self.verifier, checkpoint_text, signature)


def timestamp_of(line: SignatureLine) -> int:
    """The Unix seconds that a cosignature's line claims; nothing is verified. Raises `cosignature_malformed`."""
    timestamp = int.from_bytes(line.signature[:8], "big")
    if len(line.signature) != 72 or timestamp > MAX_SIZE:
        detail = f"a cosignature of {len(line.signature)} bytes, or of a time beyond 2^63 - 1; it must have 72"
        raise NoteError(detail, code="cosignature_malformed")
    return timestamp


def cosigned_at(note: Note, witnesses: Sequence[NoteVerifier]) -> dict[NoteVerifier, int]:
    """Which of these witnesses cosigned the note, and when, in Unix seconds by their own clocks.

    Of several good lines by one witness the earliest counts. A false line under a witness's name counts for nothing;
    whether it refuses the note is `notes.signers_of`'s to say.
    """
    times: dict[NoteVerifier, int] = {}
    for line in note.signatures:
        for witness in witnesses:
            if witness.kind == "cosignature" and witness.made(line) and witness.verifies(note.text, line.signature):
                at = timestamp_of(line)
                times[witness] = min(at, times.get(witness, at))
    return times


def parse_signature_lines(lines: bytes) -> tuple[SignatureLine, ...]:
    """One or more signature lines, as a witness answers add-checkpoint. Raises NoteError code `note_malformed`."""
    if len(lines) > MAX_NOTE_BYTES:
        raise NoteError(f"signature lines of {len(lines)} bytes; the limit is {MAX_NOTE_BYTES}")
    try:
        text = lines.decode()
    except UnicodeDecodeError as error:
        raise NoteError("signature lines that are not UTF-8") from error
    if not text.endswith("\n"):
        raise NoteError("no signature lines, or the last one does not end in a newline")
    parsed = text.removesuffix("\n").split("\n")
    if len(parsed) > MAX_SIGNATURES:
        raise NoteError(f"{len(parsed)} signature lines; the limit is {MAX_SIGNATURES}")
    return tuple(SignatureLine.parse(line) for line in parsed)


def add_signatures(note: bytes, lines: bytes) -> bytes:
    """The signed note with further signature lines behind its own, one line a key; nothing is verified.

    A key is its name and id. What the note has stays: nobody can displace the log's line, or a witness's first and so
    earliest one, by sending another under the same name and id. Raises NoteError code `note_malformed`.
    """
    parsed = Note.parse(note)
    kept: dict[tuple[str, bytes], SignatureLine] = {}
    for line in (*parsed.signatures, *parse_signature_lines(lines)):
        kept.setdefault((line.name, line.key_id), line)
    if len(kept) > MAX_SIGNATURES:
        raise NoteError(f"{len(kept)} signatures; the limit is {MAX_SIGNATURES}")
    return (parsed.text + "\n").encode() + b"".join([line.to_bytes() for line in kept.values()])
