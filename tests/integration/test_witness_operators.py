"""Two operators who watch each other, and what becomes of one who puts back, or rewrites, what the other has seen."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ledger import genesis
from ledger.errors import Inconsistent
from ledger.log import merkle
from ledger.log.entries import find, wait
from ledger.log.head import HeadFile
from ledger.log.notes import Checkpoint, Note, NoteVerifier, open_note, sign_note
from ledger.log.sequencer import SequencerThread
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings
from tests.integration.witness_at_work import Served, a_witness, copy_database, policy, write
from tests.waiting import until

pytestmark = pytest.mark.postgres

NORTH, SOUTH = "north.example/ledger/2026", "south.example/ledger/2026"


@dataclass
class Operator:
    """A founded ledger, and the name of its database."""

    settings: Settings
    database: str
    key: NoteVerifier

    def trust(self, *witnesses: Served) -> None:
        path = policy(self.settings.home / "policy", [(each.vkey, each.url) for each in witnesses])
        self.settings = self.settings.model_copy(update={"witness_policy": path, "witness_interval": 0.1})

    @contextlib.contextmanager
    def running(self) -> Iterator[tuple[Runtime, SequencerThread]]:
        with open_runtime(self.settings) as runtime, sequencing(runtime) as sequencer:
            yield runtime, sequencer

    @property
    def head(self) -> HeadFile:
        return HeadFile(self.settings.keys_folder / "log.head")


@pytest.fixture
def north(settings: Settings, tmp_path: Path, database_name: str) -> Operator:
    return operator(settings, tmp_path / "north", NORTH, database_name)


@pytest.fixture
def south(settings: Settings, tmp_path: Path, superuser: psycopg.Connection, template: str) -> Iterator[Operator]:
    name = f"test_{uuid.uuid4().hex}"
    copy_database(superuser, template, name)
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    first = settings.database_url.get_secret_value().rpartition("/")[2].partition("?")[0]
    given = {"database_url": settings.database_url, "database_owner_url": settings.database_owner_url}
    urls = {each: value.get_secret_value().replace(first, name) for each, value in given.items()}
    yield operator(Settings(_env_file=None, **urls), tmp_path / "south", SOUTH, name)  # type: ignore[arg-type]
    superuser.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def operator(settings: Settings, home: Path, origin: str, database: str) -> Operator:
    home.mkdir()
    own = settings.model_copy(update={"home": home, "origin": origin})
    return Operator(own, database, NoteVerifier.parse(genesis.found(own).log_vkey))


@pytest.fixture
def backup(superuser: psycopg.Connection, north: Operator) -> Iterator[str]:
    """The name of a database to copy to."""
    name = f"{north.database}_old"
    yield name
    superuser.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def witness_some(ledger: Operator, *texts: str) -> int:
    """Run the ledger until these entries are witnessed; returns the size that is."""
    with ledger.running() as (runtime, _):
        return max(wait(runtime.sessions, "2026", leaf, 20, until="witnessed").size for leaf in write(runtime, *texts))


def refusal(ledger: Operator) -> Inconsistent:
    """What ends its sequencer for good at the start."""
    with ledger.running() as (_, sequencer):
        until(lambda: sequencer.failure is not None)
        assert not sequencer.active
        assert isinstance(sequencer.failure, Inconsistent)
        return sequencer.failure


def test_two_ledgers_watch_each_other(north: Operator, south: Operator, tmp_path: Path) -> None:
    with a_witness(tmp_path / "wn", south.key, name="north.example/w") as of_north:
        with a_witness(tmp_path / "ws", north.key, name="south.example/w") as of_south:
            north.trust(of_south)
            south.trust(of_north)
            with north.running() as (one, _), south.running() as (other, _):
                for turn in range(3):
                    for runtime in (one, other):
                        (leaf,) = write(runtime, f"{runtime.settings.origin} {turn}")
                        found = wait(runtime.sessions, "2026", leaf, 20, until="witnessed")
                        watcher = of_south if runtime is one else of_north
                        keys = [watcher.witness.cosigner.verifier, runtime.keys.log.verifier]
                        assert open_note(found.checkpoint, keys).signed_by == set(keys)
        sizes = {of_south.size(NORTH), of_north.size(SOUTH)}
        assert None not in sizes


def test_an_older_database_behind_a_live_witness_does_not_start(
    north: Operator, superuser: psycopg.Connection, backup: str, tmp_path: Path
) -> None:
    """With everything beside it put back too: database, head file, keys are all those of before."""
    with a_witness(tmp_path / "w", north.key) as served:
        north.trust(served)
        before = witness_some(north, "first", "second")
        copy_database(superuser, north.database, backup)
        shutil.copytree(north.settings.home, tmp_path / "home of before")
        after = witness_some(north, "third", "fourth", "fifth")
        assert after > before
        copy_database(superuser, backup, north.database)
        north.settings = north.settings.model_copy(update={"home": tmp_path / "home of before"})
        error = refusal(north)
        assert error.code == "log_behind_witness"
        assert f"holds a checkpoint of {after} entries signed by this log's key" in error.detail
        assert f"this database ends at {before}" in error.detail
        (kept,) = (north.settings.home / "evidence").iterdir()
        held = served.witness.held(NORTH)
        assert held is not None
        assert held.note in kept.read_bytes()
        assert refusal(north).code == "log_behind_witness"  # and it stays refused
        with open_runtime(north.settings) as runtime:
            write(runtime, "never")
        assert refusal(north).code == "log_behind_witness"
        assert served.size(NORTH) == after


def test_a_log_founded_anew_under_its_old_keys_does_not_start(
    north: Operator, superuser: psycopg.Connection, template: str, tmp_path: Path
) -> None:
    with a_witness(tmp_path / "w", north.key) as served:
        north.trust(served)
        size = witness_some(north, "first", "second")
        copy_database(superuser, template, north.database)
        north.head.path.unlink()
        genesis.found(north.settings)
        error = refusal(north)
        assert (error.code, served.size(NORTH)) == ("log_behind_witness", size)


def rewrite(ledger: Operator, superuser_url: str, old: str, new: str) -> None:
    """What a dishonest operator can do to a small log: change an entry, and sign the tree that results."""
    with open_runtime(ledger.settings) as runtime:
        signer = runtime.keys.log
    with psycopg.connect(superuser_url, dbname=ledger.database, autocommit=True) as connection:
        for table in ("log_entries", "log_checkpoints"):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        values = [new.encode(), merkle.leaf_hash(new.encode()), old.encode()]
        assert connection.execute("UPDATE log_entries SET entry=%s, leaf_hash=%s WHERE entry=%s", values).rowcount == 1
        leaves = [row[0] for row in connection.execute("SELECT leaf_hash FROM log_entries ORDER BY idx").fetchall()]
        assert len(leaves) < 256
        for (size,) in connection.execute("SELECT size FROM log_checkpoints").fetchall():
            root = merkle.root(leaves[:size])
            note = sign_note(Checkpoint(signer.name, size, root).text, signer)
            connection.execute("UPDATE log_checkpoints SET root=%s, note=%s WHERE size=%s", [root, note, size])
        for table in ("log_entries", "log_checkpoints"):
            connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER only_grows")
    ledger.head.path.unlink()
    ledger.head.write(note)


def test_an_entry_that_was_edited_and_signed_again_is_found_at_the_next_start(
    north: Operator, superuser_url: str, tmp_path: Path
) -> None:
    with a_witness(tmp_path / "w", north.key) as served:
        north.trust(served)
        size = witness_some(north, "first", "second", "third")
        rewrite(north, superuser_url, "second", "never happened")
        error = refusal(north)
        assert error.code == "log_forked_from_witness"
        assert f"holds another root for the first {size} entries, signed by this log's key" in error.detail
        (kept,) = (north.settings.home / "evidence").iterdir()
        held, forged = (Note.parse(part) for part in _notes(kept.read_bytes()))
        for note in (held, forged):  # both by the log's own key: together they convict it
            assert Checkpoint.parse(note.text).size == size
        assert (
            open_note(_notes(kept.read_bytes())[0], [north.key]).text
            != open_note(_notes(kept.read_bytes())[1], [north.key]).text
        )


def _notes(kept: bytes) -> list[bytes]:
    _, _, rest = kept.partition(b"held by a witness\n\n")
    first, _, second = rest.partition(b"\nin this database\n\n")
    return [first, second]


def test_a_rewritten_log_that_starts_while_its_witness_is_away_is_stopped_when_it_comes_back(
    north: Operator, superuser_url: str, tmp_path: Path
) -> None:
    with a_witness(tmp_path / "w", north.key) as served:
        north.trust(served)
        size = witness_some(north, "first", "second", "third")
    rewrite(north, superuser_url, "second", "never happened")
    port = int(served.url.rpartition(":")[2])
    with north.running() as (runtime, sequencer):
        (leaf,) = write(runtime, "fourth")
        assert wait(runtime.sessions, "2026", leaf, 20).size > size  # integrated, by the log's own word
        with a_witness(tmp_path / "w", north.key, port=port) as again:
            until(lambda: sequencer.failure is not None, timeout=30)
            assert isinstance(sequencer.failure, Inconsistent)
            assert sequencer.failure.code == "log_forked_from_witness"
            until(lambda: not sequencer.is_alive())
            assert again.size(NORTH) == size
            assert list((tmp_path / "w" / "conflicts").iterdir())  # the witness keeps what it refused
            with runtime.sessions() as session:
                assert find(session, "2026", leaf, witnessed=True) is None


def test_an_older_database_that_starts_while_its_witness_is_away_is_stopped_when_it_comes_back(
    north: Operator, superuser: psycopg.Connection, backup: str, tmp_path: Path
) -> None:
    with a_witness(tmp_path / "w", north.key) as served:
        north.trust(served)
        witness_some(north, "first", "second")
        copy_database(superuser, north.database, backup)
        head = north.head.read()
        after = witness_some(north, *(f"entry {i}" for i in range(10)))
    copy_database(superuser, backup, north.database)
    north.head.path.unlink()
    assert head is not None
    north.head.write(head)
    port = int(served.url.rpartition(":")[2])
    with north.running() as (runtime, sequencer):
        wait(runtime.sessions, "2026", write(runtime, "another history")[0], 20)
        with a_witness(tmp_path / "w", north.key, port=port) as again:
            until(lambda: sequencer.failure is not None, timeout=30)
            assert isinstance(sequencer.failure, Inconsistent)
            assert sequencer.failure.code == "log_behind_witness"
            assert again.size(NORTH) == after
