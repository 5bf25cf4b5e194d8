"""`lawful init` and `lawful keys`: a ledger is founded once; its public keys may be shown to anyone, any time."""

from typing import Any

import click
import rich_click

from ledger.commands.frame import Invocation, answer_json, err, json_option, out, shown
from ledger.credentials.keys import KeyRing, anchor_pem, init_keys, load_keys
from ledger.runtime import utc_now


@rich_click.command(epilog="Example: lawful init")
@json_option
@click.pass_obj
def init(invocation: Invocation, as_json: bool) -> None:
    """Found a ledger: keys, database, the log's first entry and an API key.

    Safe to run again: it makes what is missing and keeps what is there. The API key is shown once, by the run that made
    it; only its digest is kept.
    """
    from ledger.commands import work
    from ledger.database.session import open_database
    from ledger.genesis import found

    settings = invocation.settings()
    with open_database(settings):  # keeps the embedded server between the two
        founded = found(settings)
        with work.founded(settings) as runtime, work.logged(runtime):
            pass  # the first entry stands in the log before anybody is told of it
    if as_json:
        answer_json(
            {
                "home": str(settings.home),
                "origin": founded.origin,
                "log_vkey": founded.log_vkey,
                "api_key": founded.api_key,
            }
        )
        return
    console = out()
    console.print(f"ledger   {shown(founded.origin)} in {shown(settings.home)}")
    console.print(f"log key  {founded.log_vkey}", soft_wrap=True)
    if founded.api_key is None:
        console.print("It was founded before; nothing was changed.")
    else:
        console.print(
            f"API key  {founded.api_key}  (shown only now; set it as LAWFUL_API_KEY where you write from)",
            soft_wrap=True,
        )
        console.print("next: lawful up")


@rich_click.group()
def keys() -> None:
    """Make and show this ledger's keys. What is shown is public; private keys never leave their folder."""


@keys.command("init", epilog="Example: lawful keys init")
@json_option
@click.pass_obj
def keys_init(invocation: Invocation, as_json: bool) -> None:
    """Make the keys and nothing else (`lawful init` does it too). Keys that exist are never overwritten."""
    settings = invocation.settings()
    _show(init_keys(settings.keys_folder, settings.origin, now=utc_now()), as_json)
    err().print(f"Back up {shown(settings.keys_folder)}: without the log's key nobody can go on with this log.")


@keys.command("show", epilog="Example: lawful keys show --json")
@json_option
@click.pass_obj
def keys_show(invocation: Invocation, as_json: bool) -> None:
    """Show the public keys: what somebody needs who checks this ledger without trusting it."""
    _show(load_keys(invocation.settings().keys_folder), as_json)


@keys.command("anchor", epilog="Example: lawful keys anchor > anchor.pem")
@json_option
@click.pass_obj
def keys_anchor(invocation: Invocation, as_json: bool) -> None:
    """Print the root certificate (PEM) that makes other C2PA readers see this ledger's files as Trusted."""
    pem = anchor_pem(invocation.settings().keys_folder)
    if as_json:
        answer_json({"anchor_pem": pem})
    else:
        click.echo(pem, nl=False)


@keys.command("api", epilog='Example: lawful keys api "studio north" --generator flux-north@1')
@click.argument("name")
@rich_click.option("--generator", help="Their stamps that declare exactly this model may say that AI made the image.")
@json_option
@click.pass_obj
def keys_api(invocation: Invocation, name: str, generator: str | None, as_json: bool) -> None:
    """Make an API key for NAME, who may then write to this ledger over HTTP. It is shown once.

    For a NAME that is known already it is one key more, with the same rights.
    """
    from ledger.commands.work import api_key_for, founded

    with founded(invocation.settings()) as runtime, runtime.sessions.begin() as session:
        key = api_key_for(session, name, generator)
    if as_json:
        answer_json({"name": name, "generator": generator, "api_key": key})
    else:
        out().print(f"API key  {key}  (shown only now)", soft_wrap=True)


def _show(ring: KeyRing, as_json: bool) -> None:
    public: dict[str, Any] = {
        "log_vkey": ring.log.vkey,
        "statement_kid": ring.statements.kid.hex(),
        "statement_ed25519": ring.statements.public_key.hex(),
        "credential_expires": ring.credential.not_after.isoformat(),
    }
    if as_json:
        answer_json(public)
        return
    for name, value in public.items():
        out().print(f"{name.replace('_', ' '):<20} {shown(value)}", soft_wrap=True)
