"""Every error is a problem (RFC 9457) with a stable code and a next step, and tells nothing of the inside."""
# ruff: noqa: E501 - the table of requests is read by its rows

import uuid

import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from ledger import issue, lookup
from ledger.abandonment import abandon
from ledger.errors import StorageFull
from ledger.runtime import Runtime
from ledger.storage import Storage
from ledger.web.app import SMALL_BODY

from .http_ledger import api_key, generated, operator, png, serving

pytestmark = pytest.mark.postgres

MEMBERS = {"type", "title", "status", "detail", "code", "next_step", "instance"}
JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=x"}
NOBODY = str(uuid.UUID(int=7))


def part(head: str, body: bytes = b"x") -> bytes:
    return b"--x\r\nContent-Disposition: form-data; " + head.encode("latin-1") + b"\r\n\r\n" + body + b"\r\n--x--\r\n"


REQUESTS = {
    "unknown address": ("GET", "/nothing", {}, 404, "route_unknown"),
    "unknown address below the API": ("GET", "/v1/nothing", {}, 404, "route_unknown"),
    "unknown page of the schema": ("GET", "/schema/nothing", {}, 404, "route_unknown"),
    "unknown file": ("GET", "/static/nothing.css", {}, 404, "route_unknown"),
    "a path that climbs": ("GET", "/static/..%2f..%2fapp.py", {}, 404, "route_unknown"),
    "a name that no file can have": ("GET", "/static/%00", {}, 404, "route_unknown"),
    "a name too long for a file": ("GET", f"/static/{'a' * 300}.css", {}, 404, "route_unknown"),
    "an id that is none": ("GET", "/v1/records/abc", {}, 404, "route_unknown"),
    "an unknown record": ("GET", f"/v1/records/{NOBODY}", {}, 404, "record_unknown"),
    "the file of an unknown record": ("GET", f"/v1/records/{NOBODY}/file", {}, 404, "file_unknown"),
    "the report of an unknown record": ("GET", f"/v1/records/{NOBODY}/report", {}, 404, "report_unknown"),
    "the proof of an unknown record": ("GET", f"/v1/records/{NOBODY}/proof", {}, 404, "record_unknown"),
    "an unknown verification": ("GET", f"/v1/verifications/{NOBODY}", {}, 404, "verification_unknown"),
    "no hash": ("GET", "/v1/records", {}, 400, "hash_count"),
    "two hashes": ("GET", f"/v1/records?file_sha256={'0' * 64}&pixel_sha256={'0' * 64}", {}, 400, "hash_count"),
    "half a hash": ("GET", "/v1/records?file_sha256=abc", {}, 400, "hash_malformed"),
    "an ISCC that is none": ("GET", "/v1/records?iscc=abc", {}, 400, "iscc_malformed"),
    "a hash nobody recorded": ("GET", f"/r/{'0' * 64}", {}, 404, "not_recorded"),
    "another method": ("DELETE", "/v1/records", {}, 405, "method_not_allowed"),
    "a prompt as text": ("POST", "/v1/generations", {"content": "a boat"}, 415, "media_type_unsupported"),
    "broken JSON": ("POST", "/v1/generations", {"content": "{", "headers": JSON}, 400, "request_malformed"),
    "JSON in JSON": ("POST", "/v1/generations", {"content": "[" * 10_000, "headers": JSON}, 400, "request_malformed"),
    "no JSON": ("POST", "/v1/generations", {"headers": JSON}, 422, "validation_failed"),
    "no prompt": ("POST", "/v1/generations", {"json": {}}, 422, "validation_failed"),
    "an unknown field": ("POST", "/v1/generations", {"json": {"prompt": "a", "promt": ""}}, 422, "validation_failed"),
    "a seed that is too large": ("POST", "/v1/generations", {"json": {"prompt": "a", "seed": 2**63}}, 422, "validation_failed"),
    "no steps at all": ("POST", "/v1/generations", {"json": {"prompt": "a", "steps": 0}}, 422, "validation_failed"),
    "a lone surrogate": ("POST", "/v1/generations", {"content": r'{"prompt":"\ud800"}', "headers": JSON}, 400, "request_malformed"),
    "a NUL": ("POST", "/v1/generations", {"json": {"prompt": "a\0b"}}, 400, "prompt_malformed"),
    "an empty prompt": ("POST", "/v1/generations", {"json": {"prompt": " "}}, 400, "prompt_empty"),
    "a prompt of 100,000": ("POST", "/v1/generations", {"json": {"prompt": "x" * 100_000}}, 400, "prompt_too_long"),
    "a prompt of 2 MB": ("POST", "/v1/generations", {"json": {"prompt": "x" * 2 * SMALL_BODY}}, 413, "body_too_large"),
    "waiting for too long": ("POST", "/v1/generations?wait=61", {"json": {"prompt": "a"}}, 422, "validation_failed"),
    "waiting for nan": ("POST", "/v1/generations?wait=nan", {"json": {"prompt": "a"}}, 422, "validation_failed"),
    "a key of 201": ("POST", "/v1/generations", {"json": {"prompt": "a"}, "headers": {"idempotency-key": "k" * 201}}, 400, "idempotency_key_too_long"),
    "a key in Latin-1": ("POST", "/v1/generations", {"json": {"prompt": "a"}, "headers": {"idempotency-key": b"\xe9"}}, 422, "validation_failed"),
    "no file": ("POST", "/v1/stamps", {"files": {"model": (None, "m")}}, 400, "file_missing"),
    "a bare image to stamp": ("POST", "/v1/stamps", {"content": png(), "headers": {"content-type": "image/png"}}, 415, "media_type_unsupported"),
    "no image": ("POST", "/v1/stamps", {"files": {"file": ("a.png", b"abc")}}, 422, "image_format_unsupported"),
    "half an image": ("POST", "/v1/stamps", {"files": {"file": ("a.png", png()[:300])}}, 422, "image_truncated"),
    "zero bytes": ("POST", "/v1/verifications", {"files": {"file": ("a.png", b"")}}, 422, "image_empty"),
    "two files": ("POST", "/v1/verifications", {"files": [("file", ("a", png())), ("file", ("b", png()))]}, 400, "form_malformed"),
    "a field too many": ("POST", "/v1/verifications", {"files": {"file": ("a", png())}, "data": {"x": "y"}}, 400, "form_malformed"),
    "no boundary": ("POST", "/v1/verifications", {"headers": {"content-type": "multipart/form-data"}}, 400, "form_malformed"),
    "a torn form": ("POST", "/v1/verifications", {"content": b"--x\r\nContent-", "headers": FORM}, 400, "form_malformed"),
    "an endless text field": ("POST", "/v1/stamps", {"data": {"prompt": "x" * 100_000}, "files": {"file": ("a", png())}}, 400, "form_malformed"),
    "a text field as a file": ("POST", "/v1/stamps", {"files": {"prompt": ("a", png())}}, 400, "form_malformed"),
    "nine parts": ("POST", "/v1/stamps", {"files": {"file": ("a", png())}, "data": {str(n): "" for n in range(9)}}, 400, "form_malformed"),
    "text in no charset": ("POST", "/v1/stamps", {"content": part('name="model"', b"\xff\xfe"), "headers": FORM}, 400, "form_malformed"),
    "text for a file": ("POST", "/v1/stamps", {"content": part('name="file"'), "headers": FORM}, 400, "form_malformed"),
    "a commitment that is none": ("POST", "/v1/stamps", {"files": {"file": ("a", png())}, "data": {"prompt_commitment": "x"}}, 400, "prompt_commitment_malformed"),
    "a model of 201": ("POST", "/v1/stamps", {"files": {"file": ("a", png())}, "data": {"model": "m" * 201}}, 400, "model_malformed"),
    "a model with a NUL": ("POST", "/v1/stamps", {"files": {"file": ("a", png())}, "data": {"model": "m\0"}}, 400, "model_malformed"),
    "no image on the page": ("POST", "/", {"content": part('name="file"; filename=""', b""), "headers": FORM}, 400, "file_missing"),
    "a form that is none": ("POST", "/", {"data": {"file": "x"}}, 415, "media_type_unsupported"),
}  # fmt: skip


def send(client: TestClient, key: str, method: str, path: str, request: dict) -> object:  # type: ignore[type-arg]
    headers = {**request.get("headers", {}), "authorization": f"Bearer {key}"}
    return client.request(method, path, **{**request, "headers": headers})


def test_every_refusal_is_a_problem_with_its_own_code(runtime: Runtime) -> None:
    key = api_key(runtime)
    wrong = []
    with serving(runtime) as client:
        for name, (method, path, request, status, code) in REQUESTS.items():
            response = send(client, key, method, path, request)
            if (response.status_code, response.headers["content-type"]) != (status, "application/problem+json"):
                wrong.append((name, response.status_code, response.text[:200]))
                continue
            problem = response.json()
            if problem["code"] != code or set(problem) - {"errors"} != MEMBERS or problem["status"] != status:
                wrong.append((name, problem))
            if not all(problem[member] for member in MEMBERS):
                wrong.append((name, problem))
            if status == 405 and "GET" not in response.headers["allow"]:
                wrong.append((name, dict(response.headers)))
    assert not wrong
    with runtime.sessions() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM records")) == 0


def test_the_wrong_field_is_named(runtime: Runtime) -> None:
    with serving(runtime) as client:
        problem = send(
            client, api_key(runtime), "POST", "/v1/generations", {"json": {"prompt": "a", "steps": 0}}
        ).json()
    assert problem["errors"] == [{"field": "steps", "message": "Expected `int` >= 1"}]


def test_an_unexpected_failure_tells_nothing_of_the_inside(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret is 12345")

    monkeypatch.setattr(lookup, "by_id", broken)
    with serving(runtime) as client:
        for accept in ("*/*", "text/html"):
            response = client.get(f"/r/{NOBODY}", headers={"accept": accept})
            assert response.status_code == 500
            assert "12345" not in response.text
            assert "Traceback" not in response.text
            assert "RuntimeError" not in response.text
            assert "internal_error" in response.text
        instance = client.get(f"/v1/records/{NOBODY}").json()["instance"]
    logged = capsys.readouterr().out
    assert instance in logged, "the operator finds the occurrence in the log"
    assert "12345" in logged


def test_a_start_that_waits_for_the_worker_does_not_fill_the_log(
    runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(runtime) as client:
        assert {client.get("/readyz").status_code for _ in range(20)} == {503}
        client.get(f"/v1/records/{NOBODY}")
    logged = capsys.readouterr().out
    assert "worker_absent" not in logged
    assert len(logged.splitlines()) < 20


def test_a_database_that_is_down_is_503_and_the_process_lives(runtime: Runtime, superuser: object) -> None:
    name = runtime.settings.database_url.get_secret_value().rsplit("/", 1)[-1].partition("?")[0]  # type: ignore[union-attr]
    with serving(runtime) as client:
        assert client.get(f"/v1/records?file_sha256={'0' * 64}").status_code == 200
        superuser.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')  # type: ignore[attr-defined]
        try:
            superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])  # type: ignore[attr-defined]
            for path in (f"/v1/records?file_sha256={'0' * 64}", "/readyz", f"/r/{'0' * 64}"):
                response = client.get(path)
                assert response.status_code == 503, response.text
                assert response.headers["content-type"] == "application/problem+json"
                assert int(response.headers["retry-after"]) > 0
            assert client.get(f"/r/{'0' * 64}", headers={"accept": "text/html"}).status_code == 503
            assert client.get("/healthz").json() == {"status": "ok"}
        finally:
            superuser.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')  # type: ignore[attr-defined]
        assert client.get(f"/v1/records?file_sha256={'0' * 64}").status_code == 200


def test_a_full_disk_is_507_and_leaves_no_record(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageFull("no room", next_step="make some")

    monkeypatch.setattr(Storage, "put", full)
    with serving(runtime) as client:
        response = client.post("/v1/verifications", files={"file": ("a.png", png())})
    assert (response.status_code, response.json()["code"]) == (507, "storage_full")
    with runtime.sessions() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM records")) == 0
        assert session.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs")) == 0


def test_an_abandoned_generation_answers_with_what_ended_it(runtime: Runtime) -> None:
    with runtime.sessions.begin() as session:
        record_id = issue.accept_generation(
            session,
            principal_id=operator(runtime),
            prompt="a boat",
            seed=1,
            parameters={},
            idempotency_key="order-1",
            max_prompt_chars=100,
        )
    abandon(
        runtime, record_id, {"code": "prompt_refused", "detail": "no", "next_step": "say it otherwise", "status": 422}
    )
    with serving(runtime) as client:
        assert client.get(f"/v1/generations/{record_id}").json()["code"] == "prompt_refused"
        assert client.get(f"/v1/generations/{record_id}").status_code == 422
        page = client.get(f"/r/{record_id}", headers={"accept": "text/html"})
        assert "given up" in page.text
        assert "prompt_refused" in page.text


def test_a_record_of_another_kind_is_not_found_under_the_wrong_address(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        problem = client.get(f"/v1/stamps/{record_id}").json()
    assert (problem["status"], problem["code"]) == (404, "record_unknown")
    assert f"/v1/generations/{record_id}" in problem["next_step"]
