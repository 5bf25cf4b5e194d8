"""The load run, for some seconds: a served ledger, the generator's processes, the writers, memory and the verdicts."""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from benchmarks.load import look_ups, run, verdicts
from benchmarks.service import Service
from ledger.runtime import Runtime
from ledger.settings import Settings

from .http_ledger import api_key, png, served, stamped, with_a_port, working

pytestmark = pytest.mark.postgres

OPTIONS = argparse.Namespace(
    warm_minutes=0.05, minutes=0.1, spike_minutes=0.05, after_minutes=0.1, rate_scale=0.02, processes=2, seed=1
)


class InThisProcess(Service):
    """The service that the test itself is; it is asked as any other."""

    def __init__(self, settings: Settings, api_key: str) -> None:
        self.home, self.port, self.api_key, self._settings = settings.home, settings.port, api_key, settings

    @property
    def settings(self) -> Settings:
        return self._settings

    @contextmanager
    def database(self) -> Iterator[str]:
        assert self._settings.database_url is not None
        yield self._settings.database_url.get_secret_value()

    def pid(self, part: str) -> int:
        return os.getpid() if part in ("web", "worker") else 0


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_a_port(settings).model_copy(update={"looks_per_minute": 10_000})


def test_a_small_load_is_answered_reported_and_audited(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.writers._JOBS", "SELECT 0")  # the worker here takes records, and leaves jobs alone
    monkeypatch.setattr("benchmarks.load.WRITES", {"verification": 1200, "stamp": 1200, "generation": 600})
    monkeypatch.setattr("benchmarks.service.SAMPLE_SECONDS", 0.5)
    record_id = stamped(runtime, png(1))
    service = InThisProcess(runtime.settings, api_key(runtime))
    with served(runtime) as address, working(runtime):
        record = httpx.get(f"{address}/v1/records/{record_id}", trust_env=False).json()
        file = httpx.get(f"{address}/v1/records/{record_id}/file", trust_env=False).content
        found = run(service, look_ups([record], [], seed=1), [file], OPTIONS)
    json.dumps(found)
    assert list(found["phases"]) == ["warm-up", "steady", "spike", "after"]
    counts = [sum(route["count"] for route in phase["look_ups"].values()) for phase in found["phases"].values()]
    assert counts[2] > 2 * counts[1] > 0
    for phase in found["phases"].values():
        for route in phase["look_ups"].values():  # a busy machine turns visitors away, and that is told
            told = sum(route["back_pressure"].values()) + sum(route["errors"].values())
            assert route["count"] == route["as_expected"] + told
        assert phase["generator_late"]["p99_ms"] >= 0
    assert found["memory"]["web"]["resident_mib"]["first"] > 10
    records = found["records"]
    assert records["acknowledged"] == records["done"] > 0
    said = verdicts(found, OPTIONS.minutes)
    assert said["nothing acknowledged is lost, doubled or unfinished"]
    assert not said["as long as the issue asks"]
