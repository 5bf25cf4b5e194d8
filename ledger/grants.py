"""An artist's grants: each change is an entry, and counts from the snapshot that is frozen with it.

What an entry says of it: which work, which grant, given or withdrawn, and by which role. No name, and no picture.
"""

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from ledger.database.tables import works as tables
from ledger.database.tables.works import Artist, GrantChange, Work
from ledger.errors import BadRequest, Conflict, NotFound
from ledger.log import entries
from ledger.log.statement_types import sign_entry
from ledger.runtime import Runtime
from ledger.snapshots import alone, freeze, newest_snapshot

GRANT = "lawful-ledger/grant/1"
Grant = Literal["train", "compare", "name"]
GRANTS: tuple[Grant, ...] = get_args(Grant)
ROLES = ("artist", "estate", "court", "operator")  # who may change a grant; a name would be personal data in the log


@dataclass(frozen=True)
class Change:
    """One grant of one work as it is from now on; `leaf_hash`, hex, is of the entry that says so."""

    work_id: str
    grant: Grant
    allowed: bool
    leaf_hash: str


@dataclass(frozen=True)
class Changed:
    """Of `works` works looked at, what changed, and the snapshot (digest, hex) that holds it, if there is one.

    `calibrated` is False where the change asks for other error rates: the next worker measures them, and until then
    the axes that rest on them cannot tell.
    """

    works: int
    changes: list[Change]
    snapshot: str | None
    calibrated: bool


def change_grants(
    runtime: Runtime,
    works: Collection[uuid.UUID],
    wanted: Mapping[Grant, bool],
    *,
    by_role: str,
    check: Callable[[Session], None] | None = None,
) -> Changed:
    """Give or withdraw grants of works of one collection: an entry for each change, and one new snapshot, all of it in
    one transaction. What a grant is already is no change. `check` may refuse, in that transaction and with the
    collection held: what it counts, nobody else is changing.

    Raises BadRequest `role_unknown`, NotFound `work_unknown`, Conflict `works_apart`.
    """
    if by_role not in ROLES:
        raise BadRequest(
            f"by_role: {by_role[:40]!r} is no role", code="role_unknown", next_step=f"name one of {', '.join(ROLES)}"
        )
    with runtime.sessions.begin() as session:
        collection_id = _alone_with(session, works)
        if check is not None:
            check(session)
        now = runtime.clock().isoformat()
        changes = [
            (work, grant, allowed)
            for work in session.scalars(sa.select(Work).where(_among(works)).order_by(Work.id))
            for grant, allowed in wanted.items()
            if getattr(work, f"grant_{grant}") != allowed
        ]
        statements = []
        for work, grant, allowed in changes:
            setattr(work, f"grant_{grant}", allowed)
            payload = {
                "type": GRANT,
                "work_id": str(work.id),
                "grant": grant,
                "allowed": allowed,
                "by_role": by_role,
                "created_at": now,
            }
            statements.append(sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin))
        leaves = entries.append_many(session, statements)
        session.add_all(
            GrantChange(
                id=uuid7(), work_id=work.id, grant=grant, allowed=allowed, by_role=by_role, leaf_hash=leaf
            )
            for (work, grant, allowed), leaf in zip(changes, leaves, strict=True)
        )  # fmt: skip
        session.flush()
        snapshot = newest_snapshot(session, collection_id=collection_id)
        if changes and snapshot is not None:
            snapshot = freeze(session, runtime, collection_id, snapshot.encoders)
        return Changed(
            works=len(works),
            changes=[
                Change(str(work.id), grant, allowed, leaf.hex())
                for (work, grant, allowed), leaf in zip(changes, leaves, strict=True)
            ],
            snapshot=snapshot.digest.hex() if snapshot else None,
            calibrated=snapshot is not None and snapshot.calibration is not None,
        )


def works_of(session: Session, what: str, collection: str | None = None) -> list[uuid.UUID]:
    """The work with this id, or all works of the artist with this id or exactly this name; `collection`, by name, tells
    namesakes in several collections apart.

    Raises NotFound `work_unknown`, Conflict `artist_ambiguous`.
    """
    found = sa.select(Work.id, Work.collection_id).join(Artist, Artist.id == Work.artist_id).order_by(Work.id)
    if collection is not None:
        in_it = sa.select(tables.Collection.id).where(tables.Collection.name == collection)
        found = found.where(Work.collection_id.in_(in_it))
    named = _as_id(what)
    rows = session.execute(
        found.where(sa.or_(Work.id == named, Artist.id == named) if named is not None else Artist.name == what)
    ).all()
    if not rows:
        raise NotFound(
            f"no work and no artist is called {what[:80]!r}" + (f" in {collection!r}" if collection else ""),
            code="work_unknown",
            next_step="give an artist's name as the collection has it, or a work's id as a report names it",
        )
    if len({row.collection_id for row in rows}) > 1:
        raise Conflict(
            f"{what[:80]!r} is an artist of several collections",
            code="artist_ambiguous",
            next_step="name one of them with --collection; do the same for each that is meant",
        )
    return [row.id for row in rows]


def _alone_with(session: Session, works: Collection[uuid.UUID]) -> uuid.UUID:
    """The collection of these works, its row held until the transaction ends."""
    rows = session.execute(sa.select(Work.id, Work.collection_id).where(_among(works))).all()
    if missing := set(works) - {row.id for row in rows}:
        raise NotFound(f"no work {min(missing)}", code="work_unknown", next_step="look it up in its collection")
    collections: set[uuid.UUID] = {row.collection_id for row in rows}
    if len(collections) != 1:
        raise Conflict(
            f"{len(works)} works of {len(collections)} collections",
            code="works_apart",
            next_step="change the grants of one collection's works at a time",
        )
    collection_id = collections.pop()
    alone(session, collection_id)
    return collection_id


def _among(works: Collection[uuid.UUID]) -> sa.ColumnElement[bool]:
    """One parameter, however many works an artist has: Postgres takes at most 65,535."""
    return Work.id == sa.any_(sa.literal(list(works), ARRAY(sa.Uuid())))


def _as_id(what: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(what)
    except ValueError:
        return None
