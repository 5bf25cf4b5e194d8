"""The newest head that the log let out, in a file beside its key: what a database put back from a backup cannot know.

A database says of itself that it is whole, an old copy as well as the newest. The file remembers how far the log had
come when somebody was last told, so the sequencer refuses to sign a second history over an older database.

The file has two slots of 4,096 bytes, written in turn, in place: each is a line with the SHA-256 of the note in hex,
the signed note (C2SP signed-note), and NUL bytes. One flush of a block that is there already makes a head durable (a
third of the time that a new file and its folder take), needs no room on a full disk, and when it is cut off leaves the
other slot whole: what was being written is a head that nobody had seen yet.

What it does not prove: anything, to anybody but this log. Whoever can write to the database can write to this file as
well; witnesses guard against that.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from ledger.durable import sync
from ledger.errors import Conflict, Inconsistent, LedgerError, StorageFull, Unavailable
from ledger.log import merkle
from ledger.log.notes import Checkpoint, Note, NoteError, NoteVerifier, open_note
from ledger.log.shard import Head, Query, inconsistent, newest_head, tile_reader

SLOT_BYTES = 4096
"""A slot fills a block of every usual disk, so writing one never touches the other."""

_DIGEST_CHARS = 64


class HeadFile:
    """The file at `path`. It only moves forward, whoever writes to it: two processes with one file hold its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> bytes | None:
        """The newest note kept; None where there is no file. No signature is checked here.

        Raises Inconsistent `log_head_damaged` when neither slot holds a whole note, Unavailable `log_head_unreadable`.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed("read", error, "log_head_unreadable") from error
        return self._newest(_slots(content))

    def write(self, note: bytes) -> None:
        """Keep `note`; on return it is on the disk. A note of a smaller size than the one kept changes nothing.

        Raises StorageFull, Unavailable `log_head_unwritable`, Inconsistent `log_head_damaged`, and
        `log_forked_from_head` for a note of the same size with another root.
        """
        try:
            if not self.path.exists():
                self._create(note)
                return
            with self._locked() as descriptor:
                slots = _slots(os.pread(descriptor, 2 * SLOT_BYTES, 0))
                kept = _checkpoint(self._newest(slots))
                new = _checkpoint(note)
                if new.size == kept.size and new.root != kept.root:
                    raise _forked(f"{self.path} keeps another root for size {kept.size}")
                if new.size <= kept.size:
                    return
                # Over the older one, or over what a write that was cut off has left.
                sizes = [-1 if slot is None else _checkpoint(slot).size for slot in slots]
                os.pwrite(descriptor, _slot(note), SLOT_BYTES * sizes.index(min(sizes)))
                # Durable after this line: a head that the database has committed and that nobody has seen yet.
                os.fdatasync(descriptor)
        except OSError as error:
            raise self._failed("write", error, "log_head_unwritable") from error

    def _create(self, note: bytes) -> None:
        """Both slots at once under another name, then the name: the file is never seen half-made."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        staging = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.new")
        try:
            with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(_slot(note) * 2)
                file.flush()
                os.fsync(file.fileno())
            staging.rename(self.path)
        finally:
            staging.unlink(missing_ok=True)
        sync(self.path.parent)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _newest(self, slots: list[bytes | None]) -> bytes:
        whole = [slot for slot in slots if slot is not None]
        if not whole:
            raise Inconsistent(
                f"{self.path} holds no whole head of the log",
                code="log_head_damaged",
                next_step="Put the file back from a copy. If there is none, compare the database with the newest "
                "checkpoint that anybody else holds, move the file away, and run `lawful log adopt`.",
            )
        return max(whole, key=lambda note: _checkpoint(note).size)

    def _failed(self, verb: str, error: OSError, code: str) -> LedgerError:
        detail = f"cannot {verb} {self.path}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull(detail, next_step="Make room there; nothing new is published until then.")
        return Unavailable(detail, code=code, next_step="See that the folder of the keys is there and writable.")


def compare(
    file: HeadFile, note: bytes | None, verifier: NoteVerifier, query: Query, shard: str, head: Head | None
) -> None:
    """Refuse a database that is not the one, or the continuation of the one, that the file's head was signed over.

    `note` is what the file held (`HeadFile.read`) before `head` was read, the database's newest, None for a shard that
    has yet to begin: in this order a log that goes on meanwhile is never behind what it has let out. A database that is
    ahead of the file is what a crash between commit and flush leaves, and must extend the file's tree (a consistency
    proof from its tiles, RFC 9162 section 2.1.4). Raises Inconsistent with code `log_behind_head`,
    `log_forked_from_head`, `log_head_missing` (entries, but no file), `log_head_damaged` (not by this key).
    """
    size = head.size if head is not None else 0
    if note is None:
        if size:
            raise Inconsistent(
                f"shard {shard} has {size} entries, and {file.path} is missing",
                code="log_head_missing",
                next_step="Bring the file from where this log ran before, with its keys. If it is lost, compare the "
                "database with the newest checkpoint that a witness, an auditor or an issued file holds; only when the "
                "database is not behind it, run `lawful log adopt`.",
            )
        return
    try:
        kept = Checkpoint.parse(open_note(note, [verifier]).text)
    except NoteError as error:
        raise _damaged(file, error.detail) from error
    if kept.origin != verifier.name:
        raise _damaged(file, f"it is of the log {kept.origin}")
    if kept.size > size:
        raise Inconsistent(
            f"shard {shard} has {size} entries, and this log has let out a checkpoint of {kept.size}",
            code="log_behind_head",
            next_step="An older database was put back, or another one is connected: restore the newest backup with its "
            "WAL, or promote the newest replica. Signing on from here would be a second history.",
        )
    if head is None:
        return  # a shard that was let out empty is begun again, with the same note
    if kept.size == head.size and kept.root != head.root:
        raise _forked(f"shard {shard} has another root at size {head.size} than {file.path}")
    read = merkle.reader_of_tiles(tile_reader(query, shard, head.size))
    try:
        path = merkle.consistency_proof(read, kept.size, head.size)
        merkle.verify_consistency(kept.size, head.size, kept.root, head.root, path)
    except merkle.ProofError as error:
        raise _forked(f"shard {shard} does not continue the tree of {kept.size} leaves in {file.path}") from error


def adopt(file: HeadFile, verifier: NoteVerifier, query: Query, shard: str) -> Checkpoint:
    """Take the database's newest head for the file that is missing: an operator's decision, never the sequencer's.

    Returns what was adopted, for the operator to compare with what others hold. Raises Conflict `log_head_exists`, and
    Inconsistent `log_checkpoint` when the database holds no checkpoint of this key.
    """
    if file.path.exists():
        raise Conflict(
            f"{file.path} is there already",
            code="log_head_exists",
            next_step="Nothing has to be adopted. A damaged file is moved away first, by hand.",
        )
    head = newest_head(query, shard)
    try:
        if head is None:
            raise NoteError("none is there")
        checkpoint = Checkpoint.parse(open_note(head.note, [verifier]).text)
    except NoteError as error:
        raise inconsistent(f"shard {shard}: newest checkpoint: {error.detail}", "log_checkpoint") from error
    file.write(head.note)
    return checkpoint


def _slot(note: bytes) -> bytes:
    slot = hashlib.sha256(note).hexdigest().encode() + b"\n" + note
    if len(slot) > SLOT_BYTES:
        raise Inconsistent(
            f"a head's note of {len(note)} bytes; {SLOT_BYTES - _DIGEST_CHARS - 1} fit",
            code="log_head_too_large",
            next_step="Keep the log's own signature lines only; an origin is at most a few hundred bytes.",
        )
    return slot.ljust(SLOT_BYTES, b"\0")


def _slots(content: bytes) -> list[bytes | None]:
    """The two notes; None for a slot that is not whole, whatever came to it."""
    found: list[bytes | None] = []
    for start in (0, SLOT_BYTES):
        digest, _, note = content[start : start + SLOT_BYTES].rstrip(b"\0").partition(b"\n")
        whole = digest == hashlib.sha256(note).hexdigest().encode()
        found.append(note if whole and _is_checkpoint(note) else None)
    return found


def _is_checkpoint(note: bytes) -> bool:
    with contextlib.suppress(NoteError):
        return bool(_checkpoint(note))
    return False


def _checkpoint(note: bytes) -> Checkpoint:
    return Checkpoint.parse(Note.parse(note).text)


def _damaged(file: HeadFile, detail: str) -> Inconsistent:
    return Inconsistent(
        f"{file.path} is not a head that this log's key signed: {detail}",
        code="log_head_damaged",
        next_step="Put this log's own file back, beside its own key.",
    )


def _forked(detail: str) -> Inconsistent:
    return inconsistent(detail, "log_forked_from_head")
