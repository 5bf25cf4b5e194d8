"""The sequencer on a real Postgres: what is appended is integrated once, in order, and proven."""

import contextlib
import secrets
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy.orm import Session

from ledger.database.session import Database
from ledger.errors import BadRequest, LedgerError, NotFound, TooLarge, Unavailable
from ledger.log import entries, merkle, shard
from ledger.log.notes import Checkpoint, NoteSigner, open_note
from ledger.log.sequencer import CHANNEL, Sequencer, SequencerThread, append, find, proof, wait
from ledger.log.verify import check_tlog_proof
from tests.integration.log_audit import SHARD, audit, numbered, rows, submit
from tests.waiting import until

pytestmark = pytest.mark.postgres


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


# ---- one sequencer --------------------------------------------------------------------------------------------------


def test_a_shard_is_born_with_a_published_checkpoint_of_size_0(database: Database, signer: NoteSigner) -> None:
    published: list[bytes] = []
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, published.append)) as sequencer:
        until(sequencer.open)
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


def test_listeners_and_the_publisher_hear_of_a_checkpoint_after_it_is_published(
    database: Database, signer: NoteSigner
) -> None:
    seen: list[int] = []

    def publish(note: bytes) -> None:
        size = Checkpoint.parse(open_note(note, [signer.verifier]).text).size
        # Read over another connection: what is published is there for everybody, and shown.
        shown = "SELECT note FROM log_checkpoints JOIN log_published USING (shard, size) WHERE size = %s"
        assert rows(database, shown, size) == [(note,)]
        seen.append(size)

    with contextlib.closing(database.connect()) as listener:
        listener.autocommit = True
        listener.execute(f"LISTEN {CHANNEL}")
        with contextlib.closing(Sequencer(database.connect, signer, SHARD, publish)) as sequencer:
            sequencer.open()
            submit(database, b"a", b"b")
            sequencer.run_once()
            sequencer.run_once()
        heard = [note.payload for note in listener.notifies(timeout=5, stop_after=2)]
    assert seen == [0, 2]
    assert heard == [f"{SHARD} 0", f"{SHARD} 2"]


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


@pytest.mark.slow
def test_a_proof_in_a_log_of_100_000_entries_needs_two_rows_and_little_time(
    database: Database, signer: NoteSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_many(database, 100_000)
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, batch=20_000)) as sequencer:
        sequencer.open()
        assert sum(sequencer.run_once() for _ in range(5)) == 100_000
    fetched: list[int] = []
    query = entries.query_of

    def counted(session: Session) -> shard.Query:
        def run(sql: str, parameters: tuple[Any, ...]) -> Sequence[Sequence[Any]]:
            rows = query(session)(sql, parameters)
            fetched.append(len(rows))
            return rows

        return run

    monkeypatch.setattr(entries, "query_of", counted)
    hashes = []
    head = merkle.EMPTY_ROOT
    with database.sessions() as session:
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
            assert fetched == [1, 1]  # the place, and all tiles put together by the database
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
