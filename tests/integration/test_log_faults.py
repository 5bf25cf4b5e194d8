"""The log while processes die: the run of `benchmarks.log_faults`, small, and larger with a server of its own."""

import tempfile
from pathlib import Path

import pytest

from benchmarks.log_faults import STEPS, Arena, Server, run
from ledger.settings import Settings


def unheard(_: str) -> None:
    pass


@pytest.mark.postgres
def test_nothing_is_lost_doubled_or_contradicted_while_sequencers_and_writers_are_killed(
    settings: Settings, tmp_path: Path
) -> None:
    assert settings.database_url is not None
    with Arena(settings.database_url.get_secret_value(), tmp_path, seed=2) as arena:
        found = run(arena, kills=10, told=unheard)
    assert found["kills_in_all"] >= 10
    assert found["entries"] >= found["acknowledged"] > 0
    assert (found["lost"], found["duplicated"], found["contradictions"]) == (0, 0, 0)
    assert found["client_saw_sizes"] > 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nor_while_postgres_crashes_its_disk_fills_and_an_older_database_is_put_back() -> None:
    # A short path: below pytest's folders the server would move its socket each time that it is started.
    with tempfile.TemporaryDirectory(prefix="lawful-faults-") as name:
        server = Server(Path(name))
        try:
            with Arena(server.url, Path(name), seed=3) as arena:
                found = run(arena, kills=60, server=server, told=unheard)
        finally:
            server.close()
    assert (found["lost"], found["duplicated"], found["contradictions"]) == (0, 0, 0)
    assert found["faults"]["an older database put back"] == 1
    assert found["faults"]["postgres stopped with immediate"] >= 1
    assert {f"sequencer at {step}" for step in STEPS} <= found["kills"].keys()
