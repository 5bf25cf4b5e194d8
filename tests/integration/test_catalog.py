"""Indexing: what is new is added, what is bad is listed, what was cut off goes on; snapshots and grants are entries."""

import csv
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from attribution.features import METHOD, extract
from attribution.snapshot import ReferenceWork
from ledger import catalog, snapshots
from ledger.database import vectors
from ledger.database.tables.log import LogEntry, LogOutbox
from ledger.database.tables.works import Snapshot, Work
from ledger.errors import BadRequest, Conflict
from ledger.log.statements import parse_statement
from ledger.runtime import Runtime
from ledger.sources import Grants
from models.images import encode_png
from models.networks import encoder_key

from .conftest import picture

pytestmark = pytest.mark.postgres

ALL = Grants(train=True, compare=True, name=True)


class Colours:
    """A real, if simple, encoder: a colour histogram with 64 bins."""

    def __init__(self, name: str = "colours") -> None:
        self.info = {"name": name, "revision": "1", "weights_sha256": "c" * 64, "licence": "Apache-2.0"}
        self.seen = 0
        self.calibrated = 0

    @property
    def encoders(self) -> dict[str, dict[str, str]]:
        return {f"{self.info['name']}@{self.info['weights_sha256'][:16]}": self.info, self.method: asdict(METHOD)}

    @property
    def method(self) -> str:
        return encoder_key(METHOD)

    def features(self, images: Sequence[NDArray[np.uint8]]) -> list[bytes]:
        return [extract(image).to_bytes() for image in images]

    def calibrate(self, session: Session, collection_id: uuid.UUID, works: Sequence[ReferenceWork]) -> bytes:
        """To the catalog a calibration is bytes: here, those that tell what it was made from."""
        self.calibrated += 1
        return repr([(work.id, work.name) for work in works if work.compare]).encode()

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Mapping[str, NDArray[np.float32]]:
        self.seen += len(images)
        rows = np.stack([np.bincount((image // 64 @ (16, 4, 1)).ravel(), minlength=64) for image in images])
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return {key: rows for key in self.encoders if key != self.method}


def folder_of_works(root: Path, artists: int = 2, works: int = 3) -> Path:
    for artist in range(artists):
        (root / f"artist {artist}").mkdir(parents=True)
        for work in range(works):
            (root / f"artist {artist}" / f"{work}.png").write_bytes(encode_png(picture(10 * artist + work, 48)))
    return root


def run(runtime: Runtime, source: Path, embedder: Colours | None = None, name: str = "test") -> catalog.Indexed:
    return catalog.index(
        runtime, source, collection=name, licence="CC0-1.0", grants=ALL, embedder=embedder or Colours()
    )


def logged(runtime: Runtime, kind: str) -> list[dict[str, object]]:
    with runtime.sessions() as session:
        both = sa.union(sa.select(LogEntry.entry), sa.select(LogOutbox.entry))  # one statement sees each entry once
        entries = session.scalars(both).all()
    return [payload for entry in entries if (payload := parse_statement(entry).payload)["type"] == kind]


def test_a_folder_becomes_works_vectors_and_a_logged_snapshot(runtime: Runtime, tmp_path: Path) -> None:
    indexed = run(runtime, folder_of_works(tmp_path / "works"))
    assert (indexed.added, indexed.known, indexed.bad) == (6, 0, [])
    assert (indexed.works, indexed.artists) == (6, 2)
    with runtime.sessions() as session:
        collection_id = session.scalars(sa.select(Snapshot.collection_id)).one()
        works = [work.id for work in snapshots.reference_works(session, collection_id)]
        (encoder,) = indexed.encoders.keys() - {Colours().method}
        rows = vectors.load(session, encoder, collection_id, works)
    assert rows is not None
    assert rows.shape == (6, 64)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-2)
    assert [each["digest"] for each in logged(runtime, snapshots.SNAPSHOT)] == [indexed.snapshot]


def test_a_second_run_adds_only_what_is_new(runtime: Runtime, tmp_path: Path) -> None:
    source = folder_of_works(tmp_path / "works")
    first = run(runtime, source)
    (source / "artist 0" / "late.png").write_bytes(encode_png(picture(99, 48)))
    embedder = Colours()
    second = run(runtime, source, embedder)
    assert (second.added, second.known, embedder.seen) == (1, 6, 1)
    assert second.snapshot != first.snapshot
    assert run(runtime, source).snapshot == second.snapshot


def test_a_run_that_was_cut_off_is_resumed(runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_of_works(tmp_path / "works")
    monkeypatch.setattr(catalog, "BATCH_WORKS", 2)

    def interrupt(progress: catalog.Progress) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalog.index(
            runtime, source, collection="test", licence="x", grants=ALL, embedder=Colours(), progress=interrupt
        )
    resumed = run(runtime, source)
    assert (resumed.added, resumed.known, resumed.works) == (2, 4, 6)


def test_a_new_encoder_sees_the_works_that_are_known(runtime: Runtime, tmp_path: Path) -> None:
    source = folder_of_works(tmp_path / "works")
    run(runtime, source)
    again = run(runtime, source, Colours("other colours"))
    assert (again.added, again.works) == (6, 6)


def test_bad_files_are_listed_and_stop_nothing(runtime: Runtime, tmp_path: Path) -> None:
    source = folder_of_works(tmp_path / "works")
    (source / "loose.png").write_bytes(encode_png(picture(5)))
    (source / "artist 0" / "empty.png").write_bytes(b"")
    (source / "artist 0" / "text.png").write_text("not an image")
    (source / "artist 0" / "up..\n<b>.png").write_bytes(encode_png(picture(50)))
    (source / "artist 1" / "link.png").symlink_to("/etc/passwd")
    (source / "artist 1" / "cut.png").write_bytes(encode_png(picture(6))[:-40])
    indexed = run(runtime, source)
    assert indexed.added == 7
    assert {bad.path.rsplit("/", 1)[-1] for bad in indexed.bad} == {
        "loose.png", "empty.png", "text.png", "link.png", "cut.png"
    }  # fmt: skip
    assert all(bad.code and bad.detail for bad in indexed.bad)


def test_nothing_to_index_is_an_error_with_a_next_step(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "works").mkdir()
    with pytest.raises(BadRequest) as error:
        run(runtime, tmp_path / "works")
    assert error.value.code == "collection_empty"
    with pytest.raises(BadRequest) as error:
        run(runtime, tmp_path / "nowhere")
    assert error.value.code == "source_missing"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_list_names_artist_title_licence_and_grants(runtime: Runtime, tmp_path: Path, suffix: str) -> None:
    source = folder_of_works(tmp_path / "works")
    rows = [
        {"path": "artist 0/0.png", "artist": "A", "title": "One", "licence": "CC-BY-4.0", "name": "no"},
        {"path": "artist 0/1.png", "artist": "B", "title": "", "licence": "", "name": ""},
        {"path": "../outside.png", "artist": "B", "title": "", "licence": "", "name": ""},
        {"path": "artist 0/2.png", "artist": "", "title": "", "licence": "", "name": ""},
        {"path": "artist 1/0.png", "artist": "B", "title": "", "licence": "", "name": "perhaps"},
        {"path": "artist 1/none.png", "artist": "B", "title": "", "licence": "", "name": ""},
    ]
    file = source / f"list{suffix}"
    if suffix == ".csv":
        with file.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), file)
    indexed = run(runtime, file)
    assert (indexed.added, indexed.artists) == (2, 2)
    assert sorted(bad.code for bad in indexed.bad) == [
        "file_unreadable", "grant_malformed", "path_outside", "row_incomplete"
    ]  # fmt: skip
    with runtime.sessions() as session:
        one, other = session.scalars(sa.select(Work).order_by(Work.source)).all()
    assert (one.title, one.licence, one.grant_name) == ("One", "CC-BY-4.0", False)
    assert (other.title, other.licence, other.grant_name) == ("1", "CC0-1.0", True)


def test_a_list_without_its_columns_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file,painter\na.png,B\n")
    with pytest.raises(BadRequest) as error:
        run(runtime, tmp_path / "list.csv")
    assert error.value.code == "list_unreadable"


def test_two_runs_on_one_collection_do_not_mix(runtime: Runtime, tmp_path: Path) -> None:
    source = folder_of_works(tmp_path / "works")

    def second(_: catalog.Progress) -> None:
        with pytest.raises(Conflict) as error:
            run(runtime, source)
        assert error.value.code == "collection_busy"

    catalog.index(runtime, source, collection="test", licence="x", grants=ALL, embedder=Colours(), progress=second)
