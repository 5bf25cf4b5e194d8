"""A witness: it cosigns a log's checkpoint only when it continues the one that it cosigned before.

Protocol: C2SP tlog-witness v1.0.0 (`add-checkpoint`), and of its editor's draft the monitoring route. A cosignature is
C2SP tlog-cosignature v1, Ed25519. Everything here is a function of the request, the clock and one folder:

    witness.skey                      the key, 0600 (`PRIVATE+KEY+<name>+<id>+<key>`, type 0x04)
    state/<origin>.checkpoint         the newest cosigned note of that log; <origin> is SHA-256 of the origin line, hex
    state/<origin>.lock               held (flock) from the look at that note until its successor is durable
    conflicts/<origin>-<size>-<…>     what a log signed and this witness refused: the note held, then the request

The promise: for one size never two roots, and never a smaller tree after a larger one. It holds as long as `state`
is kept: a folder restored from an older copy promises afresh what it had already promised otherwise. So a witness whose
folder is lost is retired with its key, never started again from nothing.

What a cosignature does not say: anything about the entries, or that the log shows them to anybody.
"""

import base64
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ledger.durable import sync
from ledger.errors import Conflict, Inconsistent, NotAllowed, NotFound
from ledger.log import merkle
from ledger.log.cosignatures import Cosigner, cosigned_at
from ledger.log.notes import Checkpoint, Note, NoteError, NoteVerifier, SignatureLine, parse_hash, signers_of

MAX_REQUEST_BYTES = 16_384
"""64 hashes are 2,880 bytes and a note with one signature is under 1,000; the rest is room for other signatures."""

MAX_PROOF_LINES = 63
KEPT_CONFLICTS = 16
"""Refused requests kept for each log: the first ones. Each is signed by the log, so nobody else can fill the folder."""

TEXT, SIZE = "text/plain; charset=utf-8", "text/x.tlog.size"

_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)
_KEY_FILE = "witness.skey"


class Answer(NamedTuple):
    """An HTTP answer: status, media type, body."""

    status: int
    media_type: str
    body: bytes


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.answer = Answer(status, TEXT, f"{reason}\n".encode())


@dataclass(frozen=True)
class Submission:
    """The body of an add-checkpoint request, taken apart, nothing verified but that each part is well formed."""

    old_size: int
    proof: tuple[bytes, ...]
    note: Note
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, body: bytes) -> "Submission":
        """Raises NoteError for any other spelling than the protocol's."""
        head, blank, note = body.partition(b"\n\n")
        if not blank:
            raise NoteError("a request is an old size, proof lines, an empty line and a checkpoint")
        try:
            first, *lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise NoteError("other than ASCII before the checkpoint") from error
        match = _OLD.fullmatch(first)
        if match is None or int(match[1]) > merkle.MAX_SIZE:
            raise NoteError("the first line must be: old, a space, a decimal size")
        if len(lines) > MAX_PROOF_LINES:
            raise NoteError(f"{len(lines)} proof lines; the limit is {MAX_PROOF_LINES}")
        parsed = Note.parse(note)
        return cls(int(match[1]), tuple(parse_hash(line) for line in lines), parsed, Checkpoint.parse(parsed.text))

    @staticmethod
    def write(old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
        """The request body. `note` is a signed checkpoint; `proof` its consistency with the tree of `old_size`."""
        return (
            f"old {old_size}\n".encode() + b"".join(base64.b64encode(value) + b"\n" for value in proof) + b"\n" + note
        )


def origin_hash(origin: str) -> str:
    """How the monitoring route names a log: SHA-256 of its origin line without the newline, lowercase hex."""
    return hashlib.sha256(origin.encode()).hexdigest()


@dataclass(frozen=True)
class Held:
    """What the witness cosigned last for a log: `note` carries the log's lines and the witness's, `at` is Unix time."""

    checkpoint: Checkpoint
    at: int
    note: bytes


class Witness:
    """Answers for the logs it was given, keeps what it cosigned in `folder`. Safe for threads and processes at once.

    `logs` gives each origin the verifier keys that speak for it; no other key does, whatever its name. `clock` is Unix
    time in seconds; a cosignature is never dated before an earlier one of the same log, whatever the clock says.
    """

    def __init__(
        self,
        folder: Path,
        cosigner: Cosigner,
        logs: Mapping[str, Sequence[NoteVerifier]],
        clock: Callable[[], int],
    ) -> None:
        self.cosigner = cosigner
        self.logs = {origin: tuple(verifiers) for origin, verifiers in logs.items()}
        self._origins = {origin_hash(origin): origin for origin in logs}
        self._clock = clock
        self._state, self._conflicts = folder / "state", folder / "conflicts"
        if not self._state.is_dir():
            raise NotFound(
                f"{self._state} is missing: this witness cannot know what it has cosigned",
                code="witness_state_missing",
                next_step="Restore the newest copy of the whole folder. Without one, retire the key: a new witness "
                "needs a new one (`lawful witness init` in another folder).",
            )

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer one request as tlog-witness says; a cosignature is returned only after the state is durable.

        200 the cosignature · 400 malformed, or old beyond the checkpoint's size · 403 not signed by a key of that log ·
        404 origin unknown · 409 old is not what was cosigned last (the body says what is), or another root for that
        very size (the body says so in words) · 413 over 16 KiB · 422 the consistency proof does not hold.
        Raises Inconsistent code `witness_state_damaged`, OSError when the state cannot be written: nothing is answered
        then, and nothing was promised.
        """
        try:
            if len(body) > MAX_REQUEST_BYTES:
                raise _Refused(413, f"a request of {len(body)} bytes; the limit is {MAX_REQUEST_BYTES}")
            try:
                submission = Submission.parse(body)
            except NoteError as error:
                raise _Refused(400, error.detail) from error
            lines = self._lines_of_the_log(submission)
            if submission.old_size > submission.checkpoint.size:
                raise _Refused(400, "old is larger than the checkpoint")
            with self._locked(submission.checkpoint.origin):
                return self._cosign(submission, lines, body)
        except _Refused as refused:
            return refused.answer

    def held(self, origin: str) -> Held | None:
        """The newest checkpoint cosigned for a log; None before the first. Raises Inconsistent, as `add_checkpoint`."""
        try:
            note = self._path(origin).read_bytes()
        except FileNotFoundError:
            return None
        try:
            parsed = Note.parse(note)
            checkpoint = Checkpoint.parse(parsed.text)
            times = cosigned_at(parsed, [self.cosigner.verifier])
            if checkpoint.origin != origin or not times:
                raise NoteError("this witness did not cosign it for that origin")
        except NoteError as error:
            raise Inconsistent(
                f"{self._path(origin)} is not what this witness wrote: {error.detail}",
                code="witness_state_damaged",
                next_step="Restore the newest copy of the folder; never delete the file: it keeps what was promised.",
            ) from error
        return Held(checkpoint, times[self.cosigner.verifier], note)

    def checkpoint(self, name: str) -> bytes | None:
        """The note held for the log of this `origin_hash`, for the monitoring route; None if there is none."""
        origin = self._origins.get(name)
        held = None if origin is None else self.held(origin)
        return None if held is None else held.note

    def _lines_of_the_log(self, submission: Submission) -> list[SignatureLine]:
        """The signature lines by the keys that were given for the origin. Any other line is as if it were not there."""
        verifiers = self.logs.get(submission.checkpoint.origin)
        if verifiers is None:
            raise _Refused(404, "this witness does not watch a log of that origin")
        signed_by, false_names = signers_of(submission.note, verifiers)
        if false_names or not signed_by:
            raise _Refused(403, "no key that this witness was given for that origin signs the checkpoint")
        return [line for line in submission.note.signatures if any(verifier.made(line) for verifier in signed_by)]

    def _cosign(self, submission: Submission, lines: Sequence[SignatureLine], body: bytes) -> Answer:
        """Under the log's lock: compare with what is held, make the successor durable, only then hand out the line."""
        checkpoint = submission.checkpoint
        held = self.held(checkpoint.origin)
        size, root = (held.checkpoint.size, held.checkpoint.root) if held else (0, merkle.EMPTY_ROOT)
        if submission.old_size != size:
            return Answer(409, SIZE, b"%d\n" % size)
        if held and checkpoint.size == size and checkpoint.root != root:
            self._keep_conflict(held, submission, body)
            raise _Refused(409, "another root was cosigned for this very size")
        try:
            merkle.verify_consistency(size, checkpoint.size, root, checkpoint.root, submission.proof)
        except merkle.ProofError as error:
            if held:
                self._keep_conflict(held, submission, body)
            raise _Refused(422, f"the consistency proof does not hold: {error.detail}") from error
        at = max(self._clock(), held.at if held else 0)
        cosignature = self.cosigner.cosign(submission.note.text, at)
        note = (submission.note.text + "\n").encode() + b"".join([line.to_bytes() for line in lines]) + cosignature
        if held is None or held.note != note:  # asked twice within a second: it is on the disk already
            self._keep(checkpoint.origin, note)
        return Answer(200, TEXT, cosignature)

    def _keep(self, origin: str, note: bytes) -> None:
        """Replace the note held for `origin`. Durable when this returns; after a crash it is the old one or the new."""
        path = self._path(origin)
        staging = path.with_suffix(".new")  # one writer at a time: the lock is held
        with staging.open("wb") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        staging.replace(path)
        sync(self._state)

    def _keep_conflict(self, held: Held, submission: Submission, body: bytes) -> None:
        """Two signed statements of one log that may not fit: two roots for one size prove a fork, a false proof alone
        does not. The refusal does not depend on whether this can be written."""
        name = origin_hash(held.checkpoint.origin)
        digest = hashlib.sha256(submission.note.text.encode()).hexdigest()[:16]
        with suppress(OSError):
            self._conflicts.mkdir(mode=0o700, exist_ok=True)
            if len(list(self._conflicts.glob(f"{name}-*"))) < KEPT_CONFLICTS:
                path = self._conflicts / f"{name}-{submission.checkpoint.size}-{digest}"
                path.write_bytes(b"held\n\n" + held.note + b"\nrefused\n\n" + body)

    def _path(self, origin: str) -> Path:
        return self._state / f"{origin_hash(origin)}.checkpoint"

    @contextmanager
    def _locked(self, origin: str) -> Iterator[None]:
        # An open file of its own each time: flock then keeps apart threads as it does processes, and dies with both.
        with self._path(origin).with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


# ---- the folder ------------------------------------------------------------------------------------------------------


def init_witness(folder: Path, name: str) -> Cosigner:
    """Make a witness's key and its empty state. Raises Conflict `witness_exists`, NoteError for an unfit name.

    The key is written last: a run that dies before leaves nothing that `load_witness` would accept.
    """
    cosigner = Cosigner.generate(name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    staging = folder / f".{_KEY_FILE}.{os.getpid()}.new"
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(cosigner.skey + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(staging, folder / _KEY_FILE)  # unlike a rename it never replaces a key that is there
    except FileExistsError as error:
        raise Conflict(
            f"{folder} holds a witness already; its key is kept",
            code="witness_exists",
            next_step="Use that one, or choose another folder: one key, one state.",
        ) from error
    finally:
        staging.unlink()
    sync(folder)
    return cosigner


def load_witness(folder: Path) -> Cosigner:
    """The key in `folder`.

    Raises NotFound `witness_missing`, NotAllowed `witness_key_exposed` where others than the owner may read it,
    NoteError `skey_malformed`.
    """
    path = folder / _KEY_FILE
    try:
        if path.stat().st_mode & 0o077:
            raise NotAllowed(
                f"{path} can be read by others than its owner",
                code="witness_key_exposed",
                next_step=f"Run: chmod 600 {path}, and ask who could have read it; whoever did can cosign anything.",
            )
        return Cosigner.parse(path.read_text(encoding="utf-8").strip())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"there is no witness in {folder}", code="witness_missing", next_step="Run `lawful witness init` for it."
        ) from error
