"""`lawful init` and `lawful keys`: a ledger is founded once; its public keys may be shown to anyone, any time."""

import uuid
from typing import Any, get_args

import click
import msgspec
import rich_click

from ledger.api_keys import ROLES, Role
from ledger.commands.frame import Invocation, answer_json, err, json_option, out, shown
from ledger.keys.provider import load_provider
from ledger.keys.ring import KeyRing, Use, init_keys, keys_of, load_anchors
from ledger.runtime import utc_now
from ledger.times import day


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
    _show(
        init_keys(settings.keys_folder, settings.origin, now=utc_now(), provider=load_provider(settings.key_provider)),
        as_json,
    )
    err().print(f"Back up {shown(settings.keys_folder)}: without the log's key nobody can go on with this log.")


@keys.command("show", epilog="Example: lawful keys show --json")
@json_option
@click.pass_obj
def keys_show(invocation: Invocation, as_json: bool) -> None:
    """Show the public keys: what somebody needs who checks this ledger without trusting it."""
    _show(keys_of(invocation.settings()), as_json)


@keys.command("anchor", epilog="Example: lawful keys anchor > anchor.pem")
@json_option
@click.pass_obj
def keys_anchor(invocation: Invocation, as_json: bool) -> None:
    """Print the root certificate (PEM) that makes other C2PA readers see this ledger's files as Trusted."""
    pem = load_anchors(invocation.settings().keys_folder).root_pem
    if as_json:
        answer_json({"anchor_pem": pem})
    else:
        click.echo(pem, nl=False)


@keys.command("api", epilog='Example: lawful keys api "studio north" --generator flux-north@1')
@click.argument("name")
@rich_click.option(
    "--role",
    type=click.Choice(ROLES),
    default="submitter",
    show_default=True,
    help="submitter: writes. operator: writes, and sees how the ledger stands. auditor: sees that, and writes nothing."
    " admin: sees it, and makes and revokes API keys.",
)
@rich_click.option("--generator", help="Their stamps that declare exactly this model may say that AI made the image.")
@json_option
@click.pass_obj
def keys_api(invocation: Invocation, name: str, role: Role, generator: str | None, as_json: bool) -> None:
    """Make an API key for NAME, who may then use this ledger over HTTP as ROLE says. It is shown once.

    For a NAME that is known already it is one key more, with the same rights: to replace a key, make the next one, hand
    it over, then revoke the old one. An entry of the log tells of it, without the name.
    """
    from ledger import api_keys
    from ledger.commands import work

    with work.founded(invocation.settings()) as runtime, work.logged(runtime), runtime.sessions.begin() as session:
        key_id, key = api_keys.make(session, runtime, name, role, "made by lawful keys api", generator)
    if as_json:
        answer_json({"id": str(key_id), "name": name, "role": role, "generator": generator, "api_key": key})
    else:
        out().print(f"API key  {key}  (shown only now)\nid       {key_id}", soft_wrap=True)


@keys.command("list", epilog="Example: lawful keys list")
@json_option
@click.pass_obj
def keys_list(invocation: Invocation, as_json: bool) -> None:
    """Show all API keys by id, with their holders and roles; a key itself is not kept and cannot be shown."""
    from ledger import api_keys
    from ledger.commands.work import founded

    with founded(invocation.settings()) as runtime, runtime.sessions() as session:
        found = api_keys.keys(session)
    if as_json:
        answer_json([msgspec.to_builtins(each) for each in found])
        return
    for each in found:
        said, at = ("revoked", each.revoked_at) if each.revoked_at else ("since", each.created_at)
        out().print(
            f"{each.id}  {said} {day(at.isoformat())}  {each.role}  {shown(each.name)}  {shown(each.label)}",
            soft_wrap=True,
        )


@keys.command("register", epilog='Example: lawful keys register "studio north" PUBLIC_KEY')
@click.argument("name")
@click.argument("public_key")
@json_option
@click.pass_obj
def keys_register(invocation: Invocation, name: str, public_key: str, as_json: bool) -> None:
    """Let the submitter NAME (see `lawful keys api`) put statements into the log that PUBLIC_KEY signs.

    PUBLIC_KEY is a raw Ed25519 key in hex, 64 digits. An entry of the log announces it.
    """
    from ledger import submissions
    from ledger.commands import work

    with work.founded(invocation.settings()) as runtime, work.logged(runtime), runtime.sessions.begin() as session:
        key = submissions.parse_hex_key(public_key)
        registered = submissions.register_key(session, runtime, name, key)
    kid, issuer = registered.kid.hex(), registered.issuer
    if as_json:
        answer_json({"name": name, "kid": kid, "issuer": issuer, "new": registered.announced is not None})
        return
    out().print(f"key id  {kid}\nissuer  {issuer}", soft_wrap=True)
    if registered.announced is None:
        err().print("It was registered before; nothing was changed.")


@keys.command("revoke", epilog="Example: lawful keys revoke 01990000-0000-7000-8000-000000000000")
@click.argument("key")
@json_option
@click.pass_obj
def keys_revoke(invocation: Invocation, key: str, as_json: bool) -> None:
    """End a key of somebody's at once: an API key by its id (`lawful keys list`), or a submitter's signing key by its
    KID (64 hex digits). An entry of the log says so.

    What was done with it before stands, and stays verifiable. A signing key that was revoked is never registered again.
    """
    from ledger import api_keys, submissions
    from ledger.commands import work

    api_key = _uuid(key)
    with work.founded(invocation.settings()) as runtime, work.logged(runtime), runtime.sessions.begin() as session:
        if api_key is not None:
            new = api_keys.revoke(session, runtime, api_key)
        else:
            new = submissions.revoke_key(session, runtime, submissions.parse_hex_key(key)) is not None
    if as_json:
        answer_json({"id" if api_key is not None else "kid": key, "new": new})
    else:
        out().print("It is revoked." if new else "It was revoked before; nothing was changed.")


@keys.command("rotate", epilog="Example: lawful keys rotate credential")
@click.argument("use", type=click.Choice(get_args(Use)))
@rich_click.option(
    "--compromised",
    is_flag=True,
    help="Say in the log that somebody else may have the old key: what it signed and is logged later is not believed.",
)
@json_option
@click.pass_obj
def keys_rotate(invocation: Invocation, use: Use, compromised: bool, as_json: bool) -> None:
    """Put a new key in the place of an old one, and say so in the log. Nothing has to be stopped for it.

    USE is statements, receipts or credential. A running ledger takes the new key up by itself. What was signed before
    stays verifiable. A run that was cut off is finished by the next one. The log's own key is never changed: another
    key is another log.
    """
    from ledger.commands import work
    from ledger.database.session import open_database
    from ledger.keys.rotation import rotate

    settings = invocation.settings()
    load_anchors(settings.keys_folder)  # a folder without keys is told before a database is started for it
    with open_database(settings) as database:
        rotated = rotate(settings, database.sessions, use, compromised=compromised, now=utc_now())
        with work.founded(settings) as runtime, work.logged(runtime):
            pass  # it stands in the log before anybody is told of it
    if as_json:
        answer_json(
            {
                "use": use,
                "kid": rotated.new.hex(),
                "retired_kid": None if rotated.old is None else rotated.old.hex(),
                "compromised": rotated.compromised,
                "leaf_hash": None if rotated.leaf_hash is None else rotated.leaf_hash.hex(),
            }
        )
        return
    console = out()
    console.print(f"{use} key {rotated.new.hex()} is in force", soft_wrap=True)
    if rotated.old is None:
        console.print("This finished a rotation that had been cut off; nothing else was changed.")
    else:
        word = "compromised" if rotated.compromised else "retired"
        console.print(f"{word}: {rotated.old.hex()}", soft_wrap=True)
        err().print(f"Back up {shown(settings.keys_folder)} again.")


def _show(ring: KeyRing, as_json: bool) -> None:
    public: dict[str, Any] = {
        "log_vkey": ring.log.vkey,
        "statement_kid": ring.statements.kid.hex(),
        "statement_ed25519": ring.statements.public_key.hex(),
        "receipt_spki": ring.receipts.public_key_der.hex(),
        "credential_expires": ring.credential.not_after.isoformat(),
    }
    if as_json:
        answer_json(public)
        return
    for name, value in public.items():
        out().print(f"{name.replace('_', ' '):<20} {shown(value)}", soft_wrap=True)


def _uuid(text: str) -> uuid.UUID | None:
    """An API key's id has dashes, a signing key's has none."""
    try:
        return uuid.UUID(text) if "-" in text else None
    except ValueError:
        return None
