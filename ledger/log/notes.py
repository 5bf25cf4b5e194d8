"""What the log signs and hands out, as text: signed notes, checkpoints and proof files. Their keys: `note_keys`.

Formats: C2SP signed-note v1, C2SP tlog-checkpoint, C2SP tlog-proof v1. Parsers accept exactly one spelling of
everything.

What an opened note does not prove: that the log shows everybody the same one. Only witnesses' cosignatures speak to
that.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ledger.log.merkle import HASH_BYTES, MAX_SIZE
from ledger.log.note_keys import (
    FORBIDDEN,
    Kind,
    NoteError,
    NoteSigner,
    NoteVerifier,
    SignatureLine,
    check_text,
    from_base64,
)

__all__ = [
    "MAX_NOTE_BYTES",
    "MAX_SIGNATURES",
    "PROOF_HEADER",
    "Checkpoint",
    "Kind",
    "Note",
    "NoteError",
    "NoteSigner",
    "NoteVerifier",
    "OpenedNote",
    "SignatureLine",
    "TlogProof",
    "open_note",
    "sign_note",
    "signers_of",
]

MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100
PROOF_HEADER = "c2sp.org/tlog-proof@v1"

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


# ---- signed notes --------------------------------------------------------------------------------------------------


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
        if FORBIDDEN.search(content):
            raise NoteError("a note with a control character")
        head, blank, tail = content.rpartition("\n\n")
        if not blank or not tail.endswith("\n"):
            raise NoteError("a note without signature lines after an empty line")
        lines = tail.removesuffix("\n").split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise NoteError(f"a note with {len(lines)} signatures; the limit is {MAX_SIGNATURES}")
        return cls(head + "\n", tuple(SignatureLine.parse(line) for line in lines))


def sign_note(text: str, *signers: NoteSigner) -> bytes:
    """Sign `text` (ending in a newline, without other control characters) with every signer, in order.

    Raises NoteError for a text that no note can carry or when there is no signer.
    """
    check_text(text)
    if not signers:
        raise NoteError("a note needs a signature")
    return (text + "\n").encode() + b"".join([signer.sign(text) for signer in signers])


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
            if verifier.made(line):
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
        if not text.endswith("\n") or FORBIDDEN.search(text):
            raise NoteError("a checkpoint must end in a newline and hold no other control character", code=code)
        lines = text.removesuffix("\n").split("\n")
        if len(lines) < 3 or not all(lines):
            raise NoteError("a checkpoint has an origin, a size and a root, and no empty lines", code=code)
        origin, size, root, *extensions = lines
        return cls(origin, _decimal(size, code), parse_hash(root, code), tuple(extensions))


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

    @cached_property
    def note(self) -> Note:
        """The checkpoint taken apart, nothing verified. Raises NoteError code `note_malformed`."""
        return Note.parse(self.checkpoint)

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
            extra = from_base64(lines.pop(0).removeprefix("extra "), code)
        if not lines or not lines[0].startswith("index "):
            raise NoteError("a proof without its index line", code=code)
        index = _decimal(lines[0].removeprefix("index "), code)
        if len(lines) > 64:
            raise NoteError(f"a proof with {len(lines) - 1} hashes; no tree is higher than 63", code=code)
        parsed = cls(index, tuple(parse_hash(line, code) for line in lines[1:]), checkpoint, extra)
        _ = parsed.note  # refuses a checkpoint that is no note
        return parsed


# ---- parts ---------------------------------------------------------------------------------------------------------


def _decimal(text: str, code: str) -> int:
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise NoteError("a number that is not plain decimal from 0 to 2^63 - 1", code=code)
    return int(text)


def parse_hash(text: str, code: str = "note_malformed") -> bytes:
    """32 bytes from their one base64 spelling. Raises NoteError with `code`."""
    value = from_base64(text, code)
    if len(value) != HASH_BYTES:
        raise NoteError(f"a hash of {len(value)} bytes; it must have {HASH_BYTES}", code=code)
    return value
