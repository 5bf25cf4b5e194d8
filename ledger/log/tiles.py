"""A shard's public face: its checkpoint, tiles and entry bundles, as C2SP tlog-tiles names and serves them.

Everything is bounded by `log_published.size`: what a checkpoint covers that is not durable beside the log key yet is
shown to nobody. A path has one spelling; every other is unknown, so that no cache holds one tile under two names.
What was served once never changes, so a tile or bundle may be kept for ever.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ledger.errors import NotFound
from ledger.log import merkle
from ledger.log.shard import Head, Query, inconsistent, published_head, tile_reader

ENTRIES = "entries"

_PATH = re.compile(r"(0|[1-9][0-9]?|entries)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TilePath:
    """`level` and `index` of a tile with its first `width` hashes, or the bundle of these entries (`entries`, level 0).

    A width of 256 is the full tile, whose path has no `.p/…`.
    """

    level: int
    index: int
    width: int = merkle.TILE_WIDTH
    entries: bool = False

    @classmethod
    def parse(cls, path: str) -> "TilePath":
        """From what follows `<prefix>/tile/`. Raises NotFound code `tile_unknown` for any but the one spelling."""
        match = _PATH.fullmatch(path)
        if match is not None:
            level, index, width = match[1], match[2].replace("x", "").replace("/", ""), match[3]
            entries = level == ENTRIES
            found = cls(0 if entries else int(level), int(index), int(width or merkle.TILE_WIDTH), entries)
            # x000/001 for 001, a width of 256 or 999, a level of 64: written again, they give another path or none.
            try:
                if str(found) == f"tile/{path}":
                    return found
            except merkle.ProofError:
                pass
        raise _unknown("there is no tile of this name")

    def __str__(self) -> str:
        """The path below the log's prefix, `tile/…`."""
        path = merkle.tile_path(self.level, self.index, self.width)
        return path.replace("tile/0/", f"tile/{ENTRIES}/", 1) if self.entries else path


def read(query: Query, shard: str, path: TilePath) -> bytes:
    """The bytes served under `path`, in two or three queries. Raises NotFound `log_unknown`, or `tile_unknown` beyond
    the published size."""
    size = published_size(query, shard)
    if path.width > merkle.tile_width(path.level, path.index, size):
        raise _unknown(f"{path} reaches beyond the published {size} entries")
    return read_entries(query, shard, path) if path.entries else read_hashes(query, shard, size, path)


def read_hashes(query: Query, shard: str, size: int, path: TilePath) -> bytes:
    """`width` hashes of 32 bytes, of the tree of `size` leaves. Raises Inconsistent when they are not all there."""
    return tile_reader(query, shard, size)(path.level, path.index)[: path.width * merkle.HASH_BYTES]


def read_entries(query: Query, shard: str, path: TilePath) -> bytes:
    """The bundle: each entry after its length as a big-endian uint16. One query. Raises Inconsistent."""
    first = path.index * merkle.TILE_WIDTH
    rows = query(
        "SELECT entry FROM log_entries WHERE shard = %s AND idx >= %s AND idx < %s ORDER BY idx",
        (shard, first, first + path.width),
    )
    if len(rows) != path.width:
        raise inconsistent(f"shard {shard} has {len(rows)} of the entries of {path}", "log_incomplete")
    return b"".join(part for (entry,) in rows for part in (len(entry).to_bytes(2, "big"), entry))


def entries_of(bundle: bytes) -> Iterator[bytes]:
    """The entries of a bundle that this module wrote."""
    position = 0
    while position < len(bundle):
        end = position + 2 + int.from_bytes(bundle[position : position + 2], "big")
        yield bundle[position + 2 : end]
        position = end


def tiles_of(size: int, since: int = 0) -> Iterator[TilePath]:
    """Every tile and bundle of the tree of `size` leaves but the full ones that the tree of `since` leaves has as well.

    Each bundle before its tile, and level after level, each from left to right.
    """
    level = 0
    while nodes := size >> (merkle.TILE_HEIGHT * level):
        first = (since >> (merkle.TILE_HEIGHT * level)) // merkle.TILE_WIDTH
        for index in range(first, -(-nodes // merkle.TILE_WIDTH)):
            width = merkle.tile_width(level, index, size)
            if level == 0:
                yield TilePath(level, index, width, entries=True)
            yield TilePath(level, index, width)
        level += 1


def published_size(query: Query, shard: str) -> int:
    """The number of entries that may be shown. Raises NotFound code `log_unknown`."""
    rows = query("SELECT size FROM log_published WHERE shard = %s", (shard,))
    if not rows:
        raise no_log(shard)
    return int(rows[0][0])


def integrated_head(query: Query, shard: str) -> Head:
    """The newest published head, whoever else may have seen it. Raises NotFound code `log_unknown`."""
    found = published_head(query, shard)
    if found is None:
        raise no_log(shard)
    return found


def no_log(shard: str) -> NotFound:
    """The error for a shard that is not there, or has published nothing yet."""
    return NotFound(
        f"no log {shard!r} is published here",
        code="log_unknown",
        next_step="ask /v1/log for the log's name; a ledger's own is there as soon as its sequencer has started",
    )


def _unknown(detail: str) -> NotFound:
    return NotFound(
        detail,
        code="tile_unknown",
        next_step="ask only for tiles that the log's newest checkpoint has; see docs/log.md",
    )
