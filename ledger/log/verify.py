"""Check a proof file against an entry and keys that the checker chose. No database, no network, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ledger.log import merkle
from ledger.log.notes import Checkpoint, Note, NoteError, NoteVerifier, TlogProof, signers_of


@dataclass(frozen=True)
class ProofReading:
    """What a proof file shows about one entry. Only `inclusion` with `log_key == "trusted"` means "recorded".

    - `inclusion`: the entry's leaf is at `index` in the tree of `size` leaves under the checkpoint's root. Anybody can
      make up a tree and a root; without a trusted log key this says nothing.
    - `log_key`: `trusted` (a given log key of this very origin signed the checkpoint), `unknown` (none of them did),
      `invalid` (a line claims to be by a given key, of the log or of a witness, and is not: the note is refused whole).
    - `witnesses`: how many of the given witness keys, each once, also signed; their times are not judged here.
      With none, the operator could show others another log.
    - `note`: the same as a sentence.
    """

    origin: str
    index: int
    size: int
    inclusion: bool
    log_key: Literal["trusted", "unknown", "invalid"]
    witnesses: int
    note: str


def check_tlog_proof(
    entry: bytes, proof: bytes, log_vkeys: Sequence[str], witness_vkeys: Sequence[str] = ()
) -> ProofReading:
    """Read a C2SP tlog-proof for `entry`, the leaf's bytes. Keys never come from the file.

    Raises NoteError with code `proof_malformed`, `note_malformed` or `checkpoint_malformed` when the file is not well
    formed, `vkey_malformed` when a given key is not (log keys are of type 0x01, witness keys of type 0x04). A proof
    that is well formed and shows nothing does not raise: the reading says so.
    """
    log_keys = _keys(log_vkeys, "note")
    witness_keys = _keys(witness_vkeys, "cosignature")
    opened = TlogProof.parse(proof)
    checkpoint_note = Note.parse(opened.checkpoint)
    checkpoint = Checkpoint.parse(checkpoint_note.text)

    inclusion = True
    try:
        merkle.verify_inclusion(merkle.leaf_hash(entry), opened.index, checkpoint.size, opened.hashes, checkpoint.root)
    except merkle.ProofError:
        inclusion = False

    # A log's key speaks for its own origin only: its checkpoints of another name would be another log.
    log_keys = [key for key in log_keys if key.name == checkpoint.origin]
    signed_by, false_lines = signers_of(checkpoint_note, [*log_keys, *witness_keys])
    log_key: Literal["trusted", "unknown", "invalid"]
    if false_lines:
        log_key, witnesses = "invalid", 0
    else:
        log_key = "trusted" if signed_by.intersection(log_keys) else "unknown"
        # One key under two names is one witness.
        witnesses = len({key.public_key for key in signed_by.intersection(witness_keys)})
    return ProofReading(
        origin=checkpoint.origin,
        index=opened.index,
        size=checkpoint.size,
        inclusion=inclusion,
        log_key=log_key,
        witnesses=witnesses,
        note=_sentence(checkpoint, opened.index, inclusion, log_key, witnesses, false_lines),
    )


def _keys(vkeys: Sequence[str], kind: Literal["note", "cosignature"]) -> list[NoteVerifier]:
    keys = [NoteVerifier.parse(vkey) for vkey in vkeys]
    for key in keys:
        if key.kind != kind:
            expected = "a log's key (type 0x01)" if kind == "note" else "a witness's key (type 0x04)"
            raise NoteError(f"the verifier key {key.name} is not {expected}", code="vkey_malformed")
    return keys


def _sentence(
    checkpoint: Checkpoint, index: int, inclusion: bool, log_key: str, witnesses: int, false_lines: Sequence[str]
) -> str:
    place = f"entry {index} of {checkpoint.size} in {checkpoint.origin}"
    if not inclusion:
        return f"The proof does not show that this is {place}."
    if log_key == "invalid":
        return f"The checkpoint carries a false signature under the name {false_lines[0]}; it proves nothing."
    if log_key == "unknown":
        return f"By the file's own word this is {place}, but no key that was given here signed for that log."
    if not witnesses:
        return f"This is {place}; no witness given here has signed, so the operator could show others another log."
    return f"This is {place}, signed by the log and {witnesses} of the witnesses given here."
