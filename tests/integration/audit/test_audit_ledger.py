"""Our own log, audited over HTTP as its web process serves it."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from attribution.gate import GatePolicy
from ledger import erasure
from ledger.audit.auditor import Reading
from ledger.audit.fetch import HttpLog
from ledger.audit.trust import Trust
from ledger.audit.watch import Auditor, Told
from ledger.errors import Conflict
from ledger.log import entries
from ledger.log.statements import sign_statement
from ledger.runtime import Runtime
from ledger.settings import Settings
from tests.integration.http_ledger import FOUND, generated, looked, png, served, with_a_port
from tests.integration.http_ledger import told as judged

pytestmark = pytest.mark.postgres


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_a_port(settings)


@pytest.fixture
def url(runtime: Runtime) -> Iterator[str]:
    with served(runtime) as address:
        yield f"{address}/log/{runtime.shard}/"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "audit.json"


def look(url: str, runtime: Runtime, state: Path | None, reading: Reading = Reading(full=True)) -> Told:  # noqa: B008 - frozen
    with HttpLog(url) as log:
        return Auditor(log, Trust.of([runtime.keys.log.vkey]), state, reading).once()


def codes(told: Told) -> list[str]:
    return [finding.code for finding in told.report.findings]


def statements(runtime: Runtime, start: int, end: int) -> list[bytes]:
    key, origin = runtime.keys.statements, runtime.settings.origin
    return [
        sign_statement({"type": "lawful-ledger/test/1", "number": i}, key, issuer=origin, subject="test")
        for i in range(start, end)
    ]


def append(runtime: Runtime, batch: list[bytes]) -> None:
    with runtime.sessions.begin() as session:
        leaves = entries.append_many(session, batch)
    for leaf in (leaves[0], leaves[-1]):
        entries.wait(runtime.sessions, runtime.shard, leaf, 60)


def test_every_statement_of_a_ledger_in_use_is_verified_and_told_by_type(
    url: str, runtime: Runtime, state: Path
) -> None:
    record = generated(runtime)
    looked(runtime, png(2))
    assert codes(look(url, runtime, state)) == []
    erasure.erase(runtime, record, reason="requested", asked_by="artist")
    append(runtime, statements(runtime, 0, 1))
    told = look(url, runtime, state)
    assert codes(told) == []
    assert set(told.report.statements) == {"verified"}
    assert told.report.statements["verified"] == told.report.size
    assert told.report.types == told.report.types | {
        "lawful-ledger/genesis/1": 1,
        "lawful-ledger/record/1": 1,
        "lawful-ledger/issued/1": 1,
        "lawful-ledger/erased/1": 1,
    }


def test_what_the_gate_refused_is_told_by_reason_and_stands_under_the_root(
    url: str, runtime: Runtime, state: Path
) -> None:
    for _ in range(2):
        with pytest.raises(Conflict):
            generated(runtime, evidence=judged(FOUND, policy=GatePolicy(copy="block")))
    append(runtime, statements(runtime, 0, 1))  # behind them, so they are in the log
    seen = look(url, runtime, state)
    assert codes(seen) == []
    assert seen.report.types["lawful-ledger/blocked/1"] == 2
    assert seen.report.blocked == {"copy_of_work": 2}
    (said,) = [line for line in seen.report.shown if "gate" in line]
    assert said == "2 entries read say that the ledger's near-copy gate refused an image: copy_of_work 2."


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("UPDATE log_entries SET entry = 'x' WHERE idx = 5", {"entry_contradicts_tile"}),
        (
            "UPDATE log_entries SET entry = 'x', leaf_hash = sha256('\\x0078') WHERE idx = 299",
            {"root_mismatch", "tile_contradicts", "entry_no_statement"},
        ),
        (
            "UPDATE log_tiles SET data = overlay(data placing '\\x00000000' from 1) WHERE level = 0 AND idx = 0",
            {"entry_contradicts_tile", "tile_contradicts"},
        ),
    ],
    ids=["an entry", "an entry and its leaf hash", "a tile"],
)
def test_an_operator_who_changes_the_database_is_caught(
    url: str, runtime: Runtime, state: Path, change: str, expected: set[str]
) -> None:
    append(runtime, statements(runtime, 0, 300))
    assert codes(look(url, runtime, state)) == []
    before = state.read_bytes()
    owner = runtime.settings.database_owner_url
    assert owner is not None
    with psycopg.connect(owner.get_secret_value(), autocommit=True) as connection:
        for table in ("log_entries", "log_tiles"):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        assert connection.execute(change).rowcount == 1
    told = look(url, runtime, state)
    assert set(codes(told)) <= expected
    assert codes(told)
    assert not told.report.consistent
    assert state.read_bytes() == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_ledger_of_66000_statements_that_grows_is_watched(
    url: str, runtime: Runtime, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = statements(runtime, 0, 66_000)
    for start in range(0, len(batch), 6_000):
        append(runtime, batch[start : start + 6_000])
    stopping, failures = threading.Event(), []

    def grow() -> None:
        try:
            start = len(batch)
            while not stopping.wait(0.2):
                append(runtime, statements(runtime, start, start + 100))
                start += 100
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    writer = threading.Thread(target=grow)
    command = [
        sys.executable, "-m", "ledger.cli", "audit", url, "--log-key", runtime.keys.log.vkey,
        "--state", str(state), "--full", "--watch", "0.5", "--json",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as auditor:
        try:
            writer.start()
            assert auditor.stdout is not None
            rounds = [json.loads(auditor.stdout.readline()) for _ in range(10)]
        finally:
            auditor.kill()
            stopping.set()
            writer.join()
    assert failures == []
    assert [told["report"]["findings"] for told in rounds] == [[]] * 10
    sizes = [told["report"]["size"] for told in rounds]
    assert sizes == sorted(sizes)
    assert 66_000 < sizes[0] < sizes[-1]
    assert rounds[0]["report"]["statements"] == {"verified": sizes[0]}
    assert rounds[-1]["report"]["entries_to"] == sizes[-1], "every entry since the first was read"
    state.unlink()
    default = look(url, runtime, state, Reading())
    assert codes(default) == []
    with capsys.disabled():
        print(
            f"\n{sizes[0]} statements in full: {rounds[0]['seconds']} s, {rounds[0]['requests']} requests,"
            f" {rounds[0]['bytes']} bytes; then {[(told['report']['size'], told['seconds']) for told in rounds[1:]]};"
            f" by default {default.report.size}: {default.seconds} s, {default.requests} requests"
        )
