"""Processes die while writers submit, with duplicates and retries; after each fault the log must be whole.

    python -m benchmarks.log_faults [--kills 200] [--seed 1]

Three sequencers stand ready, three writers hand in, one client watches from outside and keeps its state throughout.
In turn: kill -9 of the sequencer at each of its steps and at any moment, of a writer, of all sequencers at once;
Postgres stopped as by `immediate`; its backends terminated; the wire to it cut in mid-transaction; its disk full (where
this may mount a small one); clocks set back a day; an older database put back behind a live head. After each: 0
acknowledged entries lost, 0 duplicated, every checkpoint continues the ones before, the tree rebuilt from entries
equals tiles and signed roots, and the client never saw two histories. It fails at the first fault after which that is
not true.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.log_cut import Wire
from benchmarks.log_hammer import FAILED, Audit, Client, sequence, submit
from benchmarks.log_processes import PROCESSES, SHARD, Place
from benchmarks.measuring import show
from ledger.database.embedded import EmbeddedPostgres
from ledger.database.postmaster import Postmaster
from ledger.database.session import open_database
from ledger.log.notes import NoteSigner
from ledger.settings import Settings

STEPS = ("moved", "tiled", "signed", "committed", "kept", "published")
SEQUENCERS, WRITERS = 3, 3
PATIENCE = 90.0


class Arena:
    """Sequencers, writers, a client and an audit around one log. `url` is the database's as the service's role."""

    def __init__(self, url: str, folder: Path, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.wire = Wire(url)
        self.direct = Place(url, NoteSigner.generate("localhost/ledger/2026").skey, folder / "log.head")
        self.place = Place(self.wire.url, self.direct.skey, self.direct.head)
        self.client = Client(self.direct)
        self.audit = Audit(self.direct, lambda: sorted(folder.glob("writer-*.journal")))
        self.sequencers: list[tuple[ForkServerProcess, str | None]] = []
        self.writers: list[ForkServerProcess | None] = [None] * WRITERS
        self.kills: Counter[str] = Counter()
        self.disk_full: Counter[str] = Counter()
        self.clock = 0.0
        self._steps = iter(STEPS * 10_000)
        self._started = 0

    def __enter__(self) -> "Arena":
        self.client.start()
        self.man()
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()
        self.client.stop()
        self.wire.close()

    # ---- who is there ------------------------------------------------------------------------------------------

    def man(self) -> None:
        """Start whoever is missing. Each sequencer will die by itself some batches after it becomes the active one."""
        while len(self.sequencers) < SEQUENCERS:
            self.start_sequencer(next(self._steps))
        for number, writer in enumerate(self.writers):
            if writer is None or not writer.is_alive():
                journal = self.folder / f"writer-{number}.journal"
                self._started += 1
                arguments = (self.place, journal, number, self._started)
                process = PROCESSES.Process(target=submit, args=arguments, daemon=True)
                process.start()
                self.writers[number] = process

    def start_sequencer(self, step: str | None) -> ForkServerProcess:
        self._started += 1
        journal = self.folder / f"sequencer-{self._started}.failure"
        arguments = (self.place, journal, step, self.random.randint(1, 12), self.clock)
        process = PROCESSES.Process(target=sequence, args=arguments, daemon=True)
        process.start()
        self.sequencers.append((process, step))
        return process

    def reap(self) -> list[str]:
        """Bury the sequencers that died by themselves; the steps at which they did."""
        dead = [(process, step) for process, step in self.sequencers if not process.is_alive()]
        for process, step in dead:
            assert process.exitcode == -signal.SIGKILL, f"a sequencer ended with {process.exitcode}: {self.failures()}"
            self.sequencers.remove((process, step))
            self.kills[f"sequencer at {step}"] += 1
        return [step or "" for _, step in dead]

    def failures(self) -> list[str]:
        return [path.read_text() for path in self.folder.glob("*.failure")]

    def dismiss(self) -> None:
        for process in [each for each, _ in self.sequencers] + [each for each in self.writers if each]:
            process.kill()
            process.join(10)
        self.sequencers.clear()
        self.writers = [None] * WRITERS

    def kill_sequencers(self, count: int) -> None:
        for process, step in self.random.sample(self.sequencers, min(count, len(self.sequencers))):
            process.kill()
            process.join(10)
            self.sequencers.remove((process, step))
            self.kills["sequencer at any moment"] += 1

    def kill_writer(self) -> None:
        writer = self.random.choice([each for each in self.writers if each is not None and each.is_alive()])
        writer.kill()
        writer.join(10)
        self.kills["writer"] += 1

    # ---- what must be true ---------------------------------------------------------------------------------------

    def settle(self, name: str) -> int:
        """Man all places, wait until the log goes on, and audit it."""
        begun, before = time.monotonic(), None
        while True:
            self.reap()
            self.man()
            with contextlib.suppress(psycopg.Error), psycopg.connect(self.direct.url, autocommit=True) as connection:
                row = connection.execute("SELECT size FROM log_published WHERE shard = %s", (SHARD,)).fetchone()
                if row is not None:
                    before = row[0] if before is None else before
                    if row[0] > before:
                        size = self.audit.check(connection)
                        assert not self.client.contradictions, self.client.contradictions
                        return size
            assert time.monotonic() - begun < PATIENCE, f"after {name!r} nothing was published for {PATIENCE:g} s"
            time.sleep(0.02)

    def finish(self) -> dict[str, Any]:
        """Let everything that was acknowledged be integrated; then audit the whole log once more, from its start."""
        for index, writer in enumerate(self.writers):
            if writer is not None:
                writer.kill()
                writer.join(10)
                self.writers[index] = None
        deadline = time.monotonic() + PATIENCE
        with psycopg.connect(self.direct.url, autocommit=True) as connection:
            while connection.execute("SELECT 1 FROM log_outbox LIMIT 1").fetchone():
                self.reap()
                while len(self.sequencers) < SEQUENCERS:
                    self.start_sequencer(None)
                assert time.monotonic() < deadline, "the outbox did not empty"
                time.sleep(0.05)
            time.sleep(0.3)
            whole = Audit(self.direct, lambda: sorted(self.folder.glob("writer-*.journal")))
            size = whole.check(connection)
        assert whole.committed <= whole.index.keys(), "an acknowledged entry is not in the log"
        assert whole.index.items() >= self.audit.index.items(), "an entry has moved"
        assert not self.client.contradictions, self.client.contradictions
        return {
            "kills": dict(sorted(self.kills.items())),
            "kills_in_all": sum(self.kills.values()),
            "entries": size,
            "acknowledged": len(whole.committed),
            "lost": len(whole.committed - whole.index.keys()),
            "duplicated": size - len(whole.index),
            "contradictions": len(self.client.contradictions),
            "client_looks": self.client.looks,
            "client_saw_sizes": len(self.client.seen),
            "client_saw_an_older_head": self.client.stale,
            "on_a_full_disk": dict(self.disk_full),
            "writers_were_told": dict(whole.errors.most_common()),
        }


# ---- faults that need the server ------------------------------------------------------------------------------------


class Server:
    """A Postgres of one's own, to be stopped, filled and put back; its log's tables in a small tablespace."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.settings = Settings(_env_file=None, home=folder / "ledger")
        open_database(self.settings).close()
        self.postgres = EmbeddedPostgres(self.settings.postgres_folder)
        self.url = self.postgres.url("lawful_app")
        self.small = folder / "small"
        self.has_small = self._mount()
        self._backup = folder / "backup"

    def _mount(self) -> bool:
        """A disk of 256 MiB for the log's tables: only the system's administrator may mount one."""
        self.small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(self.small)]
        mounted = subprocess.run(mount, capture_output=True)
        if mounted.returncode != 0:
            return False
        inside = self.small / "tables"
        inside.mkdir()
        account = self.postgres.data.stat()
        os.chown(inside, account.st_uid, account.st_gid)
        self.ask(f"CREATE TABLESPACE small LOCATION '{inside}'")
        for table in ("log_outbox", "log_entries", "log_tiles", "log_checkpoints"):
            self.ask(f"ALTER TABLE {table} SET TABLESPACE small")
        return True

    def ask(self, sql: str) -> None:
        with psycopg.connect(self.postgres.url("postgres"), autocommit=True) as connection:
            connection.execute(sql)

    def crash(self) -> None:
        """What `pg_ctl stop -m immediate` does: no farewell, and no checkpoint of the data."""
        postmaster = Postmaster.read(self.postgres.data)
        assert postmaster is not None
        os.kill(postmaster.pid, signal.SIGQUIT)
        while postmaster.lives(self.postgres.data):
            time.sleep(0.02)

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        ballast = self.small / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 65_536)
        try:
            yield
        finally:
            ballast.unlink()

    def back_up(self) -> None:
        """A copy of the files as a crash leaves them, which Postgres recovers from."""
        self.crash()
        self._copy(self._backup / "data", self._backup / "tables")
        self.postgres.ensure_running()

    @contextlib.contextmanager
    def older_database(self) -> Iterator[None]:
        """The backup in the database's place; then the newest again."""
        newest = self._backup.with_name("newest")
        self.crash()
        self._copy(newest / "data", newest / "tables")
        self._put(self._backup)
        self.postgres.ensure_running()
        try:
            yield
        finally:
            self.crash()
            self._put(newest)
            shutil.rmtree(newest)
            self.postgres.ensure_running()

    def _copy(self, data: Path, tables: Path) -> None:
        data.parent.mkdir()
        subprocess.run(["cp", "-a", str(self.postgres.data), str(data)], check=True)
        if self.has_small:
            subprocess.run(["cp", "-a", str(self.small / "tables"), str(tables)], check=True)

    def _put(self, source: Path) -> None:
        targets = [(source / "data", self.postgres.data)]
        if self.has_small:
            targets.append((source / "tables", self.small / "tables"))
        for copy, target in targets:
            shutil.rmtree(target)
            subprocess.run(["cp", "-a", str(copy), str(target)], check=True)

    def close(self) -> None:
        self.postgres.detach()
        if self.has_small:
            subprocess.run(["umount", str(self.small)], check=True)


def crash(arena: Arena, server: Server) -> None:
    server.crash()
    arena.kills["postgres"] += 1
    time.sleep(arena.random.uniform(0, 0.2))
    server.postgres.ensure_running()


def full(arena: Arena, server: Server) -> None:
    """Until a writer has been told, or the log has stood still for three seconds: only what fits into pages that have
    room is written."""
    arena.audit.read_journals()
    before, moved = arena.audit.errors["storage_full"], time.monotonic()
    deadline, size = moved + PATIENCE, -1
    with server.full_disk(), psycopg.connect(arena.direct.url, autocommit=True) as connection:
        while arena.audit.errors["storage_full"] == before and time.monotonic() < moved + 3.0:
            arena.reap()
            arena.man()
            assert time.monotonic() < deadline, "the log went on for long on a disk that is full"
            time.sleep(0.1)
            arena.audit.read_journals()
            row = connection.execute("SELECT size FROM log_published WHERE shard = %s", (SHARD,)).fetchone()
            if row is not None and row[0] != size:
                size, moved = row[0], time.monotonic()
    arena.disk_full["a writer was told" if arena.audit.errors["storage_full"] > before else "the log stood still"] += 1


def older(arena: Arena, server: Server) -> None:
    """Every sequencer refuses it, for good, and leaves it as it was."""
    arena.dismiss()
    with server.older_database(), psycopg.connect(arena.direct.url, autocommit=True) as connection:
        count = "SELECT count(*), max(size) FROM log_checkpoints"
        before = connection.execute(count).fetchone()
        refused = [arena.start_sequencer(None) for _ in range(SEQUENCERS)]
        for process in refused:
            process.join(PATIENCE)
            assert process.exitcode == FAILED, process.exitcode
        assert set(arena.failures()) == {"log_behind_head"}, arena.failures()
        assert connection.execute(count).fetchone() == before
    arena.sequencers.clear()
    for path in arena.folder.glob("*.failure"):
        path.unlink()


def terminate(arena: Arena, _: object = None) -> None:
    """Of the service's own connections, about half."""
    with psycopg.connect(arena.direct.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()"
            " AND random() < 0.5"
        )


def clocks_back(arena: Arena, _: object = None) -> None:
    """Of every sequencer from now on; and what the database's clock wrote becomes a day younger than it is."""
    arena.clock -= 86_400.0
    arena.kill_sequencers(SEQUENCERS)
    with psycopg.connect(arena.direct.url, autocommit=True) as connection:
        connection.execute("UPDATE log_published SET published_at = now() + interval '1 day'")


Fault = Callable[[Arena, Any], object]

ANYWHERE: dict[str, Fault] = {
    "a sequencer killed at any moment": lambda arena, _: arena.kill_sequencers(1),
    "all sequencers killed at once": lambda arena, _: arena.kill_sequencers(SEQUENCERS),
    "a writer killed": lambda arena, _: arena.kill_writer(),
    "the wire cut": lambda arena, _: arena.wire.cut(),
    "backends terminated": terminate,
    "clocks set back": clocks_back,
}
WITH_A_SERVER: dict[str, Fault] = {"postgres stopped with immediate": crash, "the disk full": full}


def steps(arena: Arena, _: object = None) -> None:
    """Until one more sequencer has died by itself at the step that was chosen for it."""
    deadline = time.monotonic() + PATIENCE
    while not arena.reap():
        arena.man()
        assert time.monotonic() < deadline, "no sequencer came to its step"
        time.sleep(0.01)


def run(arena: Arena, kills: int, server: Server | None = None, told: Callable[[str], None] = print) -> dict[str, Any]:
    """All kinds of fault in turn until `kills` processes have been killed; the result of `Arena.finish`."""
    faults = dict(ANYWHERE)
    if server is not None:
        faults |= {name: fault for name, fault in WITH_A_SERVER.items() if server.has_small or fault is not full}
    applied: Counter[str] = Counter()
    arena.settle("the start")
    if server is not None:
        server.back_up()
        arena.settle("the backup")
    names = list(faults)
    turn = 0
    while sum(arena.kills.values()) < kills:
        # Every other fault is a death at a step of the sequencer, where it hurts most.
        name, fault = ("a sequencer killed at a step", steps) if turn % 2 else (names[turn // 2 % len(names)], None)
        (fault or faults[name])(arena, server)
        size = arena.settle(name)
        applied[name] += 1
        turn += 1
        told(f"{sum(arena.kills.values()):4d} kills, {size} entries: {name}")
    if server is not None:
        older(arena, server)
        applied["an older database put back"] += 1
        arena.settle("an older database put back")
    return {"faults": dict(sorted(applied.items())), **arena.finish()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lawful-benchmark-") as folder:
        server = Server(Path(folder))
        try:
            begun = time.monotonic()
            with Arena(server.url, Path(folder), options.seed) as arena:
                found = run(arena, options.kills, server)
            show({"seconds": round(time.monotonic() - begun, 1), **found})
        finally:
            server.close()


if __name__ == "__main__":
    main()
