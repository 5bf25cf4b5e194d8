"""API keys: made, listed and revoked; what the log says of it; and a holder who never stands without one."""

import json
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from ledger import api_keys, genesis
from ledger.cli import main
from ledger.database.tables.log import LogEntry, LogOutbox
from ledger.database.tables.principals import ApiKey
from ledger.errors import NotFound
from ledger.log.statements import parse_statement
from ledger.runtime import Runtime, open_runtime
from ledger.settings import Settings

from .audited import bearer
from .http_ledger import png, process, serving, with_a_port

pytestmark = pytest.mark.postgres

Lawful = Callable[..., Result]
STANDING = "/v1/standing"


@pytest.fixture
def lawful(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Lawful:
    genesis.found(settings)
    for name in ("database_url", "database_owner_url"):
        monkeypatch.setenv(f"LAWFUL_{name.upper()}", getattr(settings, name).get_secret_value())
    return lambda *command: CliRunner().invoke(main, ["--home", str(settings.home), *command])


def answer(result: Result, exit_code: int = 0) -> Any:
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def told(runtime: Runtime, table: type[LogEntry | LogOutbox]) -> list[dict[str, Any]]:
    """What the log, or its outbox, holds of API keys."""
    with runtime.sessions() as session:
        payloads = [parse_statement(entry).payload for entry in session.scalars(sa.select(table.entry))]
    return [dict(each) for each in payloads if each["type"] == api_keys.API_KEY]


def made(runtime: Runtime, name: str = "studio north", role: api_keys.Role = "submitter") -> tuple[uuid.UUID, str]:
    with runtime.sessions.begin() as session:
        return api_keys.make(session, runtime, name, role, "test")


def revoked(runtime: Runtime, key_id: uuid.UUID) -> bool:
    with runtime.sessions.begin() as session:
        return api_keys.revoke(session, runtime, key_id)


def test_a_key_is_made_listed_and_revoked_and_each_is_in_the_log_when_the_command_ends(
    lawful: Lawful, settings: Settings
) -> None:
    one = answer(lawful("keys", "api", "Studio North", "--json"))
    other = answer(lawful("keys", "api", "Studio North", "--json"))
    assert answer(lawful("keys", "revoke", one["id"], "--json")) == {"id": one["id"], "new": True}
    assert answer(lawful("keys", "revoke", one["id"], "--json")) == {"id": one["id"], "new": False}
    listed = {each["id"]: each for each in answer(lawful("keys", "list", "--json"))}
    assert [(listed[each["id"]]["name"], listed[each["id"]]["revoked_at"] is None) for each in (one, other)] == [
        ("Studio North", False),
        ("Studio North", True),
    ]
    assert one["api_key"] not in json.dumps(listed)
    assert "revoked" in lawful("keys", "list").stdout
    with open_runtime(settings) as runtime:
        entries = sorted(told(runtime, LogEntry), key=lambda each: str(each["created_at"]))
    assert [(each["key_id"], each["valid"]) for each in entries] == [
        (one["id"], True),
        (other["id"], True),
        (one["id"], False),
    ]
    assert {each["role"] for each in entries} == {"submitter"}
    assert set(entries[0]) == {"type", "key_id", "role", "valid", "created_at"}


def test_the_operators_key_can_be_replaced_and_every_role_given(lawful: Lawful) -> None:
    assert answer(lawful("keys", "api", "operator", "--role", "operator", "--json"))["role"] == "operator"
    for role in ("auditor", "admin"):
        assert answer(lawful("keys", "api", f"our {role}", "--role", role, "--json"))["role"] == role
    assert answer(lawful("keys", "api", "our admin", "--json"), 3)["error"]["code"] == "submitter_differs"


def test_a_key_that_never_was_is_refused_by_name(lawful: Lawful) -> None:
    refused = answer(lawful("keys", "revoke", str(uuid.uuid4()), "--json"), 3)
    assert refused["error"]["code"] == "api_key_missing"
    assert answer(lawful("keys", "revoke", "not-a-key", "--json"), 3)["error"]["code"] == "submitter_key_malformed"


def test_a_key_and_its_entry_are_there_together_or_not_at_all(runtime: Runtime) -> None:
    with runtime.sessions() as session:
        api_keys.make(session, runtime, "studio north", "submitter", "test")
        with pytest.raises(NotFound):
            api_keys.revoke(session, runtime, uuid.uuid4())
    with runtime.sessions() as session:
        assert [each.name for each in api_keys.keys(session)] == [genesis.OPERATOR]
    assert told(runtime, LogOutbox) + told(runtime, LogEntry) == []


def test_a_revoked_key_is_401_from_then_on_in_every_web_process(settings: Settings, tmp_path: Path) -> None:
    """Two processes of their own, which have both let this key in before."""
    genesis.found(settings)
    one, other = with_a_port(settings), with_a_port(settings)
    with process(one), process(other), open_runtime(settings) as runtime:
        key_id, key = made(runtime, role="auditor")
        addresses = [f"http://127.0.0.1:{each.port}{STANDING}" for each in (one, other)]

        def asked() -> list[int]:
            return [httpx.get(each, headers=bearer(key), trust_env=False, timeout=60).status_code for each in addresses]

        assert asked() == [200, 200]
        assert revoked(runtime, key_id)
        assert asked() == [401, 401]


def test_a_holder_changes_keys_without_a_moment_in_which_none_counts(runtime: Runtime) -> None:
    """Somebody writes all the while; of the records none is another's."""
    first_id, first = made(runtime)
    in_use, statuses, stop = [first], [], threading.Event()
    with serving(runtime) as client:

        def write() -> None:
            while not stop.is_set():
                sent = client.post("/v1/stamps", files={"file": ("a.png", png(2))}, headers=bearer(in_use[0]))
                statuses.append(sent.status_code)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            _, second = made(runtime)
            both = [client.post("/v1/stamps", files={"file": ("a.png", png(2))}, headers=bearer(key)).status_code
                    for key in (first, second)]  # fmt: skip
            in_use[0] = second
            before = len(statuses)
            while len(statuses) < before + 3:  # whatever was under way with the first key has ended
                stop.wait(0.02)
            revoked(runtime, first_id)
            before = len(statuses)
            while len(statuses) < before + 3:
                stop.wait(0.02)
        finally:
            stop.set()
            writer.join(60)
        refused = client.post("/v1/stamps", files={"file": ("a.png", png(2))}, headers=bearer(first))
    assert both == [202, 202]
    assert set(statuses) == {202}
    assert (refused.status_code, refused.json()["code"]) == (401, "api_key_unknown")
    with runtime.sessions() as session:
        holders = session.scalars(sa.text("SELECT count(DISTINCT principal_id) FROM records")).one()
    assert holders == 1


def test_the_key_itself_is_in_no_row_and_no_line_of_the_log(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    key_id, key = made(runtime, "Johanna Nachname")
    with runtime.sessions() as session:
        row = session.get_one(ApiKey, key_id)
        assert key not in json.dumps([row.label, row.key_sha256.hex()])
    with serving(runtime) as client:
        assert client.get(STANDING, headers=bearer(key)).status_code == 403
    revoked(runtime, key_id)
    said = json.dumps(told(runtime, LogOutbox) + told(runtime, LogEntry))
    assert str(key_id) in said
    for secret in (key, row.key_sha256.hex(), "Johanna"):
        assert secret not in said
    assert key not in caplog.text
