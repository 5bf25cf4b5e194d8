"""Every command that deploy/ puts into a container or a unit, run: on a database that deploy's script has prepared, in
an environment without the packages that the web image leaves out."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa
import yaml

from ledger.database import binaries
from tests.external_postgres import external_postgres
from tests.ports import free_port
from tests.waiting import until

from .deployed import DEPLOY, TOLD, clean, instructions, lawful_commands, running

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("deploy")]

PASSWORDS = {"LAWFUL_OWNER_PASSWORD": "b1b2b3", "LAWFUL_APP_PASSWORD": "a1a2a3"}
RUN_HERE = {
    "init",
    "run web",
    "run worker",
    "run sequencer",
    "up",
    "log export /srv/log/2026 --every 5",
    "log export /var/lib/lawful-log/log/2026 --every 5",
    "backup /var/backups/lawful --keep 30",
}
"""Each has a test below; a command that deploy/ gets and this file does not know fails the first of them."""
PATIENCE = 240.0  # seconds


def is_alive(environment: dict[str, str], address: str) -> bool:
    """As the health check of a container asks."""
    done = subprocess.run([sys.executable, "-m", "ledger.alive", address], env=environment, timeout=30)
    return done.returncode == 0


@pytest.fixture(scope="module")
def prepared() -> Iterator[str]:
    """The URL of a superuser on a server that roles.sh has prepared, without a role or password in it."""
    with external_postgres() as url:
        parts = urlsplit(url)
        programs = binaries.programs(16, binaries.account_for(Path("/tmp")))
        environment = clean(
            **PASSWORDS,
            POSTGRES_DB="ledger",
            PGHOST=str(parts.hostname),
            PGPORT=str(parts.port),
            PGPASSWORD=str(parts.password),
            PATH=f"{programs.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        )
        create = ["psql", "-qU", "postgres", "-c", "CREATE DATABASE ledger"]  # what POSTGRES_DB does in the container
        subprocess.run(create, env=environment, check=True, timeout=60)
        script = [str(DEPLOY / "postgres" / "roles.sh")]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        yield f"{parts.hostname}:{parts.port}/ledger"


@pytest.fixture(scope="module")
def environment(prepared: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a container of the web image is given, and what it lacks by deploy/packages/web.sh: Parquet, a Postgres of
    its own, what litestar would invent examples with, XML."""
    home, without = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("without")
    (taken_out,) = re.findall(r"for package in (.*); do", (DEPLOY / "packages" / "web.sh").read_text(encoding="utf-8"))
    for package in taken_out.split():
        (without / f"{package}.py").write_text("raise ModuleNotFoundError('left out of the web image')\n")
    port, metrics = free_port(), free_port()
    plain = clean(
        LAWFUL_HOME=str(home),
        LAWFUL_DATABASE_URL=f"postgresql://lawful_app:{PASSWORDS['LAWFUL_APP_PASSWORD']}@{prepared}",
        LAWFUL_PORT=str(port),
        LAWFUL_METRICS_PORT=str(metrics),
    )
    return plain | {"PYTHONPATH": f"{without}{os.pathsep}{plain['PYTHONPATH']}"}


@pytest.fixture(scope="module")
def founded(environment: dict[str, str], prepared: str) -> dict[str, str]:
    """After the composition's `init`, which alone has the owner's password."""
    command = [sys.executable, "-m", "ledger.cli", "init", "--json"]
    with_owner = environment | {"LAWFUL_DATABASE_OWNER_URL": owner_url(prepared)}
    for _ in range(2):  # it runs at every start of the composition
        done = subprocess.run(command, env=with_owner, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
    return environment


def owner_url(prepared: str) -> str:
    return f"postgresql://lawful_owner:{PASSWORDS['LAWFUL_OWNER_PASSWORD']}@{prepared}"


def ended_well(environment: dict[str, str], process: "subprocess.Popen[str]") -> str:
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    told = (Path(environment["LAWFUL_HOME"]) / TOLD).read_text()
    assert process.returncode == 0, told
    return told


def test_no_command_of_deploy_is_left_out_here() -> None:
    assert set(lawful_commands()) == RUN_HERE


def test_health_checks_ask_for_what_the_commands_serve() -> None:
    asked = {yaml.safe_load(line.partition("CMD")[2])[-1] for line in instructions("HEALTHCHECK")}
    assert asked == {"8000/healthz", "9464/metrics"}
    assert " ".join(instructions("ENV")).count("LAWFUL_METRICS_PORT=9464") == 1


def test_web_serves_and_tells_its_story_in_json(founded: dict[str, str]) -> None:
    page = f"{founded['LAWFUL_PORT']}/healthz"
    with running(founded, "run", "web") as process:
        until(lambda: is_alive(founded, page) or process.poll() is not None, PATIENCE)
        assert is_alive(founded, f"{founded['LAWFUL_METRICS_PORT']}/metrics")
        for path in ("v1/log", "schema/openapi.json"):
            httpx.get(f"http://127.0.0.1:{founded['LAWFUL_PORT']}/{path}", trust_env=False).raise_for_status()
        told = [json.loads(line) for line in ended_well(founded, process).splitlines()]
    assert [line for line in told if line["event"] == "request" and line["route"] == "/v1/log"]
    assert not is_alive(founded, page)


def test_the_worker_shows_that_it_lives_and_lets_go_when_told(founded: dict[str, str]) -> None:
    with running(founded, "run", "worker") as process:

        def works() -> bool:
            if process.poll() is not None:
                return True
            try:
                text = httpx.get(f"http://127.0.0.1:{founded['LAWFUL_METRICS_PORT']}/metrics", trust_env=False).text
            except httpx.TransportError:
                return False
            return "lawful_worker_alive 1.0" in text

        until(works, PATIENCE)
        assert is_alive(founded, f"{founded['LAWFUL_METRICS_PORT']}/metrics")
        assert "worker_ready" in ended_well(founded, process)


def test_the_sequencer_writes_the_log_without_a_worker(founded: dict[str, str]) -> None:
    told = Path(founded["LAWFUL_HOME"]) / TOLD
    with running(founded, "run", "sequencer") as process:
        until(lambda: "sequencer_active" in told.read_text() or process.poll() is not None, PATIENCE)
        assert is_alive(founded, f"{founded['LAWFUL_METRICS_PORT']}/metrics")
        ended_well(founded, process)


def test_the_export_goes_on_until_it_is_told_to_end(founded: dict[str, str], tmp_path: Path) -> None:
    for command in (text for text in RUN_HERE if text.startswith("log export")):
        words = shlex.split(command)
        folder = tmp_path / words[2].strip("/").replace("/", "-")
        words[2], words[4] = str(folder), "0.5"
        with running(founded, *words) as process:
            until(lambda: (folder / "checkpoint").exists() or process.poll() is not None, PATIENCE)  # noqa: B023
            assert '"exported"' in ended_well(founded, process)
        assert (folder / "checkpoint").read_text().startswith("localhost/ledger/2026\n")


def test_the_backup_of_every_night_is_made_with_the_owner_s_password(
    founded: dict[str, str], prepared: str, tmp_path: Path
) -> None:
    (command,) = (shlex.split(text) for text in RUN_HERE if text.startswith("backup"))
    command[1] = str(tmp_path / "backups")
    machine = founded | {"PYTHONPATH": clean()["PYTHONPATH"], "LAWFUL_DATABASE_OWNER_URL": owner_url(prepared)}
    argv = [sys.executable, "-m", "ledger.cli", *command]
    done = subprocess.run(argv, env=machine, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "backups").iterdir()
    assert (made / "manifest.json").exists()
    for secret in PASSWORDS.values():
        assert secret not in done.stdout + done.stderr


def test_everything_together_shows_two_sets_of_metrics(founded: dict[str, str]) -> None:
    second = int(founded["LAWFUL_METRICS_PORT"]) + 1
    with running(founded, "up") as process:
        until(lambda: is_alive(founded, f"{founded['LAWFUL_PORT']}/readyz") or process.poll() is not None, PATIENCE)
        until(lambda: is_alive(founded, f"{second}/metrics") or process.poll() is not None, PATIENCE)
        assert is_alive(founded, f"{founded['LAWFUL_METRICS_PORT']}/metrics")
        ended_well(founded, process)


def test_the_service_cannot_rewrite_the_log_with_the_password_that_it_is_given(founded: dict[str, str]) -> None:
    engine = sa.create_engine(founded["LAWFUL_DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        connection.execute(sa.text("DELETE FROM log_entries"))
