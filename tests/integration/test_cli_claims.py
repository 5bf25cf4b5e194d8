"""`lawful dispute` and `lawful claim` with the real engine: findings are what networks and geometry find."""

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rfc8785
from click.testing import CliRunner, Result
from PIL import Image

from ledger.claims.moving import DOCUMENT_DOMAIN
from ledger.cli import main
from ledger.log.statements import commitment, parse_statement
from ledger.log.verify import check_tlog_proof
from ledger.settings import Settings
from models.images import encode_png

from .conftest import picture
from .small_networks import save_clip, save_dinov2

pytestmark = pytest.mark.postgres

Lawful = Callable[..., Result]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("networks")
    return {"clip": str(save_clip(folder / "clip")), "dinov2": str(save_dinov2(folder / "dinov2"))}


@pytest.fixture
def lawful(settings: Settings, networks: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lawful:
    """Runs a command on a founded ledger; the current folder is `tmp_path`/work."""
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    values = {
        "database_url": settings.database_url.get_secret_value(),
        "database_owner_url": settings.database_owner_url.get_secret_value(),
        "profile": "open",
        **networks,
    }
    words = [*("--home", str(tmp_path / "home")), *(w for n, v in values.items() for w in ("--set", f"{n}={v}"))]
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def run(*command: str) -> Result:
        return CliRunner().invoke(main, [*words, *command])

    assert run("init").exit_code == 0
    return run


def indexed(lawful: Lawful, artists: int, each: int, side: int) -> None:
    for artist in range(artists):
        folder = Path("works") / f"Artist {artist}"
        folder.mkdir(parents=True)
        for work in range(each):
            (folder / f"{work}.png").write_bytes(encode_png(picture(100 * artist + work, side)))
    done = lawful("index", "works", "--licence", "all rights reserved")
    assert done.exit_code == 0, done.output


def dispute(lawful: Lawful, image: np.ndarray, work: np.ndarray, claimant: str, *more: str, exit_code: int = 0) -> Any:
    Path("image.png").write_bytes(encode_png(np.ascontiguousarray(image)))
    Path("mine.png").write_bytes(encode_png(work))
    command = ("dispute", "image.png", "--claimant", claimant, "--work", "mine.png", "-o", "report.json", "--force")
    done = lawful(*command, *more, "--json")
    assert done.exit_code == exit_code, done.output
    return json.loads(done.stdout)


def test_a_dispute_leaves_a_report_that_is_signed_and_in_the_log(lawful: Lawful, tmp_path: Path) -> None:
    indexed(lawful, artists=2, each=1, side=48)
    own = picture(100, 48)
    found = dispute(lawful, own, own, "artist  1", "--kind", "mine")
    assert found["decision"]["outcome"] == "supported"
    assert found["state"] == "decided"
    signed = json.loads(Path("report.json").read_text())
    statement = base64.b64decode(signed["statement"])
    digest = hashlib.sha256(rfc8785.dumps(signed["report"])).digest()
    opened = commitment(DOCUMENT_DOMAIN, bytes.fromhex(signed["salt"]), digest).hex()
    assert parse_statement(statement).payload["commitments"]["document"] == opened
    vkey = json.loads(lawful("init", "--json").stdout)["log_vkey"]
    checked = check_tlog_proof(statement, signed["tlog_proof"].encode(), log_vkeys=[vkey])
    assert (checked.inclusion, checked.log_key) == (True, "trusted")
    assert len(signed["keys"]) >= 1

    thief = dispute(lawful, own, own, "A. Thief", "--kind", "mine", exit_code=1)
    assert thief["decision"]["outcome"] == "contradicted"
    refused = lawful("dispute", "image.png", "--claimant", "x", "--work", "none.png", "-o", "report.json")
    assert refused.exit_code == 3
    assert "output_exists" in refused.output


def test_a_dispute_is_reported_as_pdf_and_zip_and_each_is_checked_offline(lawful: Lawful) -> None:
    indexed(lawful, artists=2, each=1, side=48)
    own = picture(100, 48)
    vkey = json.loads(lawful("init", "--json").stdout)["log_vkey"]

    def checked(file: str, exit_code: int = 0) -> Any:
        done = lawful("report", "verify", file, "--offline", "--log-key", vkey, "--json")
        assert done.exit_code == exit_code, done.output
        return json.loads(done.stdout)

    disputed = dispute(lawful, own, own, "Artist 1", "--kind", "mine")
    assert checked("report.json")["outcome"] == "supported"
    for claimant, form, outcome in (("Artist 1", "pdf", "supported"), ("A. Thief", "zip", "contradicted")):
        words = ("--claimant", claimant, "--work", "mine.png", "--kind", "mine", "-o", f"report.{form}")
        assert lawful("dispute", "image.png", *words).exit_code == (outcome == "contradicted")
        found = checked(f"report.{form}")
        assert (found["outcome"], found["answers"]["report"], found["form"]) == (outcome, "recorded", form)
        told = lawful("report", "verify", f"report.{form}", "--offline", "--log-key", vkey)
        assert "31 ✓ The decision is what the published rules make of the facts" in told.output
    assert lawful("report", disputed["id"], "-o", "again.json").exit_code == 0
    assert checked("again.json")["claim_id"] == disputed["id"]
    changed = Path("again.json").read_text().replace('"supported"', '"inconclusive"')
    Path("again.json").write_text(changed)
    assert checked("again.json", exit_code=1)["answers"]["report"] == "contradicts"
    other = lawful("dispute", "image.png", "--claimant", "x", "--work", "mine.png", "-o", "report.txt", "--json")
    assert (other.exit_code, json.loads(other.stdout)["error"]["code"]) == (3, "report_form_unknown")


def test_the_operator_answers_closes_and_forgets(lawful: Lawful) -> None:
    indexed(lawful, artists=2, each=1, side=48)
    claim = dispute(lawful, picture(7, 48), picture(8, 48), "Jane Doe", "--words", "my garden")["id"]
    listed = json.loads(lawful("claim", "list", "--json").stdout)["claims"]
    assert [(each["id"], each["outcome"]) for each in listed] == [(claim, "inconclusive")]
    assert "work_off_record" in lawful("claim", "show", claim).output
    answered = json.loads(lawful("claim", "answer", claim, "--words", "It is ours.", "--json").stdout)
    assert answered["steps"][-1]["words"] == "It is ours."
    again = lawful("claim", "answer", claim, "--words", "Twice.", "--json")
    assert (again.exit_code, json.loads(again.stdout)["error"]["code"]) == (3, "claim_not_now")
    assert json.loads(lawful("claim", "close", claim, "--json").stdout)["state"] == "closed"
    erased = json.loads(
        lawful("claim", "erase", claim, "--reason", "requested", "--asked-by", "artist", "--json").stdout
    )
    assert (erased["erased"], erased["claimant"], erased["words"]) == (True, None, None)
    unknown = "0190e7a2-7c3b-7d1e-9f00-3c5a1b2d4e6f"
    for command, code in (
        (("claim", "show", unknown), "claim_unknown"),
        (("claim", "forget", unknown), "identity_unknown"),
        (("claim", "page", unknown, "https://example.org/"), "artist_unknown"),
        (("claim", "page", unknown, "http://10.0.0.1/"), "page_refused"),
    ):
        done = lawful(*command, "--json")
        assert (done.exit_code, json.loads(done.stdout)["error"]["code"]) == (3, code)


@pytest.mark.slow
def test_a_true_claim_is_upheld_and_a_false_one_refuted_by_the_engine(lawful: Lawful) -> None:
    """A crop of a work is found by geometry, at an error rate from the collection's own works."""
    indexed(lawful, artists=12, each=15, side=192)
    work, stranger = picture(203, 192), picture(77_777, 192)
    crop = work[10:180, 12:182]
    true = dispute(lawful, crop, work, "Artist 2")
    assert true["decision"]["outcome"] == "supported"
    assert "copy_found" in {ground["code"] for ground in true["decision"]["grounds"]}
    false = dispute(lawful, crop, work, "Artist 3", exit_code=1)
    assert "work_is_anothers" in {ground["code"] for ground in false["decision"]["grounds"]}
    another = dispute(lawful, crop, stranger, "A. Thief", "--kind", "mine", exit_code=1)
    assert "another_work" in {ground["code"] for ground in another["decision"]["grounds"]}
    none = dispute(lawful, stranger, work, "Artist 2")
    assert none["decision"]["outcome"] == "inconclusive"
    assert "no_match" in {ground["code"] for ground in none["decision"]["grounds"]}
    assert zip_of(lawful, "image.png") == []  # handed in, so shown to nobody
    Path("image.png").write_bytes(encode_png(np.ascontiguousarray(crop)))
    assert lawful("stamp", "image.png", "-o", "stamped.png").exit_code == 0
    on_record = zip_of(lawful, "stamped.png")
    assert on_record
    with Image.open(io.BytesIO(on_record[0])) as drawn:
        assert drawn.width > drawn.height  # the image, and the work at its right


def zip_of(lawful: Lawful, image: str) -> list[bytes]:
    """The drawings in the evidence on a claim about this file."""
    words = ("--claimant", "Artist 2", "--work", "mine.png", "-o", "evidence.zip", "--force")
    done = lawful("dispute", image, *words)
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile("evidence.zip") as archive:
        return [archive.read(name) for name in archive.namelist() if name.startswith("evidence/match-")]
