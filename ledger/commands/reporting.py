"""`lawful report`: write the report of a record or a claim, and check one that somebody hands over."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import rich_click
from rich.table import Table
from rich.text import Text
from sqlalchemy.orm import Session

from ledger import lookup
from ledger.commands.checking import (
    BAD,
    GOOD,
    MARKS,
    believed,
    believed_roots,
    offline_options,
    refuse_keys,
)
from ledger.commands.files import check_writable, read_whole, write_whole
from ledger.commands.frame import BAD_ANSWER, Group, Invocation, answer_json, end, json_option, out, shown
from ledger.commands.work import founded
from ledger.database.tables.claims import Claim
from ledger.errors import BadRequest, NotFound
from ledger.file_proof import Trust
from ledger.reports.dossier import AnyDossier
from ledger.reports.forms import MAX_DOCUMENT_BYTES, to_json, to_zip
from ledger.runtime import Runtime, utc_now
from ledger.settings import Settings

if TYPE_CHECKING:  # what draws and signs is loaded by the commands that need it
    from ledger.reports.checking import ReportVerification

FORMS = (".pdf", ".zip", ".json")


class ReportGroup(Group):
    """`lawful report RECORD -o FILE` is `lawful report write RECORD -o FILE`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.list_commands(ctx):
            args = ["write", *args]
        return super().resolve_command(ctx, args)


@rich_click.group(cls=ReportGroup, context_settings={"ignore_unknown_options": True})
def report() -> None:
    """A record's or a claim's signed report: write it as PDF, evidence zip or JSON, or check one.

    `lawful report RECORD -o FILE` is short for `lawful report write RECORD -o FILE`.
    """


@report.command("write", epilog="Example: lawful report write 019a3c52-9c1e-7000-8000-000000000000 -o report.pdf")
@click.argument("record", metavar="RECORD")
@rich_click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="FILE.pdf, FILE.zip or FILE.json."
)
@rich_click.option("--force", is_flag=True, help="Replace the output file if it exists.")
@json_option
@click.pass_obj
def write(invocation: Invocation, record: str, output: Path, force: bool, as_json: bool) -> None:
    """Write the report of RECORD: a record's id, the SHA-256 of its file or pixels, or a claim's id.

    PDF: signed pages to read, PDF/A-3, with everything attached that its statements rest on. Zip: the same PDF, those
    attachments as files, and a README for an expert of the court. JSON: the attachments in one JSON object. It is drawn
    up when first asked for and kept; every later request gives the same, a claim's until the claim moves on.
    """
    form = form_asked_for(output)
    check_writable(output, force=force)
    with founded(invocation.settings()) as runtime:
        with runtime.sessions() as session:
            of_claim, found_id = _named(session, record)
        data = claim_report(runtime, found_id, form) if of_claim else _record_report(runtime, found_id, form)
    write_whole(output, data, force=force)
    if as_json:
        answer_json({"claim" if of_claim else "record": str(found_id), "file": str(output), "bytes": len(data)})
    else:
        out().print(f"{shown(output)}  {len(data):,} bytes", soft_wrap=True)
        out().print(f"check it: lawful report verify {shown(output)} --offline --log-key KEY", soft_wrap=True)


def form_asked_for(output: Path) -> str:
    """The ending of the file to be written, one of FORMS. Raises BadRequest `report_form_unknown`."""
    form = output.suffix.lower()
    if form not in FORMS:
        raise BadRequest(
            f"{shown(output)}: the ending says which form is wanted, and {form or 'none'} says none",
            code="report_form_unknown",
            next_step="name the file with .pdf, .zip or .json at its end",
        )
    return form


def _named(session: Session, name: str) -> tuple[bool, uuid.UUID]:
    """Whether it is a claim's, and the id."""
    try:
        named = uuid.UUID(name)
    except ValueError:
        found = lookup.find_any(session, name.lower())
    else:
        if session.get(Claim, named) is not None:
            return True, named
        found = [lookup.by_id(session, named)]
    if not found:
        raise NotFound(
            "no record has a file or pixels with this SHA-256",
            code="record_unknown",
            next_step="ask `lawful lookup FILE` for the record's id",
        )
    return False, uuid.UUID(found[0].id)


def claim_report(runtime: Runtime, claim_id: uuid.UUID, form: str) -> bytes:
    """A decided claim's report in one of FORMS. Raises as `ledger.reports.document.signed_claim_pdf`."""
    from ledger.reports.document import signed_claim_dossier

    return _formed(*signed_claim_dossier(runtime, claim_id), form)


def _record_report(runtime: Runtime, record_id: uuid.UUID, form: str) -> bytes:
    from ledger.reports.document import signed_dossier

    return _formed(*signed_dossier(runtime, record_id), form)


def _formed(dossier: AnyDossier, pdf: bytes, form: str) -> bytes:
    if form == ".pdf":
        return pdf
    return to_zip(dossier, pdf) if form == ".zip" else to_json(dossier)


@report.command("verify", epilog="Example: lawful report verify report.pdf --offline")
@click.argument("file", type=click.Path(path_type=Path))
@offline_options
@json_option
@click.pass_obj
def verify(
    invocation: Invocation,
    file: Path,
    offline: bool,
    log_keys: tuple[str, ...],
    witness_keys: tuple[str, ...],
    policy_file: Path | None,
    anchors: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Repeat every check of the report FILE (PDF, evidence zip or JSON) from the file alone.

    Trust comes from keys you chose: this ledger's own where one is founded, those of the settings, those named here.
    --anchor also takes the root of a timestamp authority. --offline asks no ledger and no network; without it, the
    picture is also looked up in this ledger. Exit code 1 where a check speaks against the document; what cannot be
    checked for want of a key does not.
    """
    settings = invocation.settings()
    refuse_keys(offline, log_keys, witness_keys, policy_file, anchors)
    data = read_whole(file, MAX_DOCUMENT_BYTES, what="a report document")
    trust = believed(settings, log_keys, witness_keys, policy_file)
    found = _checked(settings, data, trust, believed_roots(settings, anchors), offline)
    if as_json:
        answer_json(found)
    else:
        _print(found)
    from ledger.reports.checking import is_bad

    if is_bad(found):
        end(BAD_ANSWER)


def _checked(settings: Settings, data: bytes, trust: Trust, roots_pem: str, offline: bool) -> "ReportVerification":
    from ledger.reports.checking import check_document

    if offline:
        return check_document(data, trust=trust, roots_pem=roots_pem, now=utc_now())
    with founded(settings) as runtime, runtime.sessions() as session:
        return check_document(data, trust=trust, roots_pem=roots_pem, now=utc_now(), session=session)


def _print(found: "ReportVerification") -> None:
    """Verdict, answers, every check by number."""
    console = out()
    console.print(shown(found.verdict), style="bold")
    console.print()
    answers = Table(box=None, show_header=False, pad_edge=False)
    told = msgspec.to_builtins(found.answers)
    if found.picture is not None:
        told |= {f"picture: {name}": said for name, said in msgspec.to_builtins(found.picture.answers).items()}
    for question, answer in told.items():
        style = "green" if answer in GOOD else "bold red" if answer in {*BAD, "unsigned"} else ""
        answers.add_row(question, Text(answer, style=style))
    console.print(answers)
    console.print()
    for check in found.checks:
        mark, style = MARKS[check.result]
        console.print(f"{check.step:>2} {mark} {check.name}: {shown(check.code)}", style=style, soft_wrap=True)
    facts = {
        "claim": found.claim_id,
        "record": found.record_id,
        "signer": found.signer,
        "certificate": found.signed_by,
        "signed": found.stamped_at and f"{found.stamped_at} by a timestamp authority given",
        "log seen": found.checkpoint_stamped_at and f"{found.checkpoint_stamped_at} by a timestamp authority given",
        "document": found.document_sha256,
    }
    console.print()
    for label, value in facts.items():
        if value:
            console.print(f"{label:<11} {shown(value)}", soft_wrap=True)
