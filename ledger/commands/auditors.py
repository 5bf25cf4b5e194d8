"""`lawful auditor`: who may read the log in bulk, over HTTP, until when."""

import datetime as dt
import uuid

import click
import rich_click

from ledger import auditors
from ledger.auditors import SCOPES, Scope
from ledger.commands.frame import Invocation, answer_json, json_option, out, shown
from ledger.commands.work import founded
from ledger.times import day


@rich_click.group()
def auditor() -> None:
    """Let others read this log in bulk. Their tokens read and never write; each has a scope and an end."""


@auditor.command("add", epilog='Example: lawful auditor add "university of the north" --days 90')
@click.argument("label")
@rich_click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    default=SCOPES,
    help="entries: page by page; exports: whole periods as files. Unset: both.",
)
@rich_click.option("--days", type=click.IntRange(1, 400), default=90, show_default=True, help="How long it counts.")
@json_option
@click.pass_obj
def auditor_add(invocation: Invocation, label: str, scopes: tuple[Scope, ...], days: int, as_json: bool) -> None:
    """Make a token for LABEL, which is a note for you and is shown to nobody else. The token is shown once."""
    with founded(invocation.settings()) as runtime, runtime.sessions.begin() as session:
        now = runtime.clock()
        token_id, token = auditors.new_token(session, label, scopes, dt.timedelta(days=days), now)
    ends = (now + dt.timedelta(days=days)).isoformat()
    if as_json:
        answer_json({"id": str(token_id), "label": label, "scopes": sorted(scopes), "expires_at": ends, "token": token})
    else:
        out().print(f"token  {token}  (shown only now)\nid     {token_id}\nuntil  {ends}", soft_wrap=True)


@auditor.command("list", epilog="Example: lawful auditor list")
@json_option
@click.pass_obj
def auditor_list(invocation: Invocation, as_json: bool) -> None:
    """Show all tokens by id, with their scopes and ends; a token itself is not kept and cannot be shown."""
    with founded(invocation.settings()) as runtime, runtime.sessions() as session:
        found = auditors.tokens(session)
    if as_json:
        answer_json(
            [
                {
                    "id": str(each.id),
                    "label": each.label,
                    "scopes": each.scopes,
                    "expires_at": each.expires_at.isoformat(),
                    "revoked_at": each.revoked_at.isoformat() if each.revoked_at else None,
                }
                for each in found
            ]
        )
        return
    for each in found:
        end = (
            f"revoked {day(each.revoked_at.isoformat())}"
            if each.revoked_at
            else f"until {day(each.expires_at.isoformat())}"
        )
        out().print(f"{each.id}  {end}  {','.join(each.scopes)}  {shown(each.label)}", soft_wrap=True)


@auditor.command("revoke", epilog="Example: lawful auditor revoke 01990000-0000-7000-8000-000000000000")
@click.argument("token_id", type=click.UUID)
@json_option
@click.pass_obj
def auditor_revoke(invocation: Invocation, token_id: uuid.UUID, as_json: bool) -> None:
    """End a token now, by its id."""
    with founded(invocation.settings()) as runtime, runtime.sessions.begin() as session:
        auditors.revoke(session, token_id, runtime.clock())
    if as_json:
        answer_json({"id": str(token_id)})
    else:
        out().print("It is revoked.")
