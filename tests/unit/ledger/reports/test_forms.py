"""Report documents by strangers: taken apart within bounds, or refused with a code."""

import io
import json
import zipfile

import pytest

from ledger.errors import BadRequest, TooLarge
from ledger.reports.checking import open_document
from ledger.reports.forms import MAX_DOCUMENT_BYTES, dossier_of, read_json, read_zip


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"%PDF-1.7",
        b"%PDF-1.7\n" + bytes(500),
        b"PK\x03\x04" + bytes(100),
        b"{",
        b"{}",
        b'{"schema":[]}',
        b"{" + b'"a":{' * 50_000,
        b'{"schema":"lawful-ledger/bundle/1","parts":{"a.b":1}}',
        zipped({"evidence/dossier.json": b"{}"}),
        zipped({"evidence/dossier.json": b"{}", "evidence/report.json": b"{}"}),
        zipped({"evidence/../../etc/x": b""}),
    ],
    ids=range(13),
)
def test_what_is_no_report_document_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest) as error:
        open_document(data)
    assert error.value.code == "report_document_malformed"
    assert error.value.next_step


def test_a_bare_report_is_told_what_it_lacks() -> None:
    with pytest.raises(BadRequest) as error:
        read_json(json.dumps({"schema": "lawful-ledger/report/1"}).encode())
    assert error.value.code == "report_without_proofs"


def test_a_zip_that_unpacks_to_more_than_the_limit_is_not_unpacked() -> None:
    bomb = zipped(
        {"evidence/a.json": bytes(MAX_DOCUMENT_BYTES // 2 + 1), "evidence/b.json": bytes(MAX_DOCUMENT_BYTES // 2)}
    )
    assert len(bomb) < 2**20
    with pytest.raises(TooLarge):
        read_zip(bomb)


def test_a_zip_with_two_files_of_one_name_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("evidence/report.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("evidence/report.json", b"[]")
    with pytest.raises(BadRequest):
        read_zip(out.getvalue())


@pytest.mark.parametrize(
    "name", ["../x.json", "/etc/passwd", "a/b.json", "A.json", "x", "x" * 200 + ".json", "x.json\n"]
)
def test_no_part_has_a_name_that_leads_out_of_its_folder(name: str) -> None:
    with pytest.raises(BadRequest):
        dossier_of({"dossier.json": b"{}", "report.json": b"{}", name: b""})
