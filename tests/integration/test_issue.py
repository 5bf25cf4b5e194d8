"""Issuing: the order, idempotency and visibility of DESIGN, with the process dying between any two steps."""

import multiprocessing
import os
import uuid

import pytest
import sqlalchemy as sa

from attribution.evidence import Evidence
from attribution.fingerprints import fingerprint
from ledger import issue, lookup
from ledger.abandonment import ABANDONED, abandon
from ledger.credentials.read import read_credential
from ledger.database.tables.log import LogEntry, LogOutbox
from ledger.database.tables.principals import Principal
from ledger.database.tables.records import Record
from ledger.errors import BadRequest, Conflict
from ledger.log.statements import parse_statement
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings
from models.images import encode_png

from .conftest import picture

pytestmark = pytest.mark.postgres

STEPS = ("signed", "integrated", "written", "sealed", "issued")
MODEL = {"name": "test", "revision": "1", "weights_sha256": "0" * 64, "licence": "none"}


def produced(seed: int = 1) -> issue.Produced:
    pixels = picture(seed)
    data = encode_png(pixels)
    return issue.Produced(
        data, "image/png", fingerprint(data, pixels), Evidence(statement="Nothing was compared."), MODEL
    )


def accept(runtime: Runtime, prompt: str = "a boat", key: str | None = None) -> uuid.UUID:
    with runtime.sessions.begin() as session:
        principal = session.scalars(sa.select(Principal.id)).one()
        return issue.accept_generation(
            session,
            principal_id=principal,
            prompt=prompt,
            seed=7,
            parameters={},
            idempotency_key=key,
            max_prompt_chars=1000,
        )


def entries_about(runtime: Runtime, record_id: uuid.UUID) -> list[str]:
    """The types of all log entries that name the record, in the log's order."""
    with runtime.sessions() as session:
        entries = session.scalars(sa.select(LogEntry.entry).order_by(LogEntry.idx)).all()
        assert session.scalar(sa.select(sa.func.count()).select_from(LogOutbox)) == 0
    payloads = [parse_statement(entry).payload for entry in entries]
    return [payload["type"] for payload in payloads if payload.get("record_id") == str(record_id)]


def test_an_issued_record_is_found_by_its_file_and_its_pixels(runtime: Runtime) -> None:
    record_id = accept(runtime)
    issue.sign(runtime, record_id, produced())
    issue.finish(runtime, record_id)
    with runtime.sessions() as session:
        view = lookup.by_id(session, record_id)
        assert view.state == "issued"
        assert view.file_sha256 is not None
        assert view.log is not None
        assert [each.id for each in lookup.find(session, file_sha256=view.file_sha256)] == [str(record_id)]
        assert [each.id for each in lookup.find(session, pixel_sha256=view.pixel_sha256)] == [str(record_id)]
        assert [each.id for each in lookup.find(session, iscc=view.iscc)] == [str(record_id)]
        key, media_type = lookup.file_key(session, record_id)
    reading = read_credential(
        runtime.storage.get(key), media_type, anchors_pem=runtime.keys.root_pem, now=runtime.clock()
    )
    assert (reading.content, reading.signature, reading.signer) == ("intact", "valid", "trusted")
    assert reading.manifest_urn == view.manifest_urn
    assert entries_about(runtime, record_id) == [issue.RECORD, issue.ISSUED]


def test_nothing_is_visible_before_it_is_issued(runtime: Runtime) -> None:
    record_id = accept(runtime)
    made = produced()
    issue.sign(runtime, record_id, made)
    seen = []

    def look(step: str) -> None:
        with runtime.sessions() as session:
            seen.append((step, bool(lookup.find(session, pixel_sha256=made.fingerprints.pixel_sha256))))

    issue.finish(runtime, record_id, on_step=look)
    assert seen == [("integrated", False), ("written", False), ("sealed", False), ("issued", True)]


def test_the_same_key_gives_the_same_record_and_another_request_a_conflict(runtime: Runtime) -> None:
    first = accept(runtime, key="order-1")
    assert accept(runtime, key="order-1") == first
    with pytest.raises(Conflict) as error:
        accept(runtime, prompt="a house", key="order-1")
    assert error.value.code == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("prompt", "code"), [("  ", "prompt_empty"), ("a" * 1001, "prompt_too_long"), ("a\x00", "prompt_malformed")]
)
def test_a_bad_prompt_is_refused_by_name(runtime: Runtime, prompt: str, code: str) -> None:
    with pytest.raises(BadRequest) as error:
        accept(runtime, prompt=prompt)
    assert error.value.code == code


def test_an_abandoned_record_is_answered_in_the_log_and_never_shown(runtime: Runtime) -> None:
    record_id = accept(runtime)
    issue.sign(runtime, record_id, produced())
    abandon(runtime, record_id, {"code": "gone", "detail": "", "next_step": ""})
    with runtime.sessions() as session:
        leaf = session.scalars(sa.select(LogOutbox.leaf_hash)).all()
        assert lookup.by_id(session, record_id).state == "abandoned"
    for each in leaf:
        issue.sequencer.wait(runtime.sessions, runtime.shard, each, 10)
    assert entries_about(runtime, record_id) == [issue.RECORD, ABANDONED]


def _issue_and_die(settings: Settings, record_id: uuid.UUID, dies_at: str | None) -> None:
    """A worker's work on one record, killed without warning right after `dies_at`."""

    def on_step(step: str) -> None:
        if step == dies_at:
            os._exit(9)

    with open_runtime(settings) as runtime, sequencing(runtime):
        with runtime.sessions() as session:
            state = session.get_one(Record, record_id).state
        if state == "accepted":
            issue.sign(runtime, record_id, produced())
            on_step("signed")
        issue.finish(runtime, record_id, on_step)


@pytest.mark.slow
@pytest.mark.parametrize("dies_at", STEPS)
def test_a_process_killed_after_any_step_leaves_one_whole_record_after_the_retry(
    runtime: Runtime, settings: Settings, dies_at: str
) -> None:
    record_id = accept(runtime)
    spawn = multiprocessing.get_context("spawn")
    for at, expected in ((dies_at, 9), (None, 0)):
        process = spawn.Process(target=_issue_and_die, args=(settings, record_id, at))
        process.start()
        process.join(60)
        assert process.exitcode == expected
    assert entries_about(runtime, record_id) == [issue.RECORD, issue.ISSUED]
    with runtime.sessions() as session:
        view = lookup.by_id(session, record_id)
        key, _ = lookup.file_key(session, record_id)
    import hashlib

    assert hashlib.sha256(runtime.storage.get(key)).hexdigest() == view.file_sha256
