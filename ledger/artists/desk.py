"""What somebody who acts for an artist sees of the works, and how they change a grant: as `lawful grant` does it.

Withdrawing is never refused. Giving is counted: who can give no more has nothing left to withdraw, so the log grows by
so many entries a day, whoever plays with the buttons.
"""

import datetime as dt
import uuid
from collections.abc import Sequence
from functools import partial

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger import grants
from ledger.artists import links
from ledger.database.tables.artists import ArtistWebhook, Enrolment
from ledger.database.tables.works import Artist, Collection, GrantChange, Work
from ledger.errors import BadRequest, LedgerError, NotFound
from ledger.grants import Changed, Grant
from ledger.runtime import Runtime

PAGE = 50
GIVEN_PER_DAY = 1000
A_DAY = dt.timedelta(days=1)


class DeskLine(msgspec.Struct, frozen=True, kw_only=True):
    """An artist for whom this person acts."""

    id: str
    name: str
    collection: str
    works: int


class DeskWork(msgspec.Struct, frozen=True, kw_only=True):
    """A work with its grants, whether or not it may be named."""

    id: str
    title: str
    licence: str
    grants: dict[str, bool]


class EnrolmentLine(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a picture that was handed in. `refusal`: why it was refused."""

    title: str
    state: str
    refusal: str | None
    work_id: str | None
    at: str


class WebhookView(msgspec.Struct, frozen=True, kw_only=True):
    """Where notices go. `off`: none arrived for so long that none is sent any more."""

    url: str
    off: bool
    failures: int


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """An artist's works by page, what was handed in last, and the webhook of the person who looks."""

    artist: DeskLine
    works: list[DeskWork]
    enrolments: list[EnrolmentLine]
    webhook: WebhookView | None


def artists(session: Session, identity_id: uuid.UUID) -> list[DeskLine]:
    """Those for whom this person acts, by name."""
    return _lines(session, links.artists_of(session, identity_id))


def view(session: Session, identity_id: uuid.UUID, artist_id: uuid.UUID, after: uuid.UUID | None = None) -> Desk:
    """The desk of one artist; the works after the one with the id `after`. Raises NotFound `desk_unknown`."""
    links.require(session, identity_id, artist_id)
    (line,) = _lines(session, [artist_id])
    works = session.scalars(
        sa.select(Work)
        .where(Work.artist_id == artist_id, Work.id > after if after is not None else sa.true())
        .order_by(Work.id)
        .limit(PAGE)
    )
    handed_in = session.scalars(
        sa.select(Enrolment).where(Enrolment.artist_id == artist_id).order_by(Enrolment.id.desc()).limit(PAGE)
    )
    hook = session.get(ArtistWebhook, (identity_id, artist_id))
    return Desk(
        artist=line,
        works=[
            DeskWork(
                id=str(work.id),
                title=work.title,
                licence=work.licence,
                grants={each: getattr(work, f"grant_{each}") for each in grants.GRANTS},
            )
            for work in works
        ],
        enrolments=[
            EnrolmentLine(
                title=each.title,
                state=each.state,
                refusal=each.refusal,
                work_id=str(each.work_id) if each.work_id is not None else None,
                at=each.created_at.astimezone(dt.UTC).isoformat(),
            )
            for each in handed_in
        ],
        webhook=WebhookView(url=hook.url, off=hook.off_at is not None, failures=hook.failures) if hook else None,
    )


def wanted(text: str) -> tuple[Grant, bool]:
    """What a button says: `train:yes` gives, `train:no` withdraws. Raises BadRequest `grant_malformed`."""
    name, _, said = text.partition(":")
    for grant in grants.GRANTS:
        if grant == name and said in {"yes", "no"}:
            return grant, said == "yes"
    raise BadRequest(
        f"change: one of {', '.join(grants.GRANTS)} with :yes or :no is wanted, {len(text)} characters were given",
        code="grant_malformed",
        next_step="press a button of the page itself",
    )


def change(
    runtime: Runtime,
    identity_id: uuid.UUID,
    artist_id: uuid.UUID,
    grant: Grant,
    *,
    allowed: bool,
    work_id: uuid.UUID | None = None,
) -> Changed:
    """Give or withdraw one grant, of one work or of all works of this artist, in the artist's name.

    Raises NotFound `desk_unknown`, `work_unknown` for a work of another's, LedgerError `grants_too_often` (429).
    """
    with runtime.sessions() as session:
        links.require(session, identity_id, artist_id)
        one = Work.id == work_id if work_id is not None else sa.true()
        works: Sequence[uuid.UUID] = session.scalars(sa.select(Work.id).where(Work.artist_id == artist_id, one)).all()
        if not works:
            raise NotFound(
                "there is no such work of this artist", code="work_unknown", next_step="open the artist's desk again"
            )
    check = partial(_not_too_often, artist_id=artist_id, now=runtime.clock()) if allowed else None
    return grants.change_grants(runtime, works, {grant: allowed}, by_role="artist", check=check)


def _not_too_often(session: Session, artist_id: uuid.UUID, now: dt.datetime) -> None:
    given = session.scalars(
        sa.select(sa.func.count())
        .select_from(GrantChange)
        .join(Work, Work.id == GrantChange.work_id)
        .where(
            Work.artist_id == artist_id,
            GrantChange.allowed,
            GrantChange.by_role == "artist",
            GrantChange.created_at > now - A_DAY,
        )
    ).one()
    if given >= GIVEN_PER_DAY:
        raise LedgerError(
            f"{given} grants were given in the last day, {GIVEN_PER_DAY} can be",
            code="grants_too_often",
            status=429,
            next_step="wait a day; withdrawing is possible at any time",
        )


def _lines(session: Session, artist_ids: Sequence[uuid.UUID]) -> list[DeskLine]:
    rows = session.execute(
        sa.select(Artist.id, Artist.name, Collection.name, sa.func.count(Work.id))
        .join(Collection, Collection.id == Artist.collection_id)
        .outerjoin(Work, Work.artist_id == Artist.id)
        .where(Artist.id.in_(artist_ids))
        .group_by(Artist.id, Collection.id)
        .order_by(Artist.name, Artist.id)
    )
    return [DeskLine(id=str(row[0]), name=row[1], collection=row[2], works=row[3]) for row in rows]
