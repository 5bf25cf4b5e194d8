"""Reports with an outsider's word in them, a real timestamp authority's or witness's; and other people's programs."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ledger import genesis
from ledger.database.tables.records import SignedReport
from ledger.errors import Unavailable
from ledger.file_proof import Trust
from ledger.log.notes import NoteVerifier
from ledger.log.policy import load_policy
from ledger.reports import dossier as parts
from ledger.reports.checking import check_document
from ledger.reports.document import signed_dossier, signed_pdf
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings

from .reported import issue_reported
from .test_offline import network_namespace
from .timestamp_authority import Authority, needs_openssl, running_authority
from .witness_at_work import a_witness, policy

pytestmark = pytest.mark.postgres

# An event loop has a pair of sockets between itself and itself; nothing else may have one.
WITHOUT_NETWORK = """
import socket, sys
def refuse(event, arguments):
    if event.startswith("socket.") and not (event == "socket.__new__" and arguments[1] == socket.AF_UNIX):
        raise SystemExit(f"asked for the network: {event} {arguments}")
sys.addaudithook(refuse)
from ledger.cli import main
main()
"""


@pytest.fixture
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with running_authority(tmp_path_factory.mktemp("tsa") / "authority") as running:
        yield running


@pytest.fixture
def stamping(settings: Settings, authority: Authority) -> Iterator[Runtime]:
    genesis.found(settings)
    told = settings.model_copy(update={"tsa_url": authority.url, "timestamp_interval": 0.05})
    with open_runtime(told) as runtime, sequencing(runtime):
        yield runtime


def stamped_log(runtime: Runtime) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with runtime.sessions() as session:
            newest = session.scalar(sa.text("SELECT max(size) FROM log_timestamps"))
            size = session.scalar(sa.text("SELECT size FROM log_published"))
        if newest is not None and newest == size:
            return
        time.sleep(0.05)
    raise AssertionError("the authority has not stamped the log")


@needs_openssl
def test_an_authoritys_word_stands_in_the_signature_and_over_the_log(stamping: Runtime, authority: Authority) -> None:
    record_id = issue_reported(stamping)
    stamped_log(stamping)
    dossier, pdf = signed_dossier(stamping, record_id)
    assert parts.TIMESTAMP in dossier.parts
    trust, now = Trust([stamping.keys.log.vkey]), stamping.clock()
    known = check_document(pdf, trust=trust, roots_pem=stamping.keys.root_pem + authority.root_pem, now=now)
    assert known.stamped_at is not None
    assert known.checkpoint_stamped_at is not None
    assert (known.checks[-1].result, known.checks[-1].code) == ("pass", "timestamp_verified")
    unknown = check_document(pdf, trust=trust, roots_pem=stamping.keys.root_pem, now=now)
    assert (unknown.stamped_at, unknown.checkpoint_stamped_at) == (None, None)
    assert unknown.answers.report == "recorded"
    later = now.replace(year=now.year + 3)  # the signer's certificate has run out; an authority saw it before
    assert check_document(
        pdf, trust=trust, roots_pem=stamping.keys.root_pem + authority.root_pem, now=later
    ).answers.signer == "trusted"  # fmt: skip
    assert check_document(pdf, trust=trust, roots_pem=stamping.keys.root_pem, now=later).answers.signer == "expired"


@needs_openssl
@pytest.mark.parametrize("mode", ["broken", "lying", "refusing"])
def test_without_the_authoritys_word_nothing_is_signed_and_nothing_kept(
    stamping: Runtime, authority: Authority, mode: str
) -> None:
    record_id = issue_reported(stamping)
    authority.mode = mode
    with pytest.raises(Unavailable) as error:
        signed_pdf(stamping, record_id)
    assert error.value.code == "tsa_down"
    with stamping.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(SignedReport)) == 0
    authority.mode = "well"
    assert signed_pdf(stamping, record_id).startswith(b"%PDF-")


def test_witnesses_signatures_travel_in_the_report_where_they_have_signed(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    founded = genesis.found(settings)
    folder = tmp_path_factory.mktemp("witness")
    with a_witness(folder / "state", NoteVerifier.parse(founded.log_vkey)) as witness:
        file = policy(folder / "policy.txt", [(witness.vkey, witness.url)])
        told = settings.model_copy(update={"witness_policy": file, "witness_interval": 0.1, "issue_timeout": 60.0})
        with open_runtime(told) as runtime, sequencing(runtime):
            record_id = issue_reported(runtime)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with runtime.sessions() as session:
                    seen = session.scalar(sa.text("SELECT max(size) FROM log_witnessed")) or 0
                    if seen == session.scalar(sa.text("SELECT size FROM log_published")):
                        break
                time.sleep(0.05)
            pdf = signed_pdf(runtime, record_id)
            found = check_document(
                pdf,
                trust=Trust([runtime.keys.log.vkey], (), load_policy(file)),
                roots_pem="",
                now=runtime.clock(),
            )
    assert [(check.result, check.code) for check in found.checks if check.step == 23] == [("pass", "witnessed")]
    assert "1 of the 1 witness given signed for the same log" in found.verdict


# ---- the command, and other people's programs ------------------------------------------------------------------------


def lawful(settings: Settings, *command: str) -> list[str]:
    overrides = {"database_url": settings.database_url, "database_owner_url": settings.database_owner_url}
    told = [f"{name}={url.get_secret_value()}" for name, url in overrides.items() if url is not None]
    return [sys.executable, "-m", "ledger.cli", "--home", str(settings.home),
            *(part for each in told for part in ("--set", each)), *command]  # fmt: skip


def checked(folder: Path, *options: str, code: int = 0) -> dict[str, Any]:
    """`lawful report verify` on a machine with the package and the file, no ledger and no network."""
    done = subprocess.run(
        [*network_namespace(), sys.executable, "-P", "-c", WITHOUT_NETWORK, "report", "verify", *options, "--json"],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder / "nowhere"), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.slow
def test_the_command_writes_each_form_and_anybody_checks_it_offline(
    runtime: Runtime, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    record_id, folder = issue_reported(runtime), tmp_path_factory.mktemp("journalist")
    for form in ("pdf", "zip", "json"):
        command = lawful(settings, "report", str(record_id), "-o", str(folder / f"report.{form}"), "--json")
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        answer = checked(folder, f"report.{form}", "--offline", "--log-key", runtime.keys.log.vkey)
        assert answer["answers"]["report"] == "recorded"
        assert answer["record_id"] == str(record_id)
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert json.loads(again.stdout)["error"]["code"] == "output_exists"
    pdf = bytearray((folder / "report.pdf").read_bytes())
    pdf[-2000] ^= 1
    (folder / "report.pdf").write_bytes(pdf)
    assert checked(folder, "report.pdf", "--offline", code=1)["answers"]["document"] in {"altered", "unreadable"}


@pytest.mark.skipif(shutil.which("pdfsig") is None, reason="poppler's pdfsig is the second reader of the signature")
def test_another_program_finds_the_signature_valid_and_over_all_of_it(runtime: Runtime, tmp_path: Path) -> None:
    file = tmp_path / "report.pdf"
    file.write_bytes(signed_pdf(runtime, issue_reported(runtime)))
    said = subprocess.run(["pdfsig", "-nocert", str(file)], capture_output=True, text=True, check=False).stdout
    assert "Signature Validation: Signature is Valid." in said
    assert "Total document signed" in said
    assert "ETSI.CAdES.detached" in said
    changed = bytearray(file.read_bytes())
    changed[changed.index(b"/Title") + 10] ^= 1
    file.write_bytes(changed)
    said = subprocess.run(["pdfsig", "-nocert", str(file)], capture_output=True, text=True, check=False).stdout
    assert "Signature is Valid" not in said
