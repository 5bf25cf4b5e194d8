"""`lawful audit` as it is typed: exit codes, what it prints, and a watch over a log of 66,000 entries that grows."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from .foreign_log import Key, Log, Server, reply

ORIGIN = "log.example.org/2026"
PREFIX = "/2026/"


def numbered(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % i for i in range(start, end)]


def command(server: Server, log: Log, *more: str) -> list[str]:
    return [sys.executable, "-m", "ledger.cli", "audit", server.url, "--log-key", log.key.vkey, *more]


def run(server: Server, log: Log, folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    # A home that cannot be made: an auditor has none.
    environment = {**os.environ, "HOME": "/dev/null/home", "LAWFUL_HOME": "/dev/null/home"}
    return subprocess.run(
        command(server, log, *more), cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


@contextmanager
def watching(server: Server, log: Log, folder: Path, *more: str) -> Iterator["subprocess.Popen[str]"]:
    arguments = command(server, log, "--watch", "0.2", "--json", *more)
    with subprocess.Popen(
        arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def told(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


@pytest.fixture
def log() -> Log:
    return Log(ORIGIN, numbered(0, 600))


@pytest.fixture
def server(log: Log) -> Iterator[Server]:
    with Server(log.files, PREFIX) as serving:
        yield serving


def test_an_audit_says_what_it_showed_and_what_it_did_not(log: Log, server: Server, tmp_path: Path) -> None:
    done = run(server, log, tmp_path, "--state", "state.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"consistent: {ORIGIN}, 600 entries\n")
    assert "First look: nothing was known of this log's past." in done.stdout
    assert "No witness was asked for: the operator could show others another log." in done.stdout
    log.append(numbered(600, 700))
    done = run(server, log, tmp_path, "--state", "state.json", "--full", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["report"]["previous_size"], answer["report"]["size"]) == (600, 700)
    assert answer["report"]["statements"] == {"opaque": 700}
    assert answer["state_moved"] is True


def test_a_fork_ends_with_exit_code_1_and_says_where_the_evidence_is(log: Log, server: Server, tmp_path: Path) -> None:
    assert run(server, log, tmp_path, "--state", "state.json").returncode == 0
    before = (tmp_path / "state.json").read_bytes()
    server.files = Log(ORIGIN, numbered(1, 900), log.key).files
    done = run(server, log, tmp_path, "--state", "state.json")
    assert done.returncode == 1
    assert done.stdout.startswith(f"NOT consistent: {ORIGIN}, 899 entries\n")
    path = re.search(r"^evidence: (\S+)$", done.stdout, re.MULTILINE)
    assert path is not None
    assert json.loads((tmp_path / path[1]).read_text())["code"] == "forked"
    assert (tmp_path / "state.json").read_bytes() == before


@pytest.mark.slow
def test_what_is_out_of_reach_or_refused_has_exit_codes_of_its_own(log: Log, server: Server, tmp_path: Path) -> None:
    def error(expected: int, *more: str) -> str:
        done = run(server, log, tmp_path, "--json", *more)
        assert done.returncode == expected, done.stderr
        return str(json.loads(done.stdout)["error"]["code"])

    (tmp_path / "policy").write_text("witness\n")
    (tmp_path / "damaged.json").write_text("{")
    assert error(3, "--statement-key", "00") == "statement_key_malformed"
    assert error(3, "--witness-key", log.key.vkey) == "vkey_malformed"
    assert error(3, "--policy", "policy") == "policy_malformed"
    assert error(3, "--state", "damaged.json") == "audit_state_unusable"
    assert run(server, log, tmp_path, "--metrics-port", "0").returncode == 2
    server.answers["checkpoint"] = reply(503, b"")
    assert error(4) == "log_unreachable"


def test_no_key_is_taken_from_the_log_itself(server: Server, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ledger.cli", "audit", server.url, "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["code"] == "log_key_missing"
    assert server.asked == []


def test_an_auditor_loads_no_database_no_networks_and_no_web_server() -> None:
    code = "import json, sys, ledger.commands.audit; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert loaded.isdisjoint({"torch", "faiss", "cv2", "c2pa", "litestar", "sqlalchemy", "psycopg", "diffusers"})


@pytest.mark.slow
def test_a_log_of_66000_entries_that_grows_is_watched(tmp_path: Path) -> None:
    witness = Key("witness.example", 4)
    log = Log(ORIGIN, numbered(0, 66_000))
    log.witnesses = [(witness, 1_700_000_000)]
    log.sign()
    state = tmp_path / "state.json"
    with Server(log.files, PREFIX) as server, watching(
        server, log, tmp_path, "--full", "--state", "state.json", "--metrics-port", "0", "--witness-key", witness.vkey
    ) as process:  # fmt: skip
        assert process.stderr is not None
        address = re.search(r"http://\S+", process.stderr.readline())
        assert address is not None
        rounds = told(process)
        first = next(rounds)
        assert first["report"]["entries_read"] == 66_000
        sizes = [66_000]
        for step in (1, 255, 1, 1000, 5000):
            log.append(numbered(log.size, log.size + step))
            while sizes[-1] != log.size:
                seen = next(rounds)
                assert seen["report"]["findings"] == []
                assert seen["report"]["previous_size"] == sizes[-1]
                # each new entry is read as it comes, and the entries before it are not all read again
                assert seen["report"]["entries_to"] == seen["report"]["size"]
                assert seen["report"]["entries_read"] <= seen["report"]["size"] - sizes[-1] + 512
                sizes.append(seen["report"]["size"])
        assert sizes[-1] == 72_257
        metrics = httpx.get(address[0], trust_env=False).text
        assert "lawful_audit_consistent 1.0" in metrics
        assert "lawful_audit_log_size 72257.0" in metrics
        assert 'lawful_audit_witness_lag_seconds{witness="witness.example"}' in metrics

        before = state.read_bytes()
        honest, server.files = server.files, Log(ORIGIN, [*numbered(0, 70_000), *numbered(0, 3000)], log.key).files
        codes = ([finding["code"] for finding in seen["report"]["findings"]] for seen in rounds)
        assert "forked" in next(found for found in codes if found not in ([], ["not_served"]))  # a round may span both
        assert state.read_bytes() == before
        metrics = httpx.get(address[0], trust_env=False).text
        assert "lawful_audit_consistent 0.0" in metrics
        assert 'lawful_audit_failures_total{code="forked"}' in metrics

        server.files = honest
        assert next(seen for seen in rounds if not seen["report"]["findings"])["report"]["size"] == 72_257
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 130
