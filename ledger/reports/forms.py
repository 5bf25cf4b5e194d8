"""The forms in which a dossier travels, and how it is read back from a stranger's file: a JSON bundle, an evidence zip.
The third, the PDF, is `ledger.reports.render` and `ledger.reports.signature`.

What is read here is taken apart within bounds, not believed; `ledger.reports.checking` does the rest.
"""

import base64
import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import rfc8785

from ledger.claims.views import SIGNED_SCHEMA
from ledger.errors import BadRequest, TooLarge
from ledger.reports.claim_schema import read_claim_report
from ledger.reports.dossier import (
    CLAIM_DOSSIER,
    DOSSIER,
    FACTS,
    KEYS,
    PROOF,
    REPORT,
    STATEMENT,
    AnyDossier,
    ClaimDossier,
    ClaimFacts,
    Dossier,
    Facts,
    digests,
    files_of,
)
from ledger.reports.readme import readme

Form = Literal["pdf", "zip", "json"]

BUNDLE = "lawful-ledger/bundle/1"
MAX_DOCUMENT_BYTES = 64 * 2**20
"""Of a report document, and of all that it unpacks to."""
MAX_PARTS = 256
_PART = re.compile(r"[a-z0-9][a-z0-9-]{0,79}\.[a-z][a-z-]{0,15}")

ZIP_FOLDER, ZIP_PDF, ZIP_README = "evidence/", "report.pdf", "README.txt"
_BEGINNING = (1980, 1, 1, 0, 0, 0)  # of zip's time: no clock goes into the bytes


def malformed(detail: str) -> BadRequest:
    """The file is no report document that this program reads."""
    return BadRequest(
        detail,
        code="report_document_malformed",
        next_step="take the PDF, zip or JSON as `lawful report` wrote it, unchanged",
    )


def check_size(size: int) -> None:
    """Raises TooLarge `report_document_too_large` beyond MAX_DOCUMENT_BYTES."""
    if size > MAX_DOCUMENT_BYTES:
        raise TooLarge(
            f"a report document of {size} bytes; at most {MAX_DOCUMENT_BYTES}",
            code="report_document_too_large",
            next_step="check its parts one by one: the README in the evidence zip says how",
        )


def dossier_of(files: Mapping[str, bytes]) -> AnyDossier:
    """The dossier in these named parts. Raises BadRequest `report_document_malformed`."""
    if FACTS not in files or REPORT not in files:
        raise malformed(f"there is no {FACTS if FACTS not in files else REPORT} in it")
    if len(files) > MAX_PARTS or not all(_PART.fullmatch(name) for name in files):
        raise malformed("it holds too many parts, or one whose name no part has")
    try:
        facts = msgspec.json.decode(files[FACTS], type=Facts | ClaimFacts)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        forms = f"this program reads {DOSSIER} and {CLAIM_DOSSIER}"
        raise malformed(f"its {FACTS} cannot be read ({forms}): {str(error)[:200]}") from error
    parts = {name: data for name, data in files.items() if name != FACTS}
    return Dossier(facts, parts) if isinstance(facts, Facts) else ClaimDossier(facts, parts)


# ---- JSON ------------------------------------------------------------------------------------------------------------


def to_json(dossier: AnyDossier) -> bytes:
    """One JSON object in RFC 8785 form: the report and the facts to be read, all else as base64 under its name.

    Taken out and written in RFC 8785 form again, `report` has the bytes that the logged statement commits to.
    """
    files = files_of(dossier)
    bundle = {
        "schema": BUNDLE,
        "dossier": json.loads(files[FACTS]),
        "report": json.loads(files[REPORT]),
        "keys": json.loads(files[KEYS]),
        "parts": {
            name: base64.b64encode(data).decode() for name, data in files.items() if name not in {FACTS, REPORT, KEYS}
        },
    }
    return rfc8785.dumps(bundle)


def read_json(data: bytes) -> AnyDossier:
    """A bundle, or the signed report of a claim as `lawful dispute` writes it.

    Raises BadRequest `report_document_malformed`, and `report_without_proofs` for a bare canonical report.
    """
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise malformed("it is no JSON") from error
    schema = str(said.get("schema", "")) if isinstance(said, dict) else ""
    if schema == SIGNED_SCHEMA:
        return _signed_claim(said)
    if schema.startswith(("lawful-ledger/report/", "lawful-ledger/claim-report/")):
        raise BadRequest(
            "this is the bare report: nothing in it shows that a log holds a statement about it",
            code="report_without_proofs",
            next_step="ask for the whole with `lawful report ID -o report.json`, or for the PDF",
        )
    if not isinstance(said, dict) or said.get("schema") != BUNDLE or not isinstance(said.get("parts"), dict):
        raise malformed(f"it is no JSON of the form {BUNDLE}")
    try:
        files = {
            name: rfc8785.dumps(said[field]) for name, field in ((FACTS, "dossier"), (REPORT, "report"), (KEYS, "keys"))
        }
        for name, text in said["parts"].items():
            files[str(name)] = base64.b64decode(text, validate=True)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise malformed("one of its parts cannot be read") from error
    return dossier_of(files)


def _signed_claim(said: dict[str, Any]) -> ClaimDossier:
    """As much of a claim's dossier as its signed report holds: the decision and its proof, without the other steps."""
    try:
        parts = {
            REPORT: rfc8785.dumps(said["report"]),
            STATEMENT: base64.b64decode(said["statement"], validate=True),
            PROOF: str(said["tlog_proof"]).encode(),
            KEYS: rfc8785.dumps(said["keys"]),
        }
        salt = str(said["salt"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise malformed("one of its parts cannot be read") from error
    body = read_claim_report(parts[REPORT])
    facts = ClaimFacts(
        claim_id=body.claim.claim_id,
        about=body.claim.about,
        origin=body.log.origin,
        salt=salt,
        parts=digests(parts),
    )
    return ClaimDossier(facts, parts)


# ---- zip -------------------------------------------------------------------------------------------------------------


def to_zip(dossier: AnyDossier, pdf: bytes) -> bytes:
    """The evidence zip: README.txt for an expert of the court, report.pdf as signed, and every part as a file.

    The same dossier and PDF give the same bytes.
    """
    files = {ZIP_README: readme(dossier).encode(), ZIP_PDF: pdf}
    files |= {ZIP_FOLDER + name: data for name, data in files_of(dossier).items()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _BEGINNING)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data)
    return out.getvalue()


def read_zip(data: bytes) -> tuple[AnyDossier, bytes | None]:
    """The dossier and the PDF in an evidence zip. Raises as `dossier_of` and `check_size`; no file is written."""
    files: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [each for each in archive.infolist() if not each.is_dir()]
            names = [each.filename for each in entries]
            if len(names) > MAX_PARTS or len(set(names)) != len(names):
                raise malformed("it holds too many files, or two of one name")
            check_size(sum(each.file_size for each in entries))
            for each in entries:
                with archive.open(each) as part:
                    files[each.filename] = part.read(each.file_size + 1)[: each.file_size]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise malformed(f"it is no zip that can be read: {str(error)[:100]}") from error
    parts = {name.removeprefix(ZIP_FOLDER): part for name, part in files.items() if name.startswith(ZIP_FOLDER)}
    return dossier_of(parts), files.get(ZIP_PDF)


def form_of(data: bytes) -> Form:
    """pdf, zip or json, by the first bytes. Raises BadRequest `report_document_malformed`."""
    beginnings: dict[bytes, Form] = {b"%PDF-": "pdf", b"PK\x03\x04": "zip", b"{": "json"}
    for beginning, form in beginnings.items():
        if data.startswith(beginning):
            return form
    raise malformed("it is neither a PDF nor a zip nor a JSON object")
