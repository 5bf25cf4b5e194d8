"""The log for people: what its page shows, what can be found, and what nobody may find there."""

from pathlib import Path

import pytest

from ledger.erasure import erase
from ledger.grants import change_grants
from ledger.runtime import Runtime

from .claiming import JANE, claimed, somebody, works_of
from .http_ledger import HOSTILE, all_logged, generated, looked, png, serving, stamped

pytestmark = pytest.mark.postgres

HTML = {"accept": "text/html"}


def test_the_page_shows_the_checkpoint_that_clients_read(runtime: Runtime) -> None:
    generated(runtime)
    with serving(runtime) as client:
        page = client.get("/log", headers=HTML).text
        note = client.get(f"/log/{runtime.shard}/checkpoint").text
    assert note.splitlines()[2] in page
    assert "An image was recorded." in page
    assert "The log began and named its keys." in page
    assert "<svg" in page
    assert "None is witnessed yet" in page


def test_no_entry_is_skipped_or_repeated_from_page_to_page(runtime: Runtime) -> None:
    for seed in range(3):
        generated(runtime, seed)
    with serving(runtime) as client:
        whole = client.get("/log").json()["entries"]
        indices = [each["index"] for each in whole]
        assert indices == list(range(len(whole) - 1, -1, -1))
        rest = client.get(f"/log?before={indices[2]}").json()["entries"]
    assert [each["index"] for each in rest] == indices[3:]


@pytest.mark.parametrize("what", ["id", "file_sha256", "pixel_sha256", "leaf_hash", "index", "model", "MODEL"])
def test_a_record_is_found_by_whatever_names_it(runtime: Runtime, what: str) -> None:
    record_id = str(generated(runtime))
    with serving(runtime) as client:
        view = client.get(f"/v1/records/{record_id}").json()
        asked = {**view, **view["log"], "model": "test-generator", "MODEL": " test-generator "}[what]
        found = client.get("/log", params={"q": str(asked)}).json()["found"]
        page = client.get("/log", params={"q": str(asked)}, headers=HTML).text
    assert record_id in {each["id"] for each in found["records"]} | {each["record_id"] for each in found["entries"]}
    assert f'href="/r/{record_id}"' in page


@pytest.mark.parametrize(
    "asked", ["", "  ", "no such thing", "0" * 64, "99999999", "\x00", "'; DROP TABLE works; --", HOSTILE]
)
def test_whatever_is_asked_is_answered_as_text(runtime: Runtime, asked: str) -> None:
    with serving(runtime) as client:
        answer = client.get("/log", params={"q": asked}, headers=HTML)
    assert answer.status_code == 200
    assert "<script>" not in answer.text


def test_too_long_a_question_is_refused_in_words(runtime: Runtime) -> None:
    with serving(runtime) as client:
        assert client.get("/log", params={"q": "x" * 201}, headers=HTML).status_code == 422


def test_who_looked_at_what_cannot_be_found(runtime: Runtime) -> None:
    look = str(looked(runtime, png(3)))
    with serving(runtime) as client:
        assert look not in client.get("/log").text
        assert client.get("/log", params={"q": look}).json()["found"] == {"entries": [], "records": [], "artists": []}


def test_what_was_deleted_keeps_its_place_and_is_not_found_any_more(runtime: Runtime) -> None:
    record_id = stamped(runtime, png(1), "declared-model")
    erase(runtime, record_id, reason="requested", asked_by="submitter")
    with serving(runtime) as client:
        lines = client.get("/log").json()["entries"]
        found = client.get("/log", params={"model": "declared-model"}).json()["found"]
        page = client.get("/log", headers=HTML).text
    assert any(each["redacted"] and each["record_id"] == str(record_id) for each in lines)
    assert found["records"] == []
    assert "What stood behind it was deleted." in page


def test_an_artist_is_found_while_a_work_may_be_named(runtime: Runtime, tmp_path: Path) -> None:
    works = works_of(runtime, tmp_path)
    with serving(runtime) as client:
        (artist,) = client.get("/log", params={"q": JANE.lower()}).json()["found"]["artists"]
        assert artist["name"] == JANE
        change_grants(runtime, works, {"name": False}, by_role="artist")
        for asked in (JANE, artist["id"]):
            assert client.get("/log", params={"q": asked}).json()["found"]["artists"] == []
        assert JANE not in client.get("/log", headers=HTML).text


def test_a_record_and_the_log_lead_to_the_claims_on_it(runtime: Runtime) -> None:
    record_id = generated(runtime)
    claim_id = claimed(runtime, somebody(runtime), about=record_id, work=png(7))
    all_logged(runtime)
    with serving(runtime) as client:
        page = client.get(f"/r/{record_id}", headers=HTML).text
        lines = client.get("/log").json()["entries"]
    assert str(claim_id) in {each["claim_id"] for each in lines}
    assert f'href="/claims/{claim_id}"' in page
    assert f'href="/claims/new?about={record_id}"' in page


def test_the_about_page_says_policy_rates_and_keys_and_gives_them_to_programs(runtime: Runtime) -> None:
    generated(runtime)
    with serving(runtime) as client:
        page = client.get("/about", headers=HTML).text
        said = client.get("/about").json()
    assert said["log_vkey"] == runtime.keys.log.vkey
    for shown in (runtime.keys.log.vkey, "at most 1 in 100 gets any finding", "issued with a warning"):
        assert shown in page
    assert {"statements", "receipts", "credentials"} <= {key["use"] for key in said["keys"]}
    assert "15 %" in page, "what the search for copies misses"


def test_the_pages_own_requests_are_answered_with_pages(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        for path in ("/log?q=test-generator", f"/r/{record_id}"):
            answer = client.get(path, headers={"accept": "*/*", "hx-request": "true"})
            assert answer.headers["content-type"].startswith("text/html")
        assert client.get(f"/v1/records/{record_id}", headers={"hx-request": "true"}).json()["id"] == str(record_id)
