"""What Prometheus is shown: the ledger as it stands, what each process counted, and nothing about anybody."""

import re
import socket

import httpx
import pytest
import sqlalchemy as sa
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ledger.errors import Conflict
from ledger.metrics import exposed, registry_of
from ledger.runtime import Runtime
from models.memory import GpuMemory

from .http_ledger import api_key, generated, png, serving

pytestmark = pytest.mark.postgres

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(runtime: Runtime, **more: object) -> Samples:
    return parsed(generate_latest(registry_of(runtime, **more)).decode())  # type: ignore[arg-type]


def test_a_scrape_shows_how_the_ledger_stands(runtime: Runtime) -> None:
    generated(runtime)
    seen = scraped(runtime)
    assert seen["lawful_standing_known", ()] == 1
    assert seen["lawful_worker_alive", ()] == 0  # none runs beside this test
    assert seen["lawful_log_size", ()] == 3  # genesis, record, issued
    assert 0 <= seen["lawful_checkpoint_age_seconds", ()] < 60
    assert seen["lawful_outbox_entries", ()] == 0
    assert 360 * 86400 < seen["lawful_certificate_expires_seconds", ()] < 366 * 86400


def test_what_is_not_there_has_no_sample_and_is_not_0(runtime: Runtime) -> None:
    names = {name for name, _ in scraped(runtime)}
    assert not names & {
        "lawful_snapshot_info",
        "lawful_calibration_age_seconds",
        "lawful_witnessed_size",
        "lawful_timestamp_age_seconds",
    }


def test_a_job_that_waits_is_counted_and_gets_older(runtime: Runtime) -> None:
    with serving(runtime) as client:
        sent = client.post(
            "/v1/generations", json={"prompt": "a boat"}, headers={"Authorization": f"Bearer {api_key(runtime)}"}
        )
    assert sent.status_code == 202
    first = scraped(runtime)
    assert first["lawful_queue_jobs", (("state", "waiting"), ("task", "generate"))] == 1
    age = ("lawful_queue_oldest_seconds", (("task", "generate"),))
    assert scraped(runtime)[age] > first[age] >= 0


def test_a_database_that_is_away_is_told_in_place_of_numbers(runtime: Runtime, superuser: object) -> None:
    runtime.database.close()
    runtime.database._address = runtime.database._address.__class__.parse(
        "postgresql://lawful_app@127.0.0.1:9/nothing", setting="test"
    )
    seen = scraped(runtime)
    assert seen["lawful_standing_known", ()] == 0
    assert ("lawful_log_size", ()) not in seen


def test_requests_are_counted_by_route_and_never_by_what_was_asked_for(runtime: Runtime) -> None:
    record_id = generated(runtime)
    before = scraped(runtime)
    with serving(runtime) as client:
        client.get(f"/v1/records/{record_id}")
        client.get("/v1/records", params={"file_sha256": "ab" * 32})
        client.get("/etc/passwd")
        client.request("BREW", "/")
    text = generate_latest(registry_of(runtime)).decode()
    seen = parsed(text)

    def more(method: str, route: str, status: int) -> float:
        key = (
            "lawful_http_request_seconds_count",
            (("method", method), ("route", route), ("status", str(status))),
        )
        return seen.get(key, 0) - before.get(key, 0)

    assert more("GET", "/v1/records/{record_id}", 200) == 1
    assert more("GET", "/v1/records", 200) == 1
    assert more("GET", "none", 404) == 1
    assert more("other", "none", 405) == 1
    assert not [word for word in (str(record_id), "ab" * 32, "passwd", "BREW") if word in text]


def test_it_is_served_on_a_port_of_its_own_while_the_process_runs(runtime: Runtime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = runtime.settings.model_copy(update={"metrics_port": port})
        with pytest.raises(Conflict) as refused, exposed(settings, runtime):
            pass
        assert refused.value.code == "address_in_use"
    address = f"http://127.0.0.1:{port}/metrics"
    with exposed(settings, runtime):
        assert "lawful_log_size" in httpx.get(address, trust_env=False).text
    with pytest.raises(httpx.ConnectError):
        httpx.get(address, trust_env=False)


def test_the_pages_of_the_ledger_do_not_show_it(runtime: Runtime) -> None:
    with serving(runtime) as client:
        assert client.get("/metrics").status_code == 404


def test_gpu_memory_is_shown_by_the_process_that_has_a_gpu(runtime: Runtime) -> None:
    seen = scraped(runtime, memory=lambda: [GpuMemory("cuda:0", 3, 5, 8)])
    kinds = {labels[1][1]: value for (name, labels), value in seen.items() if name == "lawful_gpu_memory_bytes"}
    assert kinds == {"ours": 3, "free": 5, "total": 8}


def test_the_request_travels_with_its_job_and_names_the_problem(runtime: Runtime) -> None:
    with serving(runtime) as client:
        sent = client.post("/v1/verifications", files={"file": ("a.png", png())})
        refused = client.get("/v1/records/nothing-of-this-name")
    identity = sent.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", identity)
    with runtime.sessions() as session:
        carried = session.scalar(sa.text("SELECT args->>'request_id' FROM procrastinate_jobs"))
    assert carried == identity
    assert refused.json()["instance"] == f"urn:uuid:{refused.headers['x-request-id']}"
    assert refused.headers["x-request-id"] != identity


def test_a_caller_cannot_choose_the_request_id(runtime: Runtime) -> None:
    with serving(runtime) as client:
        answered = client.get("/healthz", headers={"X-Request-Id": "forged"})
    assert answered.headers.get_list("x-request-id") != ["forged"]
