"""The key ring as a running process uses it: a key that another process rotated is taken up without a restart.

The database says which keys are in force, the folder or the provider holds them. Both are looked at again when a file
of the folder has changed, every `LOOK_AGAIN` seconds, and at every use while a successor lies in the folder, for then
somebody is rotating. So between a rotation's commit and the last signature with the old key lies at most the step that
a process was in when it was handed its ring.
"""

import os
import threading
import time
from collections.abc import Callable

import sqlalchemy.exc
import structlog
from sqlalchemy.orm import Session, sessionmaker

from ledger.errors import Inconsistent, Unavailable
from ledger.keys.announced import in_force
from ledger.keys.ring import CREDENTIAL, CREDENTIAL_KEY, NEXT, RECEIPTS, STATEMENTS, InForce, KeyRing, keys_of
from ledger.settings import Settings

LOOK_AGAIN = 5.0  # seconds

_ROTATED = (STATEMENTS, RECEIPTS, CREDENTIAL, CREDENTIAL_KEY)
_logger = structlog.get_logger(__name__)


class CurrentKeys:
    """Call it for the ring that is in force; from any thread. Raises as `load_keys` when it is made, and when the keys
    that the database names are not here any more."""

    def __init__(
        self, settings: Settings, sessions: sessionmaker[Session], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._clock = clock
        self._lock = threading.Lock()
        self._paths = [str(settings.keys_folder / name) for name in _ROTATED]
        self._successors = [str(settings.keys_folder / (name + NEXT)) for name in _ROTATED]
        self._files = self._seen()  # before the rest is read: what changes meanwhile is seen at the next look
        self._in_force, self._ring = self._read()
        self._looked = clock()

    def __call__(self) -> KeyRing:
        files = self._seen()
        if files == self._files and not files[-1] and self._clock() - self._looked < LOOK_AGAIN:
            return self._ring
        # One thread looks, the others go on with what they have: nobody holds a connection while waiting for another.
        if self._lock.acquire(blocking=False):
            try:
                self._look(files)
            finally:
                self._lock.release()
        return self._ring

    def _look(self, files: "_Seen") -> None:
        try:
            if files == self._files and self._announced() == self._in_force:
                self._looked = self._clock()
                return
            announced, ring = self._read()
        except (Unavailable, sqlalchemy.exc.SQLAlchemyError) as error:
            _logger.warning("keys_not_checked", error=type(error).__name__)
            return  # nothing can be written without the database either, nor signed without the provider
        if announced != self._in_force:
            _logger.info("keys_changed", kids={use: kid.hex()[:16] for use, kid in announced.items()})
        self._in_force, self._ring, self._files, self._looked = announced, ring, files, self._clock()

    def _read(self) -> tuple[InForce, KeyRing]:
        """What is in force, and the keys; read again when a rotation was committed between the two."""
        announced = self._announced()
        while True:
            try:
                return announced, keys_of(self._settings, announced)
            except Inconsistent:
                before, announced = announced, self._announced()
                if announced == before:
                    raise

    def _announced(self) -> InForce:
        with self._sessions() as session:
            return in_force(session)

    def _seen(self) -> "_Seen":
        """Which files lie there, and whether a successor is among them."""
        return tuple(map(_identity, self._paths)), any(map(_identity, self._successors))


_Seen = tuple[tuple[tuple[int, int] | None, ...], bool]


def _identity(path: str) -> tuple[int, int] | None:
    """A rename puts another file in its place; an inode alone may come back after two of them."""
    try:
        status = os.stat(path)  # noqa: PTH116 - asked for every signature: pathlib takes three times as long
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
