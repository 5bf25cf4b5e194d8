"""docs/verify-it-yourself.md: a stranger types it against a real record, and against damaged copies of its files."""

import importlib.metadata
import os
import re
import shutil
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
import sqlalchemy as sa

from ledger import genesis
from ledger.log.notes import NoteVerifier
from ledger.runtime import Runtime, open_runtime, sequencing

from .http_ledger import served, with_a_port
from .reported import issue_reported, settings_of_the_module
from .timestamp_authority import needs_openssl, running_authority
from .typed_pages import ROOT, Shell, Step, steps_of, variables_of
from .witness_at_work import a_witness, policy

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.xdist_group("verify-it-yourself"),
    pytest.mark.timeout(900),  # of the first test, for which the whole page is typed
    needs_openssl,
]

STEPS = {step.name: step for step in steps_of("verify-it-yourself.md")}
BRING, INSTALL, FETCH = (STEPS[name] for name in ("bring", "install", "fetch"))
CHECKS = [step for step in STEPS.values() if step not in (BRING, INSTALL, FETCH)]
PROGRAMS = ROOT / "docs" / "examples" / "log"


@dataclass(frozen=True)
class Stranger:
    """A folder with what the page says to bring, and the terminal in which the whole page was typed."""

    shell: Shell
    variables: dict[str, str]
    path: str

    def type_again(self, step: Step, folder: Path) -> Shell:
        """The step in a copy of the folder, where a file was damaged."""
        shell = Shell(folder, self.path, **self.variables)
        shell.type(step)
        return shell


@pytest.fixture(scope="module")
def stranger(
    superuser: psycopg.Connection, superuser_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Stranger:
    """The ledger is gone when the first check is typed: what was fetched has to do."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("stranger")
    with (
        settings_of_the_module(superuser, superuser_url, template, home) as given,
        running_authority(home / "authority") as authority,
    ):
        settings = with_a_port(given)
        founded = genesis.found(settings)
        with a_witness(home / "witness", NoteVerifier.parse(founded.log_vkey)) as witness:
            told = {
                "tsa_url": authority.url,
                "timestamp_interval": 0.05,
                "witness_policy": policy(home / "policy.txt", [(witness.vkey, witness.url)]),
                "witness_interval": 0.1,
                "issue_timeout": 60.0,
            }
            with open_runtime(settings.model_copy(update=told)) as runtime, sequencing(runtime):
                record_id = issue_reported(runtime)
                _until_others_have_seen(runtime)
                with served(runtime) as address:
                    _bring(folder, runtime, authority.root_pem, address, record_id)
                    variables = {"LEDGER": address, "LOG_KEY": founded.log_vkey, "WITNESS_KEY": witness.vkey}
                    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
                    shell = Shell(folder, path, **variables)
                    shell.type(FETCH)
    for step in CHECKS:
        if step.missing is None:
            shell.type(step)
    return Stranger(shell, variables, path)


def _bring(folder: Path, runtime: Runtime, authority_pem: str, address: str, record_id: uuid.UUID) -> None:
    picture = httpx.get(f"{address}/v1/records/{record_id}/file", trust_env=False, timeout=120)
    (folder / "picture.png").write_bytes(picture.content)
    (folder / "root.pem").write_text(runtime.keys.root_pem)
    (folder / "authority.pem").write_text(authority_pem)
    for name in ("verify.py", "verify.mjs"):
        shutil.copy(PROGRAMS / name, folder)


def _until_others_have_seen(runtime: Runtime) -> None:
    """The authority and the witness have the newest checkpoint."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with runtime.sessions() as session:
            size = session.scalar(sa.text("SELECT size FROM log_published"))
            stamped = session.scalar(sa.text("SELECT max(size) FROM log_timestamps"))
            seen = session.scalar(sa.text("SELECT max(size) FROM log_witnessed"))
        if size == stamped == seen:
            return
        time.sleep(0.05)
    raise AssertionError("nobody else has seen the log")


def test_what_is_brought_is_what_the_test_brings(stranger: Stranger) -> None:
    assert variables_of(BRING) == set(stranger.variables)


def test_what_is_to_be_installed_is_there_under_that_name() -> None:
    (line,) = [line for line in INSTALL.typed.splitlines() if line.startswith("pip install ")]
    for name in line.removeprefix("pip install ").split():
        importlib.metadata.version(name)


def test_the_record_is_found_and_its_files_are_fetched(stranger: Stranger) -> None:
    assert stranger.shell.holds(FETCH), stranger.shell.printed["fetch"]


@pytest.mark.parametrize("step", CHECKS, ids=lambda step: step.name)
def test_each_check_of_the_page_passes_and_prints_what_the_page_shows(stranger: Stranger, step: Step) -> None:
    if step.missing is not None:
        pytest.skip(f"{step.missing} is not installed here")
    assert stranger.shell.holds(step), stranger.shell.printed[step.name]


def test_the_checks_use_nothing_of_ours() -> None:
    imported = re.findall(r"^(?:from|import) (.+)$", "".join(step.typed for step in CHECKS), re.MULTILINE)
    assert len(imported) > 10
    for line in imported:
        assert not re.search(r"\b(ledger|attribution|models)\b", line), line


DAMAGE = {
    "credential": ("picture.png", 0.98),  # of the picture; most of so small a file is its credential
    "pixels": ("report.json", 0.5),
    "log": ("entry.tlog-proof", 0.4),
    "node": ("entry.tlog-proof", 0.4),
    "checkpoint": ("entry.tlog-proof", 0.9),
    "receipt": ("entry.receipt", 0.99),
    "time": ("stamped.tlog-proof", 0.5),
    "pdfsig": ("report.pdf", 0.3),
    "pyhanko": ("report.pdf", 0.3),
    "attached": ("report.json", 0.5),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_each_check_fails_on_a_damaged_file(stranger: Stranger, name: str, tmp_path: Path) -> None:
    step = STEPS[name]
    if step.missing is not None:
        pytest.skip(f"{step.missing} is not installed here")
    folder = tmp_path / "copy"
    shutil.copytree(stranger.shell.folder, folder, symlinks=True)
    file, at = DAMAGE[name]
    data = bytearray((folder / file).read_bytes())
    data[int(at * len(data))] ^= 1
    (folder / file).write_bytes(data)
    assert not stranger.type_again(step, folder).holds(step)


@pytest.mark.parametrize("name", ["log", "node", "checkpoint", "time"])
def test_another_logs_key_proves_nothing(stranger: Stranger, name: str, tmp_path: Path) -> None:
    step = STEPS[name]
    if step.missing is not None:
        pytest.skip(f"{step.missing} is not installed here")
    (key,) = re.findall(r"^LOG_KEY='(.*)'$", BRING.typed, re.MULTILINE)
    folder = tmp_path / "copy"
    shutil.copytree(stranger.shell.folder, folder, symlinks=True)
    shell = Shell(folder, stranger.path, **stranger.variables | {"LOG_KEY": key})
    shell.type(step)
    assert not shell.holds(step)
