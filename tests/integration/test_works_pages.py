"""Works and artists as anyone may see them, what credits them, and that what may not be named is not there at all."""

import re
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import quote, quote_plus

import msgspec
import pytest
import sqlalchemy as sa

from attribution.evidence import Evidence
from ledger.crediting import credited
from ledger.database.tables.records import Credit
from ledger.database.tables.works import Work
from ledger.erasure import erase
from ledger.grants import change_grants
from ledger.runtime import Runtime

from .claiming import JANE, works_of
from .http_ledger import FOUND, HOSTILE, generated, serving, told

pytestmark = pytest.mark.postgres

HTML = {"accept": "text/html"}
ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture
def works(runtime: Runtime, tmp_path: Path) -> list[uuid.UUID]:
    return works_of(runtime, tmp_path, seeds=(50, 51))


def copy_of(runtime: Runtime, work_id: uuid.UUID) -> Evidence:
    """Evidence that finds a copy of this work, and its artist's hand."""
    assert FOUND.copy is not None
    assert FOUND.style is not None
    with runtime.sessions() as session:
        artist_id = str(session.get_one(Work, work_id).artist_id)
    first = msgspec.structs.replace(
        FOUND.copy.matches[0], work_id=str(work_id), artist_id=artist_id, artist=JANE, title="50", p_value=0.0001
    )
    note = msgspec.structs.replace(FOUND.copy.calibration, smallest_p=0.0001)  # type: ignore[type-var]
    hand = msgspec.structs.replace(FOUND.style.artists[0], artist_id=artist_id, artist=JANE, p_value=0.001)
    return told(
        msgspec.structs.replace(
            FOUND,
            copy=msgspec.structs.replace(FOUND.copy, matches=[first], calibration=note),
            style=msgspec.structs.replace(FOUND.style, artists=[hand]),
            neighbours={},
        )
    )


def test_a_work_shows_its_terms_and_which_records_credit_it(runtime: Runtime, works: list[uuid.UUID]) -> None:
    record_id = generated(runtime, evidence=copy_of(runtime, works[0]))
    change_grants(runtime, [works[0]], {"train": False}, by_role="artist")
    with serving(runtime) as client:
        page = client.get(f"/works/{works[0]}", headers=HTML).text
        said = client.get(f"/works/{works[0]}").json()
        picture = client.get(f"/works/{works[0]}/preview")
        other = client.get(f"/works/{works[1]}").json()
    assert [(each["record_id"], each["axis"]) for each in said["credits"]["newest"]] == [(str(record_id), "copy")]
    assert said["credits"]["months"][-1]["records"] == 1
    assert other["credits"]["newest"] == []
    assert said["grants"]["train"] is False
    assert said["indexed_by"]
    for shown in (JANE, said["licence"], f'href="/r/{record_id}"', "withdrawn by the artist", "<svg", "Atom feed"):
        assert shown in page
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/webp")
    assert picture.content[8:12] == b"WEBP"


def test_an_artist_shows_works_and_credits_of_hand_and_work(runtime: Runtime, works: list[uuid.UUID]) -> None:
    record_id = generated(runtime, evidence=copy_of(runtime, works[0]))
    with serving(runtime) as client:
        artist_id = client.get(f"/works/{works[0]}").json()["artist_id"]
        said = client.get(f"/artists/{artist_id}").json()
        page = client.get(f"/artists/{artist_id}", headers=HTML).text
    assert {each["id"] for each in said["works"]} == {str(each) for each in works}
    assert {(each["record_id"], each["axis"]) for each in said["credits"]["newest"]} == {
        (str(record_id), "copy"),
        (str(record_id), "style"),
    }
    assert said["credits"]["months"][-1]["records"] == 1, "a record counts once, whatever it found"
    assert f'href="/works/{works[1]}"' in page


def test_what_may_not_be_named_reads_like_what_never_was(runtime: Runtime, works: list[uuid.UUID]) -> None:
    generated(runtime, evidence=copy_of(runtime, works[0]))
    with serving(runtime) as client:
        artist_id = client.get(f"/works/{works[0]}").json()["artist_id"]
        change_grants(runtime, [works[0]], {"name": False}, by_role="artist")
        said = client.get(f"/artists/{artist_id}").json()
        feed = client.get(f"/artists/{artist_id}/feed").text
        assert [each["id"] for each in said["works"]] == [str(works[1])]
        assert said["named_works"] == 1
        assert [each["axis"] for each in said["credits"]["newest"]] == ["style"]
        assert str(works[0]) not in feed
        nobody = uuid.uuid4()
        for path in ("", "/preview", "/feed"):
            hidden, absent = (client.get(f"/works/{each}{path}") for each in (works[0], nobody))
            assert hidden.status_code == absent.status_code == 404
            assert hidden.json()["detail"].replace(str(works[0]), str(nobody)) == absent.json()["detail"]
        change_grants(runtime, works, {"name": False}, by_role="artist")
        for path in ("", "/feed"):
            assert client.get(f"/artists/{artist_id}{path}").status_code == 404


def test_no_page_and_no_search_tells_a_protected_name_from_an_unknown_one(
    runtime: Runtime, works: list[uuid.UUID]
) -> None:
    """Whole answers, but for what was asked itself and the name of the occurrence."""
    with serving(runtime) as client:
        artist_id = client.get(f"/works/{works[0]}").json()["artist_id"]
        change_grants(runtime, works, {"name": False}, by_role="artist")
        nobody = str(uuid.uuid4())

        def said(path: str, asked: str, accept: str) -> tuple[int, list[str], str]:
            answer = client.get(path.format(quote(asked)), headers={"accept": accept})
            text = re.sub(r"urn:uuid:[0-9a-f-]+", "", answer.text)
            for spelled in (asked, quote(asked), quote_plus(asked)):
                text = text.replace(spelled, "")
            return answer.status_code, sorted(set(answer.headers)), text

        ids = [(f"/artists/{{}}{rest}", artist_id, nobody) for rest in ("", "/feed")]
        ids += [(f"/works/{{}}{rest}", str(works[0]), nobody) for rest in ("", "/feed", "/preview")]
        names = [
            ("/log?q={}", JANE, "Jane Dee"),
            ("/log?q={}", artist_id, nobody),
            ("/log?q={}", str(works[0]), nobody),
        ]
        names += [("/log?model={}", JANE, "Jane Dee"), ("/r?name={}", artist_id, nobody), ("/r/{}", artist_id, nobody)]
        for path, hidden, absent in [*ids, *names]:
            for accept in ("application/json", "text/html"):
                assert said(path, hidden, accept) == said(path, absent, accept), (path, accept)


def test_the_feed_is_atom_and_holds_hostile_names_as_text(runtime: Runtime, works: list[uuid.UUID]) -> None:
    record_id = generated(runtime, evidence=copy_of(runtime, works[0]))
    with runtime.sessions.begin() as session:
        session.get_one(Work, works[0]).title = HOSTILE + "\u202e\ufffe]]>&"
    with serving(runtime) as client:
        answer = client.get(f"/works/{works[0]}/feed")
        page = client.get(f"/works/{works[0]}", headers=HTML).text
    feed = ET.fromstring(answer.content)
    assert answer.headers["content-type"].startswith("application/atom+xml")
    assert HOSTILE in str(feed.findtext(f"{ATOM}title"))
    assert "[U+202E][U+FFFE]" in str(feed.findtext(f"{ATOM}title"))
    links = [each.get("href") for each in feed.iterfind(f"{ATOM}entry/{ATOM}link")]
    assert links == [f"{runtime.settings.public_url.rstrip('/')}/r/{record_id}"]
    assert all(feed.findtext(f"{ATOM}{each}") for each in ("id", "updated"))
    assert "<script>alert" not in page


def test_a_credit_goes_with_its_record(runtime: Runtime, works: list[uuid.UUID]) -> None:
    record_id = generated(runtime, evidence=copy_of(runtime, works[0]))
    erase(runtime, record_id, reason="requested", asked_by="submitter")
    with serving(runtime) as client:
        assert client.get(f"/works/{works[0]}").json()["credits"]["newest"] == []
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Credit)) == 0


def test_what_is_no_finding_or_of_no_collection_here_is_no_credit(runtime: Runtime, works: list[uuid.UUID]) -> None:
    near = copy_of(runtime, works[0])
    assert near.copy is not None
    chance = msgspec.structs.replace(near.copy.matches[0], p_value=0.4)
    weak = told(msgspec.structs.replace(near, copy=msgspec.structs.replace(near.copy, matches=[chance]), style=None))
    assert credited(weak) == []
    assert [each.axis for each in credited(near)] == ["copy", "style"]
    generated(runtime)  # whose evidence names works "w1" and "w2"
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Credit)) == 0
