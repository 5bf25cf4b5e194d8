"""The log as files that any web server can serve: `checkpoint`, `tile/…`, as C2SP tlog-tiles lays them out.

Only what is not there yet is written, from the checkpoint that the destination shows on. The checkpoint comes last, so
that whoever reads it finds everything under it; a run that is killed anywhere leaves a log that is whole at its former
size, and the next run goes on from there. Every tile is checked on its way: entries against leaf hashes, and all of it
against the signed root.

    checkpoint          the newest shown (with witnesses' signatures where a policy asks for them)
    checkpoint.before   the one before it: says which partial tiles nobody needs any more
    tile/…              written once, never changed

What an export does not prove: that the operator shows others the same one.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from ledger.errors import Conflict, NotFound
from ledger.log import merkle, tiles
from ledger.log.notes import Checkpoint, NoteError, NoteVerifier, open_note
from ledger.log.policy import Policy
from ledger.log.shard import Head, Query, inconsistent
from ledger.log.state import shown_head
from ledger.log.tiles import TilePath
from ledger.storage import Storage

CHECKPOINT, BEFORE = "checkpoint", "checkpoint.before"
STRIDE = 65_536
"""Entries between two checkpoints of a long export: as much is written again, at most, after a run that was killed."""

AS_NOTE = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "public, max-age=1"}
AS_TILE = {"Content-Type": "application/octet-stream", "Cache-Control": "public, max-age=31536000, immutable"}

_AT_ONCE = 8  # files under way together: a bucket takes its time for each
_CHUNK = 64  # files in memory

Progress = Callable[[int, int], None]
"""(entries exported, entries in all), after each checkpoint."""


def export(
    query: Query,
    shard: str,
    verifier: NoteVerifier,
    destination: Storage,
    policy: Policy | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Head:
    """Bring `destination` to the log's newest shown checkpoint; returns that. Twice is once.

    Raises Conflict `export_of_another_log` (the checkpoint there is not this log's, or contradicts it),
    `export_is_ahead` (it is newer than this database: an older one was put back, or another process exports), NotFound
    as `shown_head` does, Inconsistent when stored rows do not lead to the signed root, and what Storage raises.
    """
    newest = shown_head(query, shard, policy)
    there = _checkpoint(destination, CHECKPOINT, verifier)
    if there is not None:
        _compare(query, shard, there, newest)
    while there is None or there.size < newest.size:
        size = there.size if there is not None else 0
        head = _next(query, shard, size, newest, policy)
        _drop_partial_tiles(destination, verifier)
        _write_tiles(query, shard, size, head, destination)
        # Durable before: everything under the new checkpoint, while readers are still shown the former one.
        if there is not None:
            destination.put(BEFORE, destination.get(CHECKPOINT), AS_NOTE)
        destination.put(CHECKPOINT, head.note, AS_NOTE)
        there = _checkpoint(destination, CHECKPOINT, verifier)
        progress(head.size, newest.size)
    return newest


def _next(query: Query, shard: str, size: int, newest: Head, policy: Policy | None) -> Head:
    """The largest checkpoint within a stride of `size`, or the first beyond; of those that the log shows or showed."""
    if newest.size <= size + STRIDE:
        return newest
    witnessed = "JOIN log_witnessed witnessed USING (shard, size)" if policy is not None else ""
    note = "witnessed.note" if policy is not None else "head.note"
    for bound, order in (("<=", "DESC"), (">", "ASC")):
        rows = query(
            f"SELECT size, head.root, {note} FROM log_checkpoints head {witnessed}"  # noqa: S608 - all of it from here
            f" WHERE shard = %s AND size > %s AND size <= %s AND size {bound} %s"
            f" {'AND witnessed.policy_sha256 = %s' if policy is not None else ''} ORDER BY size {order} LIMIT 1",
            (shard, size, newest.size, size + STRIDE, *([policy.sha256] if policy is not None else [])),
        )
        if rows:
            return Head(*rows[0][:3])
    return newest


def _write_tiles(query: Query, shard: str, since: int, head: Head, destination: Storage) -> None:
    """Everything of the tree under `head` but what the tree of `since` leaves has full. Raises Inconsistent."""
    check = _Check(head.size)
    paths = tiles.tiles_of(head.size, since)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while chunk := list(islice(paths, _CHUNK)):
            files = [(path, _read(query, shard, head.size, path)) for path in chunk]
            for path, data in files:
                if not check.fits(path, data):
                    raise inconsistent(f"shard {shard}: {path} does not fit what is below it", "log_root")
            for written in [pool.submit(destination.put, str(path), data, AS_TILE) for path, data in files]:
                written.result()
    if check.edge.root() != head.root:
        raise inconsistent(f"shard {shard}: the tiles of size {head.size} do not lead to the signed root", "log_root")


def _read(query: Query, shard: str, size: int, path: TilePath) -> bytes:
    return tiles.read_entries(query, shard, path) if path.entries else tiles.read_hashes(query, shard, size, path)


class _Check:
    """Whether each file is made of the ones below it. Those that were exported before were checked then, under a root
    that this log signed; the right edge, which leads to the new root, binds them all."""

    def __init__(self, size: int) -> None:
        self.edge = merkle.RightEdge(size, [[] for _ in range(-(-size.bit_length() // merkle.TILE_HEIGHT))])
        self._leaves = b""
        self._roots: dict[tuple[int, int], bytes] = {}

    def fits(self, path: TilePath, data: bytes) -> bool:
        if path.entries:
            self._leaves = b"".join([merkle.leaf_hash(entry) for entry in tiles.entries_of(data)])
            return len(self._leaves) == path.width * merkle.HASH_BYTES
        hashes = [data[i : i + merkle.HASH_BYTES] for i in range(0, len(data), merkle.HASH_BYTES)]
        if path.width == merkle.TILE_WIDTH:
            self._roots[path.level, path.index] = merkle.tile_root(data)
        else:
            self.edge.levels[path.level] = hashes
        if path.level == 0:
            return data == self._leaves
        first = path.index * merkle.TILE_WIDTH
        below = [self._roots.pop((path.level - 1, first + i), value) for i, value in enumerate(hashes)]
        return below == hashes


# ---- what is there already -------------------------------------------------------------------------------------------


def _checkpoint(destination: Storage, name: str, verifier: NoteVerifier) -> Checkpoint | None:
    """The checkpoint of this log that the destination holds; None where there is none."""
    try:
        note = destination.get(name)
    except NotFound:
        return None
    try:
        return Checkpoint.parse(open_note(note, [verifier]).text)
    except NoteError as error:
        raise Conflict(
            f"the {name} that lies there is not one of {verifier.name}: {error.detail}",
            code="export_of_another_log",
            next_step="export to an empty folder or prefix of its own",
        ) from error


def _compare(query: Query, shard: str, there: Checkpoint, newest: Head) -> None:
    """What was exported before must be the beginning of what is exported now."""
    if there.size > newest.size:
        raise Conflict(
            f"{there.size} entries were exported, and this log shows {newest.size}",
            code="export_is_ahead",
            next_step="see that no other export runs, that the witness policy is the same, and that this database is"
            " not an older one put back",
        )
    rows = query("SELECT root FROM log_checkpoints WHERE shard = %s AND size = %s", (shard, there.size))
    if [bytes(row[0]) for row in rows] != [there.root]:
        raise inconsistent(
            f"shard {shard} is not the log that was exported: another root at {there.size}", "log_forked_from_export"
        )


def _drop_partial_tiles(destination: Storage, verifier: NoteVerifier) -> None:
    """Delete what neither of the last two checkpoints needs: partial tiles of what has become full between them.

    tlog-tiles allows it; a reader who still holds the older of the two finds the full ones.
    """
    before, now = (_checkpoint(destination, name, verifier) for name in (BEFORE, CHECKPOINT))
    if before is None or now is None:
        return
    for path in tiles.tiles_of(before.size, before.size):
        if merkle.tile_width(path.level, path.index, now.size) == merkle.TILE_WIDTH:
            full = TilePath(path.level, path.index, entries=path.entries)
            for key, _ in list(destination.stored(f"{full}.p")):
                destination.delete(key)
