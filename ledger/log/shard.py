"""Read one shard from its tables: its newest head, its tiles, its right edge.

Stored are entries, full tiles and checkpoints, all append-only. A partial tile is derived: at level 0 from the entries'
leaf hashes, above from the roots of the full tiles below. So nothing is ever rewritten, and a proof reads a handful of
rows however large the tree is.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.errors import Inconsistent
from ledger.log import merkle

Query = Callable[[str, tuple[Any, ...]], Sequence[Sequence[Any]]]
"""(SQL with %s, parameters) → all rows: the sequencer's own connection, or a session's."""

TileRoots = dict[tuple[int, int], bytes]
"""(level, index) → root of that full tile. A full tile never changes, so its root may be remembered."""

_STOP = "Stop writing to this ledger, keep its database as it is, and compare it with a backup and with the witnesses."


@dataclass(frozen=True)
class Head:
    """A shard's newest checkpoint as stored: `note` is the signed note, byte for byte."""

    size: int
    root: bytes
    note: bytes


def inconsistent(detail: str, code: str) -> Inconsistent:
    """The error for an invariant of the log that does not hold; its next step is always the same."""
    return Inconsistent(detail, code=code, next_step=_STOP)


def newest_head(query: Query, shard: str) -> Head | None:
    """The checkpoint of the largest size; None before the shard's birth."""
    rows = query("SELECT size, root, note FROM log_checkpoints WHERE shard = %s ORDER BY size DESC LIMIT 1", (shard,))
    return Head(*rows[0]) if rows else None


def tile_reader(query: Query, shard: str, size: int, roots: TileRoots | None = None) -> merkle.TileReader:
    """Read tiles of the tree of `size` leaves; `roots` remembers what partial tiles above level 0 are derived from.

    The reader raises Inconsistent code `log_incomplete` when rows that a tree of this size needs are not there.
    """
    known: TileRoots = {} if roots is None else roots

    def read(level: int, index: int) -> bytes:
        width = merkle.tile_width(level, index, size)
        first = index * merkle.TILE_WIDTH
        if width == merkle.TILE_WIDTH:
            return _full_tiles(query, shard, level, [index])[index]
        if level == 0:
            return b"".join(_leaf_hashes(query, shard, first, first + width))
        # `known` may be shared with other threads, one of which may empty it: nothing is read from it twice.
        found = {i: known.get((level - 1, i)) for i in range(first, first + width)}
        missing = [i for i, value in found.items() if value is None]
        for i, data in _full_tiles(query, shard, level - 1, missing).items():
            known[level - 1, i] = found[i] = merkle.tile_root(data)
        return b"".join(value for value in found.values() if value is not None)

    return read


def right_edge(query: Query, shard: str, size: int) -> merkle.RightEdge:
    """The partial tiles of the tree of `size` leaves, read and derived afresh. Raises as `tile_reader` does."""
    read = tile_reader(query, shard, size)
    edge = merkle.RightEdge(size)
    level = 0
    while nodes := size >> (merkle.TILE_HEIGHT * level):
        index, width = divmod(nodes, merkle.TILE_WIDTH)
        tile = read(level, index) if width else b""
        edge.levels.append([tile[i : i + merkle.HASH_BYTES] for i in range(0, len(tile), merkle.HASH_BYTES)])
        level += 1
    return edge


def _leaf_hashes(query: Query, shard: str, start: int, end: int) -> list[bytes]:
    rows = query(
        "SELECT leaf_hash FROM log_entries WHERE shard = %s AND idx >= %s AND idx < %s ORDER BY idx",
        (shard, start, end),
    )
    if len(rows) != end - start:
        raise inconsistent(f"shard {shard} has {len(rows)} of the entries {start} to {end - 1}", "log_incomplete")
    return [row[0] for row in rows]


def _full_tiles(query: Query, shard: str, level: int, indices: Iterable[int]) -> dict[int, bytes]:
    wanted = list(indices)
    if not wanted:
        return {}
    rows = query(
        "SELECT idx, data FROM log_tiles WHERE shard = %s AND level = %s AND idx = ANY(%s)", (shard, level, wanted)
    )
    if len(rows) != len(wanted):
        raise inconsistent(f"shard {shard} lacks tiles of level {level} that its size needs", "log_incomplete")
    return {idx: data for idx, data in rows}  # noqa: C416 - dict() loses the types
