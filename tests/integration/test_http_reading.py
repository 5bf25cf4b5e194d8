"""Reading over HTTP: look-ups, files, reports and proofs, as anyone may check them."""

import hashlib
import io
import uuid

import pytest
from PIL import Image

from ledger.database.tables.records import Record
from ledger.erasure import erase
from ledger.log.verify import check_tlog_proof
from ledger.runtime import Runtime

from .http_ledger import EVIDENCE, api_key, generated, looked, png, serving, stamped

pytestmark = pytest.mark.postgres


def test_a_record_is_found_by_each_of_its_hashes(runtime: Runtime) -> None:
    record_id = str(generated(runtime))
    with serving(runtime) as client:
        view = client.get(f"/v1/records/{record_id}").json()
        for name in ("file_sha256", "pixel_sha256", "iscc"):
            found = client.get("/v1/records", params={name: view[name]}).json()["records"]
            assert [each["id"] for each in found] == [record_id]
        nobody = client.get("/v1/records", params={"pixel_sha256": view["file_sha256"]})
        assert (nobody.status_code, nobody.json()) == (200, {"records": []})


def test_several_records_of_the_same_pixels_are_all_listed_earliest_first(runtime: Runtime) -> None:
    first, second = str(generated(runtime)), str(stamped(runtime, png(1), "another model"))
    with serving(runtime) as client:
        pixels = client.get(f"/v1/records/{first}").json()["pixel_sha256"]
        found = client.get(f"/r/{pixels}").json()["records"]
        assert [each["id"] for each in found] == [first, second]
        page = client.get(f"/r/{pixels}", headers={"accept": "text/html"}).text
        assert "2 records of this image" in page
        assert page.index(first) < page.index(second)


def test_a_file_comes_whole_inert_and_under_a_harmless_name(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        view = client.get(f"/v1/records/{record_id}").json()
        file = client.get(f"/v1/records/{record_id}/file")
        assert hashlib.sha256(file.content).hexdigest() == view["file_sha256"]
        assert Image.open(io.BytesIO(file.content)).format == "PNG"
        assert file.headers["content-type"] == "image/png"
        assert file.headers["content-disposition"] == f'attachment; filename="{record_id}.png"'
        assert file.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in file.headers["content-security-policy"]
        same = client.get(f"/v1/records/{record_id}/file", headers={"if-none-match": file.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        head = client.head(f"/v1/records/{record_id}/file")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["etag"] == file.headers["etag"]


def test_a_report_is_served_byte_for_byte_as_the_record_commits_to_it(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        report = client.get(f"/v1/records/{record_id}/report")
        view = client.get(f"/v1/records/{record_id}").json()
    assert hashlib.sha256(report.content).hexdigest() == view["report_sha256"]
    assert report.json()["evidence"]["statement"] == EVIDENCE.statement
    assert "a boat" not in report.text, "the prompt stays in its row"


def test_a_proof_holds_under_the_logs_key_and_under_no_other(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        proof = client.get(f"/v1/records/{record_id}/proof")
        index = client.get(f"/v1/records/{record_id}").json()["log"]["index"]
    assert proof.headers["content-type"] == "text/plain; charset=utf-8"
    with runtime.sessions() as session:
        entry = session.get_one(Record, record_id).statement
    assert entry is not None
    reading = check_tlog_proof(entry, proof.content, [runtime.keys.log.vkey])
    assert (reading.inclusion, reading.log_key, reading.index) == (True, "trusted", index)
    assert not check_tlog_proof(entry + b"x", proof.content, [runtime.keys.log.vkey]).inclusion
    assert check_tlog_proof(entry, proof.content, []).log_key == "unknown"


def test_a_pending_record_shows_neither_hashes_nor_file(runtime: Runtime) -> None:
    with serving(runtime) as client:
        headers = {"authorization": f"Bearer {api_key(runtime)}"}
        asked = client.post("/v1/stamps", files={"file": ("a.png", png(7))}, headers=headers)
        record_id = asked.json()["id"]
        view = client.get(f"/v1/records/{record_id}").json()
        assert view["state"] == "accepted"
        assert not any(view[name] for name in ("file_sha256", "pixel_sha256", "iscc", "made", "log"))
        for part, code in (("file", "file_unknown"), ("report", "report_unknown"), ("proof", "proof_pending")):
            assert client.get(f"/v1/records/{record_id}/{part}").json()["code"] == code
        digest = hashlib.sha256(png(7)).hexdigest()
        assert client.get("/v1/records", params={"file_sha256": digest}).json() == {"records": []}


def test_an_erased_record_keeps_its_place_and_nothing_else(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        before = client.get(f"/v1/records/{record_id}").json()
        erase(runtime, record_id, reason="requested", asked_by="submitter")
        after = client.get(f"/v1/records/{record_id}").json()
        assert after["redacted"] is True
        assert after["log"] == before["log"]
        assert not any(after[name] for name in ("file_sha256", "pixel_sha256", "iscc", "made", "report_sha256"))
        assert client.get(f"/v1/records/{record_id}/file").status_code == 404
        assert client.get(f"/v1/records/{record_id}/report").status_code == 404
        assert client.get(f"/r/{before['pixel_sha256']}").status_code == 404
        page = client.get(f"/r/{record_id}", headers={"accept": "text/html"})
        assert page.status_code == 200
        assert "deleted on request" in page.text
        assert before["pixel_sha256"] not in page.text


def test_a_record_page_of_a_verification_leads_to_its_own_page(runtime: Runtime) -> None:
    look = looked(runtime, png())
    with serving(runtime) as client:
        response = client.get(f"/r/{look}", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (303, f"/v/{look}")


def test_an_unknown_record_is_not_found(runtime: Runtime) -> None:
    with serving(runtime) as client:
        assert client.get(f"/r/{uuid.uuid4()}").json()["code"] == "record_unknown"
