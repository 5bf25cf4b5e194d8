"""Traces as a collector gets them: from the request to the last stage of its job, about nobody, at nobody's cost."""

import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from structlog.contextvars import get_contextvars

from ledger import genesis, tracing
from ledger.errors import BadRequest
from ledger.runtime import Runtime, open_runtime
from ledger.settings import Settings
from tests.waiting import until

from .http_ledger import api_key, png, process, serving, with_a_port

SPEAKS_OF = {
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "lawful.task",
    "lawful.request_id",
    "lawful.record_id",
    "error.type",
}
STAGES = ["decoded", "embedded", "searched", "examined", "signed", "integrated", "written", "sealed", "issued"]


@dataclass
class Collector:
    """An OTLP/HTTP receiver: service name and span, in the order in which they came."""

    address: str = ""
    spans: list[tuple[str, Span]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def named(self, name: str) -> Span:
        (found,) = (span for _, span in self.spans if span.name == name)
        return found


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.bodies.append(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = facts(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    collector.spans += [(service, span) for span in scope.spans]
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


def facts(attributes: Any) -> dict[str, Any]:
    def value(each: KeyValue) -> Any:
        return getattr(each.value, str(each.value.WhichOneof("value")))

    return {each.key: value(each) for each in attributes}


@contextmanager
def silent() -> Iterator[str]:
    """A collector that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def ended_well(started: "subprocess.Popen[bytes]") -> None:
    started.send_signal(signal.SIGTERM)
    assert started.wait(60) == 0


def exporting(address: str) -> Settings:
    return Settings(_env_file=None, otel_endpoint=address)


@pytest.mark.postgres
@pytest.mark.xdist_group("worker")
def test_one_trace_leads_from_the_request_through_the_queue_to_the_last_stage(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = with_a_port(settings)
    genesis.found(settings)
    with open_runtime(settings) as runtime:
        key = api_key(runtime)
    secret = {"model": (None, "somebody/model"), "prompt": (None, "a boat for Jane Doe")}
    foreign = "4bf92f3577b34da6a3ce929d0e0e4736"
    with collecting() as collector:
        to = {"LAWFUL_OTEL_ENDPOINT": collector.address, "LAWFUL_PUBLIC_URL": settings.public_url}
        with process(settings, "web", **to) as web, process(settings, "worker", **to) as worker:
            sent = httpx.post(
                f"{settings.public_url}/v1/stamps",
                files={"file": ("a.png", png(41)), **secret},
                headers={"authorization": f"Bearer {key}", "traceparent": f"00-{foreign}-00f067aa0ba902b7-01"},
                timeout=60,
                trust_env=False,
            )
            assert sent.status_code == 202, sent.text
            record = f"{settings.public_url}/v1/records/{sent.json()['id']}"
            until(lambda: httpx.get(record, trust_env=False).json().get("state") == "issued", 120)
            ended_well(worker)
            ended_well(web)
    request, job = collector.named("POST /v1/stamps"), collector.named("stamp")
    stages = sorted(
        (span for _, span in collector.spans if span.parent_span_id == job.span_id),
        key=lambda span: span.end_time_unix_nano,
    )

    assert {request.trace_id} == {span.trace_id for span in (job, *stages)}
    assert request.trace_id.hex() != foreign
    assert (request.kind, request.parent_span_id) == (Span.SPAN_KIND_SERVER, b"")
    assert (job.kind, job.parent_span_id) == (Span.SPAN_KIND_CONSUMER, request.span_id)
    assert [span.name for span in stages] == STAGES
    assert {"lawful-web", "lawful-worker"} == {service for service, _ in collector.spans}
    for earlier, later in itertools.pairwise(stages):
        assert later.start_time_unix_nano >= earlier.start_time_unix_nano
        assert job.start_time_unix_nano <= later.end_time_unix_nano <= job.end_time_unix_nano

    identity = {"lawful.request_id": sent.headers["x-request-id"]}
    answer = {"http.request.method": "POST", "http.route": "/v1/stamps", "http.response.status_code": 202}
    assert facts(request.attributes) == identity | answer
    assert facts(job.attributes) == identity | {"lawful.task": "stamp", "lawful.record_id": sent.json()["id"]}

    assert {key for _, span in collector.spans for key in facts(span.attributes)} <= SPEAKS_OF
    assert not any(span.events for _, span in collector.spans)
    told = b"".join(collector.bodies)
    assert not [each for each in (b"Jane", b"somebody", b"127.0.0.1", key.encode()) if each in told]
    assert "GET /healthz" not in {span.name for _, span in collector.spans}

    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    traced = {line["event"] for line in lines if line.get("trace_id") == request.trace_id.hex()}
    assert {"request", "job_done"} <= traced
    assert not [line for line in lines if line["event"] in {"request", "job_done"} and "trace_id" not in line]


@pytest.mark.postgres
def test_without_a_collector_nothing_is_loaded_and_nothing_travels(runtime: Runtime) -> None:
    with serving(runtime) as client:
        client.post("/v1/verifications", files={"file": ("a.png", png())})
    with runtime.sessions() as session:
        carried = session.scalar(sa.text("SELECT args FROM procrastinate_jobs"))
    assert set(carried) == {"record_id", "request_id"}
    program = "import sys, ledger.web.app, ledger.worker; print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.postgres
def test_a_collector_that_never_answers_holds_up_no_request_and_no_end(settings: Settings) -> None:
    settings = with_a_port(settings)
    genesis.found(settings)
    path = f"/v1/records?file_sha256={'0' * 64}"
    with silent() as address, process(settings, "web", LAWFUL_OTEL_ENDPOINT=address) as web:
        with httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", trust_env=False) as client:
            assert {client.get(path).status_code for _ in range(200)} == {200}
        ended_well(web)


def test_more_spans_than_a_silent_collector_takes_are_dropped() -> None:
    with silent() as address, tracing.exported(exporting(address), "web"):
        for _ in range(10_000):  # five times what the queue holds
            with tracing.request("GET", "r-1") as answered:
                answered("/v1/log", 200, None)


def test_a_collector_that_is_away_is_told_of_and_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with tracing.exported(exporting(address), "web"):
        for _ in range(5_000):
            with tracing.request("GET", "r-1") as answered:
                answered("/v1/log", 200, None)
    told = [record for record in caplog.records if "Queue full" not in record.message]
    assert len(told) <= 1
    tracing._SELDOM._again = 0.0
    with tracing.exported(exporting(address), "web"), tracing.request("GET", "r-1") as answered:
        answered("/v1/log", 200, None)
    assert "Connection refused" in caplog.text


def test_a_span_names_the_code_of_an_error_and_not_its_words() -> None:
    with collecting() as collector, tracing.exported(exporting(collector.address), "worker"):
        with pytest.raises(BadRequest), tracing.job("stamp", "id", None, None):
            raise BadRequest("signed by Jane Doe", code="credential_unreadable", next_step="ask Jane Doe")
        with tracing.request("GET", "r-1") as answered:
            answered("/v1/log", 500, None)
        until(lambda: len(collector.spans) == 2, 120)
    job = collector.named("stamp")
    assert facts(job.attributes)["error.type"] == "credential_unreadable"
    assert (job.status.code, job.status.message) == (Status.STATUS_CODE_ERROR, "")
    assert collector.named("GET /v1/log").status.code == Status.STATUS_CODE_ERROR
    assert b"Jane" not in b"".join(collector.bodies)


@pytest.mark.parametrize("carried", [None, "", "00-nonsense-1", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_job_that_carries_no_trace_begins_one(carried: str | None) -> None:
    with collecting() as collector:
        with tracing.exported(exporting(collector.address), "worker"), tracing.job("stamp", "id", "r-1", carried):
            trace = get_contextvars()["trace_id"]
            assert tracing.carried()["traceparent"].split("-")[1] == trace
        assert (collector.named("stamp").trace_id.hex(), collector.named("stamp").parent_span_id) == (trace, b"")


def test_a_request_that_is_not_told_leaves_no_span() -> None:
    with collecting() as collector:
        with tracing.exported(exporting(collector.address), "web"):
            with tracing.request("GET", "r-1"):
                pass
            with tracing.request("GET", "r-2") as answered:
                answered("/v1/log", 200, "id")
        assert [span.name for _, span in collector.spans] == ["GET /v1/log"]


def test_without_its_packages_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ModuleNotFoundError('not installed')\n")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from ledger.cli import main\n"
        f"main(['--home', {str(tmp_path / 'home')!r}, '--set', 'otel_endpoint=http://127.0.0.1:9', 'run', 'worker'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "pip install 'lawful-ledger[otel]'" in done.stderr


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, "http://a:4318"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "LAWFUL_OTEL_ENDPOINT": "https://b"}, "https://b"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "LAWFUL_OTEL_ENDPOINT": ""}, None),
        ({"OTEL_ENDPOINT": "http://a:4318"}, None),
    ],
)
def test_the_standard_variable_counts_where_ours_is_not_set(
    environment: dict[str, str], endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None).otel_endpoint == endpoint


def test_an_address_that_is_no_url_is_refused_when_the_settings_are_read() -> None:
    with pytest.raises(ValueError, match="http:// or https://"):
        Settings(_env_file=None, otel_endpoint="collector:4318")
