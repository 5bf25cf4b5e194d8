"""Audits bound to a URL and a state file: one, or one after another for ever, with metrics for Prometheus."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from ledger.audit.auditor import Reading, Report, audit
from ledger.audit.fetch import HttpLog
from ledger.audit.state import State, keep_evidence, read_state, write_state
from ledger.audit.trust import Trust
from ledger.errors import Unavailable

LONGEST_PAUSE = 600.0
"""Seconds between two attempts to reach a log that does not answer, unless the interval itself is longer."""

_logger = structlog.get_logger(__name__)


class Told(msgspec.Struct):
    """One audit as a command tells it. `state_moved`: the state file now holds this checkpoint."""

    url: str
    checked_at: float
    report: Report
    state_moved: bool
    evidence: list[str]
    seconds: float
    requests: int
    bytes: int


@dataclass
class Auditor:
    """Audits the log behind `log`. Without `state_path` the state is kept in memory, and evidence goes below the
    current folder as `lawful-audit.*`. Hold `state.only_one` around it where there is a state file."""

    log: HttpLog
    trust: Trust
    state_path: Path | None
    reading: Reading
    max_age: float | None = None
    clock: Callable[[], float] = time.time
    progress: Callable[[int, int], None] = lambda _done, _total: None
    _state: State | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.state_path is not None:
            self._state = read_state(self.state_path)

    def once(self, reading: Reading | None = None) -> Told:
        """One audit. The evidence is on disk before the state moves. Raises as `ledger.audit.auditor.audit` does."""
        started, now = time.monotonic(), self.clock()
        requests, received = self.log.requests, self.log.bytes
        outcome = audit(
            self.log.fetch,
            self.trust,
            self._state,
            now=now,
            reading=reading or self.reading,
            max_age=self.max_age,
            progress=self.progress,
        )
        beside = self.state_path or Path("lawful-audit")
        kept = [
            str(keep_evidence(beside, code, evidence | {"url": self.log.url}))
            for code, evidence in outcome.evidence.items()
        ]
        if outcome.state is not None:
            if self.state_path is not None and outcome.state != self._state:
                write_state(self.state_path, outcome.state)
            self._state = outcome.state
        return Told(
            url=self.log.url,
            checked_at=now,
            report=outcome.report,
            state_moved=outcome.state is not None,
            evidence=kept,
            seconds=round(time.monotonic() - started, 3),
            requests=self.log.requests - requests,
            bytes=self.log.bytes - received,
        )

    def watch(
        self, interval: float, told: Callable[[Told], None], metrics: "Metrics", sleep: Callable[[float], None]
    ) -> None:
        """Audit every `interval` seconds until `sleep` or something else raises. A finding does not end it.

        The first audit reads as much as was asked for; later ones all new entries after a full one, else new ones by
        lot and one old bundle, so that in time every one is read again. A log that does not answer is asked ever more
        rarely, down to every 10 minutes.
        """
        reading, failures = self.reading, 0
        while True:
            try:
                result = self.once(reading)
            except Unavailable as error:
                failures += 1
                metrics.failed(error.code)
                _logger.warning("audit_unavailable", code=error.code, detail=error.detail)
            else:
                failures = 0
                metrics.took(result)
                told(result)
                if result.state_moved:
                    reading = _later(self.reading)
            sleep(min(interval * 2**failures, max(interval, LONGEST_PAUSE)))


def _later(reading: Reading) -> Reading:
    return replace(reading, full=False, every_new=reading.full or reading.every_new, old=min(reading.old, 1))


class Metrics:
    """What a monitor shows: alarm on `lawful_audit_consistent` 0, on failures, and on an old last success."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._consistent = Gauge("lawful_audit_consistent", "1: the log held at the last audit", registry=self.registry)
        self._size = Gauge(
            "lawful_audit_log_size", "Entries of the newest checkpoint that held", registry=self.registry
        )
        self._success = Gauge(
            "lawful_audit_last_success_timestamp_seconds", "When an audit last found nothing", registry=self.registry
        )
        self._age = Gauge("lawful_audit_checkpoint_age_seconds", "Age of the newest checkpoint", registry=self.registry)
        self._seconds = Gauge("lawful_audit_duration_seconds", "How long the last audit took", registry=self.registry)
        self._lag = Gauge(
            "lawful_audit_witness_lag_seconds",
            "Since a witness cosigned the newest checkpoint that it cosigned",
            ["witness"],
            registry=self.registry,
        )
        self._failures = Counter(
            "lawful_audit_failures", "Findings and unreachable logs", ["code"], registry=self.registry
        )
        self._cosigned: dict[str, int] = {}

    def serve(self, port: int) -> int:
        """Serve /metrics on 127.0.0.1; port 0 takes a free one. Returns the port. OSError where it is taken."""
        server, _ = start_http_server(port, addr="127.0.0.1", registry=self.registry)
        return int(server.server_port)

    def failed(self, code: str) -> None:
        self._failures.labels(code).inc()

    def took(self, result: Told) -> None:
        report = result.report
        self._consistent.set(report.consistent)
        self._seconds.set(result.seconds)
        for finding in report.findings:
            self.failed(finding.code)
        if report.consistent and report.size is not None:
            self._size.set(report.size)
        if not report.findings_total:
            self._success.set(result.checked_at)
        if report.age is not None:
            self._age.set(report.age)
        # a witness that stays away keeps its last time, so that its lag grows
        self._cosigned |= report.cosigned_at
        for witness, at in self._cosigned.items():
            self._lag.labels(witness).set(result.checked_at - at)
