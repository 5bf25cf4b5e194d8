"""Private files: written whole or not at all, 0600 in a folder of 0700, refused where others could have read them."""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from ledger.durable import sync
from ledger.errors import Inconsistent, NotAllowed, NotFound


def write_private(path: Path, text: str) -> None:
    """Make the file `path`, which must not exist, durable with mode 0600; the folder is not synced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace_private(path: Path, text: str) -> None:
    """Put `text` at `path` by one rename: whoever looks finds the old file or the new one, also after a crash."""
    staging = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write_private(staging, text)
        staging.rename(path)
    finally:
        staging.unlink(missing_ok=True)
    sync(path.parent)


def read_private(folder: Path, name: str) -> str:
    """The text of a file that only this account can read.

    Raises NotFound `keys_missing`, NotAllowed `keys_exposed` (others may read it) or `keys_of_another` (another account
    owns file or folder, and could put its own key there), Inconsistent `keys_damaged`.
    """
    path = folder / name
    try:
        for checked in (folder, path):
            _check_private(checked, folder)
        return path.read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"{path} is missing.", code="keys_missing", next_step="Run `lawful init` to make this ledger's keys."
        ) from error
    except (UnicodeDecodeError, PermissionError) as error:
        raise Inconsistent(
            f"{path} cannot be read: {type(error).__name__}.",
            code="keys_damaged",
            next_step="Check the file's owner, or restore the folder from its backup.",
        ) from error


def _check_private(checked: Path, folder: Path) -> None:
    status = checked.stat()
    if status.st_uid != os.geteuid():
        raise NotAllowed(
            f"{checked} belongs to account {status.st_uid}, this process runs as {os.geteuid()}.",
            code="keys_of_another",
            next_step=f"Run as the account that owns {folder}, or run: chown -R {os.geteuid()} {folder}",
        )
    if status.st_mode & 0o077:
        raise NotAllowed(
            f"{checked} can be read by others than its owner.",
            code="keys_exposed",
            next_step=f"Run: chmod -R go= {folder}, and ask who could have read it.",
        )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time on this machine; waits. The lock ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
