"""The witnesses of a policy, asked by the log: is this the log that you know, and will you cosign this?

What a witness can do to the log: one that proves, with a checkpoint of our own key, that this database is not the one
it saw, ends the log (`log_behind_witness`, `log_forked_from_witness`). One that only claims it keeps a log from
starting, until an operator overrides that in an entry (`witness_claims_more`, `witness_claims_other`); a log that runs,
it cannot stop. One that is silent is told in the log and by `lawful doctor`, and nothing else: who wants nothing to
stand without witnesses waits for `witnessed`.
"""

import datetime as dt
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from ledger.database.tables.log import LogWitness, LogWitnessed
from ledger.errors import Inconsistent, Unavailable
from ledger.log import merkle
from ledger.log.notes import Checkpoint, Note, NoteError, NoteVerifier, open_note
from ledger.log.policy import Policy
from ledger.log.shard import Head, inconsistent, newest_head, published_head, query_of, tile_reader, witnessed_head
from ledger.witness.client import Claims, Cosigned, Refuses, WitnessClient, WitnessFailure
from ledger.witness.entries import is_overridden

START_SECONDS = 8.0
"""How long a start waits for witnesses in all; whoever has not answered by then counts as silent."""

ASK_AGAIN_SECONDS = 5.0
"""A log kept from starting by a claim asks the witness again only after this time."""

_logger = structlog.get_logger(__name__)


class Witnesses:
    """The witnesses of one policy, for one shard. For several threads at once."""

    def __init__(
        self,
        policy: Policy,
        sessions: sessionmaker[Session],
        verifier: NoteVerifier,
        shard: str,
        *,
        evidence: Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`verifier` is the log's own key; `evidence` a folder for what proves a second history."""
        self.policy = policy
        self.clients = tuple(WitnessClient(each, transport=transport) for each in policy.witnesses if each.url)
        self._sessions = sessions
        self._verifier = verifier
        self._shard = shard
        self._evidence = evidence
        self._refusal: tuple[float, Unavailable] | None = None

    def close(self) -> None:
        for client in self.clients:
            client.close()

    # ---- before anything is signed ----

    def check_outside(self, head: Head) -> None:
        """Is there a witness that has seen more of this log, or another log, than the database of this `head` holds?

        For the sequencer, before it signs. Raises Inconsistent `log_behind_witness` or `log_forked_from_witness` for a
        checkpoint by this log's key that does not fit; Unavailable `witness_claims_more` or `witness_claims_other` for
        a witness's bare word, unless an operator has overridden it. Silent witnesses stop nothing.
        """
        if self._refusal is not None and time.monotonic() < self._refusal[0]:
            raise self._refusal[1]
        answers: queue.SimpleQueue[tuple[WitnessClient, Exception | None]] = queue.SimpleQueue()

        def ask(client: WitnessClient) -> None:
            try:
                self._check_one(client, head)
                answers.put((client, None))
            except Exception as error:  # noqa: BLE001 - raised again below, in the sequencer's thread
                answers.put((client, error))

        for client in self.clients:  # daemons: one that hangs on a silent witness keeps nobody from ending
            threading.Thread(target=ask, args=(client,), name="witness-start", daemon=True).start()
        silent, errors = set(self.clients), []
        deadline = time.monotonic() + START_SECONDS
        with suppress(queue.Empty):
            while silent:
                client, error = answers.get(timeout=max(deadline - time.monotonic(), 0.001))
                silent.discard(client)
                errors += [error] if error is not None else []
        for client in silent:
            self._tell(client, failure=f"it has not answered within {START_SECONDS:g} s")
        for error in sorted(errors, key=lambda each: not isinstance(each, Inconsistent)):  # proofs before claims
            if isinstance(error, Unavailable) and error.code.startswith("witness_claims"):
                self._refusal = (time.monotonic() + ASK_AGAIN_SECONDS, error)
            raise error

    def _check_one(self, client: WitnessClient, head: Head) -> None:
        try:
            shown = self._shown(client)
            if shown is not None:
                self._compare(client, shown, head)
            elif head.note:
                self._probe(client, head)
        except WitnessFailure as failure:
            self._tell(client, failure=str(failure))

    def _probe(self, client: WitnessClient, head: Head) -> None:
        """A witness that shows nothing: what does it say when it is asked to cosign what we have published?"""
        with self._sessions() as session:
            published = published_head(query_of(session), self._shard)
        if published is None:
            return
        name = client.witness.name
        match self._submit(client, published, 0):
            case Claims(size) if size > head.size:
                claim = _unproven(
                    f"the witness {name} claims {size} entries, and the database has {head.size}",
                    "witness_claims_more",
                    name,
                    size,
                )
                self._heed(client, size, claim)
            case Refuses(said):
                claim = _unproven(
                    f"the witness {name} does not accept the tree of {published.size} entries: {said}",
                    "witness_claims_other",
                    name,
                    published.size,
                )
                self._heed(client, published.size, claim)

    def _heed(self, client: WitnessClient, size: int, error: Unavailable) -> None:
        """Raise `error`, unless an operator has overridden the claim of this size."""
        with self._sessions() as session:
            overridden = is_overridden(session, self._shard, client.verifier.vkey, size)
        self._tell(client, failure=error.detail)
        if not overridden:
            raise error
        _logger.warning("witness_overridden", witness=client.witness.name, claim=error.detail)

    # ---- one witness, one checkpoint ----

    def ask(self, client: WitnessClient, target: Head, known: int | None = None) -> Cosigned | Claims:
        """Have `target` cosigned; remembers how it went. `known`: what the witness cosigned last, if that is known.

        Claims: it has cosigned more than the target, and not more than is published. Raises WitnessFailure, and
        Inconsistent as `check_outside` does, when the witness proves that this is not the log it knows.
        """
        if known is None:
            with self._sessions() as session:
                row = session.get(LogWitness, (self._shard, client.verifier.vkey))
                known = row.size if row is not None else None
        try:
            answer = self._submit(client, target, min(known or 0, target.size))
            match answer:
                case Cosigned(_, at):
                    self._tell(client, size=target.size, at=at)
                    return answer
                case Claims(size):
                    self._look_behind(client, f"it claims {size} entries", size)
                    self._tell(client, size=size)
                    return answer
                case Refuses(said):
                    self._look_behind(client, said, None)
                    raise WitnessFailure(said)
        except WitnessFailure as failure:
            self._tell(client, failure=str(failure))
            raise

    def _submit(self, client: WitnessClient, target: Head, old_size: int) -> Cosigned | Claims | Refuses:
        """Send with the proof from `old_size`, and again from the size that a 409 names, as long as there is one."""
        note = self._own_lines(target.note)
        for _ in range(3):  # a size that changes more often than that is another client's, or a game
            with self._sessions() as session:
                read = merkle.reader_of_tiles(tile_reader(query_of(session), self._shard, target.size))
                proof = merkle.consistency_proof(read, old_size, target.size)
            answer = client.add_checkpoint(old_size, proof, note)
            if not isinstance(answer, Claims) or answer.size > target.size or answer.size == old_size:
                break
            old_size = answer.size
        if isinstance(answer, Claims) and answer.size <= target.size:
            raise WitnessFailure(f"it keeps answering that it cosigned {answer.size} entries last")
        return answer

    def _look_behind(self, client: WitnessClient, said: str, size: int | None) -> None:
        """It does not go along with us: does it hold a proof? Raises Inconsistent if so, WitnessFailure if it only says
        so; returns where it is merely ahead of the target."""
        shown = self._shown(client)
        with self._sessions() as session:  # read after what it shows: what it can know is in the tables by then
            newest = newest_head(query_of(session), self._shard)
        if newest is None:
            raise inconsistent(f"shard {self._shard} has lost its checkpoints", "log_incomplete")
        if shown is not None:
            self._compare(client, shown, newest)
        if size is None or size > newest.size:
            raise WitnessFailure(f"{said}, and shows no checkpoint of this log's key that would not fit")

    # ---- proofs ----

    def _shown(self, client: WitnessClient) -> tuple[Checkpoint, bytes] | None:
        """The newest checkpoint it shows, if this log's key signed it: the witness could not have made that up."""
        note = client.checkpoint(self._verifier.name)
        if note is None:
            return None
        try:
            checkpoint = Checkpoint.parse(open_note(note, [self._verifier]).text)
        except NoteError:
            return None
        return (checkpoint, note) if checkpoint.origin == self._verifier.name else None

    def _compare(self, client: WitnessClient, shown: tuple[Checkpoint, bytes], head: Head) -> None:
        """Raises Inconsistent unless the database's tree continues the one that the witness saw (RFC 9162, 2.1.4)."""
        seen, note = shown
        name = client.witness.name
        if seen.size > head.size:
            error = _contradicted(
                f"the witness {name} holds a checkpoint of {seen.size} entries signed by this log's key; "
                f"this database ends at {head.size}: it is an older one, or another one",
                "log_behind_witness",
            )
            raise self._with_evidence(error, note, head)
        with self._sessions() as session:
            read = merkle.reader_of_tiles(tile_reader(query_of(session), self._shard, head.size))
            try:
                path = merkle.consistency_proof(read, seen.size, head.size)
                merkle.verify_consistency(seen.size, head.size, seen.root, head.root, path)
            except merkle.ProofError as difference:
                error = _contradicted(
                    f"the witness {name} holds another root for the first {seen.size} entries, signed by this log's "
                    "key: entries were changed after they were published",
                    "log_forked_from_witness",
                )
                raise self._with_evidence(error, note, head) from difference

    def _with_evidence(self, error: Inconsistent, note: bytes, head: Head) -> Inconsistent:
        """Both checkpoints into a file, if there is a folder for it: signed by one key, they need nobody's word."""
        if self._evidence is not None:
            path = self._evidence / f"{error.code}-{head.size}-{head.root.hex()[:8]}.txt"
            try:
                self._evidence.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.write_bytes(b"held by a witness\n\n" + note + b"\nin this database\n\n" + head.note)
            except OSError:
                _logger.warning("evidence_not_kept", path=str(path))
                return error
            error.detail += f" (both are kept in {path})"
        return error

    # ---- rows ----

    def keep_witnessed(self, target: Head, lines: Sequence[bytes]) -> None:
        """The target with enough cosignatures, for whoever asks for a witnessed checkpoint."""
        note = self._own_lines(target.note) + b"".join(lines)
        row = insert(LogWitnessed).values(
            shard=self._shard, size=target.size, policy_sha256=self.policy.sha256, note=note
        )
        with self._sessions.begin() as session:
            session.execute(row.on_conflict_do_nothing())

    def newest_published(self) -> Head | None:
        with self._sessions() as session:
            return published_head(query_of(session), self._shard)

    def newest_witnessed(self) -> int:
        """Size of the checkpoint that counts as witnessed; 0 without one: an empty tree needs no witness."""
        with self._sessions() as session:
            head = witnessed_head(query_of(session), self._shard, self.policy.sha256)
        return head.size if head is not None else 0

    def _tell(
        self, client: WitnessClient, *, size: int | None = None, at: int | None = None, failure: str | None = None
    ) -> None:
        """Status for `doctor` and pages: what it cosigned last stays when it fails."""
        if failure is not None:
            _logger.warning("witness_failed", witness=client.witness.name, failure=failure)
        values: dict[str, Any] = {"asked_at": sa.func.now(), "failure": failure}
        if size is not None:
            values["size"] = size
        if at is not None:
            values["cosigned_at"] = dt.datetime.fromtimestamp(at, dt.UTC)
        row = insert(LogWitness).values(shard=self._shard, vkey=client.verifier.vkey, **values)
        with self._sessions.begin() as session:
            if session.execute(sa.text("SELECT 1 FROM log_shards WHERE name = :name"), {"name": self._shard}).first():
                session.execute(row.on_conflict_do_update(index_elements=["shard", "vkey"], set_=values))

    def _own_lines(self, note: bytes) -> bytes:
        """The note with this log's lines only: nobody else's would count, and a request has 16 KiB."""
        parsed = Note.parse(note)
        lines = [line.to_bytes() for line in parsed.signatures if self._verifier.made(line)]
        return (parsed.text + "\n").encode() + b"".join(lines)


def _contradicted(detail: str, code: str) -> Inconsistent:
    return Inconsistent(
        detail,
        code=code,
        next_step="Never sign on from here: others hold the other history. Find out who put this database in place, "
        "and restore the newest backup with its WAL, or promote the newest replica. Keep both checkpoints as proof.",
    )


def _unproven(detail: str, code: str, name: str, size: int) -> Unavailable:
    return Unavailable(
        f"{detail}; it shows no checkpoint signed by this log's key, so it may be wrong",
        code=code,
        next_step="Find out whether this database is the newest: compare it with backups, replicas and the head file "
        f"beside the keys. Only if it is: lawful log override --witness {name} --size {size} --reason '…' (everybody "
        "will see that entry).",
    )
