"""What the log costs: entries through the outbox into published checkpoints, and proofs, each beside what it is not.

    python -m benchmarks.log [--quick] [--only steady|saturated|cost|peer|proofs ...]

- steady: 1,000 entries a second in single-row transactions for 60 s; from the commit of the outbox row to the
  published checkpoint that covers it, and what the sequencer holds of memory meanwhile. Beside it: the same writers'
  commits into a plain table.
- saturated: writers of 64 rows a transaction as fast as they can, until everything is published; and the sequencer
  alone on a full outbox, at 64 and at 1,024 entries a commit.
- cost: the same rows into a plain table with a unique index and no tree, in turn with the log. The ratio is the price
  of verifiability.
- peer: pymerkle on SQLite, each entry committed.
- proofs: a proof by index among 1,000,000 entries, warm and right after Postgres was started; bytes on disk an entry.
"""

import argparse
import statistics
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks.log_processes import (
    PLAIN,
    SHARD,
    Load,
    Place,
    Sequencing,
    Written,
    entry_of,
    into_outbox,
    into_plain_table,
    sequencing,
    write,
)
from benchmarks.measuring import show
from ledger.database.embedded import EmbeddedPostgres
from ledger.database.session import open_database
from ledger.log import merkle
from ledger.log.entries import inclusion_by_index
from ledger.log.notes import NoteSigner
from ledger.settings import Settings

TICK = Settings.model_fields["sequencer_tick"].default
TABLES = ("log_entries", "log_tiles", "log_checkpoints")


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds. The 99th and the worst are what somebody waits for."""
    values = np.percentile(np.asarray(seconds) * 1000, (5, 50, 95, 99, 100))
    names = ("p5_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    return {name: round(float(value), 2) for name, value in zip(names, values, strict=True)} | {"runs": len(seconds)}


class Bench:
    """A migrated embedded database, with fsync as it is, and a log that was never opened."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)  # Postgres's account has to pass when root runs this
        self.settings = Settings(_env_file=None, home=folder / "ledger")
        open_database(self.settings).close()
        self.server = EmbeddedPostgres(self.settings.postgres_folder)
        signer = NoteSigner.generate("localhost/ledger/2026")
        self.place = Place(self.server.url("lawful_app"), signer.skey, folder / "log.head")
        self.ask("lawful_owner", PLAIN)
        self.ask("lawful_owner", "GRANT SELECT, INSERT ON plain TO lawful_app")

    def ask(self, role: str, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.server.url(role), autocommit=True) as connection:
            done = connection.execute(sql, parameters)
            return done.fetchall() if done.description else []

    def size(self) -> int:
        rows = self.ask("lawful_app", "SELECT size FROM log_published WHERE shard = %s", SHARD)
        return int(rows[0][0]) if rows else 0

    def wait_for(self, size: int, timeout: float = 300.0) -> float:
        """When that many entries were published."""
        deadline = time.monotonic() + timeout
        with psycopg.connect(self.server.url("lawful_app"), autocommit=True) as connection:
            while True:
                row = connection.execute("SELECT size FROM log_published WHERE shard = %s", (SHARD,)).fetchone()
                now = time.monotonic()
                if row is not None and row[0] >= size:
                    return now
                assert now < deadline, f"{row} of {size} entries were published in {timeout} s"
                time.sleep(0.01)

    def fill_outbox(self, count: int, length: int = 500) -> None:
        table = "COPY log_outbox (leaf_hash, entry) FROM STDIN (FORMAT BINARY)"
        stamp = time.monotonic_ns()
        with psycopg.connect(self.server.url("lawful_app")) as connection, connection.cursor().copy(table) as copy:
            copy.set_types(("bytea", "bytea"))
            for number in range(count):
                entry = entry_of(stamp, number, length)
                copy.write_row((merkle.leaf_hash(entry), entry))

    def published_after(self, written: Written, running: Sequencing) -> list[float]:
        """Seconds from each entry's commit to the checkpoint that covers it, for everybody to see."""
        committed = {leaf: after for leaves, _, after in written.commits for leaf in leaves}
        places = self.ask("lawful_app", "SELECT leaf_hash, idx FROM log_entries WHERE shard = %s", SHARD)
        sizes = [size for size, _ in running.published]
        found = {leaf: running.published[bisect_right(sizes, index)][1] for leaf, index in places if leaf in committed}
        assert found.keys() == committed.keys(), "an entry that was committed is not in the log"
        return [found[leaf] - when for leaf, when in committed.items()]


def processor_seconds(pid: int) -> float:
    """What that process has used of a processor until now, by the kernel's scheduler."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


# ---- what is measured -----------------------------------------------------------------------------------------------


def steady(bench: Bench, quick: bool) -> dict[str, Any]:
    seconds = 6.0 if quick else 60.0
    load = Load(into_outbox, seconds, batch=1, rate=1000, connections=16)
    baseline = write(bench.place, Load(into_plain_table, seconds / 3, batch=1, rate=1000, connections=16))
    memory: list[int] = []
    with sequencing(bench.place, TICK) as running:
        before = bench.size()
        memory.append(running.memory_kib)
        written = write(bench.place, load)
        bench.wait_for(before + sum(len(leaves) for leaves, _, _ in written.commits))
        memory.append(running.memory_kib)
    delays = bench.published_after(written, running)
    return {
        "asked_per_s": load.rate,
        "reached_per_s": round(len(delays) / written.seconds, 1),
        "commit_to_published": percentiles(delays),
        "own_commit": percentiles(written.latencies),
        "plain_commit": percentiles(baseline.latencies),
        "plain_reached_per_s": round(len(baseline.commits) / baseline.seconds, 1),
        "checkpoints": len(running.published),
        "sequencer_memory_mib": [round(kib / 1024, 1) for kib in memory],
    }


def saturated(bench: Bench, quick: bool) -> dict[str, Any]:
    seconds = 4.0 if quick else 20.0
    with sequencing(bench.place, TICK) as running:
        before, memory = bench.size(), [running.memory_kib]
        begun = time.monotonic()
        written = write(bench.place, Load(into_outbox, seconds, batch=64, rate=0, connections=4))
        entries = sum(len(leaves) for leaves, _, _ in written.commits)
        done = bench.wait_for(before + entries)
        memory.append(running.memory_kib)
    alone = {}
    for batch in (64, 1024):
        bench.fill_outbox(count := 20_000 if quick else 100_000)
        before = bench.size()
        with sequencing(bench.place, TICK, batch=batch):
            started = time.monotonic()
            finished = bench.wait_for(before + count)
        alone[f"{batch}_a_commit_per_s"] = round(count / (finished - started))
    return {
        "writers_of_64_rows_published_per_s": round(entries / (done - begun - 0.2)),
        "entries": entries,
        "sequencer_memory_mib": [round(kib / 1024, 1) for kib in memory],
        "sequencer_alone": alone,
    }


def cost(bench: Bench, quick: bool) -> dict[str, Any]:
    """In turn, so that a machine that slows down slows both. Time until all is committed, or all is published."""
    found: dict[str, Any] = {}
    seconds = 2.0 if quick else 6.0
    for name, batch, connections in (("single_rows", 1, 16), ("rows_of_64", 64, 4)):
        plain, log = [], []
        for _ in range(2 if quick else 5):
            load = Load(into_plain_table, seconds, batch, 0, connections)
            written = write(bench.place, load)
            plain.append(len(written.commits) * batch / written.seconds)
            with sequencing(bench.place, TICK):
                before, begun = bench.size(), time.monotonic()
                written = write(bench.place, Load(into_outbox, seconds, batch, 0, connections))
                entries = len(written.commits) * batch
                log.append(entries / (bench.wait_for(before + entries) - begun - 0.2))
        found[name] = {
            "plain_per_s": round(statistics.median(plain)),
            "log_per_s": round(statistics.median(log)),
            "ratio": [round(p / q, 2) for p, q in zip(plain, log, strict=True)],
            "ratio_median": round(statistics.median(p / q for p, q in zip(plain, log, strict=True)), 2),
        }
    return found


def peer(bench: Bench, quick: bool) -> dict[str, Any]:
    """pymerkle 7 on SQLite with its own commit an entry; ours with one writer that waits for nothing but its commit."""
    from pymerkle import SqliteTree

    seconds = 3.0 if quick else 15.0
    with tempfile.TemporaryDirectory() as folder:
        tree = SqliteTree(str(Path(folder) / "tree.db"), algorithm="sha256")
        begun = time.monotonic()
        count = 0
        while time.monotonic() - begun < seconds:
            tree.append_entry(entry_of(0, count, 500))
            tree.get_root()  # a log that shows nobody its root proves nothing
            count += 1
        peer_rate = count / (time.monotonic() - begun)
    with sequencing(bench.place, TICK):
        before, begun = bench.size(), time.monotonic()
        written = write(bench.place, Load(into_outbox, seconds, 1, 0, connections=1, processes=1))
        entries = len(written.commits)
        rate = entries / (bench.wait_for(before + entries) - begun - 0.2)
    return {"pymerkle_per_s": round(peer_rate), "one_writer_per_s": round(rate), "ratio": round(rate / peer_rate, 1)}


def proofs(bench: Bench, quick: bool) -> dict[str, Any]:
    """Every proof is checked as it is made. Fresh: a new process's first ones over a Postgres that has just begun."""
    wanted = 100_000 if quick else 1_000_000
    begun = time.monotonic()
    with sequencing(bench.place, TICK, batch=20_000):
        while (size := bench.size()) < wanted:
            bench.fill_outbox(count := min(100_000, wanted - size))
            bench.wait_for(size + count)
    filled = time.monotonic() - begun
    random = np.random.default_rng(1)
    here = there = 0.0
    runs = 300 if quick else 2000
    timed: dict[str, list[float]] = {"empty": [], "warm": [], "fresh_first": [], "fresh_later": []}

    def ask(session: Any, name: str) -> None:
        begun = time.perf_counter()
        inclusion_by_index(session, SHARD, int(random.integers(wanted)))
        timed[name].append(time.perf_counter() - begun)

    with bench.place.database() as database, database.sessions() as session:
        ((pid,),) = session.connection().exec_driver_sql("SELECT pg_backend_pid()").fetchall()
        for _ in range(20):
            ask(session, "fresh_later")
        timed["fresh_later"].clear()
        for _ in range(runs):
            begun = time.perf_counter()
            session.connection().exec_driver_sql("SELECT 1").fetchall()
            timed["empty"].append(time.perf_counter() - begun)
            before = time.process_time(), processor_seconds(pid)
            ask(session, "warm")
            here, there = here + time.process_time() - before[0], there + processor_seconds(pid) - before[1]
    for _ in range(3 if quick else 15):
        bench.server.detach()
        bench.server = EmbeddedPostgres(bench.settings.postgres_folder)
        with bench.place.database() as database, database.sessions() as session:
            session.connection()
            ask(session, "fresh_first")
            for _ in range(20):
                ask(session, "fresh_later")
    stored = {
        table: int(bench.ask("lawful_owner", "SELECT pg_total_relation_size(%s)", table)[0][0]) for table in TABLES
    }
    size = bench.size()
    ((lengths,),) = bench.ask("lawful_owner", "SELECT sum(octet_length(entry)) FROM log_entries")
    return {
        "entries": size,
        "fill_s": round(filled, 1),
        "proof_by_index": {name: percentiles(values) for name, values in timed.items()},
        "processor_ms_each": {"ours": round(here / runs * 1000, 2), "postgres": round(there / runs * 1000, 2)},
        "ratio_to_empty_p50": round(statistics.median(timed["warm"]) / statistics.median(timed["empty"]), 2),
        "bytes_per_entry": {
            "entry": round(int(lengths) / size, 1),
            "stored": round(sum(stored.values()) / size, 1),
            **{table: round(value / size, 1) for table, value in stored.items()},
        },
    }


PARTS: dict[str, Callable[[Bench, bool], dict[str, Any]]] = {
    "steady": steady,
    "saturated": saturated,
    "cost": cost,
    "peer": peer,
    "proofs": proofs,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: to see that it runs")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args()
    found = {}
    for name in options.only:
        # A database of its own for each part: what one leaves behind would slow down the next.
        with tempfile.TemporaryDirectory(prefix="lawful-benchmark-") as folder:
            bench = Bench(Path(folder))
            try:
                found[name] = PARTS[name](bench, options.quick)
            finally:
                bench.server.detach()
    show(found)


if __name__ == "__main__":
    main()
