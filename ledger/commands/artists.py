"""`lawful artist`: who acts for an artist at the desk, by the operator's word."""

import uuid

import click
import rich_click
import sqlalchemy as sa

from ledger.artists import links
from ledger.commands.frame import Invocation, answer_json, json_option, out
from ledger.commands.work import founded, logged
from ledger.database.tables.artists import ArtistLink
from ledger.times import day

EXAMPLE = "0190e7a2-7c3b-7d1e-9f00-3c5a1b2d4e6f 0190e7a2-8b11-7c22-8d33-4e44f5a5b6c6"


@rich_click.group()
def artist() -> None:
    """Say who acts for an artist here: changes grants, enrols works, hears of new records."""


@artist.command("link", epilog=f"Example: lawful artist link {EXAMPLE}")
@click.argument("artist_id", metavar="ARTIST", type=click.UUID)
@click.argument("identity_id", metavar="IDENTITY", type=click.UUID)
@json_option
@click.pass_obj
def link(invocation: Invocation, artist_id: uuid.UUID, identity_id: uuid.UUID, as_json: bool) -> None:
    """Let IDENTITY, whose page at /account shows the id, act for ARTIST, named by the id of the artist's page.

    Make sure by other means that this person is the artist, or acts for them: it is your word, and nothing checks it.
    That the artist is linked is an entry of the log; who it is, is not. Whoever shows a token on the artist's own page
    (`lawful claim page`) needs no link.
    """
    with founded(invocation.settings()) as runtime, logged(runtime), runtime.sessions.begin() as session:
        leaf = links.link(session, runtime, artist_id, identity_id)
    _tell(leaf, artist_id, identity_id, "linked" if leaf is not None else "linked already", as_json=as_json)


@artist.command("unlink", epilog=f"Example: lawful artist unlink {EXAMPLE}")
@click.argument("artist_id", metavar="ARTIST", type=click.UUID)
@click.argument("identity_id", metavar="IDENTITY", type=click.UUID)
@json_option
@click.pass_obj
def unlink(invocation: Invocation, artist_id: uuid.UUID, identity_id: uuid.UUID, as_json: bool) -> None:
    """Take a link back; it counts at once. What was changed under it stays, and the webhook is forgotten.

    A token shown on the artist's page still counts: to end that, put another page on record (`lawful claim page`).
    """
    with founded(invocation.settings()) as runtime, logged(runtime), runtime.sessions.begin() as session:
        leaf = links.unlink(session, runtime, artist_id, identity_id)
    _tell(leaf, artist_id, identity_id, "unlinked" if leaf is not None else "not linked", as_json=as_json)


@artist.command("list", epilog="Example: lawful artist list")
@json_option
@click.pass_obj
def list_links(invocation: Invocation, as_json: bool) -> None:
    """The links that there are: artist and identity, by id."""
    with founded(invocation.settings()) as runtime, runtime.sessions() as session:
        rows = session.execute(
            sa.select(ArtistLink.artist_id, ArtistLink.identity_id, ArtistLink.created_at).order_by(
                ArtistLink.artist_id, ArtistLink.created_at
            )
        ).all()
    if as_json:
        answer_json({"links": [{"artist": str(row[0]), "identity": str(row[1])} for row in rows]})
        return
    for row in rows:
        out().print(f"{row.artist_id}  {row.identity_id}  {day(row.created_at.isoformat())}")
    if not rows:
        out().print("nobody is linked to an artist")


def _tell(leaf: bytes | None, artist_id: uuid.UUID, identity_id: uuid.UUID, said: str, *, as_json: bool) -> None:
    if as_json:
        answer_json(
            {
                "artist": str(artist_id),
                "identity": str(identity_id),
                "said": said,
                "leaf_hash": leaf.hex() if leaf is not None else None,
            }
        )
    else:
        out().print(f"{said}" + (f"  entry {leaf.hex()}" if leaf is not None else ""), soft_wrap=True)
