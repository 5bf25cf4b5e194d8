"""A report that an earlier release signed still verifies, and the command says so. Its record is that of
`tests/integration/reported.py`; whoever changes the form before the first release signs it anew from there.
"""

import copy
import datetime as dt
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.cli import main
from ledger.errors import BadRequest, LedgerError
from ledger.file_proof import Trust
from ledger.reports.checking import check_document, is_bad, open_document
from ledger.reports.forms import to_json, to_zip
from ledger.reports.signature import read_signature
from models.errors import ModelError

FOLDER = Path(__file__).parents[3] / "golden" / "reports" / "0.1.0"
VKEY = (FOLDER / "log.vkey").read_text().strip()
ROOT = (FOLDER / "root.pem").read_text()
NOW = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)


BUNDLE = json.loads(to_json(open_document((FOLDER / "report.pdf").read_bytes()).dossier))
ODD = [None, "", "zz", "AA==", "\x00", "ff" * 32, 0, -1, 2**70, 1e308, True, [], {}, ["x"], {"a": 1}, "x" * 5000]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every member of a JSON value."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield (*path, key)
        yield from places(member, (*path, key))


def lawful(home: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), "report", *words])


def test_a_report_of_every_release_is_still_proven_by_its_log_key() -> None:
    found = check_document((FOLDER / "report.pdf").read_bytes(), trust=Trust([VKEY]), roots_pem=ROOT, now=NOW)
    assert (found.answers.document, found.answers.signer, found.answers.report) == ("intact", "trusted", "recorded")
    codes = {check.step: check.code for check in found.checks}
    assert codes[20] in {"pages_match", "drawn_by_another_version"}
    assert [codes[step] for step in (19, 22, 24, 25, 26, 27, 28, 29)] == [
        "certificate_announced", "inclusion_proven", "statement_key_announced", "report_matches", "pixels_match",
        "receipt_holds", "issued_file", "drawings_match",
    ]  # fmt: skip
    assert not is_bad(found)


@pytest.mark.parametrize("form", ["pdf", "zip", "json"])
def test_the_command_repeats_every_check_of_each_form(tmp_path: Path, form: str) -> None:
    pdf = (FOLDER / "report.pdf").read_bytes()
    dossier = open_document(pdf).dossier
    file = tmp_path / f"report.{form}"
    file.write_bytes({"pdf": pdf, "zip": to_zip(dossier, pdf), "json": to_json(dossier)}[form])
    done = lawful(tmp_path / "no", "verify", str(file), "--offline", "--log-key", VKEY, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["answers"]["report"] == "recorded"
    told = lawful(tmp_path / "no", "verify", str(file), "--offline", "--log-key", VKEY)
    assert "28 ✓ The log says which file was issued, and it is the picture in the document: issued_file" in told.stdout
    assert "\x1b" not in told.stdout


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("verify", "nowhere.pdf", "--offline"), "file_not_found", 3),
        (("verify", __file__, "--offline"), "report_document_malformed", 3),
        (("verify", str(FOLDER / "report.pdf")), "ledger_missing", 3),
        (("verify", str(FOLDER / "report.pdf"), "--offline", "--log-key", "nonsense"), "vkey_malformed", 3),
        (("0" * 64, "-o", "report.txt"), "report_form_unknown", 3),
        (("0" * 64, "-o", "report.pdf"), "ledger_missing", 3),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_error_with_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: str, exit_code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    done = lawful(tmp_path / "no", *words, "--json")
    assert json.loads(done.stdout)["error"]["code"] == code
    assert done.exit_code == exit_code
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=80)
@given(st.sampled_from(sorted(places(BUNDLE), key=str)), st.sampled_from(ODD))
def test_whatever_stands_in_a_document_gives_an_answer_or_an_error_with_a_code(path: tuple[Any, ...], odd: Any) -> None:
    changed = copy.deepcopy(BUNDLE)
    functools.reduce(lambda value, key: value[key], path[:-1], changed)[path[-1]] = odd
    try:
        found = check_document(json.dumps(changed).encode(), trust=Trust([VKEY]), roots_pem=ROOT, now=NOW)
    except (LedgerError, ModelError):
        return  # any other exception is a defect
    committed = path[0] in {"report", "keys"} or path[-1] in {"statement.cose", "statement.tlog-proof", "salt"}
    assert found.answers.report != "recorded" or not committed or changed == BUNDLE


def test_keys_go_with_offline_only(tmp_path: Path) -> None:
    done = lawful(tmp_path / "no", "verify", str(FOLDER / "report.pdf"), "--log-key", VKEY)
    assert done.exit_code == 2


def test_roots_that_are_none_are_the_checkers_mistake_and_not_the_documents() -> None:
    pdf = (FOLDER / "report.pdf").read_bytes()
    wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(BadRequest) as error:
        read_signature(pdf, roots_pem=wrong, now=NOW)
    assert error.value.code == "anchors_unreadable"
