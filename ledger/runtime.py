"""The wiring that the CLI, the web process and the worker share: settings → database, storage, keys, shard, clock."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.orm import Session, sessionmaker

from ledger.credentials.keys import KeyRing, load_keys
from ledger.database.session import Database, open_database
from ledger.log.sequencer import Sequencer, SequencerThread
from ledger.settings import Settings
from ledger.storage import Storage

Clock = Callable[[], dt.datetime]


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Runtime:
    """What use cases are handed. Holds resources; `open_runtime` closes them."""

    settings: Settings
    database: Database
    storage: Storage
    keys: KeyRing
    clock: Clock = utc_now

    @property
    def sessions(self) -> sessionmaker[Session]:
        return self.database.sessions

    @property
    def shard(self) -> str:
        return shard_of(self.settings.origin)

    @property
    def log_vkeys(self) -> list[str]:
        """Verifier keys of the logs whose proofs this checker believes: its own and those of the settings."""
        return [self.keys.log.vkey, *self.settings.log_keys]


def shard_of(origin: str) -> str:
    """A shard is named by the last part of its origin: `host/ledger/2026` → `2026`."""
    return origin.rsplit("/", 1)[-1]


def open_storage(settings: Settings) -> Storage:
    return Storage(settings.storage_url or settings.files_folder.absolute().as_uri())


@contextmanager
def open_runtime(settings: Settings, clock: Clock = utc_now) -> Iterator[Runtime]:
    """Open everything a founded ledger needs; raises what is missing and the command that mends it."""
    keys = load_keys(settings.keys_folder)
    database = open_database(settings)
    try:
        yield Runtime(settings, database, open_storage(settings), keys, clock)
    finally:
        database.close()


@contextmanager
def sequencing(runtime: Runtime) -> Iterator[SequencerThread]:
    """A sequencer beside the caller: it writes the log, or stands by while another process does."""
    sequencer = Sequencer(runtime.database.connect, runtime.keys.log, runtime.shard)
    thread = SequencerThread(sequencer, tick=runtime.settings.sequencer_tick)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()
