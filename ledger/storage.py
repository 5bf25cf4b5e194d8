"""Where files lie: a folder by default, else any bucket obstore can open. What `put` returned from is durable."""

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, from_url

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

    def put(self, key: str, data: bytes) -> None:
        """Write all of `data` under `key` or nothing (obstore writes aside and renames)."""
        try:
            obstore.put(self._store, key, data)
            if self._folder is not None:
                self._sync(self._folder / key)
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
            obstore.delete(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return
        except (BaseError, OSError) as error:
            raise _explain(error, key) from error

    def _sync(self, path: Path) -> None:
        """Without this a power cut could lose a file whose record is already acknowledged."""
        for target in (path, path.parent):
            descriptor = os.open(target, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


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
