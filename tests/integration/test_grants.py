"""Grants change in the open: each change is an entry, all of one command are one snapshot, nothing is said twice."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from ledger import grants, snapshots
from ledger.cli import main
from ledger.database.tables.works import Artist, GrantChange, Snapshot, Work
from ledger.errors import BadRequest, Conflict, NotFound
from ledger.runtime import Runtime
from models.images import encode_png

from .conftest import picture
from .test_catalog import folder_of_works, logged, run

pytestmark = pytest.mark.postgres

NOBODY = uuid.UUID(int=0)


@pytest.fixture
def indexed(runtime: Runtime, tmp_path: Path) -> str:
    """Two artists with three works each; the digest of the collection's snapshot."""
    return run(runtime, folder_of_works(tmp_path / "works"), name="paintings").snapshot


def lawful(runtime: Runtime, *words: str) -> Result:
    settings = runtime.settings
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    options = ["--home", str(settings.home)]
    for name in ("database_url", "database_owner_url"):
        options += ["--set", f"{name}={getattr(settings, name).get_secret_value()}"]
    return CliRunner().invoke(main, [*options, "grant", *words])


def answer(result: Result, exit_code: int = 0) -> Any:
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def works(runtime: Runtime, artist: str = "artist 0") -> list[Work]:
    with runtime.sessions() as session:
        of_artist = sa.select(Work).join(Artist, Artist.id == Work.artist_id).where(Artist.name == artist)
        return list(session.scalars(of_artist.order_by(Work.id)))


def newest(runtime: Runtime) -> Snapshot:
    with runtime.sessions() as session:
        found = snapshots.newest_snapshot(session, collection="paintings")
    assert found is not None
    return found


# ---- the use case ----------------------------------------------------------------------------------------------------


def test_a_changed_grant_is_an_entry_and_a_new_snapshot_and_changed_back_it_is_the_old_one(
    runtime: Runtime, indexed: str
) -> None:
    work = works(runtime)[0].id
    grants.change_grants(runtime, [work], {"name": False}, by_role="artist")
    said_again = grants.change_grants(runtime, [work], {"name": False}, by_role="artist")
    assert said_again.changes == []
    assert [(each["grant"], each["allowed"]) for each in logged(runtime, grants.GRANT)] == [("name", False)]
    assert newest(runtime).digest.hex() == said_again.snapshot != indexed
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(GrantChange)) == 1
    back = grants.change_grants(runtime, [work], {"name": True}, by_role="artist")
    assert back.snapshot == newest(runtime).digest.hex() == indexed


def test_all_changes_of_one_call_are_one_snapshot(runtime: Runtime, indexed: str) -> None:
    of_artist = [work.id for work in works(runtime)]
    changed = grants.change_grants(runtime, of_artist, {"train": False, "compare": False}, by_role="estate")
    entries = logged(runtime, grants.GRANT)
    assert len(entries) == len(changed.changes) == 6
    assert {(each["work_id"], each["grant"]) for each in entries} == {
        (str(work), grant) for work in of_artist for grant in ("train", "compare")
    }
    assert {each["by_role"] for each in entries} == {"estate"}
    assert len(logged(runtime, snapshots.SNAPSHOT)) == 2
    with runtime.sessions() as session:
        stored = session.execute(sa.select(GrantChange.work_id, GrantChange.grant, GrantChange.leaf_hash))
        assert {(str(row.work_id), row.grant, row.leaf_hash.hex()) for row in stored} == {
            (each.work_id, each.grant, each.leaf_hash) for each in changed.changes
        }


def test_error_rates_are_kept_where_no_likeness_changes_and_asked_for_anew_where_one_does(
    runtime: Runtime, indexed: str
) -> None:
    work = works(runtime)[0].id
    assert grants.change_grants(runtime, [work], {"train": False}, by_role="artist").calibrated
    assert not grants.change_grants(runtime, [work], {"compare": False}, by_role="artist").calibrated


def test_an_unknown_work_changes_nothing_of_the_others(runtime: Runtime, indexed: str) -> None:
    with pytest.raises(NotFound) as refusal:
        grants.change_grants(runtime, [works(runtime)[0].id, NOBODY], {"name": False}, by_role="artist")
    assert refusal.value.code == "work_unknown"
    assert all(work.grant_name for work in works(runtime))
    assert logged(runtime, grants.GRANT) == []


def test_works_of_two_collections_are_not_changed_at_once(runtime: Runtime, indexed: str, tmp_path: Path) -> None:
    (tmp_path / "other" / "artist 0").mkdir(parents=True)
    (tmp_path / "other" / "artist 0" / "a.png").write_bytes(encode_png(picture(70, 48)))
    run(runtime, tmp_path / "other", name="other")
    with pytest.raises(Conflict) as refusal:
        grants.change_grants(runtime, [work.id for work in works(runtime)], {"name": False}, by_role="artist")
    assert refusal.value.code == "works_apart"


def test_a_name_is_no_role(runtime: Runtime, indexed: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        grants.change_grants(runtime, [works(runtime)[0].id], {"name": False}, by_role="Ada Ekström")
    assert refusal.value.code == "role_unknown"


# ---- the command -----------------------------------------------------------------------------------------------------


def test_an_artist_by_name_withdraws_a_grant_for_all_works_and_no_others(runtime: Runtime, indexed: str) -> None:
    said = answer(lawful(runtime, "artist 1", "--no-name", "--asked-by", "artist", "--json"))
    assert (said["works"], len(said["changes"]), said["calibrated"]) == (3, 3, False)
    assert said["snapshot"] == newest(runtime).digest.hex() != indexed
    assert not any(work.grant_name for work in works(runtime, "artist 1"))
    assert all(work.grant_compare for work in works(runtime, "artist 1")), "what is not named stays as it is"
    assert all(work.grant_name for work in works(runtime, "artist 0"))


@pytest.mark.parametrize("by", ["work", "artist"])
def test_works_and_artists_go_by_their_ids_too(runtime: Runtime, indexed: str, by: str) -> None:
    first = works(runtime)[0]
    said = answer(lawful(runtime, str(first.id if by == "work" else first.artist_id), "--no-train", "--compare",
                         "--asked-by", "court", "--json"))  # fmt: skip
    assert len(said["changes"]) == (1 if by == "work" else 3), "compare was granted before, so only train changes"
    assert [work.grant_train for work in works(runtime)] == [False, by == "work", by == "work"]


def test_what_was_changed_is_said_with_its_entries(runtime: Runtime, indexed: str) -> None:
    work = works(runtime)[0]
    result = lawful(runtime, str(work.id), "--no-compare", "--asked-by", "operator")
    assert result.exit_code == 0, result.output
    with runtime.sessions() as session:
        entry = session.scalars(sa.select(GrantChange.leaf_hash)).one().hex()
    assert f"work {work.id}: compare withdrawn  entry {entry}" in result.stdout
    assert newest(runtime).digest.hex() in result.stdout
    assert "error rates anew" in result.stderr
    again = lawful(runtime, str(work.id), "--no-compare", "--asked-by", "operator")
    assert "0 changes, 1 works looked at" in again.stdout


def test_namesakes_in_two_collections_are_told_apart_by_the_collection(
    runtime: Runtime, indexed: str, tmp_path: Path
) -> None:
    run(runtime, tmp_path / "works", name="the same again")
    refused = answer(lawful(runtime, "artist 0", "--no-name", "--asked-by", "artist", "--json"), exit_code=3)
    assert refused["error"]["code"] == "artist_ambiguous"
    assert logged(runtime, grants.GRANT) == []
    said = answer(
        lawful(runtime, "artist 0", "--no-name", "--asked-by", "artist", "--collection", "paintings", "--json")
    )
    assert len(said["changes"]) == 3
    assert said["snapshot"] == newest(runtime).digest.hex()


@pytest.mark.parametrize("what", ["artist", "Artist 0", str(NOBODY), "%", ""])
def test_whoever_is_not_there_is_said_not_to_be(runtime: Runtime, indexed: str, what: str) -> None:
    refused = answer(lawful(runtime, what, "--no-name", "--asked-by", "artist", "--json"), exit_code=3)
    assert refused["error"]["code"] == "work_unknown"


@pytest.mark.parametrize("words", [("--asked-by", "artist"), ("--no-name",), ("--no-name", "--asked-by", "Ada")])
def test_a_grant_and_a_role_are_wanted(runtime: Runtime, indexed: str, words: tuple[str, ...]) -> None:
    assert lawful(runtime, "artist 0", *words).exit_code == 2
    assert logged(runtime, grants.GRANT) == []
