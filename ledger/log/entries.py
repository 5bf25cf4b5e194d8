"""What use cases call: append entries in their own transaction, find them, wait for them, prove them.

Appending only fills the outbox; `ledger.log.sequencer` moves it into the tree. Reading shows what is *integrated*
(covered by a published checkpoint: committed, and durable beside the log's key) or, where asked for, *witnessed*
(covered by the checkpoint that carries enough cosignatures for the policy in force: `shard.witnessed_head`). A newer
checkpoint that is in the tables and not published yet is shown to nobody.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from ledger.database.tables.log import LogEntry, LogOutbox, LogPublished
from ledger.errors import BadRequest, NotFound, TooLarge, Unavailable
from ledger.log import merkle
from ledger.log.notes import TlogProof
from ledger.log.shard import Head, Query, inconsistent, query_of, tile_reader, tiles_of_inclusion
from ledger.log.statements import MAX_ENTRY_BYTES

Fact = Literal["integrated", "witnessed"]

_POLL_FIRST, _POLL_LAST = 0.005, 0.05  # seconds


@dataclass(frozen=True)
class Integrated:
    """An entry's place: `index` in the tree of `size` leaves whose signed note is `checkpoint`.

    Nobody outside need have seen that checkpoint yet, unless the witnessed place was asked for.
    """

    index: int
    size: int
    checkpoint: bytes


@dataclass(frozen=True)
class Inclusion:
    """An entry's leaf hash at `index`, and its path of hashes from the leaf's sibling up to `head.root`. Checked."""

    index: int
    leaf_hash: bytes
    path: tuple[bytes, ...]
    head: Head

    @property
    def tlog_proof(self) -> bytes:
        """As a C2SP tlog-proof file."""
        return TlogProof(self.index, self.path, self.head.note).to_bytes()


# ---- appending -----------------------------------------------------------------------------------------------------


def append(session: Session, entry: bytes) -> bytes:
    """Put an entry into the outbox in the caller's transaction; returns its leaf hash, 32 bytes.

    Durable and bound for the log when the caller's transaction commits, gone when it rolls back. The same entry again
    changes nothing, whether it waits or stands in the log already. Raises TooLarge code `entry_too_large` beyond 65,535
    bytes, BadRequest code `entry_empty`.
    """
    return append_many(session, [entry])[0]


def append_many(session: Session, entries: Sequence[bytes]) -> list[bytes]:
    """As `append`, for many entries in one statement, which the log keeps in this order; returns their leaf hashes.

    Two transactions that append the same new entries in different orders may deadlock: Postgres ends one of them, and
    its caller tries again. Raises as `append` does, before anything is written.
    """
    leaves = [_checked_leaf(entry) for entry in entries]
    if leaves:
        rows = [{"leaf_hash": leaf, "entry": entry} for leaf, entry in zip(leaves, entries, strict=True)]
        _insert(session, rows)
    return leaves


def _insert(session: Session, rows: list[dict[str, bytes]]) -> None:
    if len(rows) == 1:
        row = insert(LogOutbox).values(rows[0])
        session.execute(row.on_conflict_do_nothing(index_elements=[LogOutbox.leaf_hash]))
        return
    session.connection().exec_driver_sql(
        # Binary (%b): as text each entry is escaped here and parsed there, which costs more than the insert.
        "INSERT INTO log_outbox (leaf_hash, entry)"
        " SELECT leaf_hash, entry FROM unnest(%b::bytea[], %b::bytea[])"
        " WITH ORDINALITY AS given (leaf_hash, entry, place) ORDER BY place ON CONFLICT (leaf_hash) DO NOTHING",
        ([row["leaf_hash"] for row in rows], [row["entry"] for row in rows]),
    )


def _checked_leaf(entry: bytes) -> bytes:
    if not entry:
        raise BadRequest("an entry of 0 bytes", code="entry_empty", next_step="Sign a statement and append that.")
    if len(entry) > MAX_ENTRY_BYTES:
        raise TooLarge(
            f"an entry of {len(entry)} bytes; the limit is {MAX_ENTRY_BYTES}",
            code="entry_too_large",
            next_step="Log a digest of the content instead of the content.",
        )
    return merkle.leaf_hash(entry)


# ---- finding and waiting -------------------------------------------------------------------------------------------


def published_index(leaf_hash: sa.SQLColumnExpression[bytes | None]) -> sa.ScalarSelect[int]:
    """The index of the entry with this leaf hash, for a query over rows that name one; NULL until it is published."""
    return (
        sa.select(LogEntry.idx)
        .join(LogPublished, LogPublished.shard == LogEntry.shard)
        .where(LogEntry.leaf_hash == leaf_hash, LogEntry.idx < LogPublished.size)
        .limit(1)
        .scalar_subquery()
    )


def find(session: Session, shard: str, leaf_hash: bytes, *, witnessed: bool = False) -> Integrated | None:
    """Where the entry with this leaf hash stands, under the newest published (or witnessed) checkpoint.

    None while no such checkpoint covers it.
    """
    place = _place(query_of(session), shard, leaf_hash, witnessed=witnessed)
    return Integrated(place[0], place[1].size, place[1].note) if place else None


def wait(
    sessions: sessionmaker[Session], shard: str, leaf_hash: bytes, timeout: float, until: Fact = "integrated"
) -> Integrated:
    """Wait up to `timeout` seconds until the entry is integrated, or witnessed; looks every 5 to 50 ms, holds no
    connection between.

    Raises Unavailable code `log_timeout`, or `witness_timeout` for an entry that is integrated and not witnessed. An
    entry whose transaction is committed is integrated later all the same.
    """
    deadline = time.monotonic() + timeout
    pause = _POLL_FIRST
    while True:
        with sessions() as session:
            found = find(session, shard, leaf_hash, witnessed=until == "witnessed")
            integrated = found is not None or (until == "witnessed" and find(session, shard, leaf_hash) is not None)
        if found is not None:
            return found
        left = deadline - time.monotonic()
        if left <= 0:
            raise _timeout(shard, timeout, integrated=integrated)
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _POLL_LAST)


def _timeout(shard: str, timeout: float, *, integrated: bool) -> Unavailable:
    if integrated:
        return Unavailable(
            f"the log {shard} holds the entry, and not enough witnesses have signed within {timeout:g} s",
            code="witness_timeout",
            next_step="See with `lawful doctor` which witnesses answer; then try again, nothing is lost.",
        )
    return Unavailable(
        f"the log {shard} has not integrated the entry within {timeout:g} s",
        code="log_timeout",
        next_step="See with `lawful doctor` whether a sequencer runs; then try again, nothing is lost.",
    )


# ---- proving -------------------------------------------------------------------------------------------------------


def proof(session: Session, shard: str, leaf_hash: bytes, *, witnessed: bool = False) -> bytes:
    """A C2SP tlog-proof for the entry with this leaf hash, under the newest published checkpoint, or the newest that is
    witnessed; never the one for the other. Checked before it is returned.

    Raises NotFound code `entry_not_integrated` or `entry_not_witnessed`, Inconsistent when the shard's own rows do not
    prove the entry.
    """
    return inclusion(session, shard, leaf_hash, witnessed=witnessed).tlog_proof


def inclusion(session: Session, shard: str, leaf_hash: bytes, *, witnessed: bool = False) -> Inclusion:
    """What `proof` writes down, in its parts. Raises as `proof` does."""
    query = query_of(session)
    place = _place(query, shard, leaf_hash, witnessed=witnessed)
    if place is None:
        fact = "witnessed" if witnessed else "integrated"
        raise NotFound(
            f"no {fact} checkpoint of the log {shard} covers an entry with this leaf hash",
            code=f"entry_not_{fact}",
            next_step="Wait until the log has integrated it." if not witnessed else "Wait for the log's witnesses.",
        )
    return _inclusion(query, shard, leaf_hash, *place)


def proof_by_index(session: Session, shard: str, index: int, size: int | None = None) -> bytes:
    """A C2SP tlog-proof for the entry at `index`, under the newest published checkpoint or the one of `size`.

    Raises as `inclusion_by_index` does.
    """
    return inclusion_by_index(session, shard, index, size).tlog_proof


def inclusion_by_index(session: Session, shard: str, index: int, size: int | None = None) -> Inclusion:
    """What `proof_by_index` writes down, in its parts.

    Raises NotFound with code `size_not_published` (no such size yet), `size_without_checkpoint` (only sizes at which
    the log signed can be proven against), `entry_not_integrated` (an index at or beyond the size); Inconsistent when
    the shard's own rows do not prove the entry.
    """
    query = query_of(session)
    head, leaf = _head_and_leaf(query, shard, index, size)
    if not 0 <= index < head.size:
        raise NotFound(
            f"index {index} is not in the tree of size {head.size}",
            code="entry_not_integrated",
            next_step="Ask for an index below the size of the checkpoint.",
        )
    if leaf is None:
        raise inconsistent(f"shard {shard} of {head.size} entries lacks entry {index}", "log_incomplete")
    return _inclusion(query, shard, leaf, index, head)


def inclusions(session: Session, shard: str, leaves: Mapping[int, bytes], head: Head) -> list[Inclusion]:
    """Proofs under `head` of the entries at these indices, given with their leaf hashes, in that order; each checked.

    The tiles that they share are read once: at most some hundred entries at a time, which lie near one another.
    Raises Inconsistent when the shard's own rows do not prove them.
    """
    query = query_of(session)
    ahead = dict.fromkeys(tile for index in leaves for tile in tiles_of_inclusion(index, head.size))
    read = merkle.reader_of_tiles(tile_reader(query, shard, head.size, ahead))
    return [_under(read, shard, leaf, index, head) for index, leaf in leaves.items()]


def _head_and_leaf(query: Query, shard: str, index: int, size: int | None) -> tuple[Head, bytes | None]:
    # No bigint: no such index, no such size; and a comparison with a numeric would read the whole table.
    bounded = None if size is None else max(-1, min(size, merkle.MAX_SIZE))
    rows = query(_HEAD_AND_LEAF, (index if 0 <= index <= merkle.MAX_SIZE else -1, bounded, shard))
    if not rows or (size is not None and size > rows[0][0]):
        raise NotFound(
            f"the log {shard} has published {rows[0][0] if rows else 'no'} entries, not {size}",
            code="size_not_published",
            next_step="Ask for a size of at most that of the newest checkpoint.",
        )
    leaf, *head = rows[0][1:]
    if head[0] is None:
        raise NotFound(
            f"the log {shard} signed no checkpoint of size {size}",
            code="size_without_checkpoint",
            next_step="Ask for the size of a checkpoint that you hold, or for none to get the newest.",
        )
    return Head(*head), leaf


def _inclusion(query: Query, shard: str, leaf: bytes, index: int, head: Head) -> Inclusion:
    read = merkle.reader_of_tiles(tile_reader(query, shard, head.size, tiles_of_inclusion(index, head.size)))
    return _under(read, shard, leaf, index, head)


def _under(read: merkle.HashReader, shard: str, leaf: bytes, index: int, head: Head) -> Inclusion:
    try:
        path = merkle.inclusion_proof(read, index, head.size)
        merkle.verify_inclusion(leaf, index, head.size, path, head.root)
    except merkle.ProofError as error:
        raise inconsistent(f"shard {shard}: entry {index} is not under its checkpoint", "log_root") from error
    return Inclusion(index, leaf, tuple(path), head)


_HEAD_AND_LEAF = """
    SELECT published.size,
           (SELECT leaf_hash FROM log_entries WHERE shard = published.shard AND idx = %s),
           head.size, head.root, head.note
    FROM log_published published
    LEFT JOIN log_checkpoints head ON head.shard = published.shard AND head.size = coalesce(%s::bigint, published.size)
    WHERE published.shard = %s
"""

# One statement sees one snapshot, so the head it finds covers the entry it finds.
_UNDER_PUBLISHED = """
    SELECT entry.idx, head.size, head.root, head.note
    FROM log_entries entry
    JOIN log_published published USING (shard)
    JOIN log_checkpoints head ON head.shard = entry.shard AND head.size = published.size
    WHERE entry.shard = %s AND entry.leaf_hash = %s AND entry.idx < head.size
"""
_UNDER_WITNESSED = """
    SELECT entry.idx, head.size, head.root, head.note
    FROM log_entries entry
    JOIN log_witnessed_heads head USING (shard)
    WHERE entry.shard = %s AND entry.leaf_hash = %s AND entry.idx < head.size
"""


def _place(query: Query, shard: str, leaf_hash: bytes, *, witnessed: bool) -> tuple[int, Head] | None:
    """(index, head) under the newest published checkpoint, or the newest witnessed one with its cosignatures."""
    rows = query(_UNDER_WITNESSED if witnessed else _UNDER_PUBLISHED, (shard, leaf_hash))
    return (rows[0][0], Head(*rows[0][1:])) if rows else None
