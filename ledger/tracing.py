"""Traces for an OpenTelemetry collector: a request, the job that it asks for, and that job's stages.

Off unless `otel_endpoint` is set; only then are OpenTelemetry's packages loaded (the extra `otel`). A span says what
the log and the metrics say too: method, route, status, task and stage, the ids of request and record; of an error its
code, never its words, which may be about anybody. A request begins a trace of its own: one that a caller chooses could
stand in for somebody else's. The job carries it on as a W3C `traceparent`. Spans leave from a thread of their own and a
queue of fixed length: a collector that is away costs spans and nothing else.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from structlog.contextvars import bound_contextvars

from ledger.errors import BadRequest
from ledger.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

EXPORT_SECONDS = 5.0  # for one batch, its retries included
LAST_EXPORT_SECONDS = 2.0  # for what is left when the process ends
COMPLAINT_SECONDS = 60.0  # between two lines about a collector that is away

REQUEST, RECORD = "lawful.request_id", "lawful.record_id"

Answered = Callable[[str, int, str | None], None]
"""Takes the route's template, the status and the id of the record in the route."""


class _Seldom(logging.Filter):
    """Lets one line through, and the next after COMPLAINT_SECONDS."""

    def __init__(self) -> None:
        super().__init__()
        self._again = 0.0

    def filter(self, _record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._again:
            return False
        self._again = now + COMPLAINT_SECONDS
        return True


_SELDOM = _Seldom()

_tracer: "Tracer | None" = None
"""This process's, while `exported` is open."""


@contextmanager
def exported(settings: Settings, part: Literal["web", "worker"]) -> Iterator[None]:
    """Send this process's spans to the collector while the context is open; nothing without `otel_endpoint`.

    Raises BadRequest `otel_missing`.
    """
    global _tracer  # noqa: PLW0603 - one process, one tracer, as with its metrics
    if settings.otel_endpoint is None:
        yield
        return
    provider = _provider(settings.otel_endpoint, part)
    _tracer = provider.get_tracer("ledger")
    try:
        yield
    finally:
        _tracer = None
        # On a thread, since the library would wait half a minute for a collector that is away.
        last = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(LAST_EXPORT_SECONDS)


def _provider(endpoint: str, part: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise BadRequest(
            "otel_endpoint is set, and OpenTelemetry's packages are not installed",
            code="otel_missing",
            next_step="install them: pip install 'lawful-ledger[otel]'; or unset otel_endpoint and"
            " OTEL_EXPORTER_OTLP_ENDPOINT",
        ) from None
    logging.getLogger(OTLPSpanExporter.__module__).addFilter(_SELDOM)
    resource = Resource.create({"service.name": f"lawful-{part}", "service.version": version("lawful-ledger")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


@contextmanager
def request(method: str, request_id: str) -> Iterator[Answered]:
    """A request, in a trace of its own. It yields how to say that it was answered: what is never said leaves no span.

    Meanwhile the log's lines have its `trace_id`, and what is put into the queue takes `carried` along.
    """
    tracer = _tracer
    if tracer is None:
        yield _untold
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, StatusCode, use_span

    facts = {"http.request.method": method, REQUEST: request_id}
    span = tracer.start_span(method, Context(), SpanKind.SERVER, facts)

    def answered(route: str, status: int, record_id: str | None) -> None:
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        if record_id is not None:
            span.set_attribute(RECORD, record_id)
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    with use_span(span, record_exception=False, set_status_on_exception=False), _named(span):
        yield answered


@contextmanager
def job(task: str, record_id: str, request_id: str | None, traceparent: str | None) -> Iterator[None]:
    """A job, in the trace that it has carried here, or else in one of its own. Ends with the error that it raises."""
    tracer = _tracer
    if tracer is None:
        yield
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    asked = TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""}, Context())
    facts = {"lawful.task": task, RECORD: record_id} | ({REQUEST: request_id} if request_id else {})
    with (
        tracer.start_as_current_span(
            task, asked, SpanKind.CONSUMER, facts, record_exception=False, set_status_on_exception=False
        ) as span,
        _named(span),
    ):
        try:
            yield
        except Exception as error:
            span.set_status(StatusCode.ERROR)
            span.set_attribute("error.type", getattr(error, "code", type(error).__name__))
            raise


def stage(name: str, seconds: float) -> None:
    """A stage of the job in hand, which took so long and ends now."""
    if (tracer := _tracer) is not None:
        now = time.time_ns()
        tracer.start_span(name, start_time=now - round(seconds * 1e9)).end(now)


def carried() -> dict[str, str]:
    """What a job takes along so that it goes on in the current trace; nothing where there is none."""
    carrier: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(carrier)
    return carrier


def _named(span: "Span") -> AbstractContextManager[object]:
    return bound_contextvars(trace_id=f"{span.get_span_context().trace_id:032x}")


def _untold(_route: str, _status: int, _record_id: str | None) -> None:
    pass
