"""The sequencer on a real Postgres: one history, nothing lost, nothing twice, whoever dies when."""

import contextlib
import itertools
import os
import secrets
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import Session

from ledger.database.session import Database
from ledger.errors import BadRequest, Inconsistent, LedgerError, NotFound, TooLarge, Unavailable
from ledger.log import entries, merkle, shard
from ledger.log.notes import Checkpoint, NoteSigner, open_note
from ledger.log.sequencer import CHANNEL, Sequencer, SequencerThread, append, find, proof, wait
from ledger.log.verify import check_tlog_proof
from ledger.settings import Settings

pytestmark = pytest.mark.postgres

SHARD = "2026"
STEPS = ("read", "copied", "tiled", "signed", "emptied", "committed")


@pytest.fixture
def signer() -> NoteSigner:
    return NoteSigner.generate("example.org/ledger/2026")


@pytest.fixture
def sequencer(database: Database, signer: NoteSigner) -> Iterator[Sequencer]:
    """An open one."""
    opened = Sequencer(database.connect, signer, SHARD)
    assert opened.open()
    yield opened
    opened.close()


def submit(database: Database, *entries: bytes) -> list[bytes]:
    with database.sessions.begin() as session:
        return [append(session, entry) for entry in entries]


def numbered(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % i for i in range(start, end)]


def rows(database: Database, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    with contextlib.closing(database.connect()) as connection:
        return connection.execute(sql, parameters).fetchall()


def audit(database: Database, signer: NoteSigner) -> list[Checkpoint]:
    """Read the whole shard as an outsider would: entries, tiles and every checkpoint agree, and each checkpoint
    continues the one before. Returns the checkpoints."""
    stored = rows(database, "SELECT idx, leaf_hash, entry FROM log_entries WHERE shard = %s ORDER BY idx", SHARD)
    assert [idx for idx, _, _ in stored] == list(range(len(stored)))
    leaves = [merkle.leaf_hash(entry) for _, _, entry in stored]
    assert leaves == [leaf for _, leaf, _ in stored]
    assert len(set(leaves)) == len(leaves)

    tiles = rows(database, "SELECT level, idx, data FROM log_tiles WHERE shard = %s", SHARD)
    rebuilt = {(tile.level, tile.index): tile.data for tile in merkle.RightEdge().append(leaves)}
    assert {(level, idx): data for level, idx, data in tiles} == rebuilt

    heads = []
    stored = rows(database, "SELECT size, root, note FROM log_checkpoints WHERE shard = %s ORDER BY size", SHARD)
    for size, root, note in stored:
        head = Checkpoint.parse(open_note(note, [signer.verifier]).text)
        assert head == Checkpoint(signer.name, size, root)
        assert root == merkle.root(leaves[:size])
        heads.append(head)
    assert heads[0].size == 0
    assert heads[-1].size == len(leaves)
    read = merkle.reader_over(leaves)
    for old, new in itertools.pairwise(heads):
        path = merkle.consistency_proof(read, old.size, new.size)
        merkle.verify_consistency(old.size, new.size, old.root, new.root, path)
    return heads


def until(condition: Callable[[], object], timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


# ---- one sequencer --------------------------------------------------------------------------------------------------


def test_a_shard_is_born_with_a_published_checkpoint_of_size_0(database: Database, signer: NoteSigner) -> None:
    published: list[bytes] = []
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, published.append)) as sequencer:
        assert sequencer.open()
    assert [head.size for head in audit(database, signer)] == [0]
    head = Checkpoint.parse(open_note(published[0], [signer.verifier]).text)
    assert head == Checkpoint(signer.name, 0, merkle.EMPTY_ROOT)
    assert rows(database, "SELECT name, origin, vkey FROM log_shards") == [(SHARD, signer.name, signer.vkey)]


def test_three_batches_are_consistent_and_every_entry_is_proven(
    database: Database, sequencer: Sequencer, signer: NoteSigner
) -> None:
    for start, end in ((0, 1), (1, 300), (300, 900)):
        submit(database, *numbered(start, end))
        assert sequencer.run_once() == end - start
    assert [head.size for head in audit(database, signer)] == [0, 1, 300, 900]
    with database.sessions() as session:
        for index in (0, 1, 255, 256, 299, 300, 767, 768, 899):
            entry = b"entry %d" % index
            reading = check_tlog_proof(entry, proof(session, SHARD, merkle.leaf_hash(entry)), [signer.vkey])
            assert (reading.inclusion, reading.log_key, reading.index, reading.size) == (True, "trusted", index, 900)


def test_entries_keep_the_order_in_which_they_were_appended(database: Database, sequencer: Sequencer) -> None:
    submit(database, *numbered(0, 20))
    sequencer.run_once()
    assert [entry for (entry,) in rows(database, "SELECT entry FROM log_entries ORDER BY idx")] == numbered(0, 20)
    assert rows(database, "SELECT count(*) FROM log_outbox") == [(0,)]


def test_a_long_outbox_is_worked_off_in_batches(database: Database, signer: NoteSigner) -> None:
    submit(database, *numbered(0, 25))
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, batch=10)) as sequencer:
        sequencer.open()
        assert [sequencer.run_once() for _ in range(4)] == [10, 10, 5, 0]
    assert [head.size for head in audit(database, signer)] == [0, 10, 20, 25]


def test_an_entry_appended_again_keeps_its_one_place(
    database: Database, sequencer: Sequencer, signer: NoteSigner
) -> None:
    first = submit(database, b"a", b"b", b"a")
    assert first[0] == first[2]
    assert sequencer.run_once() == 2
    submit(database, b"a")  # after it was integrated: it waits in the outbox and is dropped there
    assert rows(database, "SELECT count(*) FROM log_outbox") == [(1,)]
    assert sequencer.run_once() == 0
    assert rows(database, "SELECT count(*) FROM log_outbox") == [(0,)]
    submit(database, b"c", b"b")
    assert sequencer.run_once() == 1
    assert [head.size for head in audit(database, signer)] == [0, 2, 3]


def test_an_append_that_is_rolled_back_never_reaches_the_log(database: Database, sequencer: Sequencer) -> None:
    with database.sessions() as session:
        leaf = append(session, b"never")
        session.rollback()
    assert sequencer.run_once() == 0
    with database.sessions() as session:
        assert find(session, SHARD, leaf) is None


def test_a_transaction_that_commits_late_is_not_skipped(
    database: Database, sequencer: Sequencer, signer: NoteSigner
) -> None:
    with database.sessions() as slow:
        late = append(slow, b"late")  # takes the smaller id
        submit(database, b"early")
        assert sequencer.run_once() == 1
        slow.commit()
    assert sequencer.run_once() == 1
    with database.sessions() as session:
        place = find(session, SHARD, late)
    assert place is not None
    assert place.index == 1
    audit(database, signer)


@pytest.mark.parametrize(("entry", "error"), [(b"", BadRequest), (b"x" * 65_536, TooLarge)])
def test_an_entry_that_no_bundle_can_hold_is_refused_at_once(
    database: Database, entry: bytes, error: type[LedgerError]
) -> None:
    with database.sessions() as session, pytest.raises(error):
        append(session, entry)


def test_the_largest_entry_is_logged(database: Database, sequencer: Sequencer, signer: NoteSigner) -> None:
    submit(database, b"\0" * 65_535)
    assert sequencer.run_once() == 1
    audit(database, signer)


def test_listeners_and_the_publisher_hear_of_a_checkpoint_after_it_is_committed(
    database: Database, signer: NoteSigner
) -> None:
    seen: list[int] = []

    def publish(note: bytes) -> None:
        size = Checkpoint.parse(open_note(note, [signer.verifier]).text).size
        # Read over another connection: what is published is there for everybody.
        assert rows(database, "SELECT note FROM log_checkpoints WHERE size = %s", size) == [(note,)]
        seen.append(size)

    with contextlib.closing(database.connect()) as listener:
        listener.autocommit = True
        listener.execute(f"LISTEN {CHANNEL}")
        with contextlib.closing(Sequencer(database.connect, signer, SHARD, publish)) as sequencer:
            sequencer.open()
            submit(database, b"a", b"b")
            sequencer.run_once()
            sequencer.run_once()
        heard = [note.payload for note in listener.notifies(timeout=5, stop_after=1)]
    assert seen == [0, 2]
    assert heard == [f"{SHARD} 2"]


def test_a_closed_sequencer_says_so(database: Database, signer: NoteSigner) -> None:
    with pytest.raises(Unavailable) as refusal:
        Sequencer(database.connect, signer, SHARD).run_once()
    assert refusal.value.code == "sequencer_closed"


# ---- finding, waiting, proving --------------------------------------------------------------------------------------


def test_waiting_ends_when_the_entry_is_integrated(database: Database, signer: NoteSigner) -> None:
    (leaf,) = submit(database, b"awaited")
    thread = SequencerThread(Sequencer(database.connect, signer, SHARD), tick=0.01)
    thread.start()
    try:
        integrated = wait(database.sessions, SHARD, leaf, timeout=10)
    finally:
        thread.stop()
    assert (integrated.index, integrated.size) == (0, 1)
    assert Checkpoint.parse(open_note(integrated.checkpoint, [signer.verifier]).text).size == 1
    assert thread.failure is None
    assert not thread.active


def test_waiting_gives_up_in_time_and_loses_nothing(
    database: Database, sequencer: Sequencer, signer: NoteSigner
) -> None:
    (leaf,) = submit(database, b"slow")
    begun = time.monotonic()
    with pytest.raises(Unavailable) as refusal:
        wait(database.sessions, SHARD, leaf, timeout=0.2)
    assert refusal.value.code == "log_timeout"
    assert 0.2 <= time.monotonic() - begun < 2
    sequencer.run_once()
    assert wait(database.sessions, SHARD, leaf, timeout=0).index == 0


def test_there_is_no_proof_of_what_is_not_in_the_log(database: Database, sequencer: Sequencer) -> None:
    (leaf,) = submit(database, b"waiting")
    with database.sessions() as session, pytest.raises(NotFound) as refusal:
        proof(session, SHARD, leaf)
    assert refusal.value.code == "entry_not_integrated"
    sequencer.run_once()
    with database.sessions() as session:
        assert proof(session, SHARD, leaf)
        assert find(session, "2027", leaf) is None


def test_two_databases_whose_logs_have_one_key_do_not_mix_up_their_tiles(
    database: Database, sequencer: Sequencer, signer: NoteSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Roots of tiles are remembered by the log's key: those of another tree must neither be believed nor stay.
    wrong = {(0, 0): merkle.leaf_hash(b"another tree's tile"), (0, 1): merkle.leaf_hash(b"and another")}
    monkeypatch.setattr(entries, "_remembered", {signer.vkey: wrong})
    leaves = submit(database, *numbered(0, 600))
    sequencer.run_once()
    with database.sessions() as session:
        reading = check_tlog_proof(b"entry 599", proof(session, SHARD, leaves[599]), [signer.vkey])
    assert reading.inclusion
    assert wrong == {
        (0, 0): merkle.tile_root(b"".join(leaves[:256])),
        (0, 1): merkle.tile_root(b"".join(leaves[256:512])),
    }


def test_a_proof_in_a_log_of_100_000_entries_needs_few_rows_and_little_time(
    database: Database, signer: NoteSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_many(database, 100_000)
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, batch=20_000)) as sequencer:
        sequencer.open()
        assert sum(sequencer.run_once() for _ in range(5)) == 100_000
    fetched: list[int] = []
    query = entries._query

    def counted(session: Session) -> shard.Query:
        def run(sql: str, parameters: tuple[Any, ...]) -> Sequence[Sequence[Any]]:
            rows = query(session)(sql, parameters)
            fetched.append(len(rows))
            return rows

        return run

    monkeypatch.setattr(entries, "_query", counted)
    hashes = []
    head = merkle.EMPTY_ROOT
    with database.sessions() as session:
        proof(session, SHARD, merkle.leaf_hash(b"entry 0"))  # the first one hashes the edge's 134 full tiles
        for index in (0, 99_999, 65_535, 65_536, *(secrets.randbelow(100_000) for _ in range(60))):
            entry = b"entry %d" % index
            fetched.clear()
            begun = time.process_time()
            made = proof(session, SHARD, merkle.leaf_hash(entry))
            done = time.process_time()
            for _ in range(1000):
                merkle.node_hash(head, head)
            hashes.append((done - begun) / (time.process_time() - done) * 1000)
            reading = check_tlog_proof(entry, made, [signer.vkey])
            assert (reading.inclusion, reading.log_key, reading.index) == (True, "trusted", index)
            assert len(fetched) <= 5  # the place, a tile on each of two levels, and the two partial ones at the edge
            assert sum(fetched) <= 1 + 3 + 255
    # In node hashes, since the machine may be busy: 5 ms where one takes 1.25 µs. All leaves would be 100,000.
    assert statistics.median(hashes) < 4000


def submit_many(database: Database, count: int) -> None:
    """As `append` does, for more entries than one statement each allows in a test."""
    with contextlib.closing(database.connect()) as connection:
        with connection.cursor().copy("COPY log_outbox (leaf_hash, entry) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(("bytea", "bytea"))
            for entry in numbered(0, count):
                copy.write_row((merkle.leaf_hash(entry), entry))
        connection.commit()


# ---- what must not be written on ------------------------------------------------------------------------------------


@pytest.fixture
def owner(database: Database, superuser_url: str, database_name: str) -> Iterator[psycopg.Connection]:
    """The database's superuser, who can do what the triggers forbid: a disk fault, a hand in the tables."""
    with psycopg.connect(superuser_url, dbname=database_name, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for table in ("log_entries", "log_tiles", "log_checkpoints", "log_shards"):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        yield connection


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("UPDATE log_entries SET leaf_hash = sha256('x') WHERE idx = 299", "log_root"),
        ("UPDATE log_entries SET entry = 'x' WHERE idx = 299", "log_root"),
        ("UPDATE log_tiles SET data = decode(repeat('00', 8192), 'hex')", "log_root"),
        ("UPDATE log_checkpoints SET root = sha256('x') WHERE size = 300", "log_checkpoint"),
        ("UPDATE log_checkpoints SET note = 'x' WHERE size = 300", "log_checkpoint"),
        ("UPDATE log_checkpoints SET note = (SELECT note FROM log_checkpoints WHERE size = 200)", "log_checkpoint"),
        ("DELETE FROM log_entries WHERE idx = 299", "log_incomplete"),
        ("DELETE FROM log_entries WHERE idx = 270", "log_incomplete"),
        ("DELETE FROM log_entries", "log_incomplete"),
        ("DELETE FROM log_tiles", "log_incomplete"),
        ("DELETE FROM log_checkpoints WHERE size = 300", "log_incomplete"),
        ("DELETE FROM log_checkpoints", "log_incomplete"),
        ("UPDATE log_shards SET vkey = 'other'", "log_key_mismatch"),
        ("UPDATE log_shards SET origin = 'other'", "log_key_mismatch"),
    ],
)
def test_a_damaged_log_is_not_written_on(
    database: Database, sequencer: Sequencer, signer: NoteSigner, owner: psycopg.Connection, damage: str, code: str
) -> None:
    for start, end in ((0, 200), (200, 300)):
        submit(database, *numbered(start, end))
        sequencer.run_once()
    sequencer.close()
    assert owner.execute(damage).rowcount >= 1
    before = rows(database, "SELECT count(*), (SELECT count(*) FROM log_checkpoints) FROM log_entries")
    submit(database, b"new")
    thread = SequencerThread(Sequencer(database.connect, signer, SHARD), tick=0.01, retry=0.01)
    thread.start()
    thread.join(15)
    assert not thread.is_alive()
    assert isinstance(thread.failure, Inconsistent)
    assert (thread.failure.code, bool(thread.failure.next_step)) == (code, True)
    assert rows(database, "SELECT count(*), (SELECT count(*) FROM log_checkpoints) FROM log_entries") == before
    assert rows(database, "SELECT entry FROM log_outbox") == [(b"new",)]


def test_another_key_cannot_take_up_a_log(database: Database, sequencer: Sequencer, signer: NoteSigner) -> None:
    sequencer.close()
    for other in (NoteSigner.generate(signer.name), NoteSigner("example.org/else", signer.private_key)):
        with pytest.raises(Inconsistent) as refusal:
            Sequencer(database.connect, other, SHARD).open()
        assert refusal.value.code == "log_key_mismatch"
    assert sequencer.open()


def test_an_outbox_row_under_another_entrys_hash_stops_the_log(database: Database, sequencer: Sequencer) -> None:
    with contextlib.closing(database.connect()) as connection:
        connection.execute("INSERT INTO log_outbox (leaf_hash, entry) VALUES (sha256('x'), 'y')")
        connection.commit()
    with pytest.raises(Inconsistent) as refusal:
        sequencer.run_once()
    assert refusal.value.code == "outbox_leaf_hash"


# ---- two sequencers -------------------------------------------------------------------------------------------------


def test_one_writes_the_other_stands_by_and_takes_over(database: Database, signer: NoteSigner) -> None:
    threads = [SequencerThread(Sequencer(database.connect, signer, SHARD), tick=0.01, retry=0.05) for _ in range(2)]
    threads[0].start()
    until(lambda: threads[0].active)
    threads[1].start()
    try:
        (leaf,) = submit(database, b"first")
        wait(database.sessions, SHARD, leaf, timeout=10)
        assert [thread.active for thread in threads] == [True, False]
        threads[0].stop()
        until(lambda: threads[1].active)
        (leaf,) = submit(database, b"second")
        assert wait(database.sessions, SHARD, leaf, timeout=10).index == 1
    finally:
        for thread in threads:
            thread.stop()
    assert [thread.failure for thread in threads] == [None, None]
    audit(database, signer)


def test_a_lost_connection_sends_the_writer_back_to_standing_by(
    database: Database, signer: NoteSigner, owner: psycopg.Connection
) -> None:
    backends: list[int] = []

    def connect() -> psycopg.Connection:
        connection = database.connect()
        backends.append(connection.info.backend_pid)
        return connection

    thread = SequencerThread(Sequencer(connect, signer, SHARD), tick=0.01, retry=0.05)
    thread.start()
    try:
        for i in range(3):
            until(lambda: thread.active)
            (leaf,) = submit(database, b"entry %d" % i)
            assert wait(database.sessions, SHARD, leaf, timeout=10).index == i
            lost = backends[-1]
            owner.execute("SELECT pg_terminate_backend(%s)", (lost,))
            until(lambda lost=lost: backends[-1] != lost)
        until(lambda: thread.active)
    finally:
        thread.stop()
    assert thread.failure is None
    audit(database, signer)


def test_a_database_that_comes_up_late_is_waited_for(database: Database, signer: NoteSigner) -> None:
    down = threading.Event()
    down.set()

    def connect() -> psycopg.Connection:
        if down.is_set():
            raise Unavailable("down", code="database_down", next_step="Wait.")
        return database.connect()

    thread = SequencerThread(Sequencer(connect, signer, SHARD), tick=0.01, retry=0.01)
    thread.start()
    try:
        time.sleep(0.1)
        assert thread.is_alive()
        assert not thread.active
        down.clear()
        until(lambda: thread.active)
    finally:
        thread.stop()


@pytest.mark.parametrize("step", STEPS[:-1])
def test_a_second_writer_without_the_lock_dies_on_the_primary_key(
    database: Database, signer: NoteSigner, owner: psycopg.Connection, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are open on the same edge, as after a lock lost unnoticed; the other writes when this one is at `step`."""
    monkeypatch.setattr("ledger.log.sequencer._locked", lambda connection: True)
    submit(database, *numbered(0, 300))
    other = Sequencer(database.connect, signer, SHARD)
    writing: list[threading.Thread] = []

    def let_the_other_write(reached: str) -> None:
        if reached == step and not writing:
            thread = threading.Thread(target=outcome, args=(other,))
            writing.append(thread)
            thread.start()
            # From `copied` on, the other waits for this one's rows and then fails; before that it gets through.
            thread.join(15 if step == "read" else 0.3)

    failures: list[tuple[Sequencer, str]] = []

    def outcome(sequencer: Sequencer) -> None:
        try:
            sequencer.run_once()
        except LedgerError as error:
            failures.append((sequencer, error.code))

    first = Sequencer(database.connect, signer, SHARD, step=let_the_other_write)
    assert first.open()
    assert other.open()
    outcome(first)
    for thread in writing:
        thread.join(15)
    fenced = first if step == "read" else other
    assert failures == [(fenced, "sequencer_fenced")]
    assert [head.size for head in audit(database, signer)] == [0, 300]
    with pytest.raises(Unavailable):
        fenced.run_once()  # it is closed, and only `open` brings it back, onto what is committed
    assert fenced.open()
    submit(database, b"next")
    assert fenced.run_once() == 1
    first.close()
    other.close()
    assert [head.size for head in audit(database, signer)] == [0, 300, 301]


# ---- death at every step --------------------------------------------------------------------------------------------

WRITER = """
import os, signal, sys, time
import psycopg
from ledger.log.notes import NoteSigner
from ledger.log.sequencer import Sequencer

step, batch = sys.argv[1:]
def die(reached):
    if reached == step:
        os.kill(os.getpid(), signal.SIGKILL)

def connect():
    return psycopg.connect(os.environ["LOG_DATABASE"])

sequencer = Sequencer(connect, NoteSigner.parse(os.environ["LOG_KEY"]), "2026", batch=int(batch), step=die)
while not sequencer.open():  # the one killed before may still be on its way out
    time.sleep(0.01)
print("open", flush=True)
while sequencer.run_once():
    pass
"""


def write_until_killed(settings: Settings, signer: NoteSigner, step: str, batch: int = 1024) -> None:
    """A sequencer in a process of its own, which is killed at its first `step`."""
    assert settings.database_url is not None
    environment = os.environ | {"LOG_DATABASE": settings.database_url.get_secret_value(), "LOG_KEY": signer.skey}
    arguments = [sys.executable, "-c", WRITER, step, str(batch)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "open\n", done.stderr
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_a_process_that_is_killed_leaves_all_of_its_batch_or_none(
    database: Database, settings: Settings, signer: NoteSigner, step: str
) -> None:
    submit(database, *numbered(0, 300))
    write_until_killed(settings, signer, step)

    written = 300 if step == "committed" else 0
    until(lambda: rows(database, "SELECT count(*) FROM log_entries") == [(written,)])
    assert rows(database, "SELECT count(*) FROM log_outbox") == [(300 - written,)]
    assert rows(database, "SELECT count(*) FROM log_tiles") == [(written // 256,)]
    assert [head.size for head in audit(database, signer)] == ([0, 300] if written else [0])

    submit(database, *numbered(290, 310))  # callers try again, with some of the same
    with contextlib.closing(Sequencer(database.connect, signer, SHARD)) as successor:
        until(successor.open)  # the dead one's lock goes with its connection
        assert successor.run_once() == 310 - written
    heads = audit(database, signer)
    assert heads[-1].size == 310
    assert rows(database, "SELECT count(*) FROM log_outbox") == [(0,)]


def test_no_checkpoint_that_anyone_saw_is_ever_contradicted_by_many_deaths(
    database: Database, settings: Settings, signer: NoteSigner
) -> None:
    submit(database, *numbered(0, 400))
    seen: dict[int, bytes] = {}
    for step in STEPS:
        write_until_killed(settings, signer, step, batch=50)
        for size, root in rows(database, "SELECT size, root FROM log_checkpoints"):
            assert seen.setdefault(size, root) == root
    with contextlib.closing(Sequencer(database.connect, signer, SHARD)) as successor:
        until(successor.open)
        successor.run_once()
    heads = audit(database, signer)
    assert heads[-1].size == 400
    assert {head.size: head.root for head in heads}.items() >= seen.items()


@pytest.mark.parametrize("step", STEPS)
def test_an_error_at_any_step_is_recovered_from_by_opening_again(
    database: Database, signer: NoteSigner, step: str
) -> None:
    failing = [True]

    def fail(reached: str) -> None:
        if reached == step and failing:
            failing.clear()
            raise OSError(step)

    with contextlib.closing(Sequencer(database.connect, signer, SHARD, step=fail)) as sequencer:
        sequencer.open()
        submit(database, *numbered(0, 300))
        with pytest.raises(OSError, match=step):
            sequencer.run_once()
        assert sequencer.open()
        assert sequencer.run_once() == (0 if step == "committed" else 300)
    assert audit(database, signer)[-1].size == 300
