"""The load run's writers follow what they hand in, and its audit finds what is missing, doubled or without its file."""

import time
import uuid

import httpx
import pytest

from benchmarks.writers import Kind, Write, Writers, audit, settle, summary
from ledger import lookup
from ledger.runtime import Runtime
from ledger.settings import Settings

from .http_ledger import api_key, served, with_a_port, working

pytestmark = pytest.mark.postgres

RATES: dict[Kind, float] = {"verification": 240, "stamp": 240, "generation": 120}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_a_port(settings)


def test_what_was_acknowledged_is_followed_and_audited(runtime: Runtime) -> None:
    settings, key = runtime.settings, api_key(runtime)
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    with served(runtime) as address, working(runtime):
        writers = Writers(settings.port, key, RATES, seed=1, again=True, recorded=[])
        writers.start()
        while len({write.kind for write in writers.writes}) < len(RATES):
            time.sleep(0.05)
        writers.stop()
        writes = writers.writes
        for kind, said in summary(writes).items():
            assert said["count"] == said["acknowledged"] == said["done"] > 0, (kind, said)
            assert (said["errors"], said["failed"], said["not_ended"]) == ({}, {}, 0)
            assert 0 < said["until_accepted"]["p50_ms"] <= said["until_done"]["p50_ms"]
        settle(url, writes, and_queue=False, seconds=60)
        standing = audit(settings, url, writes)
        assert standing.is_well, standing
        assert standing.done == standing.acknowledged == len(writes)
        assert standing.files_checked == sum(write.kind != "verification" for write in writes)

        nobody = Write("stamp", 0.0, record_id=str(uuid.uuid4()))
        assert audit(settings, url, [*writes, nobody]).lost == {nobody.record_id: "no record"}

        stamp = next(write for write in writes if write.kind == "stamp")
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": str(uuid.uuid4())}
        again = httpx.post(f"{address}/v1/stamps?wait=60", files={"file": stamp.image}, headers=headers, timeout=90)
        assert again.status_code == 201
        assert audit(settings, url, writes).doubled == 1

        with runtime.sessions() as session:
            runtime.storage.delete(lookup.file_key(session, uuid.UUID(stamp.record_id))[0])
        lost = audit(settings, url, writes).lost
        assert list(lost) == [stamp.record_id]
        assert "404" in lost[str(stamp.record_id)]
