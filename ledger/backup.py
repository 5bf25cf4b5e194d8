"""Backups that cannot fork the log: database, files and keys of one moment, each file named by its digest.

    <folder>/20260102T030405Z/
        manifest.json     what is here, written last: without it the backup is not whole, and is not restored
        database.dump     pg_dump's own format
        files/…           hard links to those of the backup before, where nothing changed
        keys/…            unless they were left out; never `log.head`

`log.head`, the newest head that the ledger has let out, is not part of a backup: put back with an older database it
would vouch for it. Where the file survived, a database that is behind it is refused; where it is lost, the sequencer
refuses until an operator has compared with what others hold (`lawful log adopt`). A backup holds what was erased after
it was made, until it expires.
"""

import datetime as dt
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec
from psycopg.conninfo import make_conninfo

from ledger.database import binaries
from ledger.database.address import Address
from ledger.database.embedded import OWNER, EmbeddedPostgres
from ledger.durable import sync
from ledger.errors import BadRequest, Conflict, Inconsistent, NotFound, Unavailable
from ledger.keys.ring import LOG_VKEY, load_anchors
from ledger.log.head import HeadFile
from ledger.log.notes import Checkpoint, Note
from ledger.runtime import Runtime, open_storage, shard_of
from ledger.settings import Settings

MANIFEST, DUMP, FILES, KEYS, HEAD = "manifest.json", "database.dump", "files", "keys", "log.head"
NAME = "%Y%m%dT%H%M%SZ"
PART = ".part"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`size`: the dump holds at least this many entries of the log. `files`: SHA-256 of each file, by its path."""

    made_at: dt.datetime
    origin: str
    log_vkey: str
    size: int
    with_keys: bool
    with_files: bool
    files: dict[str, str]


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """`size`: entries of the log. `behind`: those that this ledger has shown and the backup lacks; None where no head
    file says what was shown."""

    origin: str
    size: int
    behind: int | None


def back_up(
    runtime: Runtime, folder: Path, *, keys: bool = True, keep: dt.timedelta | None = None
) -> tuple[Path, Manifest]:
    """Make a backup below `folder`, then remove those older than `keep`. The ledger goes on meanwhile.

    Files in a bucket are not copied: its own versioning keeps them. Raises Unavailable `backup_failed`, OSError.
    """
    settings, folder = runtime.settings, folder.absolute()  # Postgres's programs run in another folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made_at = runtime.clock().replace(microsecond=0)
    target = folder / made_at.strftime(NAME)
    part = target.with_name(target.name + PART)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    before = max(_whole(folder), default=None)
    note = runtime.head.read()
    size = Checkpoint.parse(Note.parse(note).text).size if note is not None else 0  # looked at before the dump
    source = _files_of(settings)
    if source is not None:  # before and after: a file that is deleted while the dump is made is in its rows
        _link(source, part / FILES, before and before / FILES)
    _dump(settings, part / DUMP)
    if source is not None:
        _link(source, part / FILES, before and before / FILES)
    if keys:
        shutil.copytree(settings.keys_folder, part / KEYS, ignore=shutil.ignore_patterns(HEAD))
    found = {path.relative_to(part).as_posix(): _sha256(path) for path in sorted(part.rglob("*")) if path.is_file()}
    manifest = Manifest(
        made_at=made_at,
        origin=settings.origin,
        log_vkey=runtime.keys.log.vkey,
        size=size,
        with_keys=keys,
        with_files=source is not None,
        files=found,
    )
    (part / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    for path in (*part.rglob("*"), part):
        sync(path)
    part.rename(target)
    sync(folder)
    if keep is not None:
        expire(folder, made_at - keep)
    return target, manifest


def expire(folder: Path, before: dt.datetime) -> list[Path]:
    """Remove the backups that were made earlier than that, and what runs that were cut off left. Returns them."""
    old = [
        path
        for path in sorted(folder.iterdir())
        if (made := _made_at(path.name.removesuffix(PART))) is not None and made < before
    ]
    for path in old:
        shutil.rmtree(path)
    return old


def restore(settings: Settings, backup: Path) -> Restored:
    """Bring a backup into an empty database and home. Nothing is written before all of it was found whole.

    Raises NotFound `backup_missing`, Inconsistent `backup_damaged`, Conflict `backup_of_another_log`,
    `database_not_empty`, BadRequest `backup_without_keys`, Unavailable `backup_failed`.
    """
    backup = backup.absolute()
    manifest = read_manifest(backup)
    if manifest.origin != settings.origin:
        raise _another(f"the backup is of {manifest.origin}, the setting origin says {settings.origin}")
    there = settings.keys_folder / LOG_VKEY
    if there.exists() and there.read_text().strip() != manifest.log_vkey:
        raise _another(f"{settings.keys_folder} holds the key of another log")
    if not there.exists() and not manifest.with_keys:
        raise BadRequest(
            "this backup holds no keys, and neither does this home",
            code="backup_without_keys",
            next_step="put the keys folder back first, from where it is kept",
        )
    with _owner(settings) as owner:
        with owner.connect() as connection:
            row = connection.execute("SELECT to_regclass('log_entries') IS NULL").fetchone()
            if row != (True,):
                raise Conflict(
                    f"{owner.name} holds a ledger already",
                    code="database_not_empty",
                    next_step="restore into a new, empty database (or --home), and look before you remove anything",
                )
        if not there.exists():
            shutil.copytree(backup / KEYS, settings.keys_folder)
            settings.keys_folder.chmod(0o700)
        storage = open_storage(settings)  # a folder or a bucket, whichever the backup came from
        for name in manifest.files:
            if name.startswith(f"{FILES}/"):
                storage.put(name.removeprefix(f"{FILES}/"), (backup / name).read_bytes())
        whole = ("--no-owner", "--no-comments", "--exit-on-error", "--single-transaction")
        _run(owner, "pg_restore", *whole, backup / DUMP)
        with owner.connect() as connection:
            row = connection.execute(
                "SELECT coalesce(max(size), 0) FROM log_checkpoints WHERE shard = %s", (shard_of(settings.origin),)
            ).fetchone()
            size = int(row[0]) if row is not None else 0
    load_anchors(settings.keys_folder)
    head = settings.keys_folder / HEAD
    note = HeadFile(head).read() if head.exists() else None
    shown = None if note is None else Checkpoint.parse(Note.parse(note).text).size
    return Restored(
        origin=manifest.origin,
        size=size,
        behind=None if shown is None else max(shown - size, 0),
    )


def read_manifest(backup: Path) -> Manifest:
    """The manifest of a backup whose every file is what it was. Raises as `restore` does."""
    try:
        manifest = msgspec.json.decode((backup / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise NotFound(
            f"{backup} is no whole backup: it has no {MANIFEST}",
            code="backup_missing",
            next_step="name one of the folders that `lawful backup` made",
        ) from None
    except msgspec.DecodeError as error:
        raise _damaged(f"{MANIFEST} cannot be read: {error}") from error
    there = {path.relative_to(backup).as_posix() for path in backup.rglob("*") if path.is_file()} - {MANIFEST}
    if there - set(manifest.files):
        raise _damaged(f"{min(there - set(manifest.files))} does not belong to it")
    for name, digest in manifest.files.items():
        path = backup / name
        if not path.is_file() or _sha256(path) != digest:
            raise _damaged(f"{name} is not what was backed up")
    return manifest


def _dump(settings: Settings, target: Path) -> None:
    with _owner(settings) as owner:
        _run(owner, "pg_dump", "--format=custom", "--no-owner", "--no-unlogged-table-data", "--file", target)


def _run(owner: Address, program: str, *arguments: str | Path) -> None:
    """One of Postgres's programs on that database, of the oldest version at hand that understands the server."""
    with owner.connect() as connection:
        major = connection.info.server_version // 10000
    version = min((each for each in binaries.VERSIONS if each >= major), default=binaries.NEWEST)
    with tempfile.TemporaryDirectory(prefix="lawful-backup-") as folder:
        parameters = dict(owner.parameters)
        password = parameters.pop("password", None)
        if password is not None:  # a command line can be read by others
            secret = Path(folder) / "pgpass"
            secret.touch(0o600)
            secret.write_text("*:*:*:*:" + password.replace("\\", "\\\\").replace(":", "\\:") + "\n")
            parameters["passfile"] = str(secret)
        command = [f"--dbname={make_conninfo(**parameters)}", *map(str, arguments)]
        done = binaries.programs(version, None).run(program, *command)
    if done.returncode:
        told = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise Unavailable(
            f"{program} on {owner.name}: {told}",
            code="backup_failed",
            next_step="mend that, then run the same command again: what was begun is begun anew",
        )


@contextmanager
def _owner(settings: Settings) -> Iterator[Address]:
    """The database as its owner, who alone may read and make all of it."""
    if settings.database_url is None:
        server = EmbeddedPostgres(settings.postgres_folder)
        try:
            yield Address.parse(server.url(OWNER), setting="the embedded server's address")
        finally:
            server.detach()
        return
    if settings.database_owner_url is None:
        raise Unavailable(
            "LAWFUL_DATABASE_OWNER_URL is not set; the service's own role cannot read everything",
            code="backup_failed",
            next_step="set it for this command alone",
        )
    yield Address.parse(settings.database_owner_url.get_secret_value(), setting="LAWFUL_DATABASE_OWNER_URL")


def _files_of(settings: Settings) -> Path | None:
    """The folder of the files; None where they are in a bucket."""
    if settings.storage_url is None:
        return settings.files_folder
    parts = urlsplit(settings.storage_url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _link(source: Path, target: Path, before: Path | None) -> None:
    """Copy what is not in `target` yet; what the backup before has in the same size and time is linked to it."""
    for path in sorted(source.rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir() or to.exists() or "#" in path.name:  # half-written by a process that died
            continue
        to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        same = before / path.relative_to(source) if before is not None else None
        try:
            if same is not None and same.exists() and _looks(same) == _looks(path):
                os.link(same, to)
            else:
                shutil.copy2(path, to)
        except FileNotFoundError:
            continue  # it was deleted meanwhile


def _looks(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _whole(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _made_at(path.name) is not None and (path / MANIFEST).exists()]


def _made_at(name: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(name, NAME).replace(tzinfo=dt.UTC)
    except ValueError:
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _another(detail: str) -> Conflict:
    return Conflict(detail, code="backup_of_another_log", next_step="restore it with its own origin and its own keys")


def _damaged(detail: str) -> Inconsistent:
    return Inconsistent(
        f"the backup is damaged: {detail}", code="backup_damaged", next_step="take another one; nothing was restored"
    )
