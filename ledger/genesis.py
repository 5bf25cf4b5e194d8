"""How a ledger is born: keys, the shard with its first entry, the operator and an API key. Safe to run again."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from ledger import api_keys
from ledger.database.session import open_database
from ledger.database.tables.log import LogShard
from ledger.database.tables.principals import Principal
from ledger.errors import Conflict, Inconsistent
from ledger.keys.announced import announce
from ledger.keys.provider import load_provider
from ledger.keys.ring import KeyRing, init_keys, keys_of
from ledger.log import entries
from ledger.log.announcements import GENESIS, Announcement
from ledger.log.statement_types import sign_entry
from ledger.runtime import Clock, shard_of, utc_now
from ledger.settings import Settings

OPERATOR = "operator"


@dataclass(frozen=True)
class Founded:
    """`api_key` is shown once: only its digest is kept. None when the ledger stood already."""

    origin: str
    log_vkey: str
    api_key: str | None


def found(settings: Settings, clock: Clock = utc_now) -> Founded:
    """Make what is missing of a ledger under `settings.home`. A run cut off anywhere is finished by the next one."""
    try:
        keys = init_keys(
            settings.keys_folder, settings.origin, now=clock(), provider=load_provider(settings.key_provider)
        )
    except Conflict:
        keys = keys_of(settings)
    database = open_database(settings)
    try:
        with database.sessions.begin() as session:
            _found_shard(session, settings.origin, keys, clock)
            api_key = _found_operator(session)
    finally:
        database.close()
    return Founded(settings.origin, keys.log.vkey, api_key)


def _found_shard(session: Session, origin: str, keys: KeyRing, clock: Clock) -> None:
    """The first entry announces the keys that sign everything after it; a proof is never issued at tree size 1."""
    shard = shard_of(origin)
    inserted = session.execute(
        insert(LogShard)
        .values(name=shard, origin=origin, vkey=keys.log.vkey)
        .on_conflict_do_nothing()
        .returning(LogShard.name)
    ).scalar()
    if inserted is None:
        known = session.execute(sa.select(LogShard.origin, LogShard.vkey).where(LogShard.name == shard)).one()
        if (known.origin, known.vkey) != (origin, keys.log.vkey):
            raise Inconsistent(
                f"the database holds the log {known.origin}, the keys folder another one",
                code="log_key_mismatch",
                next_step="point LAWFUL_HOME at the folder with this log's keys; never make new keys for an old log",
            )
        return
    genesis = Announcement(GENESIS, origin, keys.log.vkey, keys.announced, retired=())
    entry = sign_entry(genesis.payload(clock().isoformat()), keys.statements, issuer=origin)
    announce(session, keys.announced, entry, entries.append(session, entry))


def _found_operator(session: Session) -> str | None:
    principal = session.execute(
        insert(Principal)
        .values(id=uuid7(), name=OPERATOR, role="operator", generator=None)
        .on_conflict_do_nothing()
        .returning(Principal.id)
    ).scalar()
    return None if principal is None else api_keys.new_key(session, principal, "made by lawful init")[1]
