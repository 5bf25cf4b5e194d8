"""Files that the user names: read within the limit, written whole or not at all."""

import os
import tempfile
from pathlib import Path

from ledger.commands.frame import shown
from ledger.errors import BadRequest, Conflict, TooLarge


def read_image(path: Path, limit: int) -> bytes:
    """As `read_whole`, of an image."""
    return read_whole(path, limit, what="an image file")


def read_whole(path: Path, limit: int, *, what: str) -> bytes:
    """All bytes of `path`, which is to be `what`. Raises BadRequest `file_not_found`, `file_unreadable`, TooLarge
    `file_too_large`."""
    try:
        if not path.is_file():
            why = "is a folder" if path.is_dir() else "does not exist" if not path.exists() else "is no ordinary file"
            raise BadRequest(f"{shown(path)} {why}", code="file_not_found", next_step=f"name {what}, by its path")
        size = path.stat().st_size
        if size > limit:
            raise TooLarge(
                f"{shown(path)}: {size} bytes, at most {limit}",
                code="file_too_large",
                next_step="save a smaller one, or raise max_upload_bytes",
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise BadRequest(
            f"{shown(path)} cannot be read: {getattr(error, 'strerror', None) or error}",
            code="file_unreadable",
            next_step="check the file's name and permissions",
        ) from error


def check_writable(path: Path, *, force: bool) -> None:
    """Refuse before any work is done what `write_whole` would refuse after it.

    Raises Conflict `output_exists`, BadRequest `output_folder_missing`.
    """
    if not path.absolute().parent.is_dir():
        raise BadRequest(
            f"the folder of {shown(path)} does not exist",
            code="output_folder_missing",
            next_step="make it, or choose another",
        )
    if path.is_dir() or (path.exists() and not force):
        raise _exists(path)


def write_whole(path: Path, data: bytes, *, force: bool) -> None:
    """Write beside `path` and move there: whoever looks sees the old file or the new one, never half of it.

    Without `force`, a file that appeared meanwhile is kept and Conflict `output_exists` raised.
    """
    descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=".lawful-", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        if force:
            temporary.replace(path)
        else:
            _move_without_overwriting(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _move_without_overwriting(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)  # unlike a rename, fails where a file is
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError:  # a file system without hard links
        if path.exists():
            raise _exists(path) from None
        temporary.replace(path)


def _exists(path: Path) -> Conflict:
    return Conflict(
        f"{shown(path)} exists already",
        code="output_exists",
        next_step="choose another name, or add --force to replace it",
    )


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
