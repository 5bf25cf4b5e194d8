"""What a report document proves to somebody who has the document and a key, and what speaks against a forged one."""

import dataclasses
import json
from collections.abc import Callable, Iterator

import msgspec
import psycopg
import pytest
import rfc8785

from ledger.file_proof import Trust
from ledger.keys.ring import init_keys
from ledger.log.notes import NoteSigner
from ledger.reports import dossier as parts
from ledger.reports.checking import FAULTS, REPORT_CHECKS, ReportVerification, check_document, is_bad
from ledger.reports.document import signed_dossier
from ledger.reports.dossier import Dossier, files_of
from ledger.reports.forms import to_json, to_zip
from ledger.reports.render import render
from ledger.reports.signature import sign_document
from ledger.runtime import Runtime
from ledger.tampering import change_one_pixel
from ledger.verdict import CHECKS

from .reported import issue_reported, ledger_of_the_module

pytestmark = pytest.mark.postgres

IN_THE_LOG = [
    "inclusion_proven", "witness_key_not_given", "statement_key_announced", "report_matches", "pixels_match",
    "receipt_holds", "issued_file", "drawings_match", "no_timestamp",
]  # fmt: skip
OF_THE_PAGES = ["intact", "trusted", "certificate_announced", "pages_match"]


@dataclasses.dataclass(frozen=True)
class Reported:
    runtime: Runtime
    dossier: Dossier
    pdf: bytes

    def look(self, data: bytes, *, vkeys: list[str] | None = None, roots: str | None = None) -> ReportVerification:
        keys = self.runtime.keys
        return check_document(
            data,
            trust=Trust([keys.log.vkey] if vkeys is None else vkeys),
            roots_pem=keys.root_pem if roots is None else roots,
            now=self.runtime.clock(),
        )

    def signed(self, pages: bytes) -> bytes:
        """As the ledger signs, or whoever holds its certificate's key."""
        return sign_document(pages, self.runtime.keys.credential, about="x", origin="x", tsa_url=None)


@pytest.fixture(scope="module")
def reported(
    superuser: psycopg.Connection, superuser_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reported]:
    with ledger_of_the_module(superuser, superuser_url, template, tmp_path_factory.mktemp("ledger")) as runtime:
        yield Reported(runtime, *signed_dossier(runtime, issue_reported(runtime)))


def codes(found: ReportVerification) -> list[str]:
    return [check.code for check in found.checks if check.step > len(CHECKS)]


# ---- what it proves --------------------------------------------------------------------------------------------------


def test_the_log_key_alone_proves_a_report_in_each_of_its_forms(reported: Reported) -> None:
    for data, before in (
        (reported.pdf, [*OF_THE_PAGES, "not_checked"]),
        (to_zip(reported.dossier, reported.pdf), [*OF_THE_PAGES, "files_match"]),
        (to_json(reported.dossier), ["no_document", "not_checked", "not_checked", "no_document", "not_checked"]),
    ):
        found = reported.look(data)
        assert codes(found) == [*before, *IN_THE_LOG]
        assert [check.step for check in found.checks] == list(range(1, len(CHECKS) + len(REPORT_CHECKS) + 1))
        assert found.answers.report == "recorded"
        assert found.picture is not None
        assert found.picture.answers.ledger == "recorded"
        assert "no witness key was given, so its operator could show others another log" in found.verdict
        assert not is_bad(found)


@pytest.mark.parametrize(
    "vkeys", [[], [NoteSigner.generate("elsewhere.example/ledger/2026").vkey]], ids=["none", "another log's"]
)
def test_without_the_logs_key_nothing_is_proven_and_nothing_is_contradicted(
    reported: Reported, vkeys: list[str]
) -> None:
    found = reported.look(reported.pdf, vkeys=vkeys, roots="")
    assert msgspec.structs.astuple(found.answers) == ("intact", "unknown", "not_checked")
    assert found.verdict.startswith("Nothing is proven here")
    assert not is_bad(found)


def test_with_a_database_the_picture_is_looked_up_too(reported: Reported) -> None:
    with reported.runtime.sessions() as session:
        keys = reported.runtime.keys
        found = check_document(
            to_json(reported.dossier),
            trust=Trust([keys.log.vkey]),
            roots_pem=keys.root_pem,
            now=reported.runtime.clock(),
            session=session,
        )
    assert [check.code for check in found.checks if check.step in {13, 14}] == ["recorded", "recorded"]


# ---- what speaks against it ------------------------------------------------------------------------------------------


def other_report(dossier: Dossier) -> dict[str, bytes]:
    body = json.loads(dossier.parts[parts.REPORT])
    body["evidence"]["copy"]["matches"].pop()
    return {parts.REPORT: rfc8785.dumps(body)}


def other_drawing(dossier: Dossier) -> dict[str, bytes]:
    return {next(name for name in dossier.parts if name.startswith("match-")): dossier.parts["picture.png"]}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (other_report, "statement_is_about_another_report"),
        (lambda dossier: {"picture.png": change_one_pixel(dossier.parts["picture.png"])}, "picture_changed"),
        (other_drawing, "drawing_changed"),
        (lambda dossier: {parts.ISSUED: dossier.parts[parts.STATEMENT]}, "issued_entry_malformed"),
        (lambda dossier: {parts.ISSUED_PROOF: dossier.parts[parts.PROOF]}, "issued_entry_not_proven"),
        (lambda dossier: {parts.PROOF: dossier.parts[parts.ISSUED_PROOF]}, "inclusion_proof_invalid"),
        (lambda _: {parts.RECEIPT: b"\xd2\x84"}, "receipt_invalid"),
        (lambda _: {parts.KEYS: b"[]"}, "announcement_malformed"),
        (lambda _: {parts.STATEMENT: b"\xd2"}, "ledger_assertion_malformed"),
    ],
    ids=["report", "picture", "drawing", "issued", "issued proof", "proof", "receipt", "keys", "statement"],
)
def test_a_part_that_was_exchanged_is_named(
    reported: Reported, change: Callable[[Dossier], dict[str, bytes]], code: str
) -> None:
    dossier = reported.dossier
    found = reported.look(to_json(dataclasses.replace(dossier, parts={**dossier.parts, **change(dossier)})))
    assert code in codes(found)
    assert is_bad(found)
    assert found.verdict == f"Do not rely on this document: {FAULTS[code]}."


def test_pages_that_say_something_else_than_what_is_attached_are_found_out(reported: Reported) -> None:
    """Even where the thief of the certificate's key signed them: all that is attached is the ledger's own."""
    facts, attached = reported.dossier.facts, files_of(reported.dossier)
    kinder = msgspec.structs.replace(facts, look=msgspec.structs.replace(facts.look, verdict="Nobody's work is in it."))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ledger.reports.render.files_of", lambda _: attached)
        pages = render(Dossier(kinder, reported.dossier.parts))
    found = reported.look(reported.signed(pages))
    assert codes(found) == ["intact", "trusted", "certificate_announced", "pages_differ", "not_checked", *IN_THE_LOG]
    assert found.verdict == f"Do not rely on this document: {FAULTS['pages_differ']}."


def test_any_changed_or_added_byte_breaks_the_signature(reported: Reported) -> None:
    title, gap = reported.pdf.index(b"/Title") + 10, reported.pdf.rindex(b"0000>")
    for at, byte in ((title, b"?"), (gap, b"1"), (len(reported.pdf), b"\n% more")):
        found = reported.look(reported.pdf[:at] + byte + reported.pdf[at + 1 :])
        assert found.answers.document == "altered"
        assert is_bad(found)


def test_a_strangers_signature_on_the_ledgers_pages_is_not_the_ledgers_whoever_trusts_it(
    reported: Reported, tmp_path_factory: pytest.TempPathFactory
) -> None:
    origin, now = reported.runtime.settings.origin, reported.runtime.clock()
    stranger = init_keys(tmp_path_factory.mktemp("stranger") / "keys", origin, now=now)
    forged = sign_document(render(reported.dossier), stranger.credential, about="x", origin="x", tsa_url=None)
    found = reported.look(forged, roots=stranger.root_pem)
    assert found.answers.signer == "trusted"
    assert "certificate_not_announced" in codes(found)
    assert is_bad(found)


def test_unsigned_pages_are_told_from_signed_ones(reported: Reported) -> None:
    found = reported.look(render(reported.dossier))
    assert found.answers.document == "unsigned"
    assert is_bad(found)


def test_a_zip_whose_files_are_not_the_documents_own_says_so(reported: Reported) -> None:
    other = dataclasses.replace(reported.dossier, parts={**reported.dossier.parts, parts.RECEIPT: b"x"})
    found = reported.look(to_zip(other, reported.pdf))
    assert "files_differ" in codes(found)
    assert is_bad(found)


def test_pages_that_another_version_drew_are_not_called_forged_and_not_called_checked(reported: Reported) -> None:
    facts = msgspec.structs.replace(reported.dossier.facts, software="lawful-ledger 0.0.1, typst 0.1")
    pages = render(dataclasses.replace(reported.dossier, facts=facts))
    other = pages.replace(b"/Title", b"/Titel", 1)  # what another version drew, in its stead
    found = reported.look(reported.signed(other))
    assert "drawn_by_another_version" in codes(found)
    assert found.verdict.endswith("only the version that drew them can tell.")
    assert not is_bad(found)
