"""Backup and restore: everything comes back, and an older history never becomes the newest one."""

import datetime as dt
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from ledger import doctor, genesis
from ledger.backup import back_up, expire, read_manifest, restore
from ledger.errors import BadRequest, Conflict, Inconsistent, LedgerError, NotFound
from ledger.lookup import by_id, file_key
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings

from .http_ledger import generated
from .log_growing import grow

pytestmark = pytest.mark.postgres


@pytest.fixture
def elsewhere(
    settings: Settings, superuser: psycopg.Connection, superuser_url: str, tmp_path: Path
) -> Iterator[Settings]:
    """The same ledger's settings on another machine: an empty database, prepared as operators are told to, no home."""
    name = f"test_{uuid.uuid4().hex}"
    identifier = sql.Identifier(name)
    superuser.execute(sql.SQL("CREATE DATABASE {} OWNER lawful_owner").format(identifier))
    urls = {
        field: sa.make_url(getattr(settings, field).get_secret_value())
        .set(database=name)
        .render_as_string(hide_password=False)
        for field in ("database_url", "database_owner_url")
    }
    with psycopg.connect(superuser_url, dbname=name, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    yield Settings(_env_file=None, home=tmp_path / "elsewhere", **urls)
    superuser.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


def test_a_restored_ledger_answers_as_before_and_goes_on_once_an_operator_has_compared(
    runtime: Runtime, elsewhere: Settings, tmp_path: Path
) -> None:
    record_id = generated(runtime)
    made, manifest = back_up(runtime, tmp_path / "backups")
    assert (manifest.size, manifest.with_files) == (3, True)

    restored = restore(elsewhere, made)

    assert (restored.size, restored.behind) == (3, None)  # no head file says what was shown
    with open_runtime(elsewhere) as again, again.sessions() as session:
        with runtime.sessions() as before:
            assert by_id(session, record_id) == by_id(before, record_id)
        key = file_key(session, record_id)[0]
        assert again.storage.get(key) == runtime.storage.get(key)
        assert again.keys.log.vkey == runtime.keys.log.vkey
        with sequencing(again) as sequencer:
            sequencer.join(30)
            assert isinstance(sequencer.failure, Inconsistent)
            assert sequencer.failure.code == "log_head_missing"
    assert looked_at(elsewhere).result == "fail"
    assert "lawful log adopt" in str(looked_at(elsewhere).next_step)


def test_a_database_older_than_what_was_shown_is_named_and_never_signed_on_from(
    quiet: Runtime, elsewhere: Settings, tmp_path: Path
) -> None:
    made, _ = back_up(quiet, tmp_path / "backups")
    grow(quiet, 5)
    shutil.copytree(quiet.settings.keys_folder, elsewhere.keys_folder)  # the machine's disk survived, with its head

    restored = restore(elsewhere, made)

    assert restored.behind == 5
    with open_runtime(elsewhere) as again, sequencing(again) as sequencer:
        sequencer.join(30)
        assert isinstance(sequencer.failure, Inconsistent)
        assert sequencer.failure.code == "log_behind_head"
    assert looked_at(elsewhere).result == "fail"
    assert "An older database was put back" in str(looked_at(elsewhere).next_step)


def test_an_empty_database_beside_a_log_that_was_let_out_is_named(quiet: Runtime, elsewhere: Settings) -> None:
    grow(quiet, 3)
    shutil.copytree(quiet.settings.keys_folder, elsewhere.keys_folder)
    genesis.found(elsewhere)
    assert looked_at(elsewhere).result == "fail"
    assert "An older database was put back, or another one is connected" in str(looked_at(elsewhere).next_step)


def looked_at(settings: Settings) -> doctor.Finding:
    """What `lawful doctor` says of the log."""
    (found,) = (each for each in doctor.examine(settings, networks=False) if each.name == "log")
    return found


def test_the_newest_head_is_never_in_a_backup(quiet: Runtime, tmp_path: Path) -> None:
    made, manifest = back_up(quiet, tmp_path / "backups")
    assert (quiet.settings.keys_folder / "log.head").exists()
    assert "keys/log.skey" in manifest.files
    assert not list(made.rglob("log.head"))


def test_keys_can_be_left_out_and_then_have_to_be_there(quiet: Runtime, elsewhere: Settings, tmp_path: Path) -> None:
    made, manifest = back_up(quiet, tmp_path / "backups", keys=False)
    assert not [name for name in manifest.files if name.startswith("keys/")]
    with pytest.raises(BadRequest) as refused:
        restore(elsewhere, made)
    assert refused.value.code == "backup_without_keys"


@pytest.mark.parametrize("damage", ["changed", "gone", "unfinished"])
def test_a_damaged_backup_is_refused_before_anything_is_written(
    quiet: Runtime, elsewhere: Settings, tmp_path: Path, damage: str
) -> None:
    made, _ = back_up(quiet, tmp_path / "backups")
    if damage == "changed":
        with (made / "database.dump").open("r+b") as file:
            file.seek(200)
            file.write(b"\0\1\2\3")
    else:
        (made / ("database.dump" if damage == "gone" else "manifest.json")).unlink()
    with pytest.raises((Inconsistent, NotFound)) as refused:
        restore(elsewhere, made)
    assert refused.value.code == ("backup_missing" if damage == "unfinished" else "backup_damaged")
    assert not elsewhere.home.exists()


def test_nothing_that_stands_is_written_over(quiet: Runtime, elsewhere: Settings, tmp_path: Path) -> None:
    made, _ = back_up(quiet, tmp_path / "backups")
    with pytest.raises(Conflict) as full:
        restore(quiet.settings, made)
    assert full.value.code == "database_not_empty"
    elsewhere.keys_folder.mkdir(parents=True)
    (elsewhere.keys_folder / "log.vkey").write_text("another.example/log/2026+00000000+AA==\n")
    with pytest.raises(LedgerError) as other:
        restore(elsewhere, made)
    assert other.value.code == "backup_of_another_log"


def test_a_second_backup_shares_what_did_not_change_and_old_ones_expire(runtime: Runtime, tmp_path: Path) -> None:
    generated(runtime)
    folder, now = tmp_path / "backups", runtime.clock()
    first, _ = back_up(runtime, folder)
    first = first.rename(folder / (now - dt.timedelta(days=40)).strftime("%Y%m%dT%H%M%SZ"))
    second, manifest = back_up(runtime, folder)
    kept = [name for name in manifest.files if name.startswith("files/")]
    assert kept
    assert all((first / name).samefile(second / name) for name in kept)

    assert expire(folder, now - dt.timedelta(days=30)) == [first]

    assert read_manifest(second) == manifest  # what it shared is still its own
