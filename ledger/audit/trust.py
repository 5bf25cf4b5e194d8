"""Whom an auditor believes, and what a checkpoint says under those keys."""

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.audit.findings import Finding, Refuted
from ledger.errors import BadRequest
from ledger.log.cosignatures import cosigned_at
from ledger.log.notes import Checkpoint, Note, NoteError, NoteVerifier, signers_of
from ledger.log.policy import NO_QUORUM, Policy


@dataclass(frozen=True)
class Trust:
    """Keys that the auditor chose; none ever comes from the log itself.

    `witnesses` named singly must all have cosigned; `policy` says which of its own are enough. `statement_keys` are raw
    Ed25519 keys, for a log whose own first entry announces none or is not to be believed.
    """

    logs: tuple[NoteVerifier, ...]
    witnesses: tuple[NoteVerifier, ...] = ()
    policy: Policy | None = None
    statement_keys: tuple[bytes, ...] = ()

    @classmethod
    def of(
        cls,
        log_vkeys: Sequence[str],
        witness_vkeys: Sequence[str] = (),
        policy: Policy | None = None,
        statement_keys: Sequence[bytes] = (),
    ) -> "Trust":
        """Raises NoteError code `vkey_malformed`, BadRequest code `log_key_missing` where no log is believed."""
        logs = _verifiers(log_vkeys, "note")
        if policy is not None:
            logs += policy.log_verifiers
        if not logs:
            raise BadRequest(
                "no key of the log is given, and a log cannot vouch for its own",
                code="log_key_missing",
                next_step="Give --log-key VKEY or --policy FILE with a log line, from somebody else than the log.",
            )
        return cls(logs, _verifiers(witness_vkeys, "cosignature"), policy, tuple(statement_keys))

    @property
    def all_witnesses(self) -> tuple[NoteVerifier, ...]:
        return self.witnesses + (self.policy.witness_verifiers if self.policy is not None else ())

    def quorum(self, signed_by: frozenset[NoteVerifier]) -> bool | None:
        """Whether those who signed are enough; None where no witness was asked for."""
        if not self.witnesses and (self.policy is None or self.policy.quorum == NO_QUORUM):
            return None
        return signed_by.issuperset(self.witnesses) and (self.policy is None or self.policy.met_by(signed_by))


@dataclass(frozen=True)
class SignedCheckpoint:
    """A checkpoint that a believed log key signed, as served. `cosigned_at`: Unix seconds by each witness's clock."""

    checkpoint: Checkpoint
    note: bytes
    quorum: bool | None
    cosigned_at: dict[NoteVerifier, int]


def open_checkpoint(note: bytes, trust: Trust) -> SignedCheckpoint:
    """Believe a checkpoint as C2SP signed-note and tlog-checkpoint ask.

    Raises Refuted, codes `checkpoint_malformed`, `checkpoint_signature_false` (a line under a believed key's name that
    is not its), `origin_unknown` (another log's name), `checkpoint_unsigned`.
    """
    try:
        parsed = Note.parse(note)
        checkpoint = Checkpoint.parse(parsed.text)
    except NoteError as error:
        raise Refuted(Finding("checkpoint_malformed", f"the checkpoint is {error.detail}")) from error
    # A log's key speaks for its own origin only: its checkpoints of another name would be another log.
    own = [key for key in trust.logs if key.name == checkpoint.origin]
    if not own:
        names = ", ".join(sorted({key.name for key in trust.logs}))
        detail = f"the checkpoint is one of {checkpoint.origin!r}; keys were given for {names}"
        raise Refuted(Finding("origin_unknown", detail))
    signed_by, false_names = signers_of(parsed, [*own, *trust.all_witnesses])
    if false_names:
        detail = f"the checkpoint's signature by {false_names[0]} is false"
        raise Refuted(Finding("checkpoint_signature_false", detail))
    if not signed_by.intersection(own):
        raise Refuted(Finding("checkpoint_unsigned", "none of the log's keys that were given signed the checkpoint"))
    return SignedCheckpoint(checkpoint, note, trust.quorum(signed_by), cosigned_at(parsed, trust.all_witnesses))


def _verifiers(vkeys: Sequence[str], kind: str) -> tuple[NoteVerifier, ...]:
    keys = tuple(NoteVerifier.parse(vkey) for vkey in vkeys)
    for key in keys:
        if key.kind != kind:
            expected = "a log's key (type 0x01)" if kind == "note" else "a witness's key (type 0x04)"
            raise NoteError(f"the verifier key {key.name} is not {expected}", code="vkey_malformed")
    return keys
