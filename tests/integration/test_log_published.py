"""What is shown: nothing newer than the head that is durable beside the log's key, and no database behind that head."""

import contextlib
import hashlib
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ledger.database.address import Address
from ledger.database.session import Database
from ledger.errors import BadRequest, Conflict, Inconsistent, LedgerError, NotFound, TooLarge, Unavailable
from ledger.log import head as kept
from ledger.log import merkle
from ledger.log.cosignatures import Cosigner, add_signatures
from ledger.log.entries import append_many, find, inclusion, inclusion_by_index, proof, proof_by_index, wait
from ledger.log.head import SLOT_BYTES, HeadFile
from ledger.log.notes import Checkpoint, NoteSigner, sign_note
from ledger.log.sequencer import Sequencer, SequencerThread
from ledger.log.shard import Head, Query, published_head
from ledger.log.verify import check_tlog_proof
from tests.integration.log_audit import SHARD, audit, numbered, rows, submit
from tests.waiting import until

pytestmark = pytest.mark.postgres


@pytest.fixture
def signer() -> NoteSigner:
    return NoteSigner.generate("example.org/ledger/2026")


@pytest.fixture
def file(tmp_path: Path) -> HeadFile:
    return HeadFile(tmp_path / "keys" / "log.head")


def of_size(note: bytes | None) -> int:
    assert note is not None
    return Checkpoint.parse(note.decode().partition("\n\n")[0] + "\n").size


def refusal(sequencer: Sequencer) -> str:
    with pytest.raises(Inconsistent) as refused:
        sequencer.open()
    assert refused.value.next_step
    return refused.value.code


def querying(database: Database) -> Query:
    return lambda text, parameters: rows(database, text, *parameters)


def written(database: Database, signer: NoteSigner, file: HeadFile, *sizes: int) -> None:
    """Integrate `entry 0`, … up to each of `sizes` in turn."""
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, head=file)) as sequencer:
        until(sequencer.open)
        for start, end in zip((0, *sizes), sizes, strict=False):
            submit(database, *numbered(start, end))
            assert sequencer.run_once() == end - start


# ---- integrated: shown, and nothing before it is durable twice ------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "shown_size", "kept_size"), [("committed", 2, 2), ("kept", 2, 5), ("published", 5, 5)]
)
def test_a_committed_head_is_shown_only_when_it_is_kept_beside_the_key(
    database: Database, signer: NoteSigner, file: HeadFile, step: str, shown_size: int, kept_size: int
) -> None:
    failing: list[bool] = []

    def fail(reached: str) -> None:
        if failing and reached == step:
            raise OSError(step)

    with contextlib.closing(Sequencer(database.connect, signer, SHARD, head=file, step=fail)) as sequencer:
        sequencer.open()
        first = submit(database, *numbered(0, 2))
        sequencer.run_once()
        failing.append(True)
        leaf = submit(database, *numbered(2, 5))[-1]
        with pytest.raises(OSError, match=step):
            sequencer.run_once()
        assert rows(database, "SELECT max(size) FROM log_checkpoints") == [(5,)]
        assert of_size(file.read()) == kept_size
        with database.sessions() as session:
            newest = published_head(querying(database), SHARD)
            assert newest is not None
            assert newest.size == shown_size
            older = find(session, SHARD, first[0])
            assert older is not None
            assert (older.index, older.size) == (0, shown_size)
            if shown_size == 2:
                assert find(session, SHARD, leaf) is None
                for asked in (lambda: proof(session, SHARD, leaf), lambda: proof_by_index(session, SHARD, 4)):
                    with pytest.raises(NotFound) as unknown:
                        asked()
                    assert unknown.value.code == "entry_not_integrated"
                with pytest.raises(NotFound) as unknown:
                    proof_by_index(session, SHARD, 0, size=5)
                assert unknown.value.code == "size_not_published"

        failing.clear()
        until(sequencer.open)  # which publishes what was committed
        assert of_size(file.read()) == 5
    with database.sessions() as session:
        found = find(session, SHARD, leaf)
    assert found is not None
    assert (found.index, found.size) == (4, 5)
    audit(database, signer)


def test_a_head_that_cannot_be_kept_is_not_published_until_it_can(
    database: Database, signer: NoteSigner, tmp_path: Path
) -> None:
    blocked = tmp_path / "keys"
    blocked.write_text("a file where the folder should be")
    (leaf,) = submit(database, b"a")
    thread = SequencerThread(
        Sequencer(database.connect, signer, SHARD, head=HeadFile(blocked / "log.head")), tick=0.01, retry=0.01
    )
    thread.start()
    try:
        with pytest.raises(Unavailable):
            wait(database.sessions, SHARD, leaf, timeout=0.3)
        assert thread.failure is None
        assert rows(database, "SELECT count(*) FROM log_published") == [(0,)]
        blocked.unlink()
        assert wait(database.sessions, SHARD, leaf, timeout=10).index == 0
    finally:
        thread.stop()


def test_a_published_size_that_a_crash_set_back_is_moved_forward_again(
    database: Database, signer: NoteSigner, file: HeadFile
) -> None:
    written(database, signer, file, 2, 5)
    with contextlib.closing(database.connect()) as connection:
        connection.execute("UPDATE log_published SET size = 2")
        connection.commit()
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, head=file)) as sequencer:
        until(sequencer.open)
    assert rows(database, "SELECT size FROM log_published") == [(5,)]


def test_the_log_asks_no_clock(
    database: Database, signer: NoteSigner, file: HeadFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a clock that is set back changes nothing: no checkpoint holds a time, and no order depends on one."""

    def asked() -> float:
        raise AssertionError("the time was asked for")

    written(database, signer, file, 2)
    submit(database, *numbered(2, 4))
    with contextlib.closing(database.connect()) as connection:  # the database's own clock, seen from later
        connection.execute("UPDATE log_published SET published_at = now() + interval '1 day'")
        connection.commit()
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, head=file)) as sequencer:
        monkeypatch.setattr(time, "time", asked)
        monkeypatch.setattr(time, "time_ns", asked)
        until(sequencer.open)
        assert sequencer.run_once() == 2
        monkeypatch.undo()
    newest = published_head(querying(database), SHARD)
    assert newest is not None
    assert newest.note.decode().partition("\n\n")[0].count("\n") == 2  # origin, size, root
    audit(database, signer)


# ---- the file: a database behind it, beside it, or without it --------------------------------------------------------


def test_an_older_database_behind_a_live_head_is_not_written_on(
    database: Database,
    database_name: str,
    signer: NoteSigner,
    file: HeadFile,
    superuser: psycopg.Connection,
    superuser_url: str,
) -> None:
    written(database, signer, file, 2, 300)
    backup = f"{database_name}_backup"
    names = {"backup": sql.Identifier(backup), "name": sql.Identifier(database_name)}
    database.engine.dispose()
    superuser.execute(sql.SQL("CREATE DATABASE {backup} TEMPLATE {name}").format(**names))
    try:
        with contextlib.closing(Sequencer(database.connect, signer, SHARD, head=file)) as sequencer:
            until(sequencer.open)
            submit(database, b"since the backup")
            sequencer.run_once()
        url = superuser_url.replace("/postgres?", f"/{backup}?").removesuffix("/postgres")
        with Database(Address.parse(url if backup in url else f"{url}/{backup}", setting="backup")) as restored:
            submit(restored, b"another history")
            thread = SequencerThread(Sequencer(restored.connect, signer, SHARD, head=file), tick=0.01, retry=0.01)
            thread.start()
            thread.join(15)
            assert isinstance(thread.failure, Inconsistent)
            assert thread.failure.code == "log_behind_head"
            assert rows(restored, "SELECT max(size) FROM log_checkpoints") == [(300,)]
            assert rows(restored, "SELECT entry FROM log_outbox") == [(b"another history",)]
        assert of_size(file.read()) == 301
    finally:
        superuser.execute(sql.SQL("DROP DATABASE {backup} WITH (FORCE)").format(**names))
    written(database, signer, file)  # the one that the head belongs to goes on


def test_an_empty_database_behind_a_live_head_gets_no_shard(
    database: Database, signer: NoteSigner, file: HeadFile
) -> None:
    file.write(sign_note(Checkpoint(signer.name, 1, merkle.leaf_hash(b"a")).text, signer))
    assert refusal(Sequencer(database.connect, signer, SHARD, head=file)) == "log_behind_head"
    assert rows(database, "SELECT count(*) FROM log_shards") == [(0,)]


@pytest.mark.parametrize("size", [1, 2, 256, 299, 300])
def test_a_database_that_does_not_continue_the_kept_head_is_a_fork(
    database: Database, signer: NoteSigner, file: HeadFile, size: int
) -> None:
    written(database, signer, file, 300)
    file.path.unlink()
    leaves = [merkle.leaf_hash(entry) for entry in numbered(0, size - 1)] + [merkle.leaf_hash(b"another")]
    file.write(sign_note(Checkpoint(signer.name, size, merkle.root(leaves)).text, signer))
    assert refusal(Sequencer(database.connect, signer, SHARD, head=file)) == "log_forked_from_head"
    assert of_size(file.read()) == size


@pytest.mark.parametrize("size", [0, 1, 2, 256, 299, 300])
def test_a_database_that_continues_the_kept_head_goes_on(
    database: Database, signer: NoteSigner, file: HeadFile, size: int
) -> None:
    written(database, signer, file, 300)
    file.path.unlink()
    leaves = [merkle.leaf_hash(entry) for entry in numbered(0, size)]
    file.write(sign_note(Checkpoint(signer.name, size, merkle.root(leaves)).text, signer))
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, head=file)) as sequencer:
        until(sequencer.open)
    assert of_size(file.read()) == 300


def test_a_missing_head_is_adopted_by_an_operator_and_by_nobody_else(
    database: Database, signer: NoteSigner, file: HeadFile
) -> None:
    written(database, signer, file, 3)
    with pytest.raises(Conflict) as refused:
        kept.adopt(file, signer.verifier, querying(database), SHARD)
    assert refused.value.code == "log_head_exists"
    file.path.unlink()
    assert refusal(Sequencer(database.connect, signer, SHARD, head=file)) == "log_head_missing"
    assert file.read() is None
    assert kept.adopt(file, signer.verifier, querying(database), SHARD).size == 3
    written(database, signer, file)


def test_a_head_of_another_key_or_log_is_damage(database: Database, signer: NoteSigner, file: HeadFile) -> None:
    written(database, signer, file, 3)
    for other in (NoteSigner.generate(signer.name), NoteSigner("example.org/else", signer.key)):
        file.path.unlink()
        file.write(sign_note(Checkpoint(other.name, 2, b"r" * 32).text, other))
        assert refusal(Sequencer(database.connect, signer, SHARD, head=file)) == "log_head_damaged"


def test_what_is_asked_outside_is_asked_before_anything_is_signed(
    database: Database, signer: NoteSigner, file: HeadFile
) -> None:
    asked: list[Head] = []

    def ahead(head: Head) -> None:
        asked.append(head)
        raise Inconsistent("a witness is ahead", code="log_behind_witness", next_step="Restore the newest.")

    guarded = Sequencer(database.connect, signer, SHARD, head=file, check_outside=ahead)
    assert refusal(guarded) == "log_behind_witness"
    assert asked == [Head(0, merkle.EMPTY_ROOT, b"")]
    assert rows(database, "SELECT count(*) FROM log_shards") == [(0,)]
    assert file.read() is None
    written(database, signer, file, 2)
    assert refusal(guarded) == "log_behind_witness"
    assert asked[-1].size == 2


# ---- the file's own two slots ---------------------------------------------------------------------------------------


def noted(signer: NoteSigner, size: int, root: bytes = b"r" * 32) -> bytes:
    return sign_note(Checkpoint(signer.name, size, root).text, signer)


def test_a_write_that_is_cut_off_leaves_the_head_before(signer: NoteSigner, file: HeadFile) -> None:
    file.write(noted(signer, 1))
    for size in range(2, 6):
        whole = file.path.read_bytes()
        file.write(noted(signer, size))
        after = file.path.read_bytes()
        changed = [i for i in (0, 1) if whole[i * SLOT_BYTES :][:SLOT_BYTES] != after[i * SLOT_BYTES :][:SLOT_BYTES]]
        assert len(changed) == 1
        for cut in (0, 10, 64, 65, 100, 200):
            start = changed[0] * SLOT_BYTES
            torn = whole[:start] + after[start : start + cut] + whole[start + cut :]
            file.path.write_bytes(torn)
            assert of_size(file.read()) == size - 1
        file.write(noted(signer, size))  # over the torn slot, never over the whole one
        assert of_size(file.read()) == size


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 2 * SLOT_BYTES, b"x" * 100, hashlib.sha256(b"x").hexdigest().encode()]
)
def test_a_file_without_a_whole_head_is_refused_and_not_written_over(
    signer: NoteSigner, file: HeadFile, content: bytes
) -> None:
    file.write(noted(signer, 1))
    file.path.write_bytes(content)
    for use in (file.read, lambda: file.write(noted(signer, 2))):
        with pytest.raises(Inconsistent) as refused:
            use()
        assert refused.value.code == "log_head_damaged"
    assert file.path.read_bytes() == content


def test_a_head_never_goes_back_nor_changes_its_root(signer: NoteSigner, file: HeadFile) -> None:
    file.write(noted(signer, 5))
    file.write(noted(signer, 3))
    file.write(noted(signer, 5))
    assert of_size(file.read()) == 5
    with pytest.raises(Inconsistent) as refused:
        file.write(noted(signer, 5, b"s" * 32))
    assert refused.value.code == "log_forked_from_head"
    assert file.path.stat().st_mode & 0o777 == 0o600


# ---- many entries at once, and proofs by index -----------------------------------------------------------------------


def test_many_entries_are_appended_in_their_order_and_each_once(
    database: Database, signer: NoteSigner, file: HeadFile
) -> None:
    with database.sessions.begin() as session:
        leaves = append_many(session, [b"c", b"a", b"c", b"b"])
        assert append_many(session, []) == []
    assert leaves == [merkle.leaf_hash(entry) for entry in (b"c", b"a", b"c", b"b")]
    with database.sessions.begin() as session:
        append_many(session, [b"d", b"a"])
    with contextlib.closing(Sequencer(database.connect, signer, SHARD, head=file)) as sequencer:
        sequencer.open()
        assert sequencer.run_once() == 4
    assert [entry for (entry,) in rows(database, "SELECT entry FROM log_entries ORDER BY idx")] == [
        b"c",
        b"a",
        b"b",
        b"d",
    ]


@pytest.mark.parametrize(("entry", "error"), [(b"", BadRequest), (b"x" * 65_536, TooLarge)])
def test_one_bad_entry_among_many_refuses_them_all(database: Database, entry: bytes, error: type[LedgerError]) -> None:
    with database.sessions.begin() as session, pytest.raises(error):
        append_many(session, [b"good", entry])
    assert rows(database, "SELECT count(*) FROM log_outbox") == [(0,)]


def test_every_index_is_proven_under_every_checkpoint(database: Database, signer: NoteSigner, file: HeadFile) -> None:
    written(database, signer, file, 1, 256, 300, 600)
    with database.sessions() as session:
        for size in (1, 256, 300, 600, None):
            for index in {0, 1, 255, 256, 299, 511, 512, 599} & set(range(size or 600)):
                reading = check_tlog_proof(
                    b"entry %d" % index, proof_by_index(session, SHARD, index, size), [signer.vkey]
                )
                assert (reading.inclusion, reading.index, reading.size) == (True, index, size or 600)
        made = inclusion_by_index(session, SHARD, 7)
        assert made == inclusion(session, SHARD, merkle.leaf_hash(b"entry 7"))
        for index, size, code in (
            (600, None, "entry_not_integrated"),
            (256, 256, "entry_not_integrated"),
            (-1, None, "entry_not_integrated"),
            (2**63, None, "entry_not_integrated"),
            (0, 0, "entry_not_integrated"),
            (0, 299, "size_without_checkpoint"),
            (0, -1, "size_without_checkpoint"),
            (0, 601, "size_not_published"),
            (0, 2**64, "size_not_published"),
        ):
            with pytest.raises(NotFound) as unknown:
                proof_by_index(session, SHARD, index, size)
            assert unknown.value.code == code, (index, size)


# ---- witnessed: another fact ----------------------------------------------------------------------------------------


@pytest.fixture
def witness() -> Cosigner:
    return Cosigner.generate("witness.example")


def cosign(database: Database, size: int, witness: Cosigner) -> None:
    """As the witnesses' client stores it when their quorum is met."""
    ((note,),) = rows(database, "SELECT note FROM log_checkpoints WHERE size = %s", size)
    text = note.decode().partition("\n\n")[0] + "\n"
    cosigned = add_signatures(note, witness.cosign(text, 1_700_000_000))
    with contextlib.closing(database.connect()) as connection:
        connection.execute(
            "INSERT INTO log_witnessed (shard, size, policy_sha256, note) VALUES (%s, %s, sha256('p'), %s)",
            (SHARD, size, cosigned),
        )
        connection.commit()


@pytest.fixture
def witnessed_to_2(database: Database, signer: NoteSigner, file: HeadFile, witness: Cosigner) -> None:
    written(database, signer, file, 2, 5)
    with contextlib.closing(database.connect()) as connection:
        connection.execute(
            "INSERT INTO log_policies (shard, number, sha256, text, leaf_hash)"
            " VALUES (%s, 0, sha256('p'), 'p', sha256('its entry'))",
            (SHARD,),
        )
        connection.commit()
    cosign(database, 2, witness)


@pytest.mark.usefixtures("witnessed_to_2")
def test_a_witnessed_proof_is_under_the_newest_cosigned_checkpoint(
    database: Database, signer: NoteSigner, witness: Cosigner
) -> None:
    leaf = merkle.leaf_hash(b"entry 1")
    with database.sessions() as session:
        reading = check_tlog_proof(
            b"entry 1", proof(session, SHARD, leaf, witnessed=True), [signer.vkey], [witness.vkey]
        )
        assert (reading.log_key, reading.size, reading.witnesses) == ("trusted", 2, 1)
        alone = check_tlog_proof(b"entry 1", proof(session, SHARD, leaf), [signer.vkey], [witness.vkey])
        assert (alone.log_key, alone.size, alone.witnesses) == ("trusted", 5, 0)
    found = wait(database.sessions, SHARD, leaf, timeout=1, until="witnessed")
    assert (found.index, found.size) == (1, 2)


@pytest.mark.usefixtures("witnessed_to_2")
def test_an_entry_beyond_what_witnesses_saw_is_integrated_and_not_witnessed(
    database: Database, witness: Cosigner
) -> None:
    leaf = merkle.leaf_hash(b"entry 2")
    with database.sessions() as session:
        assert find(session, SHARD, leaf) is not None
        assert find(session, SHARD, leaf, witnessed=True) is None
        with pytest.raises(NotFound) as unknown:
            proof(session, SHARD, leaf, witnessed=True)
        assert unknown.value.code == "entry_not_witnessed"
    with pytest.raises(Unavailable) as late:
        wait(database.sessions, SHARD, leaf, timeout=0.05, until="witnessed")
    assert late.value.code == "witness_timeout"
    cosign(database, 5, witness)
    assert wait(database.sessions, SHARD, leaf, timeout=1, until="witnessed").size == 5
