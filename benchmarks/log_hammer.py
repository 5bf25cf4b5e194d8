"""What the log's fault run is made of: processes that are killed, a client that remembers, an audit of everything.

A writer notes in its journal what it hands in before it does, and what it was told afterwards; its successor hands in
again whatever has no answer. Journals are files, for nothing else survives kill -9: lines of
`t <entry>` (tried), `c <leaf>` (the transaction was acknowledged), `i <leaf> <index>` (integrated), `e <error>`.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from benchmarks.log_processes import PROCESSES, SHARD, Place
from ledger.database.session import Database
from ledger.errors import Inconsistent, LedgerError
from ledger.log import merkle
from ledger.log.entries import append_many, find, proof_by_index
from ledger.log.notes import Checkpoint, open_note
from ledger.log.sequencer import SequencerThread
from ledger.log.shard import Head, Query, published_head, tile_reader
from ledger.log.verify import check_tlog_proof

PROCESSES.set_forkserver_preload([__name__])

FAILED = 3
"""Exit status of a sequencer that refused the log for good."""

Errors = (LedgerError, SQLAlchemyError, psycopg.Error)


# ---- a sequencer that dies ------------------------------------------------------------------------------------------


def sequence(place: Place, journal: Path, step: str | None, after: int, clock: float) -> None:
    """Write the log until killed: from outside, or by itself the `after`-th time that it reaches `step`.

    Its clock is `clock` seconds off. It ends with FAILED, and the error's code in `journal`, when it refuses the log.
    """
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    real = time.time
    time.time = lambda: real() + clock
    left = after

    def die(reached: str) -> None:
        nonlocal left
        if thread.active and reached == step:  # not while it opens: what is shown then was committed before
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    with place.database() as database:
        thread = SequencerThread(place.sequencer(database, step=die, batch=64), tick=0.005, retry=0.05)
        thread.run()
    if isinstance(thread.failure, Inconsistent):
        journal.write_text(thread.failure.code)
        raise SystemExit(FAILED)


# ---- a writer that tries again --------------------------------------------------------------------------------------


class Journal:
    """Whole lines, in one write each, so that a killed writer leaves no half of one that anybody counts on."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, *lines: str) -> None:
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())


def submit(place: Place, journal_path: Path, number: int, seed: int) -> None:
    """Hand in entries until killed: new ones, some again, and some that other writers hand in as well."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    chance = random.Random(seed)
    mine, open_ones = _unanswered(journal_path)
    journal = Journal(journal_path)
    with place.database() as database:
        while True:
            batch = open_ones[:20] or [os.urandom(chance.randint(20, 2000)) for _ in range(chance.randint(1, 6))]
            open_ones = open_ones[20:]
            if mine and chance.random() < 0.3:
                batch.append(chance.choice(mine))
            if chance.random() < 0.3:
                batch.insert(0, b"shared %d" % int(time.monotonic() * 4))
            journal.note(*(f"t {entry.hex()}" for entry in batch))
            _hand_in(database, journal, batch)
            mine.extend(batch)
            time.sleep(0.005)


def _unanswered(path: Path) -> tuple[list[bytes], list[bytes]]:
    """(entries tried before, those of them that are not known to be integrated), from the journal."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    tried = {merkle.leaf_hash(bytes.fromhex(line[2:])): bytes.fromhex(line[2:]) for line in lines if line[0] == "t"}
    done = {bytes.fromhex(line.split()[1]) for line in lines if line[0] == "i"}
    return list(tried.values()), [entry for leaf, entry in tried.items() if leaf not in done]


def _hand_in(database: Database, journal: Journal, batch: list[bytes]) -> None:
    """Until the transaction is acknowledged; then see for a while whether the log has integrated it."""
    while True:
        try:
            with database.sessions.begin() as session:
                leaves = append_many(session, batch)
            break
        except Errors as error:  # committed or not, nobody here knows: the same again
            journal.note(f"e {_name(error)}")
            time.sleep(0.05)
    journal.note(*(f"c {leaf.hex()}" for leaf in leaves))
    deadline = time.monotonic() + 3.0
    waiting = dict.fromkeys(leaves)
    while waiting and time.monotonic() < deadline:
        try:
            with database.sessions() as session:
                for leaf in list(waiting):
                    if (found := find(session, SHARD, leaf)) is not None:
                        journal.note(f"i {leaf.hex()} {found.index}")
                        del waiting[leaf]
        except Errors as error:
            journal.note(f"e {_name(error)}")
        time.sleep(0.01)


def _name(error: BaseException) -> str:
    return error.code if isinstance(error, LedgerError) else type(getattr(error, "orig", None) or error).__name__


# ---- a client that remembers ----------------------------------------------------------------------------------------


class Client(threading.Thread):
    """Follows the published checkpoints from outside and keeps its state whatever dies: `contradictions` stay empty.

    It reads what the log's public routes read, checks each checkpoint's signature, that it continues the largest one
    seen before, and one proof by index under it.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(name="client", daemon=True)
        self._place = place
        self._verifier = place.signer.verifier
        self._vkey = place.signer.vkey
        self._ended = threading.Event()
        self.seen: dict[int, bytes] = {0: merkle.EMPTY_ROOT}
        self.contradictions: list[str] = []
        self.looks = 0
        self.stale = 0

    def stop(self) -> None:
        self._ended.set()
        self.join(30)

    def run(self) -> None:
        with self._place.database() as database:
            while not self._ended.wait(0.02):
                try:
                    with database.sessions() as session:
                        self._look(session)
                except Inconsistent as error:
                    self.contradictions.append(f"{error.code}: {error.detail}")
                except merkle.ProofError as error:
                    self.contradictions.append(error.detail)
                except Errors:
                    pass  # out of reach: it looks again

    def _look(self, session: Session) -> None:
        query: Query = lambda text, given: session.connection().exec_driver_sql(text, given).fetchall()  # noqa: E731
        head = published_head(query, SHARD)
        if head is None:
            return
        checkpoint = Checkpoint.parse(open_note(head.note, [self._verifier]).text)
        newest = max(self.seen)
        self.looks += 1
        if self.seen.get(checkpoint.size, checkpoint.root) != checkpoint.root:
            self.contradictions.append(f"two roots for size {checkpoint.size}")
        elif checkpoint.size < newest:
            self.stale += 1
        else:
            read = merkle.reader_of_tiles(tile_reader(query, SHARD, checkpoint.size))
            path = merkle.consistency_proof(read, newest, checkpoint.size)
            merkle.verify_consistency(newest, checkpoint.size, self.seen[newest], checkpoint.root, path)
            self.seen[checkpoint.size] = checkpoint.root
            if checkpoint.size > 1:
                self._prove_one(session, query, checkpoint.size)

    def _prove_one(self, session: Session, query: Query, size: int) -> None:
        index = random.randrange(size)
        ((entry,),) = query("SELECT entry FROM log_entries WHERE shard = %s AND idx = %s", (SHARD, index))
        reading = check_tlog_proof(entry, proof_by_index(session, SHARD, index, size), [self._vkey])
        if not (reading.inclusion and reading.log_key == "trusted"):
            self.contradictions.append(f"entry {index} of {size} is not proven: {reading.note}")


# ---- an audit that trusts nothing -----------------------------------------------------------------------------------


class Audit:
    """Reads what was published since it looked last, and everything that writers were told. Raises AssertionError."""

    def __init__(self, place: Place, journals: Callable[[], list[Path]]) -> None:
        self._place, self._journals = place, journals
        self._edge = merkle.RightEdge()
        self._read: Counter[Path] = Counter()
        self.index: dict[bytes, int] = {}
        self.committed: set[bytes] = set()
        self.integrated: dict[bytes, int] = {}
        self.errors: Counter[str] = Counter()

    def check(self, connection: psycopg.Connection[tuple[Any, ...]]) -> int:
        """The size up to which all is well: entries, tiles, every checkpoint, and each acknowledgement."""
        query: Query = lambda text, given: connection.execute(text, given).fetchall()  # noqa: E731
        self.read_journals()
        head = published_head(query, SHARD)
        assert head is not None, "nothing was ever published"
        assert head.size >= self._edge.size, f"the log went back from {self._edge.size} to {head.size}"
        self._extend(query, head)
        lost = query(
            "SELECT leaf FROM unnest(%s::bytea[]) AS told (leaf)"
            " WHERE NOT EXISTS (SELECT FROM log_outbox WHERE leaf_hash = leaf)"
            " AND NOT EXISTS (SELECT FROM log_entries WHERE shard = %s AND leaf_hash = leaf)",
            (list(self.committed - self.index.keys()), SHARD),
        )
        assert not lost, f"{len(lost)} acknowledged entries are lost"
        for leaf, index in self.integrated.items():
            expected = self.index.get(leaf, None if index < head.size else index)
            assert expected == index, f"an entry was said to be at {index}, and is at {expected}"
        return head.size

    def _extend(self, query: Query, head: Head) -> None:
        start = self._edge.size
        rows = query(
            "SELECT idx, leaf_hash, entry FROM log_entries WHERE shard = %s AND idx >= %s AND idx < %s ORDER BY idx",
            (SHARD, start, head.size),
        )
        assert [row[0] for row in rows] == list(range(start, head.size)), "entries are missing"
        for index, leaf, entry in rows:
            assert merkle.leaf_hash(entry) == leaf, f"entry {index} has another leaf hash"
            assert leaf not in self.index, f"entry {index} stands at {self.index.get(leaf)} as well"
            self.index[leaf] = index
        leaves = [row[1] for row in rows]
        checkpoints = query(
            "SELECT size, root, note FROM log_checkpoints WHERE shard = %s AND size > %s AND size <= %s ORDER BY size",
            (SHARD, start, head.size),
        )
        tiles = []
        for size, root, note in checkpoints:
            tiles += self._edge.append(leaves[self._edge.size - start : size - start])
            signed = Checkpoint.parse(open_note(note, [self._place.signer.verifier]).text)
            assert (signed.size, signed.root, root) == (size, self._edge.root(), self._edge.root()), f"size {size}"
        for tile in tiles:
            stored = query(
                "SELECT root, middle, data FROM log_tiles WHERE shard = %s AND level = %s AND idx = %s",
                (SHARD, tile.level, tile.index),
            )
            wanted = (merkle.tile_root(tile.data), tile.middle, tile.data)
            assert [tuple(row) for row in stored] == [wanted], f"{tile.level}/{tile.index}"
        assert self._edge.size == head.size, "the published head is no checkpoint"

    def read_journals(self) -> None:
        """Take up what writers have noted since the last time, as far as the lines are whole."""
        for path in self._journals():
            content = path.read_bytes()
            end = content.rfind(b"\n") + 1
            lines = content[self._read[path] : end].decode().split("\n")[:-1]
            self._read[path] = end
            for line in lines:
                match line.split():
                    case ["c", leaf]:
                        self.committed.add(bytes.fromhex(leaf))
                    case ["i", leaf, index]:
                        told = self.integrated.setdefault(bytes.fromhex(leaf), int(index))
                        assert told == int(index), f"an entry was said to be at {told} and at {index}"
                    case ["e", error]:
                        self.errors[error] += 1
