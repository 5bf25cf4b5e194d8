"""What use cases call: append an entry in their own transaction, find it, wait for it, prove it.

Appending only fills the outbox; `ledger.log.sequencer` moves it into the tree. Reading sees what is committed, from any
process.
"""

import time
from dataclasses import dataclass

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from ledger.database.tables import LogOutbox
from ledger.errors import BadRequest, NotFound, TooLarge, Unavailable
from ledger.log import merkle
from ledger.log.notes import TlogProof
from ledger.log.shard import Head, Query, TileRoots, inconsistent, tile_reader
from ledger.log.statements import MAX_ENTRY_BYTES

_POLL_FIRST, _POLL_LAST = 0.005, 0.05  # seconds
_MAX_ROOTS = 100_000


@dataclass(frozen=True)
class Integrated:
    """An entry's place: `index` in the tree of `size` leaves whose signed note is `checkpoint`. Nobody outside need
    have seen that checkpoint yet."""

    index: int
    size: int
    checkpoint: bytes


def append(session: Session, entry: bytes) -> bytes:
    """Put an entry into the outbox in the caller's transaction; returns its leaf hash, 32 bytes.

    Durable and bound for the log when the caller's transaction commits, gone when it rolls back. The same entry again
    changes nothing, whether it waits or stands in the log already. Raises TooLarge code `entry_too_large` beyond 65,535
    bytes, BadRequest code `entry_empty`.
    """
    if not entry:
        raise BadRequest("an entry of 0 bytes", code="entry_empty", next_step="Sign a statement and append that.")
    if len(entry) > MAX_ENTRY_BYTES:
        raise TooLarge(
            f"an entry of {len(entry)} bytes; the limit is {MAX_ENTRY_BYTES}",
            code="entry_too_large",
            next_step="Log a digest of the content instead of the content.",
        )
    leaf = merkle.leaf_hash(entry)
    row = insert(LogOutbox).values(leaf_hash=leaf, entry=entry)
    session.execute(row.on_conflict_do_nothing(index_elements=[LogOutbox.leaf_hash]))
    return leaf


def find(session: Session, shard: str, leaf_hash: bytes) -> Integrated | None:
    """Where the entry with this leaf hash stands, under the newest checkpoint; None while no checkpoint covers it."""
    place = _place(_query(session), shard, leaf_hash)
    return Integrated(place[0], place[1].size, place[1].note) if place else None


def wait(sessions: sessionmaker[Session], shard: str, leaf_hash: bytes, timeout: float) -> Integrated:
    """Wait up to `timeout` seconds until the entry is integrated; looks every 5 to 50 ms, holds no connection between.

    Raises Unavailable code `log_timeout`. An entry whose transaction is committed is integrated later all the same.
    """
    deadline = time.monotonic() + timeout
    pause = _POLL_FIRST
    while True:
        with sessions() as session:
            integrated = find(session, shard, leaf_hash)
        if integrated is not None:
            return integrated
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unavailable(
                f"the log {shard} has not integrated the entry within {timeout:g} s",
                code="log_timeout",
                next_step="See with `lawful doctor` whether a sequencer runs; then try again, nothing is lost.",
            )
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _POLL_LAST)


def proof(session: Session, shard: str, leaf_hash: bytes) -> bytes:
    """A C2SP tlog-proof for the entry with this leaf hash, under the newest checkpoint. Checked before it is returned.

    Raises NotFound code `entry_not_integrated`, Inconsistent when the shard's own rows do not prove the entry.
    """
    query = _query(session)
    place = _place(query, shard, leaf_hash)
    if place is None:
        raise NotFound(
            f"no checkpoint of the log {shard} covers an entry with this leaf hash",
            code="entry_not_integrated",
            next_step="Wait until the sequencer has integrated it.",
        )
    index, head, vkey = place
    roots = _remembered.setdefault(vkey, {})
    try:
        path = _path(query, shard, leaf_hash, index, head, roots)
    except merkle.ProofError:
        # The roots remembered under this key are another tree's (a database put back, a key used twice): read afresh.
        roots.clear()
        try:
            path = _path(query, shard, leaf_hash, index, head, roots)
        except merkle.ProofError as error:
            raise inconsistent(f"shard {shard}: entry {index} is not under its checkpoint", "log_root") from error
    return TlogProof(index, tuple(path), head.note).to_bytes()


# Roots of full tiles by the log's vkey: a log never changes a full tile. 100,000 roots are 25 million entries.
_remembered: dict[str, TileRoots] = {}


def _path(query: Query, shard: str, leaf: bytes, index: int, head: Head, roots: TileRoots) -> list[bytes]:
    if len(roots) > _MAX_ROOTS:
        roots.clear()
    read = merkle.reader_of_tiles(tile_reader(query, shard, head.size, roots))
    path = merkle.inclusion_proof(read, index, head.size)
    merkle.verify_inclusion(leaf, index, head.size, path, head.root)
    return path


def _place(query: Query, shard: str, leaf_hash: bytes) -> tuple[int, Head, str] | None:
    """(index, newest head, vkey), in one statement: it sees one snapshot, so its head covers its entry."""
    rows = query(
        """
        SELECT entry.idx, head.size, head.root, head.note, shard.vkey
        FROM log_entries entry
        JOIN log_shards shard ON shard.name = entry.shard
        CROSS JOIN LATERAL (SELECT size, root, note FROM log_checkpoints WHERE shard = entry.shard
                            ORDER BY size DESC LIMIT 1) head
        WHERE entry.shard = %s AND entry.leaf_hash = %s AND entry.idx < head.size
        """,
        (shard, leaf_hash),
    )
    return (rows[0][0], Head(*rows[0][1:4]), rows[0][4]) if rows else None


def _query(session: Session) -> Query:
    """In the session's transaction, and with the session's answer to a database that is down."""
    return lambda sql, parameters: session.connection().exec_driver_sql(sql, parameters).fetchall()
