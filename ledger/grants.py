"""An artist's grants: each change is an entry, and counts from the snapshot that is frozen with it."""

import uuid

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from ledger.database.tables import GrantChange, Work
from ledger.errors import BadRequest, NotFound
from ledger.log import sequencer
from ledger.log.statement_types import sign_entry
from ledger.runtime import Runtime
from ledger.snapshots import alone, freeze, newest_snapshot

GRANT = "lawful-ledger/grant/1"
ROLES = ("artist", "estate", "court", "operator")  # who may change a grant; a name would be personal data in the log


def change_grant(runtime: Runtime, work_id: uuid.UUID, grant: str, allowed: bool, by_role: str) -> None:
    """Give or withdraw one grant of one work: an entry, and a new snapshot in the same transaction."""
    if by_role not in ROLES:
        raise BadRequest(
            f"by_role: {by_role[:40]!r} is no role", code="role_unknown", next_step=f"name one of {', '.join(ROLES)}"
        )
    if grant not in {"train", "compare", "name"}:
        raise BadRequest(
            f"grant: {grant!r} is not known", code="grant_unknown", next_step="name train, compare or name"
        )
    with runtime.sessions.begin() as session:
        collection_id = session.execute(sa.select(Work.collection_id).where(Work.id == work_id)).scalar()
        if collection_id is None:
            raise NotFound(f"no work {work_id}", code="work_unknown", next_step="look the work up in its collection")
        alone(session, collection_id)
        work = session.get_one(Work, work_id)
        if getattr(work, f"grant_{grant}") == allowed:
            return
        setattr(work, f"grant_{grant}", allowed)
        payload = {
            "type": GRANT,
            "work_id": str(work_id),
            "grant": grant,
            "allowed": allowed,
            "by_role": by_role,
            "created_at": runtime.clock().isoformat(),
        }
        entry = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
        session.add(
            GrantChange(
                id=uuid7(),
                work_id=work_id,
                grant=grant,
                allowed=allowed,
                by_role=by_role,
                leaf_hash=sequencer.append(session, entry),
            )
        )
        session.flush()
        newest = newest_snapshot(session, collection_id=work.collection_id)
        if newest is not None:
            freeze(session, runtime, work.collection_id, newest.encoders)
