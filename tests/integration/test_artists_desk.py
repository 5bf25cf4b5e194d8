"""The artist's desk: who comes to it, what they change there, and that nobody changes it for another."""

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from litestar.testing import TestClient

from ledger.artists import desk as desks
from ledger.artists import links, webhooks
from ledger.claims import control, identities
from ledger.cli import main
from ledger.database.tables.artists import ArtistLink, ArtistWebhook
from ledger.database.tables.claims import ControlProof
from ledger.database.tables.works import GrantChange, Snapshot, Work
from ledger.errors import LedgerError, NotFound
from ledger.grants import GRANT, change_grants
from ledger.runtime import Runtime

from .claiming import somebody, works_of
from .desks import PAGE, artist_of, desk, link, sign_in, unlink
from .http_ledger import HOSTILE, serving
from .test_catalog import logged
from .test_control_of_a_page import OWN, Web

pytestmark = pytest.mark.postgres


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:  # type: ignore[type-arg]
    with serving(runtime) as opened:
        opened.follow_redirects = False
        yield opened


@pytest.fixture
def works(runtime: Runtime, tmp_path: Path) -> list[uuid.UUID]:
    return works_of(runtime, tmp_path, seeds=(50, 51))


def granted(runtime: Runtime, work_id: uuid.UUID) -> dict[str, bool]:
    with runtime.sessions() as session:
        work = session.get_one(Work, work_id)
        return {each: getattr(work, f"grant_{each}") for each in ("train", "compare", "name")}


# ---- who comes to it -------------------------------------------------------------------------------------------------


def test_a_linked_person_changes_a_grant_as_the_artist_and_it_is_an_entry(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    works: list[uuid.UUID],
) -> None:
    artist = artist_of(runtime, works[0])
    link(runtime, artist, sign_in(client, runtime))
    assert desk(artist) in client.get("/account", headers=PAGE).text
    with runtime.sessions() as session:
        before = session.scalars(sa.select(Snapshot.digest)).all()
    answer = client.post(desk(artist, f"/works/{works[0]}/grants"), data={"change": "name:no"})
    assert (answer.status_code, answer.headers["location"]) == (303, desk(artist))
    (entry,) = logged(runtime, GRANT)
    told = (entry["work_id"], entry["grant"], entry["allowed"], entry["by_role"])
    assert told == (str(works[0]), "name", False, "artist")
    assert granted(runtime, works[0])["name"] is False
    assert granted(runtime, works[1])["name"] is True
    assert client.get(f"/works/{works[0]}").status_code == 404, "withdrawn is withdrawn at once"
    with runtime.sessions() as session:
        assert len(session.scalars(sa.select(Snapshot.digest)).all()) == len(before) + 1
    assert f"/works/{works[0]}/grants" in client.get(desk(artist), headers=PAGE).text, "an unnamed work stays one's own"


def test_all_works_at_once_change_in_one_snapshot(client: TestClient, runtime: Runtime, works: list[uuid.UUID]) -> None:  # type: ignore[type-arg]
    artist = artist_of(runtime, works[0])
    link(runtime, artist, sign_in(client, runtime))
    assert client.post(desk(artist, "/grants"), data={"change": "compare:no"}).status_code == 303
    assert [granted(runtime, each)["compare"] for each in works] == [False, False]
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Snapshot)) == 2
    assert len(logged(runtime, GRANT)) == 2


def test_a_link_is_an_entry_that_names_no_person_and_is_taken_back_at_once(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    works: list[uuid.UUID],
) -> None:
    artist, jane = artist_of(runtime, works[0]), sign_in(client, runtime)
    assert link(runtime, artist, jane) is not None
    assert link(runtime, artist, jane) is None
    assert unlink(runtime, artist, jane) is not None
    assert unlink(runtime, artist, jane) is None
    entries = logged(runtime, links.LINKED)
    assert sorted(each["linked"] for each in entries) == [False, True]
    assert {each["artist_id"] for each in entries} == {str(artist)}
    assert str(jane) not in str(entries)
    answer = client.post(desk(artist, "/grants"), data={"change": "name:no"})
    assert (answer.status_code, answer.json()["code"]) == (404, "desk_unknown")


def test_nobody_is_linked_to_what_is_not_there(runtime: Runtime, works: list[uuid.UUID]) -> None:
    artist, jane = artist_of(runtime, works[0]), somebody(runtime)
    for pair, code in (((uuid.uuid4(), jane), "artist_unknown"), ((artist, uuid.uuid4()), "identity_unknown")):
        with pytest.raises(NotFound) as refused:
            link(runtime, *pair)
        assert refused.value.code == code
    assert logged(runtime, links.LINKED) == []


def test_the_artists_own_page_opens_the_desk_for_as_long_as_it_is_on_record(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    works: list[uuid.UUID],
) -> None:
    artist, jane = artist_of(runtime, works[0]), sign_in(client, runtime)
    assert client.post(desk(artist, "/control")).json()["code"] == "artist_page_unknown"
    with runtime.sessions.begin() as session:
        control.put_page(session, artist, OWN)
    shown = client.post(desk(artist, "/control"), headers=PAGE).text
    with runtime.sessions() as session:
        token = session.get_one(ControlProof, (jane, artist)).token
    assert token in shown
    assert OWN in shown
    assert client.post(desk(artist, "/grants"), data={"change": "name:no"}).json()["code"] == "desk_unknown"
    control.check(runtime, jane, artist, Web({OWN: token.encode()}))  # type: ignore[arg-type]
    assert client.post(desk(artist, "/grants"), data={"change": "train:no"}).status_code == 303
    with runtime.sessions.begin() as session:
        control.put_page(session, artist, "https://other.example.org/")
    assert client.post(desk(artist, "/grants"), data={"change": "train:yes"}).json()["code"] == "desk_unknown"


def test_a_stranger_learns_of_an_unnamed_artist_neither_page_nor_name(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    works: list[uuid.UUID],
) -> None:
    artist, nobody = artist_of(runtime, works[0]), uuid.uuid4()
    with runtime.sessions.begin() as session:
        control.put_page(session, artist, OWN)
    change_grants(runtime, works, {"name": False}, by_role="artist")
    sign_in(client, runtime, "thief@example.org")
    pages = [client.get(desk(each), headers=PAGE).text.replace(str(each), "") for each in (artist, nobody)]
    assert pages[0] == pages[1]
    for action in ("/control", "/control/check"):
        hidden, absent = (client.post(desk(each, action)).json() | {"instance": ""} for each in (artist, nobody))
        assert hidden == absent


# ---- attackers -------------------------------------------------------------------------------------------------------


def test_no_work_of_another_artist_is_changed_by_whatever_address(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    tmp_path: Path,
    works: list[uuid.UUID],
) -> None:
    (own,) = works_of(runtime, tmp_path / "own", artist="Mallory", seeds=(60,))
    mallory = artist_of(runtime, own)
    link(runtime, mallory, sign_in(client, runtime, "mallory@example.org"))
    jane = artist_of(runtime, works[0])
    tried = {
        desk(jane, "/grants"): "desk_unknown",
        desk(jane, f"/works/{works[0]}/grants"): "desk_unknown",
        desk(mallory, f"/works/{works[0]}/grants"): "work_unknown",
        desk(mallory, f"/works/{uuid.uuid4()}/grants"): "work_unknown",
    }
    for address, code in tried.items():
        answer = client.post(address, data={"change": "name:no"})
        assert (answer.status_code, answer.json()["code"]) == (404, code), address
    assert granted(runtime, works[0])["name"] is True
    assert logged(runtime, GRANT) == []


def test_whoever_is_not_signed_in_or_comes_from_another_page_changes_nothing(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    works: list[uuid.UUID],
) -> None:
    artist = artist_of(runtime, works[0])
    forms = {
        "/grants": {"change": "name:no"},
        f"/works/{works[0]}/grants": {"change": "name:no"},
        "/webhook": {"url": "https://evil.example.org/"},
        "/webhook/remove": {},
        "/enrolments": {"title": "x", "licence": "x"},
        "/control": {},
        "/control/check": {},
    }
    for action, form in forms.items():
        assert client.post(desk(artist, action), data=form).json()["code"] == "sign_in_needed"
    assert client.get(desk(artist)).json()["code"] == "sign_in_needed"
    link(runtime, artist, sign_in(client, runtime))
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example.org"}):
        for action, form in forms.items():
            answer = client.post(desk(artist, action), data=form, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "form_refused"), action
    assert granted(runtime, works[0])["name"] is True
    with runtime.sessions() as session:
        assert session.scalars(sa.select(ArtistWebhook)).all() == []


@pytest.mark.parametrize("change", ["", "name", "name:", "name:maybe", "sell:no", "name:no:yes", HOSTILE])
def test_what_is_no_change_is_refused(
    client: TestClient,  # type: ignore[type-arg]
    runtime: Runtime,
    works: list[uuid.UUID],
    change: str,
) -> None:
    artist = artist_of(runtime, works[0])
    link(runtime, artist, sign_in(client, runtime))
    answer = client.post(desk(artist, "/grants"), data={"change": change})
    assert (answer.status_code, answer.json()["code"]) == (400, "grant_malformed")


def test_giving_is_counted_and_withdrawing_never_refused(
    runtime: Runtime, works: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "GIVEN_PER_DAY", 2)
    artist, jane = artist_of(runtime, works[0]), somebody(runtime)
    link(runtime, artist, jane)

    def change(allowed: bool) -> None:
        desks.change(runtime, jane, artist, "name", allowed=allowed, work_id=works[0])

    for _ in range(2):
        change(False)
        change(True)
    change(False)
    with pytest.raises(LedgerError) as refused:
        change(True)
    assert (refused.value.code, refused.value.status) == ("grants_too_often", 429)
    desks.change(runtime, jane, artist, "name", allowed=False, work_id=works[1])
    assert granted(runtime, works[1])["name"] is False
    with runtime.sessions.begin() as session:  # a day later
        session.execute(sa.update(GrantChange).values(created_at=runtime.clock() - desks.A_DAY * 1.1))
    change(True)


def test_of_grants_given_at_once_no_more_are_taken_than_a_day_has(
    runtime: Runtime, works: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count is made where nobody else is changing it."""
    monkeypatch.setattr(desks, "GIVEN_PER_DAY", 1)
    artist, jane = artist_of(runtime, works[0]), somebody(runtime)
    link(runtime, artist, jane)
    desks.change(runtime, jane, artist, "name", allowed=False)
    outcomes: list[str] = []
    gate = threading.Barrier(len(works))

    def give(work: uuid.UUID) -> None:
        gate.wait()
        try:
            desks.change(runtime, jane, artist, "name", allowed=True, work_id=work)
            outcomes.append("given")
        except LedgerError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=give, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(works) > 1
    assert sorted(outcomes) == ["given", *["grants_too_often"] * (len(works) - 1)]


def test_names_and_titles_on_the_desk_are_text(client: TestClient, runtime: Runtime, works: list[uuid.UUID]) -> None:  # type: ignore[type-arg]
    artist = artist_of(runtime, works[0])
    link(runtime, artist, sign_in(client, runtime))
    with runtime.sessions.begin() as session:
        session.get_one(Work, works[0]).title = HOSTILE
    page = client.get(desk(artist), headers=PAGE)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "noindex" in page.headers["x-robots-tag"]


# ---- erasure and the command -----------------------------------------------------------------------------------------


def test_an_erased_person_acts_for_nobody_and_hears_nothing(runtime: Runtime, works: list[uuid.UUID]) -> None:
    artist, jane = artist_of(runtime, works[0]), somebody(runtime)
    link(runtime, artist, jane)
    with runtime.sessions.begin() as session:
        webhooks.put(session, jane, artist, "https://jane.example.org/hook")
    with runtime.sessions.begin() as session:
        identities.erase_identity(session, runtime, jane)
    with runtime.sessions() as session:
        assert session.scalars(sa.select(ArtistLink)).all() == []
        assert session.scalars(sa.select(ArtistWebhook)).all() == []
        assert links.artists_of(session, jane) == []
    assert sorted(each["linked"] for each in logged(runtime, links.LINKED)) == [False, True]
    again = somebody(runtime)
    with runtime.sessions() as session:
        assert links.artists_of(session, again) == [], "the same address is another person now"


def test_the_operator_links_lists_and_unlinks(runtime: Runtime, works: list[uuid.UUID]) -> None:
    artist, jane = str(artist_of(runtime, works[0])), str(somebody(runtime))
    settings = runtime.settings
    options = ["--home", str(settings.home)]
    for name in ("database_url", "database_owner_url"):
        options += ["--set", f"{name}={getattr(settings, name).get_secret_value()}"]

    def lawful(*words: str) -> dict[str, object]:
        done = CliRunner().invoke(main, [*options, "artist", *words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    assert lawful("link", artist, jane)["said"] == "linked"
    assert lawful("link", artist, jane)["said"] == "linked already"
    assert lawful("list")["links"] == [{"artist": artist, "identity": jane}]
    assert lawful("unlink", artist, jane)["said"] == "unlinked"
    assert lawful("list")["links"] == []
