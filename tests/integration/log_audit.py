"""What the sequencer's tests share: filling the outbox, reading tables, and an outsider's audit of the whole log."""

import contextlib
import itertools
from typing import Any

from ledger.database.session import Database
from ledger.log import merkle
from ledger.log.notes import Checkpoint, NoteSigner, open_note
from ledger.log.sequencer import append

SHARD = "2026"


def submit(database: Database, *entries: bytes) -> list[bytes]:
    with database.sessions.begin() as session:
        return [append(session, entry) for entry in entries]


def numbered(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % i for i in range(start, end)]


def rows(database: Database, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    with contextlib.closing(database.connect()) as connection:
        return connection.execute(sql, parameters).fetchall()


def audit(database: Database, signer: NoteSigner) -> list[Checkpoint]:
    """Read the whole shard as an outsider would: entries, tiles and every checkpoint agree, and each checkpoint
    continues the one before. Returns the checkpoints."""
    stored = rows(database, "SELECT idx, leaf_hash, entry FROM log_entries WHERE shard = %s ORDER BY idx", SHARD)
    assert [idx for idx, _, _ in stored] == list(range(len(stored)))
    leaves = [merkle.leaf_hash(entry) for _, _, entry in stored]
    assert leaves == [leaf for _, leaf, _ in stored]
    assert len(set(leaves)) == len(leaves)

    tiles = rows(database, "SELECT level, idx, data, middle, root FROM log_tiles WHERE shard = %s", SHARD)
    assert {merkle.Tile(*row) for row in tiles} == set(merkle.RightEdge().append(leaves))
    assert all(root == merkle.tile_root(data) == merkle.tile_root(middle) for _, _, data, middle, root in tiles)

    heads = []
    stored = rows(database, "SELECT size, root, note FROM log_checkpoints WHERE shard = %s ORDER BY size", SHARD)
    for size, root, note in stored:
        head = Checkpoint.parse(open_note(note, [signer.verifier]).text)
        assert head == Checkpoint(signer.name, size, root)
        assert root == merkle.root(leaves[:size])
        heads.append(head)
    assert heads[0].size == 0
    assert heads[-1].size == len(leaves)
    read = merkle.reader_over(leaves)
    for old, new in itertools.pairwise(heads):
        path = merkle.consistency_proof(read, old.size, new.size)
        merkle.verify_consistency(old.size, new.size, old.root, new.root, path)
    return heads
