"""Check a proof file against an entry and keys that the checker chose. No database, no network, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from ledger.log import merkle
from ledger.log.cosignatures import timestamp_of
from ledger.log.note_keys import Kind
from ledger.log.notes import Checkpoint, NoteError, NoteVerifier, TlogProof, signers_of
from ledger.log.policy import Policy

_YEAR_10000 = 253_402_300_800
"""Unix seconds; a witness may claim any time up to 2^63 - 1."""


@dataclass(frozen=True)
class ProofReading:
    """What a proof file shows about one entry. Only `inclusion` with `log_key == "trusted"` means "recorded".

    - `inclusion`: the entry's leaf is at `index` in the tree of `size` leaves under the checkpoint's root. Anybody can
      make up a tree and a root; without a trusted log key this says nothing.
    - `log_key`: `trusted` (a given log key of this very origin signed the checkpoint), `unknown` (none of them did),
      `invalid` (a line claims to be by a given key, of the log or of a witness, and is not: the note is refused whole).
    - `witnesses`: how many of the given witness keys and the policy's, each once, also signed.
      With none, the operator could show others another log.
    - `quorum`: whether those are enough for the given policy; None when no policy was given. It is about witnesses
      only: the log's key is `log_key`'s matter. Without it, a number of witnesses is just that.
    - `witnessed_at`: Unix seconds, by the witnesses' own clocks: the latest of the times at which the counted witnesses
      signed, None without any. By then the checkpoint existed, if at least one of them is honest about the time; an
      earlier one's word would need that very one to be.
    - `note`: the same as a sentence.
    """

    origin: str
    index: int
    size: int
    inclusion: bool
    log_key: Literal["trusted", "unknown", "invalid"]
    witnesses: int
    note: str
    quorum: bool | None
    witnessed_at: int | None


def check_tlog_proof(
    entry: bytes,
    proof: bytes,
    log_vkeys: Sequence[str],
    witness_vkeys: Sequence[str] = (),
    policy: Policy | None = None,
) -> ProofReading:
    """Read a C2SP tlog-proof for `entry`, the leaf's bytes. Keys come from the arguments, never from the file.

    A policy's logs are trusted beside `log_vkeys`, its witnesses counted beside `witness_vkeys`; only its own
    witnesses make its quorum. Raises NoteError with code `proof_malformed`, `note_malformed` or
    `checkpoint_malformed` when the file is not well formed, `vkey_malformed` when a given key is not (log keys are of
    type 0x01, witness keys of type 0x04). A proof that is well formed and shows nothing does not raise: the reading
    says so.
    """
    log_keys = _keys(log_vkeys, "note", policy.log_verifiers if policy else ())
    witness_keys = _keys(witness_vkeys, "cosignature", policy.witness_verifiers if policy else ())
    opened = TlogProof.parse(proof)
    note = opened.note
    checkpoint = Checkpoint.parse(note.text)

    inclusion = True
    try:
        merkle.verify_inclusion(merkle.leaf_hash(entry), opened.index, checkpoint.size, opened.hashes, checkpoint.root)
    except merkle.ProofError:
        inclusion = False

    # A log's key speaks for its own origin only: its checkpoints of another name would be another log.
    log_keys = [key for key in log_keys if key.name == checkpoint.origin]
    # Nor is it its own witness, should it be given as one.
    own = {key.public_key for key in log_keys}
    witness_keys = [key for key in witness_keys if key.public_key not in own]
    signed_by, false_names = signers_of(note, [*log_keys, *witness_keys])
    log_key: Literal["trusted", "unknown", "invalid"]
    if false_names:
        log_key, times = "invalid", {}
    else:  # every line by a known key is good
        log_key = "trusted" if signed_by.intersection(log_keys) else "unknown"
        times = {
            key: min(timestamp_of(line) for line in note.signatures if key.made(line))
            for key in signed_by.intersection(witness_keys)
        }
    reading = ProofReading(
        origin=checkpoint.origin,
        index=opened.index,
        size=checkpoint.size,
        inclusion=inclusion,
        log_key=log_key,
        witnesses=len({key.public_key for key in times}),  # one key under two names is one witness
        note="",
        quorum=None if policy is None else log_key != "invalid" and policy.met_by(times),
        witnessed_at=max(times.values(), default=None),
    )
    said = _sentence(
        reading,
        any_log_key=bool(log_vkeys or (policy and policy.logs)),
        given=len({key.public_key for key in witness_keys}),
    )
    if false_names:
        said = f"The checkpoint carries a false signature under the name {false_names[0]}; it proves nothing."
    return replace(reading, note=said)


def _keys(vkeys: Sequence[str], kind: Kind, of_policy: Sequence[NoteVerifier]) -> list[NoteVerifier]:
    """The given keys and the policy's, each once."""
    keys = [NoteVerifier.parse(vkey) for vkey in vkeys]
    for key in keys:
        if key.kind != kind:
            expected = "a log's key (type 0x01)" if kind == "note" else "a witness's key (type 0x04)"
            raise NoteError(f"the verifier key {key.name} is not {expected}", code="vkey_malformed")
    return list(dict.fromkeys([*keys, *of_policy]))


# ---- in words ------------------------------------------------------------------------------------------------------


def _sentence(reading: ProofReading, *, any_log_key: bool, given: int) -> str:
    """What was and was not proven, when no line is false; `given` witness keys were there to check with."""
    place = f"entry {reading.index} of {reading.size} in {reading.origin}"
    if not reading.inclusion:
        return f"The proof does not show that this is {place}."
    if reading.log_key == "unknown":
        if any_log_key:
            return f"By the file's own word this is {place}, but no key that was given here signed for that log."
        return f"By the file's own word this is {place}; no log's key was given here, and anybody can make up a log."
    if not reading.witnesses:
        why = {
            True: "the policy given here asks for no witness",
            False: "no witness of the policy given here has signed",
            None: "no witness given here has signed" if given else "no witness's key was given here",
        }[reading.quorum]
        return f"This is {place}, by the log's own signature; {why}, so the operator could show others another log."
    seen = f"This is {place}, signed by the log and {reading.witnesses} of the {given} witnesses given here"
    if reading.witnessed_at is not None:
        seen += f", the last of them at {_time(reading.witnessed_at)} by its own clock"
    return (
        seen
        + {
            True: "; that meets the policy given here.",
            False: "; the policy given here asks for more, so the operator could show others another log.",
            None: ". Whether these are enough is for a policy to say; none was given.",
        }[reading.quorum]
    )


def _time(at: int) -> str:
    if at >= _YEAR_10000:
        return f"{at} seconds after 1970"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
