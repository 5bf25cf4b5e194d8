"""Writing over HTTP: waiting, idempotency, what is declared and what is kept."""

import dataclasses
import hashlib
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from ledger import erasure
from ledger.database.tables.records import Generation, Record, Stamp, Verification
from ledger.runtime import Runtime

from .http_ledger import EVIDENCE, api_key, do, png, serving, working

pytestmark = pytest.mark.postgres


def test_a_generation_is_answered_202_and_is_found_at_its_location_when_it_is_done(runtime: Runtime) -> None:
    with serving(runtime) as client:
        headers = {"authorization": f"Bearer {api_key(runtime)}"}
        asked = client.post("/v1/generations", json={"prompt": "a boat", "seed": 7, "steps": 4}, headers=headers)
        assert asked.status_code == 202
        assert asked.json()["state"] == "accepted"
        assert int(asked.headers["retry-after"]) > 0
        location = asked.headers["location"]
        assert location == f"/v1/generations/{asked.json()['id']}"
        do(runtime, uuid.UUID(asked.json()["id"]), EVIDENCE)
        done = client.get(location)
        assert done.json()["state"] == "issued"
        assert "retry-after" not in done.headers
        assert done.json()["log"]["index"] > 0
    with runtime.sessions() as session:
        made = session.get_one(Generation, uuid.UUID(asked.json()["id"]))
        assert (made.prompt, made.seed, made.parameters) == ("a boat", 7, {"steps": 4})


def test_unknown_words_are_answered_to_whoever_asked_counted_for_everybody_and_erased(runtime: Runtime) -> None:
    headers = {"authorization": f"Bearer {api_key(runtime)}", "idempotency-key": "dragon"}
    with serving(runtime) as client:
        wish = {"prompt": "a dragon in the manner of Rembrandt"}
        record_id = uuid.UUID(client.post("/v1/generations", json=wish, headers=headers).json()["id"])
        do(runtime, record_id, EVIDENCE, unknown_words=("dragon", "Rembrandt"), parameters={"unknown_words": 2})
        asked = client.post("/v1/generations?wait=5", json=wish, headers=headers)
        assert asked.status_code == 201
        assert asked.json()["unknown_words"] == ["dragon", "Rembrandt"]
        page = client.get(f"/r/{record_id}", headers={"accept": "text/html"}).text
        assert "<dt>Words it never learned</dt><dd>2</dd>" in page
        public = [client.get(f"/v1/{kind}/{record_id}") for kind in ("records", "generations")]
        for seen in (page, *(each.text for each in public)):
            assert "dragon" not in seen
            assert "Rembrandt" not in seen
        erasure.erase(runtime, record_id, reason="requested", asked_by="submitter")
    with runtime.sessions() as session:
        assert session.get_one(Generation, record_id).unknown_words is None


def test_waiting_answers_201_with_the_finished_record(runtime: Runtime) -> None:
    headers = {"authorization": f"Bearer {api_key(runtime)}"}
    with serving(runtime) as client, working(runtime):
        made = client.post("/v1/generations?wait=30", json={"prompt": "a boat"}, headers=headers)
        assert made.status_code == 201, made.text
        record = made.json()
        assert record["state"] == "issued"
        assert made.headers["location"] == f"/v1/records/{record['id']}"
        file = client.get(f"/v1/records/{record['id']}/file")
        assert hashlib.sha256(file.content).hexdigest() == record["file_sha256"]


def test_waiting_callers_leave_the_service_free_for_others(runtime: Runtime) -> None:
    """Twenty patient callers, and no worker: whoever comes then must be served at once."""
    headers = {"authorization": f"Bearer {api_key(runtime)}"}
    with serving(runtime) as client, ThreadPoolExecutor(20) as pool:
        patient = [
            pool.submit(client.post, "/v1/generations?wait=8", json={"prompt": f"boat {n}"}, headers=headers)
            for n in range(20)
        ]
        time.sleep(2)
        began = time.monotonic()
        assert client.get(f"/v1/records?file_sha256={'0' * 64}").status_code == 200
        assert time.monotonic() - began < 3
        assert not any(each.done() for each in patient)
        assert {each.result().status_code for each in patient} == {202}


def test_the_same_key_makes_one_record_however_often_and_however_many_at_once(runtime: Runtime) -> None:
    headers = {"authorization": f"Bearer {api_key(runtime)}", "idempotency-key": "order 1"}
    barrier = threading.Barrier(6)

    def order(client) -> dict:  # type: ignore[no-untyped-def, type-arg]
        barrier.wait()
        response = client.post("/v1/generations", json={"prompt": "a boat", "seed": 1}, headers=headers)
        assert response.status_code == 202, response.text
        return dict(response.json())

    with serving(runtime) as client, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(order, [client] * 6))
        assert len({each["id"] for each in answers}) == 1
        other = client.post("/v1/generations", json={"prompt": "a house", "seed": 1}, headers=headers)
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
        do(runtime, uuid.UUID(answers[0]["id"]), EVIDENCE)
        again = client.post("/v1/generations", json={"prompt": "a boat", "seed": 1}, headers=headers)
        assert (again.status_code, again.json()["state"]) == (201, "issued")
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Record)) == 1
        assert session.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs")) == 1


def test_a_stamp_keeps_what_was_declared_and_no_more(runtime: Runtime) -> None:
    headers = {"authorization": f"Bearer {api_key(runtime)}"}
    image, secret = png(5), "ab" * 32
    with serving(runtime) as client, working(runtime):
        stamped = client.post(
            "/v1/stamps?wait=30",
            files={"file": ("../../etc/passwd\n.png", image)},
            data={"model": "a model", "prompt_commitment": secret},
            headers=headers,
        )
        assert stamped.status_code == 201, stamped.text
        record = stamped.json()
        assert record["made"] == {"by": "declared by its submitter", "declared_model": "a model", "ai_origin": False}
        by_source = client.get("/v1/records", params={"file_sha256": hashlib.sha256(image).hexdigest()})
        assert [each["id"] for each in by_source.json()["records"]] == [record["id"]]
    with runtime.sessions() as session:
        kept = session.get_one(Stamp, uuid.UUID(record["id"]))
        assert (kept.prompt, kept.prompt_commitment) == (None, secret)


def test_a_verification_needs_no_key_and_keeps_no_image(runtime: Runtime) -> None:
    with serving(runtime) as client, working(runtime):
        for request in (
            {"files": {"file": ("a.png", png(6))}},
            {"content": png(6), "headers": {"content-type": "image/png"}},
            {"content": png(6), "headers": {"content-type": "application/octet-stream"}},
        ):
            found = client.post("/v1/verifications?wait=30", **request)
            assert found.status_code == 201, found.text
            answer = found.json()
            assert answer["answers"]["ledger"] == "not_recorded"
            assert [check["step"] for check in answer["checks"]] == list(range(1, 17))
            assert client.get(found.headers["location"]).json() == answer
    assert not list((runtime.settings.files_folder / "uploads").glob("*"))


def test_a_verification_that_is_not_done_says_so(runtime: Runtime) -> None:
    with serving(runtime) as client:
        asked = client.post("/v1/verifications", content=png(6), headers={"content-type": "image/png"})
        assert asked.status_code == 202
        again = client.get(asked.headers["location"])
        assert again.status_code == 202
        assert again.json()["state"] == "accepted"


@pytest.mark.parametrize(
    "given", ["../../etc/passwd", "C:\\windows\\a.png", "a\u202egnp.exe", "x" * 300 + ".png", ".."]
)
def test_a_file_name_is_neither_used_nor_kept(runtime: Runtime, given: str) -> None:
    with serving(runtime) as client:
        asked = client.post("/v1/verifications", files={"file": (given, png())})
    record_id = asked.json()["id"]
    with runtime.sessions() as session:
        assert session.get_one(Verification, uuid.UUID(record_id)).upload_key == f"uploads/{record_id}"
    assert [path.name for path in (runtime.settings.files_folder / "uploads").iterdir()] == [record_id]


def test_one_address_gets_no_more_looks_in_a_minute_than_are_allowed(runtime: Runtime) -> None:
    limited = dataclasses.replace(runtime, settings=runtime.settings.model_copy(update={"looks_per_minute": 2}))
    with serving(limited) as client:
        seen = [
            client.post("/v1/verifications", content=png(1), headers={"content-type": "image/png"}) for _ in range(3)
        ]
        assert client.get("/healthz").status_code == 200
    assert [answer.status_code for answer in seen] == [202, 202, 429]
    assert seen[2].json()["code"] == "too_many_requests"
