"""A log's tiles and entry bundles under one checkpoint, and the tree computed anew from them.

Nothing that the log computed is believed: new leaf hashes, from level-0 tiles or from the entries themselves, are
hashed up to a root, which must be the signed one; every upper tile that this completes must be served just so. The
memory needed is that of a tree's right edge and of the few answers on their way, however large the log is.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ledger.audit.fetch import Fetch
from ledger.audit.findings import Finding, Refuted
from ledger.log import merkle
from ledger.log.statements import MAX_ENTRY_BYTES

Wanted = TypeVar("Wanted")
Got = TypeVar("Got")

AT_ONCE = 8
"""Answers on their way at a time: hides the network's delay. A full bundle may have 16.8 MB."""


class Files:
    """What the log serves for the tree of `size` leaves; every answer has exactly the form that this size asks for.

    A partial file that is gone is looked for in the full one that has taken its place, as C2SP tlog-tiles allows.
    Raises as `Fetch` does, and Refuted codes `tile_malformed`, `bundle_malformed`.
    """

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch = fetch
        self.size = size

    def tile(self, level: int, index: int) -> bytes:
        """The tile as wide as the tree of this size has it, 32 bytes a hash."""
        width = merkle.tile_width(level, index, self.size)
        path = merkle.tile_path(level, index, width)
        body, served, path = self._body(path, width, merkle.HASH_BYTES)
        if len(body) != served * merkle.HASH_BYTES:
            detail = f"{path} has {len(body)} bytes instead of {served * merkle.HASH_BYTES}"
            raise Refuted(Finding("tile_malformed", detail))
        return body[: width * merkle.HASH_BYTES]

    def leaves(self, index: int) -> list[bytes]:
        """Leaf hashes as the level-0 tile has them."""
        return _split(self.tile(0, index))

    def entries(self, index: int) -> list[bytes]:
        """The bundle's entries, as many as the level-0 tile of this index has hashes."""
        width = merkle.tile_width(0, index, self.size)
        body, served, path = self._body(entries_path(index, width), width, 2 + MAX_ENTRY_BYTES)
        return _entries(body, served, path)[:width]

    def _body(self, path: str, width: int, unit: int) -> tuple[bytes, int, str]:
        """The file, how many hashes or entries it must have, and where it lay. `unit`: most bytes of one."""
        try:
            return self._fetch(path, width * unit), width, path
        except Refuted as missing:
            full, partial, _ = path.rpartition(".p/")
            if missing.finding.code != "not_served" or not partial:
                raise
            try:
                return self._fetch(full, merkle.TILE_WIDTH * unit), merkle.TILE_WIDTH, full
            except Refuted as gone:
                raise (missing if gone.finding.code == "not_served" else gone) from gone


def entries_path(index: int, width: int = merkle.TILE_WIDTH) -> str:
    """`tile/entries/<N>[.p/<W>]` of C2SP tlog-tiles."""
    return merkle.tile_path(0, index, width).replace("tile/0/", "tile/entries/", 1)


def _entries(body: bytes, count: int, path: str) -> list[bytes]:
    """`count` entries, each after its length as a big-endian uint16, and nothing behind them."""
    entries: list[bytes] = []
    position = 0
    for _ in range(count):
        end = position + 2 + int.from_bytes(body[position : position + 2], "big")
        if position + 2 > len(body) or end > len(body):
            raise Refuted(Finding("bundle_malformed", f"{path} ends within entry {len(entries)} of {count}"))
        entries.append(body[position + 2 : end])
        position = end
    if position != len(body):
        raise Refuted(Finding("bundle_malformed", f"{path} has {len(body) - position} bytes behind its last entry"))
    return entries


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[i : i + merkle.HASH_BYTES] for i in range(0, len(hashes), merkle.HASH_BYTES)]


# ---- the tree anew -------------------------------------------------------------------------------------------------


def served_edge(files: Files, size: int) -> merkle.RightEdge:
    """The right edge that a tree of `size` leaves had, cut out of the tiles that the log serves now, none smaller."""
    edge = merkle.RightEdge(size)
    level = 0
    while nodes := size >> (merkle.TILE_HEIGHT * level):
        index, width = divmod(nodes, merkle.TILE_WIDTH)
        edge.levels.append(_split(files.tile(level, index))[:width] if width else [])
        level += 1
    return edge


OnEntry = Callable[[int, bytes], None]
"""(index, entry), in the log's order, once its hash is known to be the one in its level-0 tile."""


def walk(
    files: Files, edge: merkle.RightEdge, on_entry: OnEntry | None, mark: int, progress: Callable[[int], None]
) -> bytes:
    """Advance `edge` over all leaves of the tree; returns the root that the tree had at `mark` leaves, not below the
    edge's size.

    With `on_entry` every entry is read and hashed, else the level-0 tiles are believed for now: the caller compares the
    root. `progress` hears of the leaves done. Raises Refuted codes `entry_contradicts_tile`, `tile_contradicts`.
    """
    root = edge.root() if mark == edge.size else b""

    def read(index: int) -> tuple[list[bytes], list[bytes]]:
        return files.leaves(index), files.entries(index) if on_entry is not None else []

    first = edge.size // merkle.TILE_WIDTH
    for index, (leaves, entries) in in_order(read, range(first, -(-files.size // merkle.TILE_WIDTH))):
        start = index * merkle.TILE_WIDTH
        if on_entry is not None:
            check_entries(index, entries, leaves)
            for offset in range(edge.size - start, len(entries)):
                on_entry(start + offset, entries[offset])
        fresh = leaves[edge.size - start :]
        cut = mark - edge.size
        if 0 < cut <= len(fresh):
            _extend(files, edge, fresh[:cut])
            root, fresh = edge.root(), fresh[cut:]
        _extend(files, edge, fresh)
        progress(edge.size)
    for level, hashes in enumerate(edge.levels):
        if level and hashes:
            _expect(files, level, (edge.size >> (merkle.TILE_HEIGHT * level)) // merkle.TILE_WIDTH, b"".join(hashes))
    return root


def _extend(files: Files, edge: merkle.RightEdge, leaves: list[bytes]) -> None:
    for tile in edge.append(leaves):
        if tile.level:
            _expect(files, tile.level, tile.index, tile.data)


def _expect(files: Files, level: int, index: int, data: bytes) -> None:
    if files.tile(level, index) != data:
        path = merkle.tile_path(level, index, len(data) // merkle.HASH_BYTES)
        raise Refuted(Finding("tile_contradicts", f"{path} is not what the tiles below it hash to"))


def check_entries(index: int, entries: list[bytes], leaves: list[bytes]) -> None:
    """Raises Refuted code `entry_contradicts_tile` naming the first entry whose leaf hash is not the tile's."""
    for offset, (entry, leaf) in enumerate(zip(entries, leaves, strict=True)):
        if merkle.leaf_hash(entry) != leaf:
            at = index * merkle.TILE_WIDTH + offset
            detail = f"entry {at} does not hash to its leaf in {merkle.tile_path(0, index, len(leaves))}"
            raise Refuted(Finding("entry_contradicts_tile", detail, at), {"index": at, "entry": entry.hex()})


def sampled_bundle(files: Files, index: int, root: bytes) -> list[bytes]:
    """A bundle's entries, each proved to stand under `root`: by the tile of leaf hashes and the tiles above it.

    One inclusion path binds all: the siblings within the tile are hashed from every other leaf. Raises Refuted codes
    `entry_contradicts_tile` and `root_mismatch`.
    """
    entries, leaves = files.entries(index), files.leaves(index)
    check_entries(index, entries, leaves)
    own = b"".join(leaves)
    read = merkle.reader_of_tiles(lambda level, at: own if (level, at) == (0, index) else files.tile(level, at))
    at = index * merkle.TILE_WIDTH
    try:
        path = merkle.inclusion_proof(read, at, files.size)
        merkle.verify_inclusion(leaves[0], at, files.size, path, root)
    except merkle.ProofError as error:
        detail = f"{entries_path(index, len(leaves))} is not under the signed root by the tiles served"
        raise Refuted(Finding("root_mismatch", detail, at)) from error
    return entries


def in_order(do: Callable[[Wanted], Got], wanted: Iterable[Wanted]) -> Iterator[tuple[Wanted, Got]]:
    """`do` each, a few at once, and give the results in order. Stops asking when the reader stops or one fails."""
    pool = ThreadPoolExecutor(AT_ONCE, "audit")
    waiting: deque[tuple[Wanted, Future[Got]]] = deque()
    try:
        for each in wanted:
            waiting.append((each, pool.submit(do, each)))
            if len(waiting) == AT_ONCE:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
