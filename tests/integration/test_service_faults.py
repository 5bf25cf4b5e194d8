"""The whole service while its parts are killed: the run of `benchmarks.faults`, small."""

import tempfile
from pathlib import Path

import pytest

from benchmarks.faults import run

from .timestamp_authority import needs_openssl


@needs_openssl
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_acknowledged_is_lost_or_doubled_when_web_and_worker_are_killed() -> None:
    faults = ("web killed", "worker killed")
    # A short path: below pytest's folders Postgres would need another place for its socket.
    with tempfile.TemporaryDirectory(prefix="lawful-faults-") as name:
        found = run(Path(name), seed=3, outage_seconds=1.0, rate_scale=0.3, only=faults)
    assert set(found["faults"]) == set(faults)
    (end,) = found["at_the_end"]
    assert end["acknowledged"] == end["done"] + end["failed_visibly"] > 0
    assert end["done"] > 0
    assert (end["lost"], end["doubled"], end["unfinished"]) == ({}, 0, [])
    assert all(fault["recovered_after"]["stamp_s"] > 0 for fault in found["faults"].values())
