"""`lawful keys` and what `lawful doctor` says of them."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ledger import genesis
from ledger.cli import main
from ledger.doctor import Finding, examine
from ledger.keys.certificates import LEAF_LIFETIME
from ledger.keys.ring import NEXT, STATEMENTS, init_keys, keys_of
from ledger.log.announcements import KEYS
from ledger.log.statements import parse_statement
from ledger.runtime import open_runtime, utc_now
from ledger.settings import Settings

pytestmark = pytest.mark.postgres

Lawful = Callable[..., Result]


@pytest.fixture
def lawful(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lawful:
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    for name in ("database_url", "database_owner_url"):
        monkeypatch.setenv(f"LAWFUL_{name.upper()}", getattr(settings, name).get_secret_value())
    monkeypatch.chdir(tmp_path)
    return lambda *command: CliRunner().invoke(main, ["--home", str(tmp_path), *command])


def answer(result: Result, exit_code: int = 0) -> Any:
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def doctor_on_keys(settings: Settings) -> Finding:
    return next(finding for finding in examine(settings, networks=False) if finding.name == "keys")


def test_a_rotation_is_in_the_log_when_the_command_ends(lawful: Lawful, settings: Settings) -> None:
    genesis.found(settings)
    before = answer(lawful("keys", "show", "--json"))
    said = answer(lawful("keys", "rotate", "statements", "--compromised", "--json"))
    after = answer(lawful("keys", "show", "--json"))
    assert (said["use"], said["retired_kid"], said["compromised"]) == ("statements", before["statement_kid"], True)
    assert said["kid"] == after["statement_kid"] != before["statement_kid"]
    assert after["log_vkey"] == before["log_vkey"]
    with open_runtime(settings) as runtime, runtime.database.connect() as connection:
        row = connection.execute(
            "SELECT entry FROM log_entries WHERE leaf_hash = %s", [bytes.fromhex(said["leaf_hash"])]
        ).fetchone()
    assert row is not None
    assert parse_statement(row[0]).payload["type"] == KEYS


def test_the_log_key_cannot_be_rotated(lawful: Lawful) -> None:
    assert lawful("keys", "rotate", "log").exit_code == 2


def test_rotating_where_no_ledger_is_makes_nothing(lawful: Lawful, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    refused = answer(lawful("keys", "rotate", "receipts", "--json"), exit_code=3)
    assert refused["error"]["code"] == "keys_missing"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("left", "result"), [(29, "warn"), (31, "pass"), (-1, "fail")])
def test_doctor_names_the_command_before_the_certificate_expires(
    left: int, result: str, lawful: Lawful, settings: Settings
) -> None:
    made = utc_now() - LEAF_LIFETIME + dt.timedelta(days=left, hours=1)
    init_keys(settings.keys_folder, settings.origin, now=made)
    genesis.found(settings)
    found = doctor_on_keys(settings)
    assert found.result == result
    if result != "pass":
        assert "lawful keys rotate credential" in str(found.next_step)
        assert lawful("keys", "rotate", "credential").exit_code == 0
        assert doctor_on_keys(settings).result == "pass"
        assert keys_of(settings).credential.not_after > utc_now() + dt.timedelta(days=360)


def test_doctor_names_a_rotation_that_was_cut_off(lawful: Lawful, settings: Settings) -> None:
    genesis.found(settings)
    staged = settings.keys_folder / (STATEMENTS + NEXT)
    staged.write_text((settings.keys_folder / STATEMENTS).read_text())
    staged.chmod(0o600)
    found = doctor_on_keys(settings)
    assert (found.result, found.next_step) == ("warn", "run `lawful keys rotate statements`")
    assert lawful("keys", "rotate", "statements").exit_code == 0
    assert doctor_on_keys(settings).result == "pass"
