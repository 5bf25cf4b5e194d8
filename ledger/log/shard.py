"""Read one shard from its tables: its heads, its tiles, its right edge.

Stored are entries, full tiles with their roots, and checkpoints, all append-only. A partial tile is derived: at level 0
from the entries' leaf hashes, above from the roots of the full tiles below. So nothing is ever rewritten, and a proof
reads a handful of rows however large the tree is.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from ledger.errors import Inconsistent
from ledger.log import merkle

Query = Callable[[str, tuple[Any, ...]], Sequence[Sequence[Any]]]
"""(SQL with %s, parameters) → all rows: the sequencer's own connection, or a session's."""


def query_of(session: Session) -> Query:
    """Plain rows in the session's transaction, and with the session's answer to a database that is down."""
    return lambda sql, parameters: session.connection().exec_driver_sql(sql, parameters).fetchall()


_STOP = "Stop writing to this ledger, keep its database as it is, and compare it with a backup and with the witnesses."


@dataclass(frozen=True)
class Head:
    """A checkpoint of a shard as stored: `note` is the signed note, byte for byte."""

    size: int
    root: bytes
    note: bytes


def inconsistent(detail: str, code: str) -> Inconsistent:
    """The error for an invariant of the log that does not hold; its next step is always the same."""
    return Inconsistent(detail, code=code, next_step=_STOP)


def newest_head(query: Query, shard: str) -> Head | None:
    """The checkpoint of the largest size; None before the shard's birth. Not to be shown: see `published_head`."""
    rows = query("SELECT size, root, note FROM log_checkpoints WHERE shard = %s ORDER BY size DESC LIMIT 1", (shard,))
    return Head(*rows[0]) if rows else None


def published_head(query: Query, shard: str) -> Head | None:
    """The newest checkpoint that is durable beside the log's key too, which alone may be shown; None before the first.

    It is durable before anybody sees it: not even a crash of the database shows an older one afterwards.
    """
    rows = query(
        "SELECT size, root, note FROM log_published JOIN log_checkpoints USING (shard, size) WHERE shard = %s", (shard,)
    )
    return Head(*rows[0]) if rows else None


def witnessed_head(query: Query, shard: str, policy_sha256: bytes) -> Head | None:
    """The head that counts as witnessed, with its cosignatures; None while there is none.

    The view `log_witnessed_heads` says which one that is. `policy_sha256` is the digest of the caller's policy: where
    the log has announced another one, whose witnesses are not the caller's, there is none for the caller.
    """
    rows = query(
        "SELECT size, root, note FROM log_witnessed_heads WHERE shard = %s AND policy_sha256 = %s",
        (shard, policy_sha256),
    )
    return Head(*rows[0]) if rows else None


def tile_reader(query: Query, shard: str, size: int, ahead: Iterable[tuple[int, int]] = ()) -> merkle.TileReader:
    """Read tiles of the tree of `size` leaves: those named `ahead` as (level, index) in one query, others in one each.

    Full tiles come with their `middle`, for `merkle.reader_of_tiles`.
    It raises Inconsistent code `log_incomplete` when rows that a tree of this size needs are not there. What it reads
    is what is stored: only a proof that leads to a signed root shows that it is right.
    """
    known = _read_tiles(query, shard, size, list(ahead))

    def read(level: int, index: int) -> bytes:
        if (level, index) not in known:
            known.update(_read_tiles(query, shard, size, [(level, index)]))
        return known[level, index]

    return read


def tiles_of_inclusion(index: int, size: int) -> list[tuple[int, int]]:
    """The (level, index) of every tile that a proof of entry `index` in the tree of `size` leaves reads from.

    On each level the one above the entry, whose hashes are the siblings on the way up; and the partial one at the right
    edge, for the part of the tree that is no complete subtree.
    """
    wanted = []
    level = 0
    while nodes := size >> (merkle.TILE_HEIGHT * level):
        above, edge = index >> (merkle.TILE_HEIGHT * (level + 1)), nodes // merkle.TILE_WIDTH
        wanted += [(level, i) for i in sorted({above, edge}) if merkle.tile_width(level, i, size)]
        level += 1
    return wanted


def right_edge(query: Query, shard: str, size: int) -> merkle.RightEdge:
    """The partial tiles of the tree of `size` leaves. Hashed afresh from the full tiles below, which must agree with
    the roots stored beside them: raises Inconsistent `log_root` where they do not, and as `tile_reader` does."""
    edge = merkle.RightEdge(size)
    level = 0
    while nodes := size >> (merkle.TILE_HEIGHT * level):
        first = nodes - nodes % merkle.TILE_WIDTH
        if level == 0:
            hashes = _leaf_hashes(query, shard, first, nodes)
        else:
            hashes = _tile_roots(query, shard, level - 1, first, nodes)
            if hashes != [merkle.tile_root(data) for data in full_tiles(query, shard, level - 1, first, nodes)]:
                raise inconsistent(f"shard {shard}: a tile of level {level - 1} does not lead to its root", "log_root")
        edge.levels.append(hashes)
        level += 1
    return edge


def full_tiles(query: Query, shard: str, level: int, start: int, end: int) -> list[bytes]:
    """The full tiles `start` up to, not including, `end` of a level, 8,192 bytes each. Raises as `tile_reader`."""
    return _tiles(query, shard, "data", level, start, end)


def _tile_roots(query: Query, shard: str, level: int, start: int, end: int) -> list[bytes]:
    return _tiles(query, shard, "root", level, start, end)


def _tiles(query: Query, shard: str, column: str, level: int, start: int, end: int) -> list[bytes]:
    rows = query(
        f"SELECT {column} FROM log_tiles"  # noqa: S608 - one of the two names above
        " WHERE shard = %s AND level = %s AND idx >= %s AND idx < %s ORDER BY idx",
        (shard, level, start, end),
    )
    if len(rows) != end - start:
        raise inconsistent(f"shard {shard} lacks tiles of level {level} that its size needs", "log_incomplete")
    return [row[0] for row in rows]


def _leaf_hashes(query: Query, shard: str, start: int, end: int) -> list[bytes]:
    rows = query(
        "SELECT leaf_hash FROM log_entries WHERE shard = %s AND idx >= %s AND idx < %s ORDER BY idx",
        (shard, start, end),
    )
    if len(rows) != end - start:
        raise inconsistent(f"shard {shard} has {len(rows)} of the entries {start} to {end - 1}", "log_incomplete")
    return [row[0] for row in rows]


def _read_tiles(query: Query, shard: str, size: int, wanted: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """One row, with a column for each tile: put together where it is stored, whatever it is put together from."""
    if not wanted:
        return {}
    columns, parameters = [], list[object]()
    for level, index in wanted:
        width = merkle.tile_width(level, index, size)
        first = index * merkle.TILE_WIDTH
        if width == merkle.TILE_WIDTH:
            columns.append("(SELECT data || middle FROM log_tiles WHERE shard = %s AND level = %s AND idx = %s)")
            parameters += [shard, level, index]
        elif level == 0:
            columns.append(
                "(SELECT string_agg(leaf_hash, '' ORDER BY idx) FROM log_entries"
                " WHERE shard = %s AND idx >= %s AND idx < %s)"
            )
            parameters += [shard, first, first + width]
        else:
            columns.append(
                "(SELECT string_agg(root, '' ORDER BY idx) FROM log_tiles"
                " WHERE shard = %s AND level = %s AND idx >= %s AND idx < %s)"
            )
            parameters += [shard, level - 1, first, first + width]
    (row,) = query(f"SELECT {', '.join(columns)}", tuple(parameters))
    tiles = {place: bytes(tile or b"") for place, tile in zip(wanted, row, strict=True)}
    for (level, index), tile in tiles.items():
        width = merkle.tile_width(level, index, size)
        middle = merkle.MIDDLE_BYTES if width == merkle.TILE_WIDTH else 0
        if len(tile) != width * merkle.HASH_BYTES + middle:
            raise inconsistent(f"shard {shard} lacks what tile {level}/{index} of its size needs", "log_incomplete")
    return tiles
