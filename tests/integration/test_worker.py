"""The worker, its real queue and real (small, random) networks: from a request to a record, or to a reason."""

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import sqlalchemy as sa

from ledger import catalog, genesis, issue, jobs, lookup, verifications, worker
from ledger.abandonment import abandon
from ledger.credentials.read import read_credential
from ledger.database.tables.principals import Principal
from ledger.database.tables.records import Record
from ledger.errors import LedgerError, Unavailable
from ledger.examiner import Examiner
from ledger.log.sequencer import SequencerThread
from ledger.metrics import JOBS, STAGE_SECONDS
from ledger.runtime import Runtime, open_decoders, open_runtime
from ledger.settings import Settings
from ledger.sources import Grants
from ledger.tampering import strip
from models.images import decode, encode_png

from .conftest import picture
from .small_networks import save_open
from .test_catalog import folder_of_works
from .worker_at_work import at_work

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("worker")]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_open(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def ledger(settings: Settings, networks: dict[str, str]) -> Iterator[Runtime]:
    """A founded ledger in the `open` profile, without a worker."""
    settings = settings.model_copy(update={"profile": "open", **networks})
    genesis.found(settings)
    with open_runtime(settings) as runtime:
        yield runtime


@pytest.fixture
def served(ledger: Runtime) -> Iterator[Runtime]:
    """The same with a worker process's main loop in a thread."""
    with at_work(ledger.settings):
        yield ledger


def principal(runtime: Runtime, generator: str | None = None) -> uuid.UUID:
    with runtime.sessions.begin() as session:
        found = session.scalars(sa.select(Principal)).one()
        found.generator = generator
        return found.id


def wish(runtime: Runtime, **parameters: int) -> uuid.UUID:
    with runtime.sessions.begin() as session:
        return issue.accept_generation(
            session,
            principal_id=session.scalars(sa.select(Principal.id)).one(),
            prompt="a boat",
            seed=3,
            parameters={"width": 64, "height": 64, "steps": 2, **parameters},
            idempotency_key=None,
            max_prompt_chars=1000,
        )


def stamp(runtime: Runtime, image: bytes, model: str | None = None, generator: str | None = None) -> uuid.UUID:
    principal_id = principal(runtime, generator)
    with runtime.sessions.begin() as session:
        return issue.accept_stamp(
            session,
            runtime,
            principal_id=principal_id,
            image=image,
            media_type=decode(image).media_type,
            declared_model=model,
            prompt=None,
            prompt_commitment=None,
            idempotency_key=None,
        )


def finished_file(runtime: Runtime, record_id: uuid.UUID) -> bytes:
    assert jobs.wait(runtime.sessions, record_id, 60) == "issued"
    with runtime.sessions() as session:
        return runtime.storage.get(lookup.file_key(session, record_id)[0])


def manifest_says(runtime: Runtime, data: bytes) -> str:
    reading = read_credential(data, "image/png", anchors_pem=runtime.keys.root_pem, now=runtime.clock())
    assert (reading.content, reading.signature, reading.signer) == ("intact", "valid", "trusted")
    return str(reading.manifest)


def index(runtime: Runtime, folder: Path) -> catalog.Indexed:
    grants = Grants(train=False, compare=True, name=True)
    return catalog.index(
        runtime, folder, collection="test", licence="CC0-1.0", grants=grants, embedder=Examiner(runtime)
    )


def test_a_prompt_becomes_a_record_with_evidence_about_the_collection(served: Runtime, tmp_path: Path) -> None:
    indexed = index(served, folder_of_works(tmp_path / "works", artists=3, works=4))
    data = finished_file(served, wish(served))
    assert "trainedAlgorithmicMedia" in manifest_says(served, data)
    with served.sessions() as session:
        (view,) = lookup.find(session, pixel_sha256=worker.fingerprint(data, decode(data).pixels).pixel_sha256)
        report = lookup.report(session, uuid.UUID(view.id)).decode()
    assert indexed.snapshot in report
    assert '"clip"' in report


def decoders_of_this_process() -> set[int]:
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = {int(pid) for each in children for pid in each.read_text().split()}
    return {pid for pid in pids if b"ledger.decoding.child" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_the_worker_opens_a_stamp_in_another_process_and_leaves_none_behind(
    ledger: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.runtime.open_decoders", open_decoders)  # its own, not those of all tests
    before, stop = decoders_of_this_process(), threading.Event()
    thread = threading.Thread(target=worker.serve, args=(ledger.settings, stop))
    thread.start()
    try:
        finished_file(ledger, stamp(ledger, encode_png(picture(4))))
        assert decoders_of_this_process() - before
    finally:
        stop.set()
        thread.join(60)
    assert not decoders_of_this_process() - before


def test_the_same_seed_gives_the_same_pixels(served: Runtime) -> None:
    one, other = (decode(finished_file(served, wish(served))).pixels for _ in range(2))
    assert np.array_equal(one, other)


def test_a_stamp_claims_ai_origin_only_for_a_registered_generator(served: Runtime) -> None:
    image = encode_png(picture(3))
    declared = finished_file(served, stamp(served, image, model="flux"))
    assert "trainedAlgorithmicMedia" not in manifest_says(served, declared)
    registered = finished_file(served, stamp(served, image, model="flux", generator="flux"))
    assert "trainedAlgorithmicMedia" in manifest_says(served, registered)
    other = finished_file(served, stamp(served, image, model="another", generator="flux"))
    assert "trainedAlgorithmicMedia" not in manifest_says(served, other)


def test_a_stamp_of_a_file_with_a_credential_keeps_it_as_the_parent(served: Runtime) -> None:
    first = finished_file(served, wish(served))
    second = finished_file(served, stamp(served, first))
    reading = read_credential(second, "image/png", anchors_pem=served.keys.root_pem, now=served.clock())
    assert (reading.content, reading.ingredients) == ("intact", "intact")
    parent = read_credential(first, "image/png", anchors_pem=served.keys.root_pem, now=served.clock()).manifest_urn
    assert parent is not None
    assert parent in str(reading.manifest)


def test_a_stamp_of_our_own_pixels_names_our_model_whatever_its_submitter_says(served: Runtime) -> None:
    stripped = strip(finished_file(served, wish(served)))
    stamped = finished_file(served, stamp(served, stripped, model="Another Model v7"))
    said = manifest_says(served, stamped)
    assert "trainedAlgorithmicMedia" in said
    assert "Another Model v7" not in said


def test_two_processes_never_work_on_one_record_at_once(ledger: Runtime) -> None:
    record_id = wish(ledger)
    with ledger.database.advisory_lock(record_id) as ours:
        assert ours
        with pytest.raises(Unavailable) as error:
            worker.run_in_place(ledger, "generate", record_id)
    assert error.value.code == "record_busy"


def test_a_worker_that_is_told_to_end_while_it_starts_ends(ledger: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled in some of these milliseconds, procrastinate goes on: it asks the database for its place then."""
    monkeypatch.setattr(worker, "TICK", 0.001)
    sequencer = cast("SequencerThread", SimpleNamespace(failure=None))
    for ticks in range(20):
        left = iter(range(ticks))
        stop = cast("threading.Event", SimpleNamespace(is_set=lambda left=left: next(left, None) is None))
        asyncio.run(asyncio.wait_for(worker._serve(worker.Worker(ledger), sequencer, stop), 30))


def test_a_look_that_fails_for_good_keeps_no_picture(ledger: Runtime) -> None:
    with ledger.sessions.begin() as session:
        image = encode_png(picture(8))
        record_id = verifications.accept_verification(session, ledger, image=image, principal_id=None)
    abandon(ledger, record_id, {"code": "gone", "detail": "", "next_step": "", "status": 500})
    with pytest.raises(LedgerError) as error:
        ledger.storage.get(f"uploads/{record_id}")
    assert error.value.code == "file_missing"


def test_a_look_is_answered_and_the_upload_forgotten(served: Runtime) -> None:
    data = finished_file(served, wish(served))
    with served.sessions.begin() as session:
        record_id = verifications.accept_verification(session, served, image=data, principal_id=None)
    jobs.wait(served.sessions, record_id, 60)
    with served.sessions() as session:
        found = verifications.result(session, record_id)
        leaf = session.get_one(Record, record_id).leaf_hash
    assert found is not None
    assert found["answers"]["ledger"] == "recorded"
    assert found["verification_id"] == str(record_id)
    assert leaf is not None
    issue.sequencer.wait(served.sessions, served.shard, leaf, 10)
    with pytest.raises(LedgerError) as error:
        served.storage.get(f"uploads/{record_id}")
    assert error.value.code == "file_missing"


def test_a_wish_that_cannot_be_met_is_abandoned_with_its_reason(served: Runtime) -> None:
    record_id = wish(served, width=63)
    with pytest.raises(LedgerError) as error:
        jobs.wait(served.sessions, record_id, 60)
    assert (error.value.code, error.value.status) == ("size_refused", 422)


def test_without_a_worker_the_job_is_done_in_place_and_its_queued_twin_finds_it_done(ledger: Runtime) -> None:
    record_id = wish(ledger)
    worker.run_in_place(ledger, "generate", record_id)
    before = finished_file(ledger, record_id)
    with at_work(ledger.settings):
        finished_file(ledger, wish(ledger))
    assert finished_file(ledger, record_id) == before


def test_a_log_that_does_not_answer_costs_a_retry_not_a_record(
    ledger: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_id = wish(ledger)

    def silent(*_: object) -> None:
        raise Unavailable("no answer", code="log_timeout", next_step="wait")

    with monkeypatch.context() as patched:
        patched.setattr(issue, "_wait", silent)
        with pytest.raises(Unavailable):
            worker.run_in_place(ledger, "generate", record_id)
    with ledger.sessions() as session:
        assert session.get_one(Record, record_id).state == "signed"
        assert issue.unfinished(session, ledger.clock()) == []  # its job still waits in the queue
    with ledger.sessions.begin() as session:
        session.execute(sa.text("UPDATE procrastinate_jobs SET status = 'failed'"))
    with ledger.sessions() as session:
        assert issue.unfinished(session, ledger.clock()) == [(record_id, "generate")]
    worker.run_in_place(ledger, "generate", record_id)
    finished_file(ledger, record_id)


def test_a_job_is_counted_and_timed_stage_by_stage(served: Runtime) -> None:
    def counts() -> dict[str, float]:
        found = {
            sample.labels["stage"]: sample.value
            for metric in STAGE_SECONDS.collect()
            for sample in metric.samples
            if sample.name.endswith("_count") and sample.labels["task"] == "stamp"
        }
        return found | {"done": JOBS.labels("stamp", "done")._value.get()}

    before = counts()
    finished_file(served, stamp(served, encode_png(picture(41))))
    seen = {"decoded", "embedded", "searched", "examined"}
    wanted = seen | {"signed", "integrated", "written", "sealed", "issued", "done"}
    deadline = time.monotonic() + 10
    while counts()["done"] == before["done"] and time.monotonic() < deadline:
        time.sleep(0.05)  # the record is issued a moment before its job has ended
    assert {stage for stage, count in counts().items() if count == before.get(stage, 0) + 1} == wanted
