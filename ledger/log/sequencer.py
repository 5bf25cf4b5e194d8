"""The one writer of a log: from the outbox to entries, tiles and a signed checkpoint, in one commit.

A use case inserts its statement into the outbox within its own transaction (`append`). The sequencer's single
connection holds an advisory lock *and* does the writing, so whoever lost the lock has lost the means to write as well;
the primary keys on entries and checkpoints fence off a second writer even without the lock. Everything that a batch
changes is committed at once. What anybody hears about it comes after, in this order:

    commit ─▶ the head is flushed beside the log's key ─▶ `log_published` moves forward ─▶ publish, acknowledge

so a database that is put back from before what somebody was told is recognised by the file, and refused.

`append`, `append_many`, `find`, `wait`, `proof` and `proof_by_index` are those of `ledger.log.entries`.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import structlog

from ledger.errors import Inconsistent, LedgerError, StorageFull, Unavailable
from ledger.log import head as kept
from ledger.log import merkle
from ledger.log.entries import Integrated, append, append_many, find, proof, proof_by_index, wait
from ledger.log.notes import Checkpoint, NoteError, NoteSigner, open_note, sign_note
from ledger.log.shard import Head, Query, inconsistent, newest_head, right_edge

__all__ = [
    "Integrated",
    "Sequencer",
    "SequencerThread",
    "append",
    "append_many",
    "find",
    "proof",
    "proof_by_index",
    "wait",
]

BATCH = 1024
"""Entries a commit: larger batches no longer gain throughput, and hold up to 64 MiB in memory."""

CHANNEL = "log_checkpoint"
"""NOTIFY channel; the payload is `<shard> <size>`, delivered when the checkpoint is published."""

# Without waiting for the disk, in a transaction of its own: a crash may set the row back, and `open` moves it on again.
# `set_config` counts until the transaction ends, which is this statement.
_PUBLISH = """
    WITH published AS (
        INSERT INTO log_published (shard, size)
        VALUES (%(shard)s, %(size)s)
        ON CONFLICT (shard) DO UPDATE SET size = EXCLUDED.size, published_at = now()
        WHERE log_published.size < EXCLUDED.size
        RETURNING size
    )
    SELECT pg_notify(%(channel)s, %(shard)s || ' ' || size) FROM published
"""

_MOVE = """
    WITH taken AS (
        DELETE FROM log_outbox WHERE id = ANY (ARRAY(SELECT id FROM log_outbox ORDER BY id LIMIT %(batch)s))
        RETURNING id, leaf_hash, entry
    ), fresh AS (
        SELECT %(first)s - 1 + row_number() OVER (ORDER BY id) AS idx, leaf_hash, entry
        FROM taken
        WHERE NOT EXISTS (
            SELECT FROM log_entries held WHERE held.shard = %(shard)s AND held.leaf_hash = taken.leaf_hash
        )
    ), written AS (
        INSERT INTO log_entries (shard, idx, leaf_hash, entry) SELECT %(shard)s, idx, leaf_hash, entry FROM fresh
    )
    SELECT (SELECT count(*) FROM taken),
           (SELECT coalesce(array_agg(leaf_hash ORDER BY idx), '{}') FROM fresh),
           (SELECT count(*) FROM taken WHERE leaf_hash <> sha256('\\x00'::bytea || entry))
"""
"""A batch of the outbox into the shard, in the outbox's order, without the leaves that the shard holds already.

By whatever is visible, never by `id > last`: a transaction that commits late has a smaller id. The entries' bytes never
leave the server; their hashes are computed there anew. → (rows taken, leaf hashes that are new, rows with false ones)
"""

# The outbox belongs to the database, not to a shard: one lock for all shards, or two sequencers would share it.
_LOCK = int.from_bytes(hashlib.sha256(b"lawful-ledger/log/sequencer").digest()[:8], "big", signed=True)

_logger = structlog.get_logger(__name__)


def _nothing(_: object) -> None:
    pass


class Sequencer:
    """The active writer of one shard, once `open` has returned True. Not for several threads at once.

    `head` is the file that remembers the newest head beside the key; without one, only witnesses can tell an older
    database from the newest. `check_outside` is given the database's newest head (of size 0 and with no note for a
    shard that is not born) before anything is signed, and raises to stop that: what witnesses hold is asked there.
    `publish` gets each new note, at least once (`open` repeats the newest), in the sequencer's thread.
    `step` is called with the name of every step reached; tests fail or kill there.
    Any error while writing closes it: what was written of the batch is rolled back by Postgres, and a new one starts
    from what is committed.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        signer: NoteSigner,
        shard: str,
        publish: Callable[[bytes], None] = _nothing,
        *,
        head: kept.HeadFile | None = None,
        batch: int = BATCH,
        step: Callable[[str], None] = _nothing,
        check_outside: Callable[[Head], None] = _nothing,
    ) -> None:
        self._connect = connect
        self._signer = signer
        self._shard = shard
        self._head = head
        self._publish = publish
        self._check_outside = check_outside
        self._batch = batch
        self._step = step
        self._connection: psycopg.Connection[Any] | None = None
        self._edge = merkle.RightEdge()

    def open(self) -> bool:
        """Take the lock and make sure of the right edge; False when another sequencer holds the lock.

        A shard without a checkpoint is born here, with one of size 0. What a sequencer before this one committed and
        did not get to publish is published here. Raises Inconsistent when what is stored is not what this key signed
        (codes `log_key_mismatch`, `log_checkpoint`, `log_incomplete`, `log_root`) or not the newest of it (those of
        `head.compare` and of `check_outside`): the log must not run then. Raises Unavailable when the database cannot
        be reached, and what `HeadFile.write` raises.
        """
        self.close()
        with self._closing_on_error():
            self._connection = connection = self._connect()
            connection.autocommit = True  # so that each `transaction()` below is one, and commits when it ends
            if not _locked(connection):
                self.close()
                return False
            # An acknowledged entry survives a crash of the machine, whatever the database's default.
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
            # Only read up to here and asked around: a log that fails a check stays as it was.
            let_out = self._head.read() if self._head is not None else None
            head = self._standing(connection)
            if self._head is not None:
                kept.compare(self._head, let_out, self._signer.verifier, _query(connection), self._shard, head)
            self._check_outside(head or Head(0, merkle.EMPTY_ROOT, b""))
            if head is None:
                with connection.transaction():
                    head = self._birth(connection)
                # Durable now: the shard, with a checkpoint of size 0.
            self._let_out(connection, head.size, head.note)
        return True

    def run_once(self) -> int:
        """Integrate one batch of the outbox; returns the number of new entries, which leaves out those already held.

        Raises Inconsistent code `sequencer_fenced` when somebody else wrote to the shard, Unavailable when the
        connection is lost (the batch may then be committed or not; `open` finds out), StorageFull.
        """
        connection = self._connection
        if connection is None:
            raise Unavailable("the sequencer is not open", code="sequencer_closed", next_step="Call open() first.")
        edge = self._edge.copy()
        with self._closing_on_error():
            # Durable before: the outbox's rows, and the shard up to the newest checkpoint, to which self._edge belongs.
            with connection.transaction():
                appended, note = self._integrate(connection, edge)
            # Durable after, all or nothing: entries, their full tiles, the checkpoint over them, and the rows' removal
            # from the outbox. A crash before this line leaves the rows in the outbox; after it, in the log.
            self._edge = edge
            self._step("committed")
            if note is not None:
                self._let_out(connection, edge.size, note)
        return appended

    def run(self, stop: threading.Event, tick: float) -> None:
        """Integrate batches until `stop` is set, `tick` seconds apart while little waits. Raises as `run_once`."""
        while not stop.is_set():
            if self.run_once() < self._batch:
                stop.wait(tick)

    def close(self) -> None:
        """Give up the connection and with it the lock. What was not committed is rolled back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _let_out(self, connection: psycopg.Connection[Any], size: int, note: bytes) -> None:
        """Publish what is committed. A crash in here leaves a head that is committed and not shown; `open` goes on."""
        if self._head is not None:
            self._head.write(note)
        # Durable now, in two places: the head. From here on a database without it is refused, so it may be shown.
        self._step("kept")
        connection.execute(_PUBLISH, {"shard": self._shard, "size": size, "channel": CHANNEL})
        self._step("published")
        self._publish(note)

    def _integrate(self, connection: psycopg.Connection[Any], edge: merkle.RightEdge) -> tuple[int, bytes | None]:
        """One batch, in the caller's transaction. Advances `edge`; returns the number of entries and the new note."""
        moved = connection.execute(_MOVE, {"shard": self._shard, "first": edge.size, "batch": self._batch}, binary=True)
        taken, fresh, false = moved.fetchone() or (0, [], 0)
        if false:
            raise inconsistent("a row of the outbox has another entry's leaf hash", "outbox_leaf_hash")
        if not taken:
            return 0, None
        self._step("moved")
        return len(fresh), self._extend(connection, edge, fresh) if fresh else None

    def _extend(self, connection: psycopg.Connection[Any], edge: merkle.RightEdge, leaves: Sequence[bytes]) -> bytes:
        """Write the tiles that new entries fill, and the checkpoint over them: none stands without the others."""
        tiles = edge.append(leaves)
        connection.cursor().executemany(
            "INSERT INTO log_tiles (shard, level, idx, root, middle, data) VALUES (%s, %s, %s, %s, %s, %s)",
            [(self._shard, tile.level, tile.index, tile.root, tile.middle, tile.data) for tile in tiles],
        )
        self._step("tiled")
        # Signed before the commit, but shown to nobody: a signature that is rolled back never leaves this process.
        note = self._checkpoint(connection, edge.size, edge.root())
        self._step("signed")
        return note

    def _checkpoint(self, connection: psycopg.Connection[Any], size: int, root: bytes) -> bytes:
        note = sign_note(Checkpoint(self._signer.name, size, root).text, self._signer)
        connection.execute(
            "INSERT INTO log_checkpoints (shard, size, root, note) VALUES (%s, %s, %s, %s)",
            (self._shard, size, root, note),
        )
        return note

    def _standing(self, connection: psycopg.Connection[Any]) -> Head | None:
        """The shard's newest head, verified, with the right edge under it taken up; None for one that is not born."""
        row = connection.execute("SELECT origin, vkey FROM log_shards WHERE name = %s", (self._shard,)).fetchone()
        if row not in (None, (self._signer.name, self._signer.vkey)):
            raise inconsistent(f"shard {self._shard} belongs to another origin or key", "log_key_mismatch")
        head = newest_head(_query(connection), self._shard)
        self._edge = self._verified_edge(connection, head)
        return head

    def _birth(self, connection: psycopg.Connection[Any]) -> Head:
        """The shard's row, unless it was founded before, and its checkpoint of size 0."""
        connection.execute(
            "INSERT INTO log_shards (name, origin, vkey) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (self._shard, self._signer.name, self._signer.vkey),
        )
        return Head(0, merkle.EMPTY_ROOT, self._checkpoint(connection, 0, merkle.EMPTY_ROOT))

    def _verified_edge(self, connection: psycopg.Connection[Any], head: Head | None) -> merkle.RightEdge:
        """The right edge as stored, which must be what this key signed, from the entries' bytes up to the root."""
        last = connection.execute("SELECT max(idx) FROM log_entries WHERE shard = %s", (self._shard,)).fetchone()
        entries = 0 if last is None or last[0] is None else last[0] + 1
        if entries != (head.size if head else 0):
            detail = f"shard {self._shard} has {entries} entries under a checkpoint of size {head.size if head else 0}"
            raise inconsistent(detail, "log_incomplete")
        if head is None:
            return merkle.RightEdge()
        try:
            checkpoint = Checkpoint.parse(open_note(head.note, [self._signer.verifier]).text)
        except NoteError as error:
            raise inconsistent(f"shard {self._shard}: newest checkpoint: {error.detail}", "log_checkpoint") from error
        if checkpoint != Checkpoint(self._signer.name, head.size, head.root):
            raise inconsistent(f"shard {self._shard}: the newest note and its row differ", "log_checkpoint")
        edge = right_edge(_query(connection), self._shard, head.size)
        if edge.root() != head.root:
            raise inconsistent(f"shard {self._shard}: the right edge does not lead to the signed root", "log_root")
        partial = connection.execute(
            "SELECT leaf_hash, entry FROM log_entries WHERE shard = %s AND idx >= %s",
            (self._shard, head.size - head.size % merkle.TILE_WIDTH),
        )
        if any(merkle.leaf_hash(entry) != leaf for leaf, entry in partial):
            raise inconsistent(f"shard {self._shard}: an entry's bytes are not its leaf hash's", "log_root")
        return edge

    @contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        """After any error the state in memory may be ahead of the database or behind it: drop it and the connection."""
        try:
            yield
        except BaseException as error:
            self.close()
            match error:
                case psycopg.errors.UniqueViolation():
                    raise inconsistent(
                        f"another sequencer has written to shard {self._shard}; this one stops", "sequencer_fenced"
                    ) from error
                case psycopg.errors.DiskFull():
                    raise StorageFull(
                        "the database's disk is full; the batch stays in the outbox", next_step="Make room."
                    ) from error
                case psycopg.OperationalError() | psycopg.InterfaceError():
                    raise Unavailable(
                        f"the sequencer of shard {self._shard} lost its database",
                        code="log_connection_lost",
                        next_step="It tries again by itself; see with `lawful doctor` whether the database runs.",
                    ) from error
                case _:
                    raise


def _query(connection: psycopg.Connection[Any]) -> Query:
    return lambda sql, parameters: connection.execute(sql, parameters).fetchall()


def _locked(connection: psycopg.Connection[Any]) -> bool:
    """Try for the lock that is held until this very connection ends; true when it is ours."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
    return row is not None and bool(row[0])


class SequencerThread(threading.Thread):
    """Keeps one sequencer ready: stands by while another holds the lock, takes over when it is free.

    `active` is true while this one writes. `failure` is the error that ended it for good: a log that is not consistent.
    A lost connection and a fence only send it back to standing by. `stop()` ends it.
    """

    def __init__(self, sequencer: Sequencer, *, tick: float = 0.05, retry: float = 0.5) -> None:
        super().__init__(name="sequencer", daemon=True)
        self._sequencer = sequencer
        self._tick = tick
        self._retry = retry
        self._stop_asked = threading.Event()
        self._active = threading.Event()
        self.failure: Exception | None = None

    @property
    def active(self) -> bool:
        return self._active.is_set()

    def stop(self, timeout: float | None = 10.0) -> None:
        """Finish the batch in hand, give up the lock, end. Waits up to `timeout` seconds for that."""
        self._stop_asked.set()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        """Stand by and write, in turn, until stopped. Called by `start`."""
        while not self._stop_asked.is_set() and self.failure is None:
            try:
                if self._sequencer.open():
                    self._active.set()
                    _logger.info("sequencer_active")
                    self._sequencer.run(self._stop_asked, self._tick)
            except Exception as error:  # noqa: BLE001 - no single failure may end the only writer, but for a broken log
                detail = error.detail if isinstance(error, LedgerError) else str(error)
                _logger.error("sequencer_failed", error=type(error).__name__, detail=detail)
                if isinstance(error, Inconsistent) and error.code != "sequencer_fenced":
                    self.failure = error
            finally:
                self._active.clear()
                self._sequencer.close()
            self._stop_asked.wait(self._retry)
