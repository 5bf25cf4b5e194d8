"""A record's report as a document: drawn up once, the same bytes for everybody, gone when the record is."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pikepdf
import psycopg
import pytest
import rfc8785
import sqlalchemy as sa
from PIL import Image

from ledger import erasure
from ledger.database.tables.records import SignedReport
from ledger.errors import NotFound
from ledger.file_proof import Trust
from ledger.reports import dossier as parts
from ledger.reports.checking import check_document, is_bad, open_document
from ledger.reports.document import signed_dossier, signed_pdf
from ledger.reports.forms import to_json, to_zip
from ledger.reports.render import render
from ledger.reports.schema import read_report
from ledger.runtime import Runtime

from .conftest import picture
from .http_ledger import serving, stamped
from .reported import issue_reported, ledger_of_the_module

pytestmark = pytest.mark.postgres

DRAW = """
import hashlib, sys
from ledger.file_proof import Trust
from ledger.reports.checking import check_document, is_bad, open_document
from ledger.reports.render import render
print(hashlib.sha256(render(open_document(open(sys.argv[1], "rb").read()).dossier)).hexdigest())
"""


@pytest.fixture(scope="module")
def ledger(
    superuser: psycopg.Connection, superuser_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runtime]:
    with ledger_of_the_module(superuser, superuser_url, template, tmp_path_factory.mktemp("ledger")) as runtime:
        yield runtime


def kept(runtime: Runtime, record_id: uuid.UUID) -> bytes | None:
    with runtime.sessions() as session:
        return session.scalar(sa.select(SignedReport.pdf).where(SignedReport.record_id == record_id))


def test_two_who_ask_at_once_get_the_same_signed_bytes_and_so_does_everybody_after(ledger: Runtime) -> None:
    record_id = issue_reported(ledger)
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(signed_pdf(ledger, record_id))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 2
    assert got[0] == got[1] == signed_pdf(ledger, record_id) == kept(ledger, record_id)


def test_the_pages_are_the_same_bytes_in_any_process_and_stand_unchanged_under_the_signature(
    ledger: Runtime, tmp_path: Path
) -> None:
    dossier, pdf = signed_dossier(ledger, issue_reported(ledger))
    pages = render(dossier)
    assert pdf.startswith(pages)
    (tmp_path / "report.pdf").write_bytes(pdf)
    elsewhere = {"PATH": os.defpath, "PYTHONPATH": str(Path.cwd()), "TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8",
                 "HOME": str(tmp_path), "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "0"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DRAW, "report.pdf"],
        cwd=tmp_path, env=elsewhere, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == hashlib.sha256(pages).hexdigest()


def test_the_zip_and_the_json_are_the_same_bytes_every_time_and_hold_the_report_as_it_was_committed_to(
    ledger: Runtime,
) -> None:
    dossier, pdf = signed_dossier(ledger, issue_reported(ledger))
    assert to_zip(dossier, pdf) == to_zip(dossier, pdf)
    bundle = json.loads(to_json(dossier))
    assert rfc8785.dumps(bundle["report"]) == dossier.parts[parts.REPORT]


def test_what_is_written_as_a_report_is_what_the_published_types_read(ledger: Runtime) -> None:
    dossier, _ = signed_dossier(ledger, issue_reported(ledger))
    told = json.loads(dossier.parts[parts.REPORT])
    read = json.loads(msgspec.json.encode(read_report(dossier.parts[parts.REPORT])))
    assert set(told["made"]) <= set(read["made"])
    read["made"] = {name: value for name, value in read["made"].items() if name in told["made"]}
    assert told == read


def test_an_erased_record_takes_its_signed_report_with_it(ledger: Runtime) -> None:
    record_id = issue_reported(ledger)
    signed_pdf(ledger, record_id)
    erasure.erase(ledger, record_id, reason="requested", asked_by="artist")
    assert kept(ledger, record_id) is None
    with pytest.raises(NotFound):
        signed_pdf(ledger, record_id)


def test_no_other_record_is_told_of_in_a_report(ledger: Runtime) -> None:
    first, second = issue_reported(ledger, seed=8), issue_reported(ledger, seed=8)  # the same pixels twice
    dossier, _ = signed_dossier(ledger, second)
    assert [each.id for each in dossier.facts.look.records] == [str(second)]
    assert all(
        str(first).encode() not in part for name, part in parts.files_of(dossier).items() if name.endswith(".json")
    )


def test_it_is_served_beside_the_report_with_the_same_bytes_and_a_form_that_is_published(ledger: Runtime) -> None:
    record_id = issue_reported(ledger)
    with serving(ledger) as client:
        answer = client.get(f"/v1/records/{record_id}/report.pdf")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
        assert answer.content == kept(ledger, record_id)
        same = client.get(f"/v1/records/{record_id}/report.pdf", headers={"if-none-match": answer.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        nobody = client.get(f"/v1/records/{uuid.uuid4()}/report.pdf")
        assert (nobody.status_code, nobody.json()["code"]) == (404, "report_unknown")
        evidence = client.get(f"/v1/records/{record_id}/evidence.zip")
        assert (evidence.status_code, evidence.headers["content-type"]) == (200, "application/zip")
        assert open_document(evidence.content).pdf == answer.content
        schema = client.get("/v1/schemas/report").json()
        assert schema["title"] == client.get(f"/v1/records/{record_id}/report").json()["schema"]


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_a_stamps_report_carries_the_file_in_its_own_form(ledger: Runtime, form: str) -> None:
    out = io.BytesIO()
    Image.fromarray(picture(31 if form == "JPEG" else 32)).save(out, form)
    dossier, pdf = signed_dossier(ledger, stamped(ledger, out.getvalue(), "somebody's model"))
    assert parts.picture_of(dossier) is not None
    assert f"picture.{form.lower()}" in dossier.parts
    trust = Trust([ledger.keys.log.vkey])
    found = check_document(pdf, trust=trust, roots_pem=ledger.keys.root_pem, now=ledger.clock())
    assert (found.answers.report, is_bad(found)) == ("recorded", False)


def test_a_picture_too_large_for_mail_is_left_out_and_said_to_be(
    ledger: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MAX_PICTURE_BYTES", 1000)
    dossier, pdf = signed_dossier(ledger, issue_reported(ledger, seed=33))
    assert parts.picture_of(dossier) is None
    trust = Trust([ledger.keys.log.vkey])
    found = check_document(pdf, trust=trust, roots_pem=ledger.keys.root_pem, now=ledger.clock())
    assert [check.step for check in found.checks] == list(range(17, 31))
    assert (found.checks[11].result, found.checks[11].code) == ("info", "picture_not_in_the_document")
    assert (found.answers.report, is_bad(found)) == ("recorded", False)


# ---- the PDF, as another library reads it ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(ledger: Runtime) -> Iterator[pikepdf.Pdf]:
    with pikepdf.open(io.BytesIO(signed_pdf(ledger, issue_reported(ledger)))) as pdf:
        yield pdf


def test_it_says_of_itself_what_pdf_a_3a_asks_for(opened: pikepdf.Pdf) -> None:
    """ISO 19005-3: identification (6.6.4), output intent (6.2.3), version (6.1.2), tags and language (6.7)."""
    meta = opened.open_metadata()
    assert (meta["pdfaid:part"], meta["pdfaid:conformance"]) == ("3", "A")
    assert meta["dc:title"] == str(opened.docinfo["/Title"])
    assert meta["pdf:Producer"] == str(opened.docinfo["/Producer"])
    assert [intent.S for intent in opened.Root.OutputIntents] == ["/GTS_PDFA1"]
    assert opened.Root.OutputIntents[0].DestOutputProfile.read_bytes()[36:40] == b"acsp"  # an ICC profile
    assert (opened.pdf_version, "/Version" in opened.Root, opened.is_encrypted) == ("1.7", False, False)
    assert bool(opened.Root.MarkInfo.Marked)
    assert str(opened.Root.Lang) == "en"
    assert "/StructTreeRoot" in opened.Root


def test_nothing_in_it_acts_or_calls(opened: pikepdf.Pdf) -> None:
    assert {"/OpenAction", "/AA", "/JavaScript"} & {*opened.Root.keys(), *opened.Root.Names.keys()} == set()
    subtypes = [note.Subtype for page in opened.pages for note in page.get("/Annots", [])]
    assert subtypes == ["/Widget"]
    assert opened.pages[0].Annots[0].F == 132  # printed and locked, not hidden (ISO 19005-3, 6.3.2)


def test_every_font_is_embedded(opened: pikepdf.Pdf) -> None:
    descriptors = [each for each in opened.objects if isinstance(each, pikepdf.Dictionary)
                   and each.get("/Type") == "/FontDescriptor"]  # fmt: skip
    assert len(descriptors) >= 5
    assert all({"/FontFile2", "/FontFile3"} & set(each.keys()) for each in descriptors)


def test_its_parts_are_associated_files_with_their_kinds(opened: pikepdf.Pdf, ledger: Runtime) -> None:
    """ISO 19005-3, 6.8: each has both names, a relationship and a media type, and stands in the catalogue."""
    files = {str(each.UF): each for each in opened.Root.AF}
    assert {parts.FACTS, parts.REPORT, parts.STATEMENT, parts.PROOF, parts.RECEIPT, parts.KEYS, "picture.png"} <= set(
        files
    )
    for name, each in files.items():
        assert str(each.F) == name
        assert each.AFRelationship == ("/Source" if name == parts.REPORT else "/Data")
        assert "/" in str(each.EF.F.Subtype).replace("#2f", "/").removeprefix("/")
    assert json.loads(files[parts.REPORT].EF.F.read_bytes())["schema"] == "lawful-ledger/report/1"
    assert set(opened.attachments) == set(files)
