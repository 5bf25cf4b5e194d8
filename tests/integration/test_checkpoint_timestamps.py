"""Checkpoints stamped by a real RFC 3161 authority: what a token shows, and that a dead authority delays nothing."""

import contextlib
import datetime as dt
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from ledger import genesis
from ledger.errors import LedgerError, Unavailable
from ledger.log import entries
from ledger.log.notes import Note
from ledger.log.shard import Head, published_head
from ledger.log.statements import sign_statement
from ledger.log.timestamps import TimestampingThread, Timestamps, ask_authority, newest_timestamp, verify_timestamp
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings
from tests.waiting import until

from .timestamp_authority import Authority, needs_openssl, running_authority

pytestmark = [needs_openssl, pytest.mark.postgres]

TEXT = "localhost/ledger/2026\n5\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with running_authority(tmp_path / "authority") as running:
        yield running


@pytest.fixture
def stamped(settings: Settings, authority: Authority) -> Settings:
    """Settings of a ledger that has checkpoints stamped as soon as there is a new one."""
    genesis.found(settings)
    return settings.model_copy(update={"tsa_url": authority.url, "timestamp_interval": 0.05})


def say(runtime: Runtime, number: int) -> bytes:
    """Append one more statement; its leaf hash."""
    with runtime.sessions.begin() as session:
        entry = sign_statement({"type": "test", "number": number}, runtime.keys.statements, "test", "test")
        return entries.append(session, entry)


def newest(runtime: Runtime) -> tuple[int, bytes] | None:
    with runtime.database.connect() as connection:
        return newest_timestamp(lambda sql, values: connection.execute(sql, values).fetchall(), runtime.shard)


def head(runtime: Runtime) -> Head:
    with runtime.database.connect() as connection:
        found = published_head(lambda sql, values: connection.execute(sql, values).fetchall(), runtime.shard)
    assert found is not None
    return found


# ---- what a token shows ----------------------------------------------------------------------------------------------


def test_a_token_tells_the_time_to_who_trusts_the_authority(authority: Authority) -> None:
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    token = ask_authority(authority.url, TEXT)
    at = verify_timestamp(token, TEXT, authority.root_pem)
    assert before <= at <= dt.datetime.now(dt.UTC)
    assert at.tzinfo == dt.UTC


def test_openssl_verifies_a_stored_token_with_the_checkpoints_text(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "token.tsr").write_bytes(ask_authority(authority.url, TEXT))
    (tmp_path / "checkpoint").write_text(TEXT)
    command = ["openssl", "ts", "-verify", "-in", "token.tsr", "-data", "checkpoint", "-CAfile", "authority/root.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "Verification: OK" in done.stdout


@pytest.mark.parametrize("harm", ["another text", "another authority", "a changed token", "no roots"])
def test_a_token_shows_nothing_to_others(harm: str, authority: Authority, tmp_path: Path) -> None:
    token, text, roots = ask_authority(authority.url, TEXT), TEXT, authority.root_pem
    if harm == "another text":
        text = TEXT.replace("\n5\n", "\n6\n")
    elif harm == "another authority":
        with running_authority(tmp_path / "stranger") as stranger:
            roots = stranger.root_pem
    elif harm == "a changed token":
        token = token[:-1] + bytes([token[-1] ^ 1])
    else:
        roots = "none"
    with pytest.raises(LedgerError) as refused:
        verify_timestamp(token, text, roots)
    assert refused.value.code == ("timestamp_roots_malformed" if harm == "no roots" else "timestamp_invalid")


@pytest.mark.parametrize("token", [b"", b"rubbish", b"\x30\x03\x02\x01\x00", bytes(5000)])
def test_what_is_no_token_is_malformed(token: bytes, authority: Authority) -> None:
    with pytest.raises(LedgerError) as refused:
        verify_timestamp(token, TEXT, authority.root_pem)
    assert refused.value.code == "timestamp_malformed"


@pytest.mark.parametrize("mode", ["broken", "lying", "refusing", "repeating", "wordy"])
def test_an_answer_that_is_no_timestamp_of_ours_is_not_kept(mode: str, authority: Authority) -> None:
    ask_authority(authority.url, TEXT)
    authority.mode = mode
    with pytest.raises(Unavailable) as refused:
        ask_authority(authority.url, TEXT)
    assert refused.value.code == "tsa_down"


# ---- beside the log --------------------------------------------------------------------------------------------------


def test_the_newest_published_checkpoint_is_stamped_and_verifies(stamped: Settings, authority: Authority) -> None:
    with open_runtime(stamped) as runtime, sequencing(runtime):
        for number in range(3):
            entries.wait(runtime.sessions, runtime.shard, say(runtime, number), 10)
        size, token = until(lambda: found if (found := newest(runtime)) and found[0] == 4 else None)
        current = head(runtime)
        assert current.size == size
        verify_timestamp(token, Note.parse(current.note).text, authority.root_pem)


def test_a_log_that_stands_still_is_stamped_once(settings: Settings, authority: Authority) -> None:
    genesis.found(settings)
    with open_runtime(settings) as runtime, sequencing(runtime):
        entries.wait(runtime.sessions, runtime.shard, say(runtime, 1), 20)
        stamps = Timestamps(runtime.sessions, runtime.shard, authority.url, interval=0.001)
        for _ in range(5):
            stamps.stamp_if_due()
            time.sleep(0.01)
        assert authority.requests == 1
        assert (newest(runtime) or (0, b""))[0] == head(runtime).size


def test_between_two_stamps_lies_the_interval_whoever_asks(settings: Settings, authority: Authority) -> None:
    genesis.found(settings)
    with open_runtime(settings) as runtime, sequencing(runtime):
        entries.wait(runtime.sessions, runtime.shard, say(runtime, 1), 20)
        Timestamps(runtime.sessions, runtime.shard, authority.url, interval=3600).stamp_if_due()
        entries.wait(runtime.sessions, runtime.shard, say(runtime, 2), 20)
        another = Timestamps(runtime.sessions, runtime.shard, authority.url, interval=3600)
        assert 0 < another.stamp_if_due() <= 3600
        assert authority.requests == 1
        Timestamps(runtime.sessions, runtime.shard, authority.url, interval=0.001).stamp_if_due()
        assert authority.requests == 2
        assert (newest(runtime) or (0, b""))[0] == head(runtime).size


def test_an_empty_log_is_not_stamped(settings: Settings, authority: Authority) -> None:
    genesis.found(settings)
    with open_runtime(settings) as runtime, runtime.sessions.begin() as session:
        Timestamps(runtime.sessions, runtime.shard, authority.url, interval=0.001).stamp_if_due()
        assert session.connection().exec_driver_sql("SELECT count(*) FROM log_timestamps").scalar_one() == 0
    assert authority.requests == 0


@pytest.mark.parametrize("mode", ["broken", "silent"])
def test_a_dead_authority_delays_nothing_and_is_asked_again(mode: str, stamped: Settings, authority: Authority) -> None:
    authority.mode = mode
    with (
        structlog.testing.capture_logs() as said,
        open_runtime(stamped) as runtime,
        sequencing(runtime),
        contextlib.ExitStack() as stack,
    ):
        thread = TimestampingThread(
            Timestamps(runtime.sessions, runtime.shard, authority.url, interval=0.05), retry=0.05, most=0.2
        )
        stack.callback(thread.stop)
        thread.start()
        until(lambda: authority.requests)
        slowest = 0.0
        for number in range(20):
            started = time.monotonic()
            entries.wait(runtime.sessions, runtime.shard, say(runtime, number), 10)
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 2.0
        assert newest(runtime) is None
        authority.mode = "well"
        authority.released.set()
        until(lambda: (stamped := newest(runtime)) and stamped[0] == head(runtime).size)
    warnings = [line for line in said if line["event"] == "timestamp_failed"]
    assert warnings
    assert {line["log_level"] for line in warnings} == {"warning"}


def test_stopping_does_not_wait_for_a_silent_authority(stamped: Settings, authority: Authority) -> None:
    authority.mode = "silent"
    with open_runtime(stamped) as runtime:
        with sequencing(runtime):
            until(lambda: authority.requests)
            started = time.monotonic()
        assert time.monotonic() - started < 5
