"""Where files lie: a folder by default, else any bucket obstore can open. What `put` returned from is durable."""

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, from_url

from ledger.durable import sync
from ledger.errors import LedgerError, NotFound, StorageFull, Unavailable


class Storage:
    """Bytes by key. Keys are made by this program (`files/<sha256>.png`), never from a user's file name."""

    def __init__(self, url: str) -> None:
        """`url`: file:///folder, s3://bucket/prefix, gs://… or az://…; a folder is created when missing."""
        self._folder: Path | None = None
        if url.startswith("file://"):
            self._folder = Path(url2pathname(urlsplit(url).path))
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._store: obstore.store.ObjectStore = LocalStore(self._folder)
        else:
            self._store = from_url(url)

    def put(self, key: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Write all of `data` under `key` or nothing (obstore writes aside and renames).

        A bucket serves it with these `headers`; a folder cannot keep them.
        """
        try:
            if self._folder is not None:
                obstore.put(self._store, key, data)
                self._sync(self._folder, key)
            else:
                obstore.put(self._store, key, data, attributes=dict(headers or {}))
        except (BaseError, OSError) as error:
            raise _explain(error, key) from error

    def get(self, key: str) -> bytes:
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except (BaseError, FileNotFoundError, OSError) as error:
            raise _explain(error, key) from error

    def delete(self, key: str) -> None:
        """Remove `key`; a key that is not there is no error, so that a retry may delete again."""
        try:
            if self._folder is not None and "#" in key and ".." not in key:  # half-written, and no key to the store
                (self._folder / key).unlink(missing_ok=True)
                return
            obstore.delete(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return
        except (BaseError, OSError) as error:
            raise _explain(error, key) from error

    def stored(self, prefix: str) -> Iterator[tuple[str, dt.datetime]]:
        """(key, when it was last written, aware) of everything under a prefix such as `files`, in no order.

        In a folder, also what a process that died in `put` left half-written (`<key>#<n>`), which no store lists.
        """
        try:
            for batch in obstore.list(self._store, prefix):
                yield from ((str(each["path"]), each["last_modified"]) for each in batch)
            if self._folder is not None:
                for path in (self._folder / prefix).glob("*#*"):
                    yield path.relative_to(self._folder).as_posix(), _modified(path)
        except (BaseError, OSError) as error:
            raise _explain(error, prefix) from error

    def _sync(self, folder: Path, key: str) -> None:
        """Without this a power cut could lose a file whose record is already acknowledged, or a folder made for it."""
        path = folder / key
        for target in (path, *path.parents[: len(path.relative_to(folder).parts)]):
            sync(target)


def _modified(path: Path) -> dt.datetime:
    return dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)


def _explain(error: Exception, key: str) -> LedgerError:
    if isinstance(error, NotFoundError | FileNotFoundError):
        return NotFound(
            f"no file is stored under {key}",
            code="file_missing",
            next_step="run `lawful doctor`; restore the file from a backup",
        )
    if "No space left" in str(error) or "os error 28" in str(error):
        return StorageFull(
            f"no room to store {key}",
            next_step="free some space; nothing was half-written, and an unfinished record resumes by itself",
        )
    return Unavailable(
        f"storage did not take {key}: {type(error).__name__}",
        code="storage_unavailable",
        next_step="check LAWFUL_STORAGE_URL and that its folder or bucket can be written",
    )
