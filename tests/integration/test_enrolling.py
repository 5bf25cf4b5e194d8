"""Enrolling: a picture becomes a work of its artist, as if it had been indexed; another's work never does."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient
from numpy.typing import NDArray

from attribution.evidence import Evidence
from attribution.fingerprints import Fingerprints
from ledger.artists import enrolling
from ledger.claims import identities
from ledger.database.tables.artists import Enrolment
from ledger.database.tables.works import Snapshot, Work
from ledger.errors import Conflict, LedgerError, NotFound, Unavailable
from ledger.runtime import Runtime
from ledger.snapshots import SNAPSHOT
from ledger.sources import Grants
from ledger.sweep import sweep

from .claiming import PLAIN, somebody, works_of
from .desks import PAGE, artist_of, desk, link, sign_in, unlink
from .http_ledger import png, serving
from .test_catalog import Colours, logged
from .test_works_pages import copy_of

pytestmark = pytest.mark.postgres

TERMS = {"title": "The Sower", "licence": "CC-BY-4.0", "compare": "yes", "name": "yes"}


class Networks(Colours):
    """The catalogue tests' encoder, and what the engine would find."""

    def __init__(self, finds: Evidence = PLAIN) -> None:
        super().__init__()
        self.finds = finds

    def evidence(self, image: NDArray[np.uint8], fingerprints: Fingerprints) -> Evidence:
        return self.finds


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:  # type: ignore[type-arg]
    with serving(runtime) as opened:
        opened.follow_redirects = False
        yield opened


@pytest.fixture
def artist(runtime: Runtime, tmp_path: Path) -> uuid.UUID:
    return artist_of(runtime, works_of(runtime, tmp_path)[0])


@pytest.fixture
def jane(runtime: Runtime, artist: uuid.UUID) -> uuid.UUID:
    found = somebody(runtime)
    link(runtime, artist, found)
    return found


def wish(picture: bytes, **terms: str) -> enrolling.Wish:
    grants = Grants(train=False, compare=True, name=True)
    return enrolling.Wish(picture, terms.get("title", "The Sower"), terms.get("licence", "CC-BY-4.0"), grants)


def enrolment(runtime: Runtime, enrolment_id: uuid.UUID) -> Enrolment:
    with runtime.sessions() as session:
        return session.get_one(Enrolment, enrolment_id)


def files(runtime: Runtime) -> list[str]:
    return [key for key, _ in runtime.storage.stored("enrolments")]


def test_a_picture_becomes_a_work_in_a_new_snapshot(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    artist: uuid.UUID,
) -> None:
    link(runtime, artist, sign_in(client, runtime))
    answer = client.post(desk(artist, "/enrolments"), data=TERMS, files={"file": ("a.png", png(70))})
    assert answer.status_code == 303, answer.text
    assert "waiting to be indexed" in client.get(desk(artist), headers=PAGE).text
    with runtime.sessions() as session:
        waiting = session.scalars(sa.select(Enrolment.id)).one()
        tasks = session.execute(sa.text("SELECT task_name, args->>'record_id' FROM procrastinate_jobs")).all()
    assert ("enrol", str(waiting)) in [tuple(each) for each in tasks]
    before = len(logged(runtime, SNAPSHOT))
    for _ in range(2):  # the second time there is nothing to do
        enrolling.enrol(runtime, Networks(), waiting)
    done = enrolment(runtime, waiting)
    assert (done.state, done.file_key, files(runtime)) == ("enrolled", None, [])
    assert len(logged(runtime, SNAPSHOT)) == before + 1
    shown = client.get(f"/works/{done.work_id}").json()
    assert (shown["title"], shown["licence"], shown["artist_id"]) == ("The Sower", "CC-BY-4.0", str(artist))
    assert shown["grants"] == {"train": False, "compare": True, "name": True}
    with runtime.sessions() as session:
        newest = session.scalars(sa.select(Snapshot).order_by(Snapshot.created_at.desc()).limit(1)).one()
    assert newest.works == 2


def test_an_enrolment_cut_off_after_indexing_goes_on(runtime: Runtime, artist: uuid.UUID, jane: uuid.UUID) -> None:
    enrolment_id = enrolling.ask(runtime, jane, artist, wish(png(70)))
    enrolling.enrol(runtime, Networks(), enrolment_id)
    done = enrolment(runtime, enrolment_id)
    with runtime.sessions.begin() as session:
        row = session.get_one(Enrolment, enrolment_id)
        row.state, row.work_id, row.file_key = "waiting", None, f"enrolments/{enrolment_id}"
    runtime.storage.put(f"enrolments/{enrolment_id}", png(70))
    enrolling.enrol(runtime, Networks(), enrolment_id)
    assert enrolment(runtime, enrolment_id).work_id == done.work_id


# ---- attackers -------------------------------------------------------------------------------------------------------


def test_whoever_acts_for_no_artist_enrols_nothing(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    artist: uuid.UUID,
) -> None:
    thief = sign_in(client, runtime, "thief@example.org")
    answer = client.post(desk(artist, "/enrolments"), data=TERMS, files={"file": ("a.png", png(70))})
    assert (answer.status_code, answer.json()["code"]) == (404, "desk_unknown")
    with pytest.raises(NotFound):
        enrolling.ask(runtime, thief, uuid.uuid4(), wish(png(70)))
    assert files(runtime) == []


def test_anothers_work_is_refused_with_a_word(
    runtime: Runtime, artist: uuid.UUID, jane: uuid.UUID, tmp_path: Path
) -> None:
    """By its bytes or pixels, in whatever collection: before anything is kept."""
    works_of(runtime, tmp_path / "rosa", artist="Rosa", seeds=(80,))
    with pytest.raises(Conflict) as refused:
        enrolling.ask(runtime, jane, artist, wish(png(80)))
    assert refused.value.code == "work_of_another"
    with pytest.raises(Conflict) as known:
        enrolling.ask(runtime, jane, artist, wish(png(50)))
    assert known.value.code == "work_enrolled"
    assert files(runtime) == []


def test_of_two_who_hand_in_one_picture_the_second_is_refused(
    runtime: Runtime, artist: uuid.UUID, jane: uuid.UUID, tmp_path: Path
) -> None:
    """Neither was a work when it came in: the worker finds it."""
    rosa = artist_of(runtime, works_of(runtime, tmp_path / "rosa", artist="Rosa", seeds=(80,))[0])
    mallory = somebody(runtime, "mallory@example.org")
    link(runtime, rosa, mallory)
    first = enrolling.ask(runtime, jane, artist, wish(png(70)))
    second = enrolling.ask(runtime, mallory, rosa, wish(png(70)))
    for each in (first, second):
        enrolling.enrol(runtime, Networks(), each)
    assert enrolment(runtime, first).state == "enrolled"
    late = enrolment(runtime, second)
    assert (late.state, late.work_id, "not known to be" in str(late.refusal)) == ("refused", None, True)
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Work)) == 3
    assert files(runtime) == []


@pytest.mark.parametrize("named", [True, False])
def test_a_copy_of_anothers_work_is_refused_also_where_it_may_not_be_named(
    runtime: Runtime, artist: uuid.UUID, jane: uuid.UUID, tmp_path: Path, named: bool
) -> None:
    (theirs,) = works_of(runtime, tmp_path / "rosa", artist="Rosa", seeds=(80,))
    found = copy_of(runtime, theirs)
    if not named:
        assert found.copy is not None
        hidden = msgspec.structs.replace(found.copy.matches[0], work_id=None, artist_id=None, artist=None)
        found = msgspec.structs.replace(found, copy=msgspec.structs.replace(found.copy, matches=[hidden]))
    enrolment_id = enrolling.ask(runtime, jane, artist, wish(png(70)))
    enrolling.enrol(runtime, Networks(found), enrolment_id)
    assert enrolment(runtime, enrolment_id).state == "refused"


@pytest.mark.parametrize(
    ("p_value", "state"), [(0.005, "refused"), (0.04, "enrolled"), (None, "enrolled")], ids=["stands", "chance", "none"]
)
def test_anothers_work_is_seen_wherever_it_stands_among_the_matches(
    runtime: Runtime, artist: uuid.UUID, jane: uuid.UUID, tmp_path: Path, p_value: float | None, state: str
) -> None:
    """One's own work first and another's behind it; what any picture reaches by chance is nobody's."""
    (theirs,) = works_of(runtime, tmp_path / "rosa", artist="Rosa", seeds=(80,))
    with runtime.sessions() as session:
        own = session.scalars(sa.select(Work.id).where(Work.artist_id == artist)).one()
    found, other = copy_of(runtime, own), copy_of(runtime, theirs)
    assert found.copy is not None
    assert other.copy is not None
    behind = msgspec.structs.replace(other.copy.matches[0], p_value=p_value)
    matches = [*found.copy.matches, behind]
    found = msgspec.structs.replace(found, copy=msgspec.structs.replace(found.copy, matches=matches))
    enrolment_id = enrolling.ask(runtime, jane, artist, wish(png(70)))
    enrolling.enrol(runtime, Networks(found), enrolment_id)
    assert enrolment(runtime, enrolment_id).state == state


def test_a_copy_of_ones_own_work_is_taken(runtime: Runtime, artist: uuid.UUID, jane: uuid.UUID) -> None:
    with runtime.sessions() as session:
        own = session.scalars(sa.select(Work.id)).one()
    enrolment_id = enrolling.ask(runtime, jane, artist, wish(png(70)))
    enrolling.enrol(runtime, Networks(copy_of(runtime, own)), enrolment_id)
    assert enrolment(runtime, enrolment_id).state == "enrolled"


def test_whoever_was_unlinked_meanwhile_enrols_nothing(runtime: Runtime, artist: uuid.UUID, jane: uuid.UUID) -> None:
    enrolment_id = enrolling.ask(runtime, jane, artist, wish(png(70)))
    unlink(runtime, artist, jane)
    enrolling.enrol(runtime, Networks(), enrolment_id)
    assert (enrolment(runtime, enrolment_id).state, files(runtime)) == ("refused", [])


# ---- limits and erasure ----------------------------------------------------------------------------------------------


def test_so_many_a_day_whoever_hands_them_in(
    runtime: Runtime, artist: uuid.UUID, jane: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolling, "PER_DAY", 2)
    agent = somebody(runtime, "agent@example.org")
    link(runtime, artist, agent)
    enrolling.ask(runtime, jane, artist, wish(png(70)))
    enrolling.ask(runtime, agent, artist, wish(png(71)))
    for each in (jane, agent):
        with pytest.raises(LedgerError) as refused:
            enrolling.ask(runtime, each, artist, wish(png(72)))
        assert (refused.value.code, refused.value.status) == ("enrolments_too_many", 429)


@pytest.mark.parametrize(
    ("terms", "picture", "code"),
    [
        ({"title": ""}, png(70), "enrolment_malformed"),
        ({"title": "a\nb"}, png(70), "enrolment_malformed"),
        ({"licence": "x" * 201}, png(70), "enrolment_malformed"),
        ({"price": "1"}, png(70), "enrolment_malformed"),
        ({}, b"no picture", "image_format_unsupported"),
    ],
    ids=["no-title", "two-lines", "long", "unknown-field", "no-picture"],
)
def test_what_cannot_be_a_work_is_refused_at_once(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    artist: uuid.UUID,
    terms: dict[str, str],
    picture: bytes,
    code: str,
) -> None:
    link(runtime, artist, sign_in(client, runtime))
    answer = client.post(desk(artist, "/enrolments"), data=TERMS | terms, files={"file": ("a.png", picture)})
    assert answer.json()["code"] == code
    assert files(runtime) == []


def test_one_is_indexed_at_a_time(runtime: Runtime, artist: uuid.UUID, jane: uuid.UUID) -> None:
    enrolment_id = enrolling.ask(runtime, jane, artist, wish(png(70)))
    with runtime.database.advisory_lock(enrolling.ONE_AT_A_TIME), pytest.raises(Unavailable) as busy:
        enrolling.enrol(runtime, Networks(), enrolment_id)
    assert busy.value.code == "enrolment_busy"
    assert enrolment(runtime, enrolment_id).state == "waiting"


def test_an_erased_person_leaves_no_picture_that_waits_but_the_artist_keeps_the_works(
    runtime: Runtime, artist: uuid.UUID, jane: uuid.UUID
) -> None:
    done = enrolling.ask(runtime, jane, artist, wish(png(70)))
    enrolling.enrol(runtime, Networks(), done)
    waiting = enrolling.ask(runtime, jane, artist, wish(png(71)))
    assert sweep(runtime, grace=-enrolling.A_DAY) == 0, "a picture that waits is wanted"
    with runtime.sessions.begin() as session:
        identities.erase_identity(session, runtime, jane)
    enrolling.enrol(runtime, Networks(), waiting)
    assert sweep(runtime, grace=-enrolling.A_DAY) == 1
    assert files(runtime) == []
    with runtime.sessions() as session:
        assert session.scalars(sa.select(Enrolment)).all() == []
        assert session.scalar(sa.select(sa.func.count()).select_from(Work)) == 2
