"""A snapshot names what its error rates rest on; what changes no likeness needs no new calibration."""

import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from attribution.snapshot import ReferenceWork
from ledger import grants, snapshots
from ledger.database.tables.works import Calibration, Collection, Snapshot, Work
from ledger.errors import Conflict
from ledger.runtime import Runtime
from models.images import encode_png

from .conftest import picture
from .test_catalog import Colours, folder_of_works, logged, run

pytestmark = pytest.mark.postgres


def newest(runtime: Runtime) -> Snapshot:
    with runtime.sessions() as session:
        found = snapshots.newest_snapshot(session)
    assert found is not None
    return found


def a_work(runtime: Runtime) -> uuid.UUID:
    with runtime.sessions() as session:
        return session.scalars(sa.select(Work.id).order_by(Work.id).limit(1)).one()


def test_an_indexed_collection_is_frozen_once_with_its_calibration(runtime: Runtime, tmp_path: Path) -> None:
    source = folder_of_works(tmp_path / "works")
    embedder = Colours()
    indexed = run(runtime, source, embedder)
    run(runtime, source, embedder)
    assert embedder.calibrated == 1
    (entry,) = logged(runtime, snapshots.SNAPSHOT)
    calibration = newest(runtime).calibration
    assert calibration is not None
    assert (entry["digest"], entry["calibration"]) == (indexed.snapshot, calibration.hex())


def test_a_grant_that_changes_a_likeness_counts_at_once_and_is_calibrated_later(
    runtime: Runtime, tmp_path: Path
) -> None:
    indexed = run(runtime, folder_of_works(tmp_path / "works"))
    before = newest(runtime)
    grants.change_grants(runtime, [a_work(runtime)], {"compare": False}, by_role="artist")
    frozen = newest(runtime)
    assert frozen.digest != before.digest
    assert frozen.calibration is None

    embedder = Colours()
    after = snapshots.freeze_calibrated(runtime, frozen.collection_id, embedder.encoders, embedder)
    assert after is not None
    assert after.digest not in {before.digest, frozen.digest}
    assert embedder.calibrated == 1
    assert newest(runtime).id == after.id
    with runtime.sessions() as session:
        content = session.scalars(sa.select(Calibration.content).where(Calibration.sha256 == after.calibration)).one()
    assert str(a_work(runtime)) not in content.decode()
    assert len(logged(runtime, snapshots.SNAPSHOT)) == 3
    assert indexed.snapshot == before.digest.hex()


def test_a_grant_to_learn_changes_no_likeness_and_keeps_the_calibration(runtime: Runtime, tmp_path: Path) -> None:
    run(runtime, folder_of_works(tmp_path / "works"))
    before = newest(runtime)
    grants.change_grants(runtime, [a_work(runtime)], {"train": False}, by_role="artist")
    after = newest(runtime)
    assert after.digest != before.digest
    assert after.calibration == before.calibration


def test_a_collection_that_changes_while_it_is_calibrated_is_calibrated_again(runtime: Runtime, tmp_path: Path) -> None:
    run(runtime, folder_of_works(tmp_path / "works"))
    work = a_work(runtime)
    grants.change_grants(runtime, [work], {"compare": False}, by_role="artist")

    class Disturbed(Colours):
        """An artist withdraws a name while the first calibration runs."""

        def calibrate(self, session: Session, collection_id: uuid.UUID, works: Sequence[ReferenceWork]) -> bytes:
            if self.calibrated == 0:
                with runtime.sessions() as other:
                    last = other.scalars(sa.select(Work.id).order_by(Work.id.desc()).limit(1)).one()
                grants.change_grants(runtime, [last], {"name": False}, by_role="artist")
            return super().calibrate(session, collection_id, works)

    embedder = Disturbed()
    after = snapshots.freeze_calibrated(runtime, newest(runtime).collection_id, embedder.encoders, embedder)
    assert after is not None
    assert embedder.calibrated == 2
    assert newest(runtime).id == after.id


def test_a_collection_that_never_stands_still_is_said_to_be_so(runtime: Runtime, tmp_path: Path) -> None:
    run(runtime, folder_of_works(tmp_path / "works"))
    work = a_work(runtime)
    grants.change_grants(runtime, [work], {"compare": False}, by_role="artist")

    class Restless(Colours):
        def calibrate(self, session: Session, collection_id: uuid.UUID, works: Sequence[ReferenceWork]) -> bytes:
            content = super().calibrate(session, collection_id, works)
            with runtime.sessions() as other:
                chosen = other.scalars(sa.select(Work.id).order_by(Work.id).offset(self.calibrated)).first()
            assert chosen is not None
            grants.change_grants(runtime, [chosen], {"name": False}, by_role="artist")
            return content

    embedder = Restless()
    with pytest.raises(Conflict) as error:
        snapshots.freeze_calibrated(runtime, newest(runtime).collection_id, embedder.encoders, embedder)
    assert error.value.code == "collection_changing"


def test_what_only_calibrates_never_answers(runtime: Runtime, tmp_path: Path) -> None:
    run(runtime, folder_of_works(tmp_path / "works"), name="compared")
    strangers = tmp_path / "strangers"
    (strangers / "stranger").mkdir(parents=True)
    (strangers / "stranger" / "0.png").write_bytes(encode_png(picture(500, 48)))
    run(runtime, strangers, name="background")
    with runtime.sessions() as session:
        names = {row.id: row.name for row in session.scalars(sa.select(Collection))}
        answers = snapshots.newest_snapshot(session, background="background")
    assert answers is not None
    assert names[answers.collection_id] == "compared"
