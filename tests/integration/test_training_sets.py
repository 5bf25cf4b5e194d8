"""Before a generator's first image beside a snapshot the log says what it learned from, once."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from ledger.database.tables.works import Work
from ledger.runtime import Runtime
from ledger.training_sets import TRAINED, declare

from .conftest import picture
from .test_catalog import folder_of_works, logged, run

pytestmark = pytest.mark.postgres

MODEL = {"name": "drawer", "revision": "1", "weights_sha256": "ab" * 32, "licence": "Apache-2.0"}


def digests(runtime: Runtime) -> list[str]:
    with runtime.sessions() as session:
        return sorted({each.hex() for each in session.scalars(sa.select(Work.pixel_sha256))})


@pytest.fixture
def snapshot(runtime: Runtime, tmp_path: Path) -> str:
    found = run(runtime, folder_of_works(tmp_path / "works")).snapshot
    assert found is not None
    return found


def test_the_log_says_how_much_of_the_collection_was_learned_from(runtime: Runtime, snapshot: str) -> None:
    of_others = hashlib.sha256(picture(99).tobytes()).hexdigest()
    learned = sorted([*digests(runtime)[:2], of_others])
    declare(runtime, MODEL, learned, snapshot)
    (said,) = logged(runtime, TRAINED)
    assert said["model"] == MODEL
    assert (said["works"], said["works_in_snapshot"], said["snapshot"]) == (3, 2, snapshot)
    assert said["digest"] == hashlib.sha256("".join(f"{each}\n" for each in learned).encode()).hexdigest()


def test_it_is_said_once_of_each_generator_and_snapshot(runtime: Runtime, snapshot: str, tmp_path: Path) -> None:
    learned = digests(runtime)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: declare(runtime, MODEL, learned, snapshot), range(4)))
    assert len(logged(runtime, TRAINED)) == 1
    declare(runtime, {**MODEL, "weights_sha256": "cd" * 32}, learned, snapshot)
    larger = run(runtime, folder_of_works(tmp_path / "more", artists=4)).snapshot
    assert larger is not None
    assert larger != snapshot
    declare(runtime, MODEL, learned, larger)
    assert len(logged(runtime, TRAINED)) == 3


def test_a_work_that_came_later_is_not_counted(runtime: Runtime, snapshot: str, tmp_path: Path) -> None:
    before = digests(runtime)
    run(runtime, folder_of_works(tmp_path / "more", artists=4))
    assert len(digests(runtime)) > len(before)
    declare(runtime, MODEL, digests(runtime), snapshot)
    (said,) = logged(runtime, TRAINED)
    assert said["works_in_snapshot"] == len(before)


def test_of_a_generator_that_names_no_works_nothing_is_said(runtime: Runtime, snapshot: str) -> None:
    declare(runtime, MODEL, None, snapshot)
    assert logged(runtime, TRAINED) == []
