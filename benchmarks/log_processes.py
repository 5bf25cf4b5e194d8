"""Processes that the log's benchmarks start: a sequencer, and writers. Each is its own, to be timed and to be killed.

Times are `time.monotonic()`, which all processes of one machine share.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from ledger.database.address import Address
from ledger.database.session import Database
from ledger.log.entries import append_many
from ledger.log.head import HeadFile
from ledger.log.notes import NoteSigner
from ledger.log.sequencer import Sequencer, SequencerThread

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

SHARD = "2026"
PLAIN = """
    CREATE TABLE plain (
        idx bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, leaf_hash bytea NOT NULL UNIQUE, entry bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now())
"""


@dataclass(frozen=True)
class Place:
    """Where a log is: its database's URL as the service's role, its key as text, and its head's file."""

    url: str
    skey: str
    head: Path

    def database(self) -> Database:
        return Database(Address.parse(self.url, setting="the benchmark's address"))

    @property
    def signer(self) -> NoteSigner:
        return NoteSigner.parse(self.skey)

    def sequencer(self, database: Database, **options: Any) -> Sequencer:
        return Sequencer(database.connect, self.signer, SHARD, head=HeadFile(self.head), **options)


def entry_of(writer: int, number: int, length: int) -> bytes:
    """An entry of `length` bytes that nothing compresses, another for each writer and number."""
    name = b"%d %d " % (writer, number)
    return name + os.urandom(length - len(name))


# ---- the sequencer --------------------------------------------------------------------------------------------------


@contextmanager
def sequencing(place: Place, tick: float, batch: int = 1024) -> Iterator["Sequencing"]:
    """A sequencer in a process of its own, for as long as the context lasts."""
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_sequence, args=(place, tick, batch, there), daemon=True)
    process.start()
    running = Sequencing(process.pid or 0, here)
    assert here.recv() == "open"
    try:
        yield running
    finally:
        running.stop()
        process.join(30)


class Sequencing:
    """`published`: (size, when) of every checkpoint, once it is stopped."""

    def __init__(self, pid: int, pipe: Connection) -> None:
        self._pid, self._pipe = pid, pipe
        self.published: list[tuple[int, float]] = []

    @property
    def memory_kib(self) -> int:
        """What it holds of main memory now."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def stop(self) -> None:
        if not self._pipe.closed:
            self._pipe.send("stop")
            self.published = self._pipe.recv()
            self._pipe.close()


def _sequence(place: Place, tick: float, batch: int, pipe: Connection) -> None:
    published: list[tuple[int, float]] = []

    def publish(note: bytes) -> None:
        published.append((int(note.split(b"\n", 2)[1]), time.monotonic()))
        if len(published) == 1:
            pipe.send("open")

    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # what is printed is the result
    with place.database() as database:
        thread = SequencerThread(place.sequencer(database, publish=publish, batch=batch), tick=tick)
        thread.start()
        pipe.recv()
        thread.stop()
    pipe.send(published)


# ---- writers --------------------------------------------------------------------------------------------------------


def into_outbox(session: Session, entries: list[bytes]) -> list[bytes]:
    return append_many(session, entries)


def into_plain_table(session: Session, entries: list[bytes]) -> list[bytes]:
    """The same rows with the same promise (each once, committed), and no tree."""
    session.execute(
        sa.text(
            "INSERT INTO plain (leaf_hash, entry) SELECT sha256(entry), entry FROM unnest(CAST(:entries AS bytea[]))"
            " AS given (entry) ON CONFLICT (leaf_hash) DO NOTHING"
        ),
        {"entries": entries},
    )
    return []


@dataclass(frozen=True)
class Load:
    """`rate` entries a second in all (0: as fast as it goes), for `seconds`, `batch` rows a transaction.

    `connections` threads are spread over `processes`. Work that is late is not dropped: the schedule waits for nobody.
    """

    into: Callable[[Session, list[bytes]], list[bytes]]
    seconds: float
    batch: int
    rate: float
    connections: int
    processes: int = 2
    entry_bytes: int = 500


@dataclass(frozen=True)
class Written:
    """`commits`: (leaf hashes, when begun, when committed) of every transaction, and the wall seconds of all."""

    commits: list[tuple[list[bytes], float, float]]
    seconds: float

    @property
    def latencies(self) -> list[float]:
        return [after - before for _, before, after in self.commits]


def write(place: Place, load: Load) -> Written:
    """Run the load and wait for it."""
    pipes, processes = [], []
    for number in range(load.processes):
        here, there = PROCESSES.Pipe()
        process = PROCESSES.Process(target=_write, args=(place, load, number, there), daemon=True)
        process.start()
        pipes.append(here)
        processes.append(process)
    for pipe in pipes:
        assert pipe.recv() == "ready"
    start = time.monotonic() + 0.2
    for pipe in pipes:
        pipe.send(start)
    commits = [commit for pipe in pipes for commit in pipe.recv()]
    for process in processes:
        process.join(30)
    return Written(commits, max(after for _, _, after in commits) - start)


def _write(place: Place, load: Load, number: int, pipe: Connection) -> None:
    threads = load.connections // load.processes
    commits: list[tuple[list[bytes], float, float]] = []
    with place.database() as database:
        with database.sessions() as session:
            session.execute(sa.text("SELECT 1"))
        pipe.send("ready")
        start = pipe.recv()

        def work(thread: int) -> None:
            writer = number * threads + thread
            every = load.batch * load.connections / load.rate if load.rate else 0.0
            turn = 0
            while True:
                due = start + (turn + writer / load.connections) * every
                now = time.monotonic()
                if (due if every else now) >= start + load.seconds:
                    return
                if due > now:
                    time.sleep(due - now)
                entries = [entry_of(writer, turn * load.batch + i, load.entry_bytes) for i in range(load.batch)]
                before = time.monotonic()
                with database.sessions.begin() as session:
                    leaves = load.into(session, entries)
                commits.append((leaves, before, time.monotonic()))
                turn += 1

        running = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        for each in running:
            each.start()
        for each in running:
            each.join()
    pipe.send(commits)
