"""From an artist's desk to what a search answers and back, by the worker's main loop and the atelier's own networks."""

import io
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient
from PIL import Image

from attribution.evidence import Evidence
from ledger import catalog, genesis, jobs, lab, verifications
from ledger.database.tables.artists import Enrolment
from ledger.database.tables.works import Artist, Snapshot
from ledger.examiner import Examiner
from ledger.runtime import Runtime, open_runtime
from ledger.settings import Settings
from ledger.sources import Grants
from models.atelier.collection import SUBJECTS, draw
from models.atelier.studios import STUDIOS
from models.images import encode_png

from .desks import PAGE, desk, link, sign_in
from .http_ledger import serving
from .worker_at_work import at_work

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("worker")]

PATIENCE = 600.0  # seconds for one job
DRAWN = draw(STUDIOS[0].slug, SUBJECTS[0], 4711, 384)
"""By the first studio, and in no collection that `lawful` draws."""


@pytest.fixture
def ledger(settings: Settings, tmp_path: Path) -> Iterator[Runtime]:
    """A founded ledger with two works of every studio, and a worker."""
    genesis.found(settings)
    lab.draw_collection(tmp_path / "works", 2)
    with open_runtime(settings) as runtime, at_work(settings):
        catalog.index(
            runtime,
            tmp_path / "works" / "works.csv",
            collection=settings.collection or "atelier",
            licence="Apache-2.0",
            grants=Grants(train=True, compare=True, name=True),
            embedder=Examiner(runtime),
        )
        yield runtime


@pytest.fixture
def client(ledger: Runtime) -> Iterator[TestClient]:  # type: ignore[type-arg]
    with serving(ledger) as opened:
        opened.follow_redirects = False
        yield opened


def newest(runtime: Runtime) -> tuple[str, int]:
    """The newest snapshot's digest, hex, and how many works it has."""
    with runtime.sessions() as session:
        found = session.scalars(sa.select(Snapshot).order_by(Snapshot.created_at.desc()).limit(1)).one()
        return found.digest.hex(), found.works


def enrolled(runtime: Runtime) -> uuid.UUID:
    """The work that the one enrolment became."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with runtime.sessions() as session:
            found = session.scalars(sa.select(Enrolment)).one()
        if found.state != "waiting":
            assert found.work_id is not None, found.refusal
            return found.work_id
        time.sleep(0.5)
    raise AssertionError("the worker has not indexed it")


def evidence_of(runtime: Runtime, image: bytes) -> Evidence:
    """What the worker finds when somebody looks at this image."""
    with runtime.sessions.begin() as session:
        record_id = verifications.accept_verification(session, runtime, image=image, principal_id=None)
    assert jobs.wait(runtime.sessions, record_id, PATIENCE) != "accepted"
    with runtime.sessions() as session:
        found = verifications.result(session, record_id)
    assert found is not None
    return msgspec.convert(found["evidence"], Evidence)


def re_encoded() -> bytes:
    out = io.BytesIO()
    Image.fromarray(DRAWN).resize((300, 300)).save(out, "JPEG", quality=70)
    return out.getvalue()


def test_an_enrolled_work_is_found_in_a_copy_until_its_artist_withdraws_compare(
    client: TestClient,  # type: ignore[type-arg]
    ledger: Runtime,
) -> None:
    with ledger.sessions() as session:
        artist = session.scalars(sa.select(Artist.id).where(Artist.name == STUDIOS[0].name)).one()
    link(ledger, artist, sign_in(client, ledger))
    before, works = newest(ledger)
    assert evidence_of(ledger, re_encoded()).snapshot.works == works  # type: ignore[union-attr]

    terms = {"title": "A late sheet", "licence": "CC0-1.0", "compare": "yes", "name": "yes"}
    answer = client.post(
        desk(artist, "/enrolments"), data=terms, files={"file": ("sheet.png", encode_png(DRAWN), "image/png")}
    )
    assert answer.status_code == 303, answer.text
    work = str(enrolled(ledger))
    assert f'enrolled as <span class="mono">{work}' in client.get(desk(artist), headers=PAGE).text
    digest, more = newest(ledger)
    assert digest != before
    assert more == works + 1

    found = evidence_of(ledger, re_encoded())
    assert found.snapshot is not None
    assert (found.snapshot.digest, found.snapshot.works) == (digest, more)
    assert {axis.nearest[0].work_id for axis in found.neighbours.values()} == {work}
    assert found.copy is not None
    assert found.copy.matches[0].work_id == work
    assert found.copy.matches[0].title == "A late sheet"

    answer = client.post(desk(artist, f"/works/{work}/grants"), data={"change": "compare:no"})
    assert answer.status_code == 303, answer.text
    after = evidence_of(ledger, re_encoded())
    assert after.snapshot is not None
    assert after.snapshot.works == works
    said = msgspec.json.encode(after).decode()
    assert work not in said
    assert "A late sheet" not in said
