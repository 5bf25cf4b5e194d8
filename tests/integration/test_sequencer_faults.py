"""The sequencer when things break: one history, nothing lost, nothing twice, whoever dies when."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from ledger.database.session import Database
from ledger.errors import Inconsistent, LedgerError, Unavailable
from ledger.log.head import HeadFile
from ledger.log.notes import NoteSigner
from ledger.log.sequencer import Sequencer, SequencerThread, wait
from ledger.settings import Settings
from tests.integration.log_audit import SHARD, audit, numbered, rows, submit
from tests.waiting import until

pytestmark = pytest.mark.postgres

STEPS = ("moved", "tiled", "signed", "committed", "kept", "published")
"""Where a sequencer's `step` is called, in order; the commit lies before `committed`."""
BEFORE = STEPS[: STEPS.index("committed")]


@pytest.fixture
def signer() -> NoteSigner:
    return NoteSigner.generate("example.org/ledger/2026")


@pytest.fixture
def sequencer(database: Database, signer: NoteSigner) -> Iterator[Sequencer]:
    """An open one."""
    opened = Sequencer(database.connect, signer, SHARD)
    until(opened.open)
    yield opened
    opened.close()


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
    for other in (NoteSigner.generate(signer.name), NoteSigner("example.org/else", signer.key)):
        with pytest.raises(Inconsistent) as refusal:
            Sequencer(database.connect, other, SHARD).open()
        assert refusal.value.code == "log_key_mismatch"
    until(sequencer.open)


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
            until(lambda gone=lost: backends[-1] != gone)
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


@pytest.mark.parametrize("step", BEFORE)
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
            thread.join(0.3)  # it waits for this one's rows

    failures: list[tuple[Sequencer, str]] = []

    def outcome(sequencer: Sequencer) -> None:
        try:
            sequencer.run_once()
        except LedgerError as error:
            failures.append((sequencer, error.code))

    first = Sequencer(database.connect, signer, SHARD, step=let_the_other_write)
    until(first.open)
    until(other.open)
    outcome(first)
    for thread in writing:
        thread.join(15)
    assert failures == []  # it found the outbox empty, and its edge is an old one
    submit(database, b"next")
    outcome(other)
    assert failures == [(other, "sequencer_fenced")]
    assert [head.size for head in audit(database, signer)] == [0, 300]
    with pytest.raises(Unavailable):
        other.run_once()  # it is closed, and only `open` brings it back, onto what is committed
    until(other.open)
    assert other.run_once() == 1
    first.close()
    other.close()
    assert [head.size for head in audit(database, signer)] == [0, 300, 301]


# ---- death at every step --------------------------------------------------------------------------------------------

WRITER = """
import os, signal, sys, time
import psycopg
from pathlib import Path
from ledger.log.head import HeadFile
from ledger.log.notes import NoteSigner
from ledger.log.sequencer import Sequencer

step, batch = sys.argv[1:]
opened = False
def die(reached):
    if opened and reached == step:
        os.kill(os.getpid(), signal.SIGKILL)

def connect():
    return psycopg.connect(os.environ["LOG_DATABASE"])

head = HeadFile(Path(os.environ["LOG_HEAD"]))
sequencer = Sequencer(
    connect, NoteSigner.parse(os.environ["LOG_KEY"]), "2026", head=head, batch=int(batch), step=die
)
while not sequencer.open():  # the one killed before may still be on its way out
    time.sleep(0.01)
opened = True
print("open", flush=True)
while sequencer.run_once():
    pass
"""


def write_until_killed(settings: Settings, signer: NoteSigner, step: str, batch: int = 1024) -> None:
    """A sequencer in a process of its own, which is killed at its first `step`."""
    assert settings.database_url is not None
    environment = os.environ | {
        "LOG_DATABASE": settings.database_url.get_secret_value(),
        "LOG_KEY": signer.skey,
        "LOG_HEAD": str(settings.keys_folder / "log.head"),
    }
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

    written = 0 if step in BEFORE else 300
    until(lambda: rows(database, "SELECT count(*) FROM log_entries") == [(written,)])
    assert rows(database, "SELECT count(*) FROM log_outbox") == [(300 - written,)]
    assert rows(database, "SELECT count(*) FROM log_tiles") == [(written // 256,)]
    assert [head.size for head in audit(database, signer)] == ([0, 300] if written else [0])

    submit(database, *numbered(290, 310))  # callers try again, with some of the same
    head = HeadFile(settings.keys_folder / "log.head")
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, head=head)) as successor:
        until(successor.open)  # the dead one's lock goes with its connection
        assert successor.run_once() == 310 - written
    heads = audit(database, signer)
    assert heads[-1].size == 310
    assert rows(database, "SELECT count(*) FROM log_outbox") == [(0,)]


@pytest.mark.slow
def test_no_checkpoint_that_anyone_saw_is_ever_contradicted_by_many_deaths(
    database: Database, settings: Settings, signer: NoteSigner
) -> None:
    submit(database, *numbered(0, 400))
    seen: dict[int, bytes] = {}
    for step in STEPS:
        write_until_killed(settings, signer, step, batch=50)
        for size, root in rows(database, "SELECT size, root FROM log_checkpoints"):
            assert seen.setdefault(size, root) == root
    head = HeadFile(settings.keys_folder / "log.head")
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, head=head)) as successor:
        until(successor.open)
        successor.run_once()
    heads = audit(database, signer)
    assert heads[-1].size == 400
    assert {head.size: head.root for head in heads}.items() >= seen.items()


@pytest.mark.parametrize("step", STEPS)
def test_an_error_at_any_step_is_recovered_from_by_opening_again(
    database: Database, signer: NoteSigner, step: str
) -> None:
    failing: list[bool] = []

    def fail(reached: str) -> None:
        if reached == step and failing:
            failing.clear()
            raise OSError(step)

    with contextlib.closing(Sequencer(database.connect, signer, SHARD, step=fail)) as sequencer:
        sequencer.open()
        failing.append(True)
        submit(database, *numbered(0, 300))
        with pytest.raises(OSError, match=step):
            sequencer.run_once()
        until(sequencer.open)
        assert sequencer.run_once() == (300 if step in BEFORE else 0)
    assert audit(database, signer)[-1].size == 300
