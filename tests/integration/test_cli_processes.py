"""`lawful` as processes: Ctrl-C at any time, `up` and its parts, and that nobody is left behind."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger import genesis
from ledger.commands.frame import Invocation
from ledger.settings import Settings
from models.images import encode_png
from tests.ports import free_port
from tests.waiting import until

from .conftest import picture
from .small_networks import save_open

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PATIENCE = 120.0  # seconds; a loaded machine takes its time to import torch


class Ledger:
    """The command line on one database, each command a process of its own."""

    def __init__(self, invocation: Invocation, folder: Path) -> None:
        self.invocation, self.folder = invocation, folder
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            self.invocation.argv(*words),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "out.txt").open("a"),
            stderr=(self.folder / "err.txt").open("a"),
            text=True,
            start_new_session=True,  # a signal sent to it reaches nobody else
        )
        self._started.append(process)
        return process

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self.invocation.argv(*words), cwd=self.folder, capture_output=True, text=True)

    def answer(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def told(self) -> str:
        return (self.folder / "err.txt").read_text() + (self.folder / "out.txt").read_text()

    def wait_for(self, pattern: str, times: int = 1) -> None:
        until(lambda: len(re.findall(pattern, self.told())) >= times, PATIENCE, lambda: f"{pattern} in:\n{self.told()}")

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self._started:
            process.wait(60)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_open(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def ledger(settings: Settings, networks: dict[str, str], tmp_path: Path) -> Iterator[Ledger]:
    """A founded ledger on the test's own database, on a port of its own."""
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    overrides = (
        f"database_url={settings.database_url.get_secret_value()}",
        f"database_owner_url={settings.database_owner_url.get_secret_value()}",
        "profile=open",
        *(f"{name}={value}" for name, value in networks.items()),
        f"port={free_port()}",
    )
    (tmp_path / "work").mkdir()
    made = Ledger(Invocation(tmp_path / "home", overrides), tmp_path / "work")
    genesis.found(made.invocation.settings())
    yield made
    made.end()


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------

# A shell shows 130 for both. CPython ends by the signal itself, after everything else was done, where the interrupt
# came while an extension module (torch) ran code of its own as it was imported.
INTERRUPTED = (130, -signal.SIGINT)


def test_ctrl_c_during_index_keeps_what_was_committed_and_the_next_run_adds_the_rest(ledger: Ledger) -> None:
    works = 320
    artist = ledger.folder / "paintings" / "ada"
    artist.mkdir(parents=True)
    for number in range(works):
        (artist / f"{number}.png").write_bytes(encode_png(picture(number, side=192)))
    indexing = ledger.start("index", "paintings", "--json")
    ledger.wait_for(r"\d+ of 320")
    indexing.send_signal(signal.SIGINT)
    assert indexing.wait(60) in INTERRUPTED
    assert json.loads((ledger.folder / "out.txt").read_text())["error"]["code"] == "interrupted"
    assert "same command again goes on" in ledger.told()
    rest = ledger.answer("index", "paintings")
    assert 0 < rest["known"] < works
    assert (rest["known"] + rest["added"], rest["works"]) == (works, works)


def test_ctrl_c_during_generate_loses_nothing_and_names_what_finishes_it(ledger: Ledger) -> None:
    words = ["generate", "a heron", "-o", "heron.png", "--width", "64", "--height", "64", "--steps", "200"]
    generating = ledger.start(*words)
    ledger.wait_for("this process does the work")
    generating.send_signal(signal.SIGINT)
    assert generating.wait(60) in INTERRUPTED
    assert not (ledger.folder / "heron.png").exists()
    assert not list(ledger.folder.glob(".lawful-*"))
    kept = re.search(r"record (\S+) is kept; .* --idempotency-key (\S+) finishes it", ledger.told())
    assert kept is not None
    made = ledger.answer(*words, "--idempotency-key", kept[2])
    assert made["record"]["id"] == kept[1]
    assert made["record"]["state"] == "issued"
    assert (ledger.folder / "heron.png").exists()


# ---- up ------------------------------------------------------------------------------------------------------------


def pids(ledger: Ledger, part: str = "") -> list[int]:
    """Processes of this ledger, by its home in their command line."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,command="], capture_output=True, text=True).stdout
    ours = (
        line for line in listed.splitlines() if "ledger.cli" in line and f"--home {ledger.invocation.home} " in line
    )
    return [int(line.split()[0]) for line in ours if part in line]


@pytest.fixture
def up(ledger: Ledger) -> "subprocess.Popen[str]":
    process = ledger.start("up")
    ledger.wait_for("is up; Ctrl-C stops it")
    return process


def url(ledger: Ledger) -> str:
    return ledger.invocation.settings().public_url


def test_up_serves_does_the_work_of_commands_and_stops_within_seconds(
    ledger: Ledger, up: "subprocess.Popen[str]"
) -> None:
    assert httpx.get(f"{url(ledger)}/readyz", trust_env=False).status_code == 200
    size = ("--width", "64", "--height", "64", "--steps", "1")
    done = ledger.run("generate", "a heron", "-o", "heron.png", *size, "--json")
    assert done.returncode == 0, done.stderr
    assert "this process does the work" not in done.stderr  # the worker did
    page = json.loads(done.stdout)["page"]
    assert httpx.get(page, trust_env=False).status_code == 200
    began = time.monotonic()
    up.send_signal(signal.SIGTERM)
    assert up.wait(60) == 0
    assert time.monotonic() - began < 15
    assert pids(ledger) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url(ledger)}/healthz", trust_env=False)


def test_a_second_up_is_refused_and_harms_nothing(ledger: Ledger, up: "subprocess.Popen[str]") -> None:
    second = ledger.run("up", "--json")
    assert second.returncode == 3
    error = json.loads(second.stdout)["error"]
    assert error["code"] == "already_running"
    assert str(up.pid) in error["detail"]
    assert httpx.get(f"{url(ledger)}/healthz", trust_env=False).status_code == 200


def test_a_port_in_use_is_said_before_anything_starts(ledger: Ledger) -> None:
    with socket.create_server(("127.0.0.1", ledger.invocation.settings().port)):
        refused = ledger.run("up", "--json")
    assert refused.returncode == 3
    error = json.loads(refused.stdout)["error"]
    assert error["code"] == "address_in_use"
    assert "--set port=" in error["next_step"]
    assert pids(ledger) == []


def test_a_part_that_dies_is_started_again_and_said_so(ledger: Ledger, up: "subprocess.Popen[str]") -> None:
    ledger.wait_for("worker_ready")
    for part in ("run worker", "run web"):
        [victim] = pids(ledger, part)
        os.kill(victim, signal.SIGKILL)
        name = part.removeprefix("run ")
        ledger.wait_for(f"{name} ended with signal SIGKILL")
        until(lambda part=part, victim=victim: pids(ledger, part) not in ([], [victim]), PATIENCE)  # type: ignore[misc]

    # the supervisor held the port meanwhile, so whoever calls now waits instead of being refused
    assert httpx.get(f"{url(ledger)}/healthz", trust_env=False, timeout=60).status_code == 200
    assert up.poll() is None


def test_no_part_outlives_a_supervisor_that_was_killed(ledger: Ledger, up: "subprocess.Popen[str]") -> None:
    assert len(pids(ledger)) == 3
    up.kill()
    until(lambda: pids(ledger) == [], PATIENCE)


def test_a_part_that_cannot_start_ends_up_with_the_reason(ledger: Ledger) -> None:
    (Path(str(ledger.invocation.home)) / "keys" / "log.skey").unlink()
    ended = ledger.run("up", "--json")
    assert ended.returncode == 4
    assert json.loads(ended.stdout)["error"]["code"] == "start_failed"
    assert "[keys_missing]" in ended.stderr
    assert pids(ledger) == []


def test_up_founds_a_ledger_where_none_is_and_takes_its_database_down_with_it(tmp_path: Path) -> None:
    """With the embedded database, as somebody does who types only `lawful up`."""
    fresh = Ledger(Invocation(tmp_path / "home", (f"port={free_port()}",)), tmp_path)
    process = fresh.start("up", "--json")
    try:
        until(lambda: (tmp_path / "out.txt").read_text().endswith("}\n"), PATIENCE, fresh.told)
        ready = json.loads((tmp_path / "out.txt").read_text())
        assert httpx.get(f"{ready['url']}/healthz", trust_env=False).status_code == 200
        assert "API key  lawful_" in fresh.told()
    finally:
        fresh.end()
    assert process.returncode == 0
    cluster = (tmp_path / "home" / "postgres" / "cluster").resolve()
    assert not (cluster / "data" / "postmaster.pid").exists()
    assert pids(fresh) == []
