"""A work whose *name* was withdrawn is shown nowhere: not by name, not by id, not by picture, not in a sentence."""

import uuid
from pathlib import Path

import msgspec
import pytest

from attribution.evidence import Conflict, Evidence, Identity, Match, Neighbour
from attribution.gate import GatePolicy
from ledger import verifications
from ledger.database.tables.works import Work
from ledger.grants import change_grants
from ledger.naming import nameable, names_withdrawn
from ledger.runtime import Runtime

from .claiming import JANE, works_of
from .http_ledger import DRAWN, FOUND, do, generated, png, serving, told

pytestmark = pytest.mark.postgres

HTML = {"accept": "text/html"}
TITLE = "The Red Boat"


def about(work: uuid.UUID, artist: uuid.UUID) -> Evidence:
    """Evidence in which Jane's work is found on every axis."""
    ids = {"work_id": str(work), "artist_id": str(artist), "artist": JANE, "title": TITLE}
    assert FOUND.copy is not None
    assert FOUND.style is not None
    assert FOUND.classification is not None
    near = Neighbour(**ids, score=0.9, p_value=0.0001)
    clip = msgspec.structs.replace(FOUND.neighbours["clip"], nearest=[near])
    hand = {"artist_id": str(artist), "artist": JANE}
    first, others = FOUND.style.artists[0], FOUND.style.artists[1:]
    classified = FOUND.classification.artists
    return told(
        msgspec.structs.replace(
            FOUND,
            identity=Identity(works=[Match(**ids, by="pixel_sha256")]),
            copy=msgspec.structs.replace(
                FOUND.copy, matches=[msgspec.structs.replace(FOUND.copy.matches[0], **ids), *FOUND.copy.matches[1:]]
            ),
            style=msgspec.structs.replace(FOUND.style, artists=[msgspec.structs.replace(first, **hand), *others]),
            classification=msgspec.structs.replace(
                FOUND.classification, artists=[msgspec.structs.replace(classified[0], **hand), *classified[1:]]
            ),
            neighbours={"clip": clip},
            conflicts=[Conflict(titles=[TITLE, "Another"], artists=[JANE, "Ben"])],
        ),
        policy=GatePolicy(),
    )


@pytest.fixture
def work(runtime: Runtime, tmp_path: Path) -> uuid.UUID:
    return works_of(runtime, tmp_path)[0]


@pytest.fixture
def evidence(runtime: Runtime, work: uuid.UUID) -> Evidence:
    with runtime.sessions() as session:
        return about(work, session.get_one(Work, work).artist_id)


def test_evidence_that_may_be_named_is_left_as_it_is(runtime: Runtime, evidence: Evidence) -> None:
    with runtime.sessions() as session:
        assert nameable(session, evidence) is evidence


def test_no_word_of_a_withdrawn_work_is_left(runtime: Runtime, work: uuid.UUID, evidence: Evidence) -> None:
    artist_id = evidence.identity.works[0].artist_id
    change_grants(runtime, [work], {"name": False}, by_role="artist")
    with runtime.sessions() as session:
        shown = nameable(session, evidence)
    text = msgspec.json.encode(shown).decode()
    for hidden in (JANE, TITLE, str(work), str(artist_id), DRAWN):
        assert hidden in msgspec.json.encode(evidence).decode()
        assert hidden not in text
    assert [each.outcome for each in shown.findings] == [each.outcome for each in evidence.findings]


@pytest.mark.parametrize("kind", ["record", "look"])
def test_pages_of_before_show_it_no_more(runtime: Runtime, work: uuid.UUID, evidence: Evidence, kind: str) -> None:
    path = f"/r/{generated(runtime, evidence=evidence)}"
    if kind == "look":
        with runtime.sessions.begin() as session:
            look_id = verifications.accept_verification(session, runtime, image=png(4), principal_id=None)
        do(runtime, look_id, evidence)
        path = f"/v/{look_id}"
    with serving(runtime) as client:
        page = client.get(path, headers=HTML).text
        assert TITLE in page
        assert JANE in page
        assert client.get(f"/pictures/{DRAWN}.png").status_code == 200
        change_grants(runtime, [work], {"name": False}, by_role="artist")
        page = client.get(path, headers=HTML).text
        for hidden in (TITLE, JANE, str(work), DRAWN):
            assert hidden not in page
        assert "protected work" in page
        assert client.get(f"/pictures/{DRAWN}.png").status_code == 404


def test_a_card_in_somebody_elses_page_names_it_no_more(runtime: Runtime, work: uuid.UUID, evidence: Evidence) -> None:
    card = f"/v1/records/{generated(runtime, evidence=evidence)}/card"
    with serving(runtime) as client:
        assert TITLE in client.get(card).text
        change_grants(runtime, [work], {"name": False}, by_role="artist")
        shown = client.get(card).text
    assert TITLE not in shown
    assert JANE not in shown


def test_a_sentence_that_was_kept_without_ids_is_known_by_title_and_artist(runtime: Runtime, work: uuid.UUID) -> None:
    with runtime.sessions() as session:
        row = session.get_one(Work, work)
        sentence = f"not issued: it is a copy of “{row.title}” by {JANE}"
        assert not names_withdrawn(session, sentence)
    change_grants(runtime, [work], {"name": False}, by_role="artist")
    with runtime.sessions() as session:
        assert names_withdrawn(session, sentence)
        assert not names_withdrawn(session, f"not issued: it is a copy of another by {JANE}")
