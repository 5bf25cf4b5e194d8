"""What a process counts and what the ledger stands at, for Prometheus, on a port of its own (`metrics_port`).

Every process serves its own counts and, from the database, the whole ledger's standing (`ledger.standing`): whoever is
left says what is missing. Labels are route templates, task names, outcomes and devices, never a record, a name, a
hash that somebody asked for or an address.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger import tracing
from ledger.errors import LedgerError
from ledger.runtime import Runtime
from ledger.settings import Settings
from ledger.standing import Standing, standing
from ledger.supervisor import not_listening
from models.memory import GpuMemory

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

HTTP_SECONDS = Histogram(
    "lawful_http_request_seconds",
    "From the request's head to the last byte of its answer",
    ["method", "route", "status"],
    buckets=FAST,
    registry=None,
)
STAGE_SECONDS = Histogram(
    "lawful_stage_seconds",
    "How long a job stood in each stage, which is named for how it ended",
    ["task", "stage"],
    buckets=SLOW,
    registry=None,
)
JOBS = Counter("lawful_jobs", "Jobs that ended: done, retried or abandoned", ["task", "outcome"], registry=None)

_logger = structlog.get_logger(__name__)


class Stages:
    """The stages of one job, one after another: `reached` says that a stage has ended now.

    Where its process is traced each is a span of the job's.
    """

    def __init__(self, task: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self._task, self._clock = task, clock
        self._since = clock()

    def reached(self, stage: str) -> None:
        now = self._clock()
        STAGE_SECONDS.labels(self._task, stage).observe(now - self._since)
        tracing.stage(stage, now - self._since)
        self._since = now


class LedgerCollector(Collector):
    """The standing of one ledger, asked anew at every scrape; with a database that is away only that it is away."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def describe(self) -> list[Metric]:
        return []  # asked for when it is registered, which must not wait for a database

    def collect(self) -> Iterator[Metric]:
        try:
            now = standing(self._runtime)
        except (LedgerError, sa.exc.SQLAlchemyError) as error:
            _logger.warning("standing_unknown", error=type(error).__name__)
            yield _gauge("lawful_standing_known", "1: database, keys and policy could be read for this scrape", 0)
            return
        yield _gauge("lawful_standing_known", "1: database, keys and policy could be read for this scrape", 1)
        yield from _queues(now)
        yield from _log(now)
        yield from _collection(now)


class GpuCollector(Collector):
    """GPU memory of this process. `memory` is `models.memory.gpu_memory`, in the process that has networks."""

    def __init__(self, memory: Callable[[], list[GpuMemory]]) -> None:
        self._memory = memory

    def collect(self) -> Iterator[Metric]:
        metric = GaugeMetricFamily(
            "lawful_gpu_memory_bytes", "GPU memory: ours, free to anybody, in all", labels=["device", "kind"]
        )
        for device in self._memory():
            for kind, value in (("ours", device.ours), ("free", device.free), ("total", device.total)):
                metric.add_metric([device.device, kind], value)
        yield metric


def _queues(now: Standing) -> Iterator[Metric]:
    yield _gauge("lawful_worker_alive", "1: a worker's heartbeat is fresh", now.worker)
    jobs = GaugeMetricFamily(
        "lawful_queue_jobs", "Jobs by task and state; failed ones are kept", labels=["task", "state"]
    )
    age = GaugeMetricFamily("lawful_queue_oldest_seconds", "Age of the oldest waiting job", labels=["task"])
    for task, queue in now.queues.items():
        for state in ("waiting", "running", "failed"):
            jobs.add_metric([task, state], getattr(queue, state))
        age.add_metric([task], queue.oldest or 0.0)
    yield jobs
    yield age
    yield _gauge("lawful_records_unfinished", "Records half-way for over 5 minutes without a job", now.unfinished)


def _log(now: Standing) -> Iterator[Metric]:
    yield _gauge("lawful_outbox_entries", "Statements that wait for the log", now.outbox)
    yield _gauge("lawful_outbox_oldest_seconds", "Age of the oldest of them", now.outbox_age)
    yield _gauge("lawful_log_size", "Entries under the newest published checkpoint", now.log_size)
    yield _gauge("lawful_checkpoint_age_seconds", "Age of that checkpoint", now.checkpoint_age)
    yield _gauge("lawful_timestamp_age_seconds", "Age of the newest outside timestamp", now.timestamp_age)
    yield _gauge("lawful_witnessed_size", "Entries under the newest witnessed checkpoint", now.witnessed_size)
    lag = GaugeMetricFamily("lawful_witness_lag_entries", "Published entries not cosigned yet", labels=["witness"])
    age = GaugeMetricFamily("lawful_witness_age_seconds", "Since its newest cosignature", labels=["witness"])
    failing = GaugeMetricFamily(
        "lawful_witness_failing", "1: it failed when last asked, or never was", labels=["witness"]
    )
    for witness in now.witnesses:
        lag.add_metric([witness.name], now.log_size if witness.behind is None else witness.behind)
        if witness.age is not None:
            age.add_metric([witness.name], witness.age)
        failing.add_metric([witness.name], witness.failing)
    yield from (lag, age, failing)
    yield _gauge("lawful_certificate_expires_seconds", "Until the signing certificate expires", now.certificate)


def _collection(now: Standing) -> Iterator[Metric]:
    info = GaugeMetricFamily("lawful_snapshot_info", "1, with the digest of the newest snapshot", labels=["digest"])
    found = now.collection
    if found is not None:
        info.add_metric([found.digest], 1)
    yield info
    yield _gauge("lawful_snapshot_works", "Works in the newest snapshot", found.works if found else None)
    yield _gauge("lawful_snapshot_age_seconds", "Age of the newest snapshot", found.age if found else None)
    yield _gauge(
        "lawful_calibration_age_seconds", "Since its error rates were measured", found.calibrated if found else None
    )


def _gauge(name: str, about: str, value: float | None) -> Metric:
    """Without a value the family is named and holds no sample: absent is not 0."""
    metric = GaugeMetricFamily(name, about)
    if value is not None:
        metric.add_metric([], value)
    return metric


def registry_of(runtime: Runtime, memory: Callable[[], list[GpuMemory]] | None = None) -> CollectorRegistry:
    """Everything that one process shows."""
    registry = CollectorRegistry()
    for metric in (HTTP_SECONDS, STAGE_SECONDS, JOBS, LedgerCollector(runtime)):
        registry.register(metric)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    if memory is not None:
        registry.register(GpuCollector(memory))
    return registry


@contextmanager
def exposed(
    settings: Settings, runtime: Runtime, memory: Callable[[], list[GpuMemory]] | None = None
) -> Iterator[None]:
    """Serve them at http://<metrics_host>:<metrics_port>/metrics while the context is open; nothing without a port.

    Raises Conflict `address_in_use` or `address_unusable`.
    """
    if settings.metrics_port is None:
        yield
        return
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host, registry_of(runtime, memory))
    except OSError as error:
        raise not_listening(settings.metrics_host, settings.metrics_port, error, "metrics_port") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
