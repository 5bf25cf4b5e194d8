"""`lawful dispute` and `lawful claim`: claims from the command line, where whoever asks is the operator."""

import datetime as dt
import json
import uuid
from pathlib import Path
from typing import Any

import click
import rich_click

from ledger import erasure
from ledger.claims import control, deciding, erasing, identities, moving, opening, replies, views
from ledger.claims.opening import Wish
from ledger.claims.views import ClaimView
from ledger.commands.files import check_writable, read_image, write_whole
from ledger.commands.frame import BAD_ANSWER, Invocation, answer_json, end, json_option, out, resume_with, shown
from ledger.commands.reporting import claim_report, form_asked_for
from ledger.commands.work import founded, logged
from ledger.errors import Conflict
from ledger.log import entries
from ledger.runtime import Runtime
from ledger.times import moment

_words = rich_click.option("--words", required=True, help="What is to be said; it is shown beside the decision.")


@rich_click.command(epilog='Example: lawful dispute image.png --claimant "Jane Doe" --work mine.png -o report.pdf')
@click.argument("file", type=click.Path(path_type=Path))
@rich_click.option("--claimant", required=True, metavar="NAME", help="The artist's name under which it is claimed.")
@rich_click.option("--work", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The work named.")
@rich_click.option(
    "--kind", type=click.Choice(opening.KINDS), default="copies", show_default=True, help="What is claimed of FILE."
)
@rich_click.option("--made-on", type=click.DateTime(["%Y-%m-%d"]), help="When the work was made, by the claimant.")
@rich_click.option("--words", default="", help="What else the claimant has to say.")
@rich_click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="FILE.pdf, FILE.zip or FILE.json."
)
@rich_click.option("--force", is_flag=True, help="Replace the output file if it exists.")
@json_option
@click.pass_obj
def dispute(
    invocation: Invocation,
    file: Path,
    claimant: str,
    work: Path,
    kind: str,
    made_on: dt.datetime | None,
    words: str,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Claim something of the image FILE, have it decided by the rules, and write the signed report.

    PDF: pages to read with all the evidence attached. Zip: the same, and the evidence as files. JSON: the report with
    its signature and proof. `lawful report verify` checks each of them.

    The claim, its examination and the decision are entries of the log. Where FILE's pixels are those of a record, the
    claim is about that record; where WORK is in the collection, it is the work there. A work that is not in the
    collection is compared, and cannot win a claim by itself. Exit code 1: the claim is contradicted.
    """
    from ledger.examiner import Examiner

    settings = invocation.settings()
    form = form_asked_for(output)
    check_writable(output, force=force)
    wish = Wish(
        kind=kind,  # type: ignore[arg-type]  # one of the choices
        claimant=claimant,
        image=read_image(file, settings.max_upload_bytes),
        work=read_image(work, settings.max_upload_bytes),
        made_on=made_on.date() if made_on is not None else None,
        words=words,
    )
    with founded(settings) as runtime, logged(runtime):
        claim_id = opening.open_claim(runtime, wish, identity_id=None, examined_elsewhere=True)
        resume_with(f"the claim stands; a worker goes on with it. See it with: lawful claim show {claim_id}")
        try:
            deciding.settle(runtime, Examiner(runtime), claim_id)
        except Conflict as conflict:  # a worker was faster, and its decision is as good
            if conflict.code != "claim_not_now":
                raise
        with runtime.sessions() as session:
            leaf = moving.newest(session, claim_id).leaf_hash
        entries.wait(runtime.sessions, runtime.shard, leaf, settings.issue_timeout)
        data = _signed_json(runtime, claim_id) if form == ".json" else claim_report(runtime, claim_id, form)
        with runtime.sessions() as session:
            found = views.view(session, runtime, claim_id)
    write_whole(output, data, force=force)
    if as_json:
        answer_json(found)
    else:
        _print(found)
        out().print(f"signed report: {shown(output)}", soft_wrap=True)
    if found.decision is not None and found.decision.outcome == "contradicted":
        end(BAD_ANSWER)


def _signed_json(runtime: Runtime, claim_id: uuid.UUID) -> bytes:
    with runtime.sessions() as session:
        signed = views.signed_report(session, runtime, claim_id)
    return json.dumps(signed, indent=2, ensure_ascii=True).encode() + b"\n"


@rich_click.group()
def claim() -> None:
    """See claims, answer for this ledger, put artists' pages on record, and forget people on request."""


@claim.command("list", epilog="Example: lawful claim list --json")
@rich_click.option("--about", type=click.UUID, help="Only those on this record.")
@json_option
@click.pass_obj
def list_claims(invocation: Invocation, about: uuid.UUID | None, as_json: bool) -> None:
    """The fifty newest claims."""
    with founded(invocation.settings()) as runtime, runtime.sessions() as session:
        found = views.newest_claims(session, about=about)
    if as_json:
        answer_json({"claims": found})
        return
    for each in found:
        out().print(f"{each.id}  {moment(each.created_at):<31}  {each.kind:<11} {each.state:<9} {each.outcome or ''}")
    if not found:
        out().print("nobody has claimed anything")


@claim.command("show", epilog="Example: lawful claim show 0190e7a2-7c3b-7d1e-9f00-3c5a1b2d4e6f")
@click.argument("claim_id", metavar="CLAIM", type=click.UUID)
@json_option
@click.pass_obj
def show(invocation: Invocation, claim_id: uuid.UUID, as_json: bool) -> None:
    """What is claimed, its steps, and the newest decision with its grounds."""
    with founded(invocation.settings()) as runtime:
        _tell(runtime, claim_id, as_json=as_json)


@claim.command(
    "answer", epilog='Example: lawful claim answer 0190e7a2-7c3b-7d1e-9f00-3c5a1b2d4e6f --words "It is licensed."'
)
@click.argument("claim_id", metavar="CLAIM", type=click.UUID)
@_words
@json_option
@click.pass_obj
def answer(invocation: Invocation, claim_id: uuid.UUID, words: str, as_json: bool) -> None:
    """Answer a decision as the operator."""
    with founded(invocation.settings()) as runtime:
        with logged(runtime), runtime.sessions.begin() as session:
            replies.answer(session, runtime, claim_id, "operator", words)
        _tell(runtime, claim_id, as_json=as_json)


@claim.command(
    "appeal", epilog='Example: lawful claim appeal 0190e7a2-7c3b-7d1e-9f00-3c5a1b2d4e6f --words "See the new grant."'
)
@click.argument("claim_id", metavar="CLAIM", type=click.UUID)
@_words
@json_option
@click.pass_obj
def appeal(invocation: Invocation, claim_id: uuid.UUID, words: str, as_json: bool) -> None:
    """Ask for another examination as the operator, once. The worker does it."""
    with founded(invocation.settings()) as runtime:
        with logged(runtime), runtime.sessions.begin() as session:
            replies.appeal(session, runtime, claim_id, "operator", words)
        _tell(runtime, claim_id, as_json=as_json)


@claim.command("close", epilog="Example: lawful claim close 0190e7a2-7c3b-7d1e-9f00-3c5a1b2d4e6f")
@click.argument("claim_id", metavar="CLAIM", type=click.UUID)
@json_option
@click.pass_obj
def close(invocation: Invocation, claim_id: uuid.UUID, as_json: bool) -> None:
    """End a decided claim: the newest decision stands, and files that were handed in are deleted."""
    with founded(invocation.settings()) as runtime:
        with logged(runtime):
            with runtime.sessions.begin() as session:
                keys = replies.close(session, runtime, claim_id, "operator")
            replies.forget_files(runtime, keys)
        _tell(runtime, claim_id, as_json=as_json)


@claim.command(
    "erase",
    epilog="Example: lawful claim erase 0190e7a2-7c3b-7d1e-9f00-3c5a1b2d4e6f --reason requested --asked-by artist",
)
@click.argument("claim_id", metavar="CLAIM", type=click.UUID)
@rich_click.option("--reason", type=click.Choice(erasure.REASONS), required=True, help="Why; it goes into the log.")
@rich_click.option(
    "--asked-by", type=click.Choice(erasure.ROLES), required=True, help="Who asked, by role; it goes into the log."
)
@json_option
@click.pass_obj
def erase(invocation: Invocation, claim_id: uuid.UUID, reason: str, asked_by: str, as_json: bool) -> None:
    """Delete what a claim says: names, words, facts and reports. Its steps stay, and name nobody. No way back."""
    with founded(invocation.settings()) as runtime:
        with logged(runtime):
            erasing.erase_claim(runtime, claim_id, erasing.Asked(reason, asked_by))
        _tell(runtime, claim_id, as_json=as_json)


@claim.command(
    "page", epilog="Example: lawful claim page 0190e7a2-7c3b-7d1e-9f00-3c5a1b2d4e6f https://example.org/about"
)
@click.argument("artist", type=click.UUID)
@click.argument("url")
@json_option
@click.pass_obj
def page(invocation: Invocation, artist: uuid.UUID, url: str, as_json: bool) -> None:
    """Put URL on record as the own page of ARTIST, named by id: whoever shows a token there is that artist.

    Look at it with your own eyes first: that the page is the artist's is your word, and nothing checks it.
    """
    with founded(invocation.settings()) as runtime, runtime.sessions.begin() as session:
        control.put_page(session, artist, url)
    if as_json:
        answer_json({"artist": str(artist), "page": url})
    else:
        out().print(f"on record: {shown(url)}", soft_wrap=True)


@claim.command("forget", epilog="Example: lawful claim forget 0190e7a2-7c3b-7d1e-9f00-3c5a1b2d4e6f")
@click.argument("identity", type=click.UUID)
@json_option
@click.pass_obj
def forget(invocation: Invocation, identity: uuid.UUID, as_json: bool) -> None:
    """Delete the address of IDENTITY, whose page shows the id. Their claims stand, by nobody; see `claim erase`."""
    with founded(invocation.settings()) as runtime, logged(runtime), runtime.sessions.begin() as session:
        identities.erase_identity(session, runtime, identity)
    if as_json:
        answer_json({"forgotten": str(identity)})
    else:
        out().print("forgotten; backups are not reached")


def _tell(runtime: Runtime, claim_id: uuid.UUID, *, as_json: bool) -> None:
    with runtime.sessions() as session:
        found = views.view(session, runtime, claim_id)
    if as_json:
        answer_json(found)
    else:
        _print(found)


def _print(found: ClaimView) -> None:
    def line(text: Any, **style: Any) -> None:
        out().print(shown(text), soft_wrap=True, **style)

    if found.decision is not None:
        line(f"{found.decision.outcome}; that the claimant is the artist: {found.decision.claimant}", style="bold")
        for ground in found.decision.grounds:
            line(f"{ground.number:>2} {ground.weight:<11} {ground.text} [{ground.code}]")
    line(f"claim {found.id}: {found.kind}, by {found.claimant or 'nobody'}, {found.state}")
    if found.failures:
        line(f"  its examination failed {found.failures} times so far; the worker's log says why, and tries again")
    for step in found.steps:
        where = "on its way into the log" if step.index is None else f"entry {step.index}"
        line(f"  {moment(step.at):<31} {step.state:<9} by the {step.by_role}, {where}")
