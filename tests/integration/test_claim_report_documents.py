"""A claim's report as a document: what it shows of a true claim and a false one, who can check it, and when it goes."""

import base64
import dataclasses
import hashlib
import io
import json
import shutil
import subprocess
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pikepdf
import psycopg
import pytest
import rfc8785
import sqlalchemy as sa
from click.testing import CliRunner

from ledger import grants
from ledger.claims import erasing, replies, views
from ledger.claims.moving import newest
from ledger.cli import main
from ledger.database.tables.claims import ClaimPicture, SignedClaimReport
from ledger.errors import NotFound
from ledger.file_proof import Trust
from ledger.log import entries
from ledger.reports import dossier as parts
from ledger.reports.checking import FAULTS, ReportVerification, check_document, is_bad
from ledger.reports.claim_pages import claim_page_data
from ledger.reports.document import signed_claim_dossier, signed_claim_pdf
from ledger.reports.dossier import ClaimDossier, match_name, picture_of
from ledger.reports.forms import to_json, to_zip
from ledger.reports.render import render
from ledger.reports.signature import sign_document
from ledger.runtime import Runtime
from models.images import encode_png

from .claiming import FOUND, JANE, Answers, claim_entries, claimed, settled, works_of
from .conftest import picture
from .http_ledger import png, serving, stamped
from .reported import DRAWING, evidence, ledger_of_the_module

pytestmark = pytest.mark.postgres

HOSTILE = '#import "x" $y$ <script>alert(1)</script> [*b*] `r` \\ @a 中文 عربي'
WORDS = f"I painted it in 2019.\n\n{HOSTILE}\n#pagebreak()\n" + "w" * 500
OWN_CHECKS = ["decision_follows", "steps_follow", "steps_say_this", "picture_claimed_on"]


@pytest.fixture(scope="module")
def ledger(
    superuser: psycopg.Connection, superuser_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runtime]:
    with ledger_of_the_module(superuser, superuser_url, template, tmp_path_factory.mktemp("ledger")) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def work(ledger: Runtime, tmp_path_factory: pytest.TempPathFactory) -> uuid.UUID:
    return works_of(ledger, tmp_path_factory.mktemp("works"))[0]


BESIDE = encode_png(picture(901, 192))
"""The drawing of the image beside the work named."""
NAMED = [hashlib.sha256(each).hexdigest() for each in (BESIDE, DRAWING)]


def seeing(**copy: Any) -> Answers:
    """A comparer that found a copy, and drew it beside the work and beside the match of the collection."""
    drawn = msgspec.structs.replace(FOUND, picture=NAMED[0], **copy)
    return Answers(copy=drawn, said=evidence(), drawings=dict(zip(NAMED, (BESIDE, DRAWING), strict=True)))


def decided(ledger: Runtime, comparer: Answers | None = None, **wish: Any) -> uuid.UUID:
    """A claim with everything that it says in the log."""
    claim_id = claimed(ledger, None, **wish)
    settled(ledger, claim_id, comparer or seeing())
    in_the_log(ledger, claim_id)
    return claim_id


def in_the_log(ledger: Runtime, claim_id: uuid.UUID) -> None:
    with ledger.sessions() as session:
        leaf = newest(session, claim_id).leaf_hash
    entries.wait(ledger.sessions, ledger.shard, leaf, 20)


@pytest.fixture(scope="module")
def upheld(ledger: Runtime, work: uuid.UUID) -> uuid.UUID:
    return decided(ledger, about=stamped(ledger, png(70)), work_id=work, kind="copies", words=WORDS)


@pytest.fixture(scope="module")
def refuted(ledger: Runtime, work: uuid.UUID) -> uuid.UUID:
    """Claims the artist's work under another name, on an image that was handed in."""
    return decided(ledger, image=png(71), work_id=work, kind="copies", claimant=HOSTILE)


@pytest.fixture(scope="module")
def document(ledger: Runtime, upheld: uuid.UUID) -> tuple[ClaimDossier, bytes]:
    return signed_claim_dossier(ledger, upheld)


def look(ledger: Runtime, data: bytes, vkeys: list[str] | None = None) -> ReportVerification:
    """With the keys the checker holds, and nothing else: no database is there to be asked."""
    keys = ledger.keys
    trust = Trust([keys.log.vkey] if vkeys is None else vkeys)
    return check_document(data, trust=trust, roots_pem=keys.root_pem, now=ledger.clock())


def codes(found: ReportVerification) -> dict[int, str]:
    return {check.step: check.code for check in found.checks}


def kept(ledger: Runtime, claim_id: uuid.UUID) -> list[bytes]:
    with ledger.sessions() as session:
        rows = sa.select(SignedClaimReport.pdf).where(SignedClaimReport.claim_id == claim_id)
        return list(session.scalars(rows.order_by(SignedClaimReport.number)))


# ---- what it proves --------------------------------------------------------------------------------------------------


def test_the_log_key_alone_proves_an_upheld_claim_in_every_form(
    ledger: Runtime, upheld: uuid.UUID, document: tuple[ClaimDossier, bytes]
) -> None:
    dossier, pdf = document
    for data in (pdf, to_zip(dossier, pdf), to_json(dossier)):
        found = look(ledger, data)
        assert (found.answers.report, is_bad(found)) == ("recorded", False)
        assert (found.claim_id, found.outcome, found.record_id) == (str(upheld), "supported", dossier.facts.about)
        assert [codes(found)[step] for step in range(31, 35)] == OWN_CHECKS
        assert {22: "inclusion_proven", 25: "report_matches", 27: "receipt_holds"}.items() <= codes(found).items()
        assert found.verdict.startswith(
            "The claim “This image copies my work” is supported; that the claimant is the artist is declared. The log"
        )
    assert codes(look(ledger, pdf))[20] == "pages_match"


def test_a_refuted_claim_on_an_image_that_was_handed_in_is_proven_as_well(ledger: Runtime, refuted: uuid.UUID) -> None:
    dossier, pdf = signed_claim_dossier(ledger, refuted)
    found = look(ledger, pdf)
    assert (found.outcome, found.answers.report, found.answers.document) == ("contradicted", "recorded", "intact")
    assert (picture_of(dossier), found.picture, codes(found)[34]) == (None, None, "picture_not_in_the_document")
    assert not is_bad(found)


def test_the_signed_json_proves_the_decision_without_the_other_steps(ledger: Runtime, upheld: uuid.UUID) -> None:
    with ledger.sessions() as session:
        signed = json.dumps(views.signed_report(session, ledger, upheld))
    found = look(ledger, signed.encode())
    assert (found.answers.report, found.outcome, is_bad(found)) == ("recorded", "supported", False)
    assert [codes(found)[step] for step in (31, 32, 33)] == ["decision_follows", "not_checked", "not_checked"]
    other = look(ledger, signed.replace("I painted it in 2019", "I painted it in 2018").encode())
    assert codes(other)[25] == "statement_is_about_another_report"
    assert is_bad(other)


def test_without_the_logs_key_nothing_is_proven_and_nothing_is_contradicted(
    ledger: Runtime, document: tuple[ClaimDossier, bytes]
) -> None:
    found = look(ledger, document[1], vkeys=[])
    assert (found.answers.report, is_bad(found)) == ("not_checked", False)
    assert found.verdict.startswith("Nothing is proven here")


# ---- the pages -------------------------------------------------------------------------------------------------------


def test_the_pages_are_the_same_bytes_every_time_and_the_signed_ones_are_kept(
    ledger: Runtime, upheld: uuid.UUID, document: tuple[ClaimDossier, bytes]
) -> None:
    dossier, pdf = document
    assert render(dossier) == render(dossier)
    assert pdf.startswith(render(dossier))
    assert signed_claim_pdf(ledger, upheld) == pdf
    assert kept(ledger, upheld) == [pdf]


needs_poppler = pytest.mark.skipif(shutil.which("pdfsig") is None, reason="poppler is the second reader of the PDF")


@needs_poppler
def test_another_program_finds_the_signature_valid_and_reads_what_was_said_as_words(
    document: tuple[ClaimDossier, bytes], tmp_path: Path
) -> None:
    file = tmp_path / "claim.pdf"
    file.write_bytes(document[1])
    said = subprocess.run(["pdfsig", "-nocert", str(file)], capture_output=True, text=True, check=False).stdout
    assert "Signature Validation: Signature is Valid." in said
    assert "Total document signed" in said
    command = ["pdftotext", "-layout", str(file), "-"]
    text = " ".join(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\u200b", "").split()
    )
    words = ["Supported.", "Jane Doe", "not verified", "copy_found", "claim_rules_1", "What this does not prove"]
    for word in (*words, "I painted it in 2019.", '#import "x" $y$ <script>alert(1)</script> [*b*]', "#pagebreak()"):
        assert word in text, word


def test_what_the_other_side_answers_stands_in_the_next_report_and_the_first_stays_as_it_was(
    ledger: Runtime, work: uuid.UUID
) -> None:
    claim_id = decided(ledger, about=stamped(ledger, png(72)), work_id=work, kind="copies")
    first = signed_claim_pdf(ledger, claim_id)
    with ledger.sessions.begin() as session:
        replies.answer(session, ledger, claim_id, "submitter", HOSTILE)
    in_the_log(ledger, claim_id)
    dossier, second = signed_claim_dossier(ledger, claim_id)
    assert kept(ledger, claim_id) == [first, second]
    said = json.loads(dossier.parts[parts.STEPS])[-1]
    assert said["document"]["words"] == HOSTILE
    assert codes(look(ledger, second))[33] == "steps_say_this"
    said["document"]["words"] = "I admit it."
    steps = [*json.loads(dossier.parts[parts.STEPS])[:-1], said]
    found = look(ledger, to_json(with_parts(dossier, {parts.STEPS: rfc8785.dumps(steps)})))
    assert codes(found)[33] == "step_says_otherwise"
    assert is_bad(found)


# ---- the drawings of its examination ---------------------------------------------------------------------------------


def drawings_kept(ledger: Runtime, claim_id: uuid.UUID) -> set[str]:
    with ledger.sessions() as session:
        rows = session.scalars(sa.select(ClaimPicture.sha256).where(ClaimPicture.claim_id == claim_id))
        return {each.hex() for each in rows}


def test_what_the_examination_drew_is_kept_attached_and_checked(
    ledger: Runtime, upheld: uuid.UUID, document: tuple[ClaimDossier, bytes]
) -> None:
    dossier, pdf = document
    assert drawings_kept(ledger, upheld) == set(NAMED)
    assert [dossier.parts[match_name(each)] for each in NAMED] == [BESIDE, DRAWING]
    assert codes(look(ledger, pdf))[29] == "drawings_match"
    drawn = claim_page_data(dossier)["claim"]["drawing"]
    assert (drawn["file"], drawn["caption"]) == (match_name(NAMED[0]), "What matches is outlined in both.")
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        shown = [image for page in opened.pages for image in page.get_images().values()]
    assert len(shown) == 3  # the picture claimed on, and both drawings
    for changed in ({match_name(NAMED[0]): DRAWING}, {match_name("0" * 64): DRAWING}):
        found = look(ledger, to_json(with_parts(dossier, changed)))
        assert (codes(found)[29], is_bad(found)) == ("drawing_changed", True)


def test_the_claims_page_shows_them_and_the_comparison_as_a_records_page_does(
    ledger: Runtime, upheld: uuid.UUID, document: tuple[ClaimDossier, bytes]
) -> None:
    with serving(ledger) as client:
        page = client.get(f"/claims/{upheld}", headers={"accept": "text/html"}).text
        assert "What the comparison found" in page
        for name, png in zip(NAMED, (BESIDE, DRAWING), strict=True):
            assert f'src="/pictures/{name}.png"' in page
            assert client.get(f"/pictures/{name}.png").content == png


def test_of_an_image_that_was_handed_in_nothing_is_drawn(ledger: Runtime, refuted: uuid.UUID) -> None:
    assert drawings_kept(ledger, refuted) == set()
    dossier, _ = signed_claim_dossier(ledger, refuted)
    assert [name for name in dossier.parts if name.startswith("match-")] == []


def test_a_work_that_may_no_longer_be_named_is_no_longer_shown_and_a_protected_one_never_is(
    ledger: Runtime, tmp_path: Path
) -> None:
    (work,) = works_of(ledger, tmp_path, artist="Rosa", seeds=(51,))
    claim_id = decided(
        ledger, beside := seeing(), about=stamped(ledger, png(76)), work_id=work, kind="copies", claimant="Rosa"
    )
    ((beside_name, _), *_) = beside.drawings.items()
    other = encode_png(picture(902, 192))
    later = Answers(
        copy=msgspec.structs.replace(FOUND, picture=hashlib.sha256(other).hexdigest()),
        drawings={hashlib.sha256(other).hexdigest(): other},
    )
    address = f"/pictures/{hashlib.sha256(other).hexdigest()}.png"
    again = decided(ledger, later, about=stamped(ledger, png(77)), work_id=work, kind="copies", claimant="Rosa")
    with serving(ledger) as client:
        assert client.get(address).status_code == 200
        grants.change_grants(ledger, [work], {"name": False}, by_role="artist")
        assert client.get(address).json()["code"] == "picture_unknown"
        page = client.get(f"/claims/{again}", headers={"accept": "text/html"}).text
        assert "Image and work, compared" not in page
        hidden = decided(ledger, later, about=stamped(ledger, png(78)), work_id=work, kind="copies", claimant="Rosa")
        page = client.get(f"/claims/{hidden}", headers={"accept": "text/html"}).text
        assert "the work itself is not shown" in page
        assert beside_name in drawings_kept(ledger, claim_id)
        for each in (claim_id, again, hidden):
            erasing.erase_claim(ledger, each, erasing.Asked("requested", "artist"))
            assert drawings_kept(ledger, each) == set()
        assert client.get(address).json()["code"] == "picture_unknown"


# ---- what speaks against it ------------------------------------------------------------------------------------------


def with_parts(dossier: ClaimDossier, changed: dict[str, bytes]) -> ClaimDossier:
    return dataclasses.replace(dossier, parts={**dossier.parts, **changed})


def one_byte(dossier: ClaimDossier) -> dict[str, bytes]:
    body = dossier.parts[parts.REPORT]
    assert b"painted" in body
    return {parts.REPORT: body.replace(b"painted", b"pointed", 1)}


def other_decision(dossier: ClaimDossier) -> dict[str, bytes]:
    body = json.loads(dossier.parts[parts.REPORT])
    body["decision"]["outcome"] = "inconclusive"
    return {parts.REPORT: rfc8785.dumps(body)}


def steps(change: Callable[[list[Any]], list[Any]]) -> Callable[[ClaimDossier], dict[str, bytes]]:
    return lambda dossier: {parts.STEPS: rfc8785.dumps(change(json.loads(dossier.parts[parts.STEPS])))}


def unsigned(said: list[Any]) -> list[Any]:
    entry = bytearray(base64.b64decode(said[0]["statement"]))
    entry[-1] ^= 1
    return [said[0] | {"statement": base64.b64encode(bytes(entry)).decode()}, *said[1:]]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (one_byte, "statement_is_about_another_report"),
        (other_decision, "statement_is_about_another_report"),
        (lambda _: {"picture.png": png(73)}, "another_picture"),
        (steps(lambda said: [said[0], said[2]]), "steps_broken"),
        (steps(lambda said: said[:2]), "steps_broken"),
        (steps(unsigned), "step_not_proven"),
        (steps(lambda said: [said[0] | {"statement": "AA=="}]), "step_malformed"),
        (lambda _: {parts.RECEIPT: b"\xd2\x84"}, "receipt_invalid"),
        (lambda _: {parts.STATEMENT: b"\xd2"}, "ledger_assertion_malformed"),
        (lambda _: {parts.KEYS: b"[]"}, "announcement_malformed"),
    ],
    ids=["byte", "decision", "picture", "left out", "overtaken", "forged", "malformed", "receipt", "entry", "keys"],
)
def test_a_part_that_was_exchanged_is_named(
    ledger: Runtime, document: tuple[ClaimDossier, bytes], change: Callable[[ClaimDossier], dict[str, bytes]], code: str
) -> None:
    dossier, _ = document
    found = look(ledger, to_json(with_parts(dossier, change(dossier))))
    assert code in codes(found).values()
    assert is_bad(found)
    assert found.verdict.startswith("Do not rely on this document: ")


def test_a_decision_that_the_rules_do_not_make_is_found_out_even_where_the_ledger_signed_it(
    ledger: Runtime, document: tuple[ClaimDossier, bytes]
) -> None:
    """The entry and the report agree with each other and with no rule."""
    dossier, _ = document
    body = json.loads(dossier.parts[parts.REPORT])
    body["facts"]["copy"] = None
    found = look(ledger, to_json(with_parts(dossier, {parts.REPORT: rfc8785.dumps(body)})))
    assert codes(found)[31] == "decision_differs"
    assert FAULTS["decision_differs"] == "its decision is not what the rules make of its facts"


def test_a_changed_byte_of_the_attached_report_speaks_against_the_pdf_whoever_signs_it(
    ledger: Runtime, document: tuple[ClaimDossier, bytes]
) -> None:
    dossier, pdf = document
    changed = one_byte(dossier)
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        next(each for each in opened.Root.AF if str(each.UF) == parts.REPORT).EF.F.write(changed[parts.REPORT])
        opened.save(out)
    pages = render(with_parts(dossier, changed))
    thiefs = sign_document(pages, ledger.keys.credential, about="x", origin="x", tsa_url=None)
    for data, signed in ((out.getvalue(), "altered"), (thiefs, "intact")):
        found = look(ledger, data)
        assert (found.answers.document, codes(found)[25]) == (signed, "statement_is_about_another_report")
        assert found.answers.report == "contradicts"
        assert is_bad(found)


# ---- where it is and when it goes ------------------------------------------------------------------------------------


def test_it_is_served_and_linked_from_the_claims_page(
    ledger: Runtime, upheld: uuid.UUID, document: tuple[ClaimDossier, bytes]
) -> None:
    with serving(ledger) as client:
        address = f"/v1/claims/{upheld}/report.pdf"
        answer = client.get(address)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
        assert answer.content == document[1]
        same = client.get(address, headers={"if-none-match": answer.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        assert f'href="{address}"' in client.get(f"/claims/{upheld}", headers={"accept": "text/html"}).text
        nobody = client.get(f"/v1/claims/{uuid.uuid4()}/report.pdf")
        assert (nobody.status_code, nobody.json()["code"]) == (404, "claim_unknown")


def test_the_zip_is_served_and_linked_and_the_command_checks_it_offline(
    ledger: Runtime, upheld: uuid.UUID, document: tuple[ClaimDossier, bytes], tmp_path: Path
) -> None:
    dossier, pdf = document
    with serving(ledger) as client:
        address = f"/v1/claims/{upheld}/evidence.zip"
        answer = client.get(address)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
        assert answer.content == to_zip(dossier, pdf)
        assert client.get(address, headers={"if-none-match": answer.headers["etag"]}).status_code == 304
        assert f'href="{address}"' in client.get(f"/claims/{upheld}", headers={"accept": "text/html"}).text
        nobody = client.get(f"/v1/claims/{uuid.uuid4()}/evidence.zip")
        assert (nobody.status_code, nobody.json()["code"]) == (404, "claim_unknown")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert {"README.txt", "report.pdf", f"evidence/{match_name(NAMED[0])}"} <= set(archive.namelist())
        assert f"EVIDENCE ON CLAIM {upheld}" in archive.read("README.txt").decode()
    file, nowhere = tmp_path / "evidence.zip", str(tmp_path / "home")
    file.write_bytes(answer.content)
    words = ["--home", nowhere, "report", "verify", str(file), "--offline", "--log-key", ledger.keys.log.vkey, "--json"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["form"], found["claim_id"], found["answers"]["report"]) == ("zip", str(upheld), "recorded")


def test_a_claims_report_is_of_the_form_that_is_published(
    ledger: Runtime, upheld: uuid.UUID, refuted: uuid.UUID
) -> None:
    with serving(ledger) as client:
        answer = client.get("/v1/schemas/claim-report")
        assert answer.headers["content-type"] == "application/schema+json"
        form = jsonschema_rs.validator_for(answer.json())
        for claim_id in (upheld, refuted):
            body = client.get(f"/v1/claims/{claim_id}/report").json()["report"]
            assert body["schema"] == answer.json()["title"]
            form.validate(body)
            body["decision"]["outcome"] = "perhaps"
            assert not form.is_valid(body)


def test_a_claim_that_is_not_decided_has_no_report(ledger: Runtime, work: uuid.UUID) -> None:
    claim_id = claimed(ledger, None, about=stamped(ledger, png(74)), work_id=work)
    with pytest.raises(NotFound) as error:
        signed_claim_pdf(ledger, claim_id)
    assert error.value.code == "claim_undecided"


def test_an_erased_claim_takes_its_documents_with_it_and_the_log_never_held_who_claimed(
    ledger: Runtime, work: uuid.UUID
) -> None:
    claim_id = decided(ledger, about=stamped(ledger, png(75)), work_id=work, claimant=JANE, words="Erase me.")
    signed_claim_pdf(ledger, claim_id)
    assert all(JANE not in json.dumps(each) and "Erase me" not in json.dumps(each) for each in claim_entries(ledger))
    erasing.erase_claim(ledger, claim_id, erasing.Asked("requested", "artist"))
    assert kept(ledger, claim_id) == []
    with pytest.raises(NotFound) as error:
        signed_claim_pdf(ledger, claim_id)
    assert error.value.code == "claim_erased"
