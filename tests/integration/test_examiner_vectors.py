"""The worker keeps the collection's vectors in mapped files; Postgres is where they come from, and stays the truth."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from attribution.evidence import Evidence, to_json
from attribution.fingerprints import fingerprint
from attribution.vector_files import SUFFIX
from ledger import catalog
from ledger.database import vectors
from ledger.examiner import Examiner
from ledger.runtime import Runtime
from ledger.sources import Grants
from models.images import encode_png

from .conftest import picture
from .test_catalog import folder_of_works

pytestmark = pytest.mark.postgres


def index(runtime: Runtime, folder: Path) -> catalog.Indexed:
    grants = Grants(train=False, compare=True, name=True)
    return catalog.index(
        runtime, folder, collection="test", licence="CC0-1.0", grants=grants, embedder=Examiner(runtime)
    )


def evidence(examiner: Examiner, pixels: np.ndarray) -> Evidence:
    return examiner.look()(pixels, fingerprint(encode_png(pixels), pixels))


def files(runtime: Runtime) -> dict[str, int]:
    """Those of all encoders, with the moment when each was written."""
    folder = runtime.settings.home / "cache" / "vectors"
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob(f"*{SUFFIX}")}


def refuse(*_: object) -> None:
    pytest.fail("asked Postgres for vectors")


def test_a_worker_that_starts_again_maps_what_is_there_and_answers_the_same(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(runtime, folder_of_works(tmp_path / "works"))
    first = evidence(Examiner(runtime), picture(77))
    assert first.neighbours
    written = files(runtime)
    assert len(written) == len(Examiner(runtime).loaded())
    monkeypatch.setattr(vectors, "read", refuse)
    assert to_json(evidence(Examiner(runtime), picture(77))) == to_json(first)
    assert files(runtime) == written


def test_files_that_are_deleted_or_damaged_are_made_again_from_postgres(
    runtime: Runtime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index(runtime, folder_of_works(tmp_path / "works"))
    first = evidence(Examiner(runtime), picture(77))
    written = files(runtime)
    cache = runtime.settings.home / "cache"
    shutil.rmtree(cache)
    assert to_json(evidence(Examiner(runtime), picture(77))) == to_json(first)
    assert files(runtime).keys() == written.keys()

    for number, name in enumerate(sorted(written)):
        path = cache / "vectors" / name
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data if number else data[:-5])
    with caplog.at_level(logging.WARNING):
        assert to_json(evidence(Examiner(runtime), picture(77))) == to_json(first)
    assert "vectors_altered" in caplog.text
    assert "vectors_cut_short" in caplog.text
    assert files(runtime).keys() == written.keys()


def test_a_new_snapshot_adds_a_file_and_an_answer_under_way_stays_with_the_old_one(
    runtime: Runtime, tmp_path: Path
) -> None:
    folder = folder_of_works(tmp_path / "works")
    old = index(runtime, folder).snapshot
    examiner = Examiner(runtime)
    look, before = examiner.look(), files(runtime)

    late = picture(9001)
    (folder / "artist 0" / "late.png").write_bytes(encode_png(late))
    new = index(runtime, folder).snapshot
    after = files(runtime)
    assert before.items() < after.items()
    assert len(after) == 2 * len(before)

    seen = look(late, fingerprint(encode_png(late), late))
    assert seen.snapshot is not None
    assert seen.snapshot.digest == old
    assert seen.identity.works == []
    now = evidence(examiner, late)
    assert now.snapshot is not None
    assert now.snapshot.digest == new
    assert [work.title for work in now.identity.works] == ["late"]
    assert all(axis.nearest[0].title == "late" for axis in now.neighbours.values())
    assert files(runtime) == after
