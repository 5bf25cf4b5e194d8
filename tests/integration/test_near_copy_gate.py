"""A near copy is stopped, whoever asked learns why, and so does the public log; a warned one says so."""

import hashlib
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from sqlalchemy.orm import Session

from attribution.evidence import Evidence, from_json
from attribution.gate import GatePolicy
from ledger import issue, lookup
from ledger.abandonment import EVIDENCE_DOMAIN, abandon, failure, refuse_blocked
from ledger.cli import main
from ledger.credentials.read import read_credential
from ledger.database.session import open_database
from ledger.database.tables.log import LogEntry, LogOutbox
from ledger.database.tables.records import Picture, Record, Report
from ledger.erasure import erase
from ledger.errors import Conflict, LedgerError
from ledger.gate import policy_of
from ledger.log import entries
from ledger.log.notes import TlogProof
from ledger.log.statement_types import PIXELS_DOMAIN
from ledger.log.statements import commitment, parse_statement
from ledger.runtime import Runtime
from ledger.settings import Settings
from models.images import encode_png

from .conftest import picture
from .http_ledger import (
    DRAWING,
    DRAWN,
    FOUND,
    api_key,
    do,
    generated,
    looked,
    operator,
    png,
    serving,
    told,
)

pytestmark = pytest.mark.postgres

HTML = {"accept": "text/html"}
BLOCKED = told(FOUND, refused=True, policy=GatePolicy(copy="block"))
WARNED = told(FOUND, refused=True, policy=GatePolicy())


def refuse(runtime: Runtime, record_id: uuid.UUID, evidence: Evidence = BLOCKED) -> Conflict:
    """What a worker does with an image that the gate blocks: it tries to sign, and abandons what is refused."""
    with pytest.raises(Conflict) as refusal:
        do(runtime, record_id, evidence)
    leaf = abandon(runtime, record_id, failure(refusal.value))
    assert leaf is not None
    entries.wait(runtime.sessions, runtime.shard, leaf, 20)
    return refusal.value


def said_of(runtime: Runtime, record_id: uuid.UUID) -> list[dict[str, Any]]:
    """What the log says that names the record."""
    with runtime.sessions() as session:
        logged = [*session.scalars(sa.select(LogEntry.entry)), *session.scalars(sa.select(LogOutbox.entry))]
    payloads = [parse_statement(entry).payload for entry in logged]
    return [payload for payload in payloads if payload.get("record_id") == str(record_id)]


def wish(runtime: Runtime, key: str | None = None) -> uuid.UUID:
    with runtime.sessions.begin() as session:
        return issue.accept_generation(
            session,
            principal_id=operator(runtime),
            prompt="a wheat field",
            seed=1,
            parameters={},
            idempotency_key=key,
            max_prompt_chars=100,
        )


def stamp(runtime: Runtime) -> uuid.UUID:
    with runtime.sessions.begin() as session:
        return issue.accept_stamp(
            session,
            runtime,
            principal_id=operator(runtime),
            image=png(5),
            media_type="image/png",
            declared_model=None,
            prompt=None,
            prompt_commitment=None,
            idempotency_key=None,
        )


def test_the_policy_is_what_the_settings_say(settings: Settings) -> None:
    chosen = settings.model_copy(update={"gate_identity": "block", "gate_refused": "allow", "gate_alpha": 0.01})
    assert policy_of(chosen) == GatePolicy(identity="block", copy="warn", refused="allow", alpha=0.01)
    assert policy_of(settings) == GatePolicy()


@pytest.mark.parametrize("ask", [wish, stamp], ids=["generation", "stamp"])
def test_of_a_blocked_image_no_pixel_is_kept_and_nothing_is_served(
    runtime: Runtime, ask: Callable[[Runtime], uuid.UUID]
) -> None:
    record_id = ask(runtime)
    error = refuse(runtime, record_id)
    assert (error.code, error.status) == ("near_copy_blocked", 409)
    with runtime.sessions() as session:
        assert lookup.by_id(session, record_id).state == "abandoned"
        assert lookup.find(session, pixel_sha256=pixels_of(session, record_id)) == []
        assert session.scalar(sa.select(sa.func.count()).select_from(Picture)) == 0
        with pytest.raises(LedgerError):
            lookup.report(session, record_id)
        with pytest.raises(LedgerError):
            lookup.file_key(session, record_id)
    for prefix in ("sources", "files"):
        assert list(runtime.storage.stored(prefix)) == []


def pixels_of(session: Session, record_id: uuid.UUID) -> str:
    pixels = session.get_one(Record, record_id).pixel_sha256
    assert pixels is not None
    return pixels.hex()


@pytest.mark.parametrize("ask", [wish, stamp], ids=["generation", "stamp"])
def test_the_log_says_of_a_blocked_image_by_which_reasons_and_policy_and_nothing_else(
    runtime: Runtime, ask: Callable[[Runtime], uuid.UUID]
) -> None:
    record_id = ask(runtime)
    refuse(runtime, record_id)
    (said,) = said_of(runtime, record_id)
    assert said["type"] == "lawful-ledger/blocked/1"
    assert said["kind"] == ("generation" if ask is wish else "stamp")
    assert said["reasons"] == ["copy_of_work", "artist_refused"]
    assert said["policy"] == {"identity": "warn", "copy": "block", "refused": "warn", "alpha": "0.001"}
    assert said["snapshot"] == "ab" * 32
    text = json.dumps(said)
    for word in ("Wheat Field", "Gogh", "wheat", "0.0005", "41.7", DRAWN):
        assert word not in text


def test_the_evidence_of_a_refusal_opens_the_logs_commitment_until_it_is_erased(runtime: Runtime) -> None:
    record_id = wish(runtime)
    refuse(runtime, record_id)
    (said,) = said_of(runtime, record_id)
    with runtime.sessions() as session:
        record, kept = session.get_one(Record, record_id), session.get_one(Report, record_id)
    assert record.salt is not None
    assert record.pixel_sha256 is not None
    assert from_json(kept.body) == BLOCKED
    assert kept.sha256 == hashlib.sha256(kept.body).digest()
    assert said["commitments"] == {
        "evidence": commitment(EVIDENCE_DOMAIN, record.salt, kept.sha256).hex(),
        "pixels": commitment(PIXELS_DOMAIN, record.salt, record.pixel_sha256).hex(),
    }
    erase(runtime, record_id, reason="requested", asked_by="artist")
    with runtime.sessions() as session:
        view = lookup.by_id(session, record_id)
        assert session.get(Report, record_id) is None
        assert session.get_one(Record, record_id).salt is None
        assert view.log is not None
        entry = lookup.by_index(session, runtime.shard, view.log.index)
    assert (view.redacted, view.blocked) == (True, None)
    assert (entry.answer, entry.payload) == ("redacted", None)


def test_a_worker_killed_between_refusal_and_answer_finds_it_refused_and_logs_it_once(runtime: Runtime) -> None:
    record_id = wish(runtime)
    with pytest.raises(Conflict):
        do(runtime, record_id, BLOCKED)
    do(runtime, record_id, BLOCKED)  # the job again, by another worker: there is nothing left to do
    with runtime.sessions() as session:
        record = session.get_one(Record, record_id)
        assert record.failure is not None
        assert (record.state, record.failure["code"]) == ("abandoned", "near_copy_blocked")
    assert len(said_of(runtime, record_id)) == 1


def test_a_record_given_up_before_it_is_judged_is_not_called_blocked(runtime: Runtime) -> None:
    record_id = wish(runtime)
    abandon(runtime, record_id, {"code": "disk_full", "detail": "", "next_step": "", "status": 507})
    with pytest.raises(Conflict):
        refuse_blocked(runtime, record_id, BLOCKED, "00" * 32, None)
    with runtime.sessions() as session:
        assert lookup.by_id(session, record_id).blocked is None
    assert said_of(runtime, record_id) == []


def test_whoever_asked_is_told_why_and_what_next(runtime: Runtime) -> None:
    record_id = wish(runtime, key="order-1")
    refuse(runtime, record_id)
    authorized = {"authorization": f"Bearer {api_key(runtime)}"}
    with serving(runtime) as client:
        problem = client.get(f"/v1/generations/{record_id}", headers=authorized).json()
        page = client.get(f"/r/{record_id}", headers=HTML)
        record = client.get(f"/v1/records/{record_id}").json()
        proof = client.get(f"/v1/records/{record_id}/proof")
        entry = client.get(f"/v1/log/entries/{record['log']['index']}").json()
    assert (problem["status"], problem["code"]) == (409, "near_copy_blocked")
    assert "a copy of “Wheat Field” by Vincent van Gogh (an image that copies nothing reaches this" in problem["detail"]
    assert problem["detail"].endswith("reasons: copy_of_work, artist_refused")
    assert "earlier request" not in problem["title"]
    assert "ask the artist" in problem["next_step"]
    assert "LAWFUL_GATE_COPY" in problem["next_step"]
    assert page.status_code == 200
    for said in ("given up", "“Wheat Field” by Vincent van Gogh", "near_copy_blocked", "What to do:", "ask the artist"):
        assert said in page.text
    assert "<img" not in page.text
    assert f"in its entry {record['log']['index']}" in page.text
    assert "alpha 0.001, copy block" in page.text
    (said,) = said_of(runtime, record_id)
    assert record["blocked"] == {
        "reasons": said["reasons"],
        "policy": said["policy"],
        "evidence": said["commitments"]["evidence"],
        "created_at": said["created_at"],
    }
    assert entry["payload"] == said
    assert TlogProof.parse(proof.content).index == record["log"]["index"]
    assert wish(runtime, key="order-1") == record_id, "asked again, it is the same refusal"


def test_a_warned_image_is_issued_and_says_so_wherever_it_is_read(runtime: Runtime) -> None:
    record_id = generated(runtime, evidence=WARNED)
    assert WARNED.gate is not None
    with serving(runtime) as client:
        report = client.get(f"/v1/records/{record_id}/report").json()
        page = client.get(f"/r/{record_id}", headers=HTML).text
        data = client.get(f"/v1/records/{record_id}/file").content
    assert report["evidence"]["gate"] == msgspec.to_builtins(WARNED.gate)
    for said in ("issued with a warning", "copy_of_work", "artist_refused", "alpha 0.001"):
        assert said in page
    reading = read_credential(data, "image/png", anchors_pem=runtime.keys.root_pem, now=runtime.clock())
    assert reading.attribution is not None
    assert reading.attribution["gate"]["decision"] == "warn"
    assert [each["axis"] for each in reading.attribution["findings"]] == [each.axis for each in WARNED.findings]
    assert len(reading.attribution["copies"]) == 3


def test_a_matched_region_is_served_while_an_issued_record_has_it(runtime: Runtime) -> None:
    address = f"/pictures/{DRAWN}.png"
    with serving(runtime) as client:
        assert client.get(address).json()["code"] == "picture_unknown"
        looked(runtime, png(3))  # a look keeps no picture of what was uploaded
        waiting = wish(runtime)
        with runtime.sessions.begin() as session:
            session.add(Picture(record_id=waiting, sha256=bytes.fromhex(DRAWN), png=DRAWING))
        assert client.get(address).status_code == 404, "nothing of a record is seen before it is issued"
        record_id = generated(runtime)
        page = client.get(f"/r/{record_id}", headers=HTML).text
        assert f'src="{address}"' in page
        served = client.get(address)
        assert served.content == DRAWING
        assert served.headers["content-type"] == "image/png"
        assert "default-src 'none'" in served.headers["content-security-policy"]
        assert client.get(address, headers={"if-none-match": served.headers["etag"]}).status_code == 304
        erase(runtime, record_id, reason="requested", asked_by="artist")
        gone = client.get(address, headers={"if-none-match": served.headers["etag"]})
        assert gone.status_code == 404


@pytest.mark.parametrize(
    "name", ["x.png", f"{DRAWN}", f"{DRAWN}.jpg", f"{DRAWN.upper()}.png", "..%2Fetc", f"{DRAWN}.png "]
)
def test_a_name_that_is_no_pictures_is_not_found(runtime: Runtime, name: str) -> None:
    generated(runtime)
    with serving(runtime) as client:
        assert client.get(f"/pictures/{name}").status_code == 404


# ---- the command line, with the networks that come with the ledger ---------------------------------------------------


@pytest.fixture
def lawful(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command against this test's database; in the current folder lies a collection of two works."""
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    words = ["--home", str(tmp_path / "home")]
    for name in ("database_url", "database_owner_url"):
        words += ["--set", f"{name}={getattr(settings, name).get_secret_value()}"]
    (tmp_path / "collection" / "Ada").mkdir(parents=True)
    for number in range(2):
        (tmp_path / "collection" / "Ada" / f"Boat {number}.png").write_bytes(encode_png(picture(number)))
    monkeypatch.chdir(tmp_path)

    def run(*command: str, **changes: str) -> Result:
        changed = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
        return CliRunner().invoke(main, [*words, *changed, *command])

    assert run("init").exit_code == 0
    assert run("index", "collection").exit_code == 0
    return run


def answer(result: Result, exit_code: int = 0) -> Any:
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


@pytest.mark.slow
def test_the_command_line_stops_what_is_blocked_and_repeats_a_warning(
    lawful: Callable[..., Result], settings: Settings, tmp_path: Path
) -> None:
    ask = ("stamp", "collection/Ada/Boat 1.png", "-o", "out.png")
    refused = answer(lawful(*ask, "--json", gate_identity="block"), exit_code=3)["error"]
    assert (refused["code"], refused["status"]) == ("near_copy_blocked", 409)
    assert "“Boat 1” by Ada, pixel for pixel" in refused["detail"]
    assert "LAWFUL_GATE_IDENTITY" in refused["next_step"]
    assert not (tmp_path / "out.png").exists()
    with open_database(settings) as database, database.sessions() as session:
        record_id = session.scalars(sa.select(Record.id).where(Record.state == "abandoned")).one()
    (record,) = answer(lawful("lookup", str(record_id), "--json"))["records"]
    assert record["blocked"]["reasons"] == ["identical_work", "artist_refused"]
    assert record["log"] is not None, "no worker runs, so the command itself waits for its entry"
    told_by_lookup = lawful("lookup", str(record_id)).stdout
    assert "refused   by the near-copy gate (identical_work, artist_refused)" in told_by_lookup
    warned = lawful(*ask)
    assert warned.exit_code == 0, warned.output
    assert "warning: Issued with a warning: it is “Boat 1” by Ada, pixel for pixel" in warned.stderr
    assert "(identical_work, artist_refused)" in warned.stderr
    assert "This very file is in the collection" in warned.stdout
    again = answer(lawful(*ask, "--force", "--json", gate_identity="allow", gate_refused="allow"))
    assert again["gate"]["decision"] == "allow"
    assert again["gate"]["reasons"] == ["identical_work", "artist_refused"], "what was found is told even where allowed"
    assert again["findings"][0]["outcome"] == "found"
