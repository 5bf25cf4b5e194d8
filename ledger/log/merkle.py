"""The Merkle tree of RFC 6962 section 2.1 (RFC 9162 section 2.1), SHA-256: roots, proofs, their checks, and tiles.

Pure functions over hashes of 32 bytes. A node is named by (height, index): it stands over the leaves
`index * 2**height` up to, not including, `(index + 1) * 2**height`, all of them present. Everything that needs hashes
of a tree takes a `HashReader`, so the same code proves from a list in memory and from tiles in a database.
Tiles are those of C2SP tlog-tiles: 256 hashes, eight heights a level.

What a valid proof does not prove: that the root is anyone's word. That is the checkpoint's signature (`notes`).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ledger.errors import BadRequest

HASH_BYTES = 32
TILE_HEIGHT = 8
TILE_WIDTH = 256
TILE_BYTES = TILE_WIDTH * HASH_BYTES
MIDDLE_HEIGHT = 4
MIDDLE_BYTES = TILE_BYTES >> MIDDLE_HEIGHT
MAX_SIZE = 2**63 - 1
"""Largest tree: indices fit Postgres' bigint."""

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""

HashReader = Callable[[int, int], bytes]
"""(height, index) → hash of that complete node, 32 bytes."""

TileReader = Callable[[int, int], bytes]
"""(level, index) → the tile's hashes, concatenated; a partial tile at the right edge is as wide as the tree needs."""


class ProofError(BadRequest):
    """A proof that does not show what it is offered for: its length, its order, its indices or its hashes are wrong."""

    code = "proof_invalid"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, next_step="Ask the log for a fresh proof; if that fails too, report the log.")


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one entry: SHA-256(0x00 ‖ entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two children: SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


# ---- roots and proofs ----------------------------------------------------------------------------------------------


def reader_over(leaf_hashes: Sequence[bytes]) -> HashReader:
    """Read nodes from a list of leaf hashes; builds all complete nodes once, about 2n hashes."""
    heights = [list(leaf_hashes)]
    while len(heights[-1]) > 1:
        below = heights[-1]
        heights.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])
    return lambda height, index: heights[height][index]


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1 over leaf hashes; `EMPTY_ROOT` for none."""
    return root_at(reader_over(leaf_hashes), len(leaf_hashes))


def root_at(read: HashReader, size: int) -> bytes:
    """Root of the first `size` leaves."""
    return _subtree(read, 0, size) if size else EMPTY_ROOT


def inclusion_proof(read: HashReader, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1, from the leaf's sibling up; empty for a tree of one leaf.

    Raises ProofError when `index` is not in the tree.
    """
    _require(0 <= index < size <= MAX_SIZE, f"index {index} is not in a tree of size {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:  # walk down to the leaf, noting at each fork the side not taken
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(read, middle, end))
            end = middle
        else:
            path.append(_subtree(read, start, middle))
            start = middle
    path.reverse()
    return path


def consistency_proof(read: HashReader, old_size: int, new_size: int) -> list[bytes]:
    """PROOF(old_size, D[new_size]) of RFC 6962 section 2.1.2; empty when the sizes are equal or the old one is 0.

    Raises ProofError unless 0 ≤ old_size ≤ new_size.
    """
    _require(0 <= old_size <= new_size <= MAX_SIZE, f"sizes {old_size} and {new_size} are not in order")
    if old_size in (0, new_size):
        return []
    path: list[bytes] = []
    start, end = 0, new_size
    while end != old_size:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(_subtree(read, middle, end))
            end = middle
        else:
            path.append(_subtree(read, start, middle))
            start = middle
    if start:  # the old tree's right part is no root that the checker already has
        path.append(_subtree(read, start, end))
    path.reverse()
    return path


def _split(width: int) -> int:
    """The largest power of two below `width` (k of RFC 6962 section 2.1), for a width of 2 or more."""
    return 1 << ((width - 1).bit_length() - 1)


def _subtree(read: HashReader, start: int, end: int) -> bytes:
    """MTH(D[start:end]) for a non-empty range that starts where RFC 6962's recursion would: complete nodes, folded."""
    spine: list[bytes] = []
    while end - start > 1 and (end - start) & (end - start - 1):
        middle = start + _split(end - start)
        height = (middle - start).bit_length() - 1
        spine.append(read(height, start >> height))
        start = middle
    height = (end - start).bit_length() - 1
    value = read(height, start >> height)
    for left in reversed(spine):
        value = node_hash(left, value)
    return value


# ---- checks --------------------------------------------------------------------------------------------------------


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check by RFC 9162 section 2.1.3.2 that the leaf hash `leaf` is at `index` in the tree of `size` under `root`.

    Raises ProofError for anything else: index beyond the size, a path too short or too long, a hash of a wrong length,
    another root.
    """
    _require_hashes(root)
    _require(root_by_inclusion(leaf, index, size, proof) == root, "the path leads to another root")


def root_by_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root, 32 bytes, that the path gives for the leaf hash at `index` of `size` (RFC 9162 section 2.1.3.2).

    By itself it proves nothing: every leaf has a path to some root. Somebody must have signed this one. Raises
    ProofError for an index beyond the size, a path too short or too long, or a hash of a wrong length.
    """
    _require(0 <= index < size <= MAX_SIZE, f"index {index} is not in a tree of size {size}")
    _require_hashes(leaf, *proof)
    position, last, value = index, size - 1, leaf
    for sibling in proof:
        _require(last != 0, f"the path has {len(proof)} hashes, too many for index {index} of {size}")
        if position & 1 or position == last:
            value = node_hash(sibling, value)
            while not position & 1 and position:  # the right edge has no siblings on these heights
                position, last = position >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        position, last = position >> 1, last >> 1
    _require(last == 0, f"the path has {len(proof)} hashes, too few for index {index} of {size}")
    return value


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check by RFC 9162 section 2.1.4.2 that the tree (new_size, new_root) begins with the tree (old_size, old_root).

    Every tree begins with the empty one, whose root must then be `EMPTY_ROOT` and whose proof is empty; equal sizes
    need equal roots and an empty proof. Raises ProofError for anything else.
    """
    _require(0 <= old_size <= new_size <= MAX_SIZE, f"sizes {old_size} and {new_size} are not in order")
    _require_hashes(old_root, new_root, *proof)
    _require(old_size > 0 or old_root == EMPTY_ROOT, "a tree of size 0 has another root")
    _require(new_size > 0 or new_root == EMPTY_ROOT, "a tree of size 0 has another root")
    if old_size in (0, new_size):
        _require(not proof, f"sizes {old_size} and {new_size} need no hashes, {len(proof)} given")
        _require(old_size == 0 or old_root == new_root, "two roots for one size")
        return
    # A power of two is one complete node of the new tree: the checker's own root opens the path.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    _require(bool(proof), f"no hashes to get from size {old_size} to {new_size}")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_value = new_value = path[0]
    for sibling in path[1:]:
        _require(last != 0, f"{len(proof)} hashes are too many for sizes {old_size} and {new_size}")
        if position & 1 or position == last:
            old_value, new_value = node_hash(sibling, old_value), node_hash(sibling, new_value)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new_value = node_hash(new_value, sibling)
        position, last = position >> 1, last >> 1
    _require(last == 0, f"{len(proof)} hashes are too few for sizes {old_size} and {new_size}")
    _require(old_value == old_root, "the path does not lead to the old root")
    _require(new_value == new_root, "the path does not lead to the new root")


def _require(condition: bool, detail: str) -> None:
    if not condition:
        raise ProofError(detail)


def _require_hashes(*hashes: bytes) -> None:
    for value in hashes:
        _require(len(value) == HASH_BYTES, f"a hash has {len(value)} bytes instead of {HASH_BYTES}")


# ---- tiles ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tile:
    """A full tile: `data` is 8,192 bytes, 256 hashes of nodes at height 8 * `level`, left to right.

    `middle` is 512 bytes, the sixteen hashes four heights above them; `root` the one above those. Kept beside the
    tile they spare whoever proves from it all but a tenth of the hashing.
    """

    level: int
    index: int
    data: bytes
    middle: bytes
    root: bytes

    @classmethod
    def of(cls, level: int, index: int, data: bytes) -> "Tile":
        middle = _raised(data, MIDDLE_HEIGHT)
        return cls(level, index, data, middle, tile_root(middle))


@lru_cache(maxsize=1024)
def tile_root(tile: bytes) -> bytes:
    """Hash of the node over a run of a power of two of hashes, such as a full tile: one hash of the level above.

    Remembered for a while (at most 8 MiB): all proofs under one checkpoint hash the same right edge.
    """
    return _raised(tile, (len(tile) // HASH_BYTES).bit_length() - 1)


def _raised(hashes: bytes, heights: int) -> bytes:
    """The hashes so many heights above: node_hash of each two neighbours, which lie side by side already."""
    for _ in range(heights):
        pairs = range(0, len(hashes), 2 * HASH_BYTES)
        hashes = b"".join([hashlib.sha256(b"\x01" + hashes[i : i + 2 * HASH_BYTES]).digest() for i in pairs])
    return hashes


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """`tile/<L>/<N>[.p/<W>]` of C2SP tlog-tiles: index 1234067 is written x001/x234/067.

    Raises ProofError for a level, index or width that has no tile.
    """
    _require(0 <= level <= 63 and 0 <= index <= MAX_SIZE and 1 <= width <= TILE_WIDTH, "no such tile")
    parts = [f"{index % 1000:03d}"]
    while index := index // 1000:
        parts.append(f"x{index % 1000:03d}")
    name = f"tile/{level}/{'/'.join(reversed(parts))}"
    return name if width == TILE_WIDTH else f"{name}.p/{width}"


def tile_width(level: int, index: int, size: int) -> int:
    """How many hashes the tile has in a tree of `size` leaves: 0 (no such tile) to 256."""
    return min(max((size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH, 0), TILE_WIDTH)


def reader_of_tiles(read_tile: TileReader) -> HashReader:
    """Read nodes from tiles, each tile fetched once. Raises ProofError when a tile is narrower than the node needs.

    A full tile may come with its `middle` behind it; upper nodes are then made of that.
    """
    fetched: dict[tuple[int, int], bytes] = {}

    def read(height: int, index: int) -> bytes:
        level, inside = divmod(height, TILE_HEIGHT)
        tile_index, offset = divmod(index << inside, TILE_WIDTH)
        if (level, tile_index) not in fetched:
            fetched[level, tile_index] = read_tile(level, tile_index)
        tile, start = fetched[level, tile_index], offset * HASH_BYTES
        if inside >= MIDDLE_HEIGHT and len(tile) > TILE_BYTES:
            start, inside = TILE_BYTES + (start >> MIDDLE_HEIGHT), inside - MIDDLE_HEIGHT
        run = tile[start : start + (HASH_BYTES << inside)]
        _require(len(run) == HASH_BYTES << inside, f"tile {level}/{tile_index} is too narrow")
        return tile_root(run)

    return read


@dataclass(slots=True)
class RightEdge:
    """The partial tiles of a tree, all that appending needs: `levels[l]` has 0 to 255 hashes of height 8 * l."""

    size: int = 0
    levels: list[list[bytes]] = field(default_factory=list)

    def copy(self) -> "RightEdge":
        return RightEdge(self.size, [list(hashes) for hashes in self.levels])

    def append(self, leaf_hashes: Sequence[bytes]) -> list[Tile]:
        """Add leaves on the right; return the tiles that this made full, lower levels before the ones they complete."""
        full: list[Tile] = []
        for value in leaf_hashes:
            self.size += 1
            level = 0
            while True:
                if level == len(self.levels):
                    self.levels.append([])
                hashes = self.levels[level]
                hashes.append(value)
                if len(hashes) < TILE_WIDTH:
                    break
                tile = Tile.of(level, (self.size >> (TILE_HEIGHT * (level + 1))) - 1, b"".join(hashes))
                full.append(tile)
                hashes.clear()
                value, level = tile.root, level + 1  # noqa: PLW2901 - the carry of a base-256 counter
        return full

    def root(self) -> bytes:
        """Root of the whole tree: complete nodes, from the rightmost and lowest, folded leftwards."""
        value: bytes | None = None
        for hashes in self.levels:
            end = len(hashes)
            while end:
                width = end & -end  # lowest set bit: the smallest complete node stands rightmost
                left = tile_root(b"".join(hashes[end - width : end]))
                value = left if value is None else node_hash(left, value)
                end -= width
        return EMPTY_ROOT if value is None else value
