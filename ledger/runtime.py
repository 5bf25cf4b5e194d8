"""The wiring that the CLI, the web process and the worker share: settings → database, storage, keys, shard, clock."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.orm import Session, sessionmaker

from ledger.database.session import Database, open_database
from ledger.decoding.decoders import Decoders
from ledger.keys.current import CurrentKeys
from ledger.keys.ring import KeyRing, load_anchors
from ledger.log.head import HeadFile
from ledger.log.policy import load_policy
from ledger.log.sequencer import Sequencer, SequencerThread
from ledger.log.timestamps import timestamping
from ledger.settings import Settings
from ledger.storage import Storage
from ledger.witness.rounds import witnessing
from models.images import Limits

Clock = Callable[[], dt.datetime]


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Runtime:
    """What use cases are handed. Holds resources; `open_runtime` closes them."""

    settings: Settings
    database: Database
    storage: Storage
    current_keys: Callable[[], KeyRing]
    files: Decoders
    clock: Clock = utc_now

    @property
    def keys(self) -> KeyRing:
        """The keys in force now: ask again for every piece of work, since another process may rotate them."""
        return self.current_keys()

    @property
    def sessions(self) -> sessionmaker[Session]:
        return self.database.sessions

    @property
    def reading(self) -> sessionmaker[Session]:
        return self.database.reading

    @property
    def shard(self) -> str:
        return shard_of(self.settings.origin)

    @property
    def head(self) -> HeadFile:
        """What this ledger last let out, beside the log's key."""
        return HeadFile(self.settings.keys_folder / "log.head")

    @property
    def log_vkeys(self) -> list[str]:
        """Verifier keys of the logs whose proofs this checker believes: its own and those of the settings."""
        return [self.keys.log.vkey, *self.settings.log_keys]


def shard_of(origin: str) -> str:
    """A shard is named by the last part of its origin: `host/ledger/2026` → `2026`."""
    return origin.rsplit("/", 1)[-1]


def open_decoders(settings: Settings) -> Decoders:
    return Decoders(Limits(max_bytes=settings.max_upload_bytes), at_once=settings.decoders)


def open_storage(settings: Settings) -> Storage:
    return Storage(settings.storage_url or settings.files_folder.absolute().as_uri())


@contextmanager
def open_runtime(settings: Settings, clock: Clock = utc_now) -> Iterator[Runtime]:
    """Open everything a founded ledger needs; raises what is missing and the command that mends it."""
    load_anchors(settings.keys_folder)  # a folder without keys is told before a database is started for it
    database = open_database(settings)
    try:
        keys = CurrentKeys(settings, database.sessions)
        with open_decoders(settings) as files:
            yield Runtime(settings, database, open_storage(settings), keys, files, clock)
    finally:
        database.close()


@contextmanager
def sequencing(runtime: Runtime) -> Iterator[SequencerThread]:
    """A sequencer beside the caller: it writes the log, or stands by while another process does. Where a policy is set,
    its witnesses are asked before anything is signed, and have what is published sent to them.

    Raises PolicyError `policy_malformed`.
    """
    settings = runtime.settings
    with witnessing(
        load_policy(settings.witness_policy) if settings.witness_policy is not None else None,
        runtime.sessions,
        runtime.keys.log.verifier,
        runtime.shard,
        lambda: runtime.keys.statements,
        interval=settings.witness_interval,
        evidence=settings.home / "evidence",
        clock=runtime.clock,
    ) as outside:
        sequencer = Sequencer(
            runtime.database.connect,
            runtime.keys.log,
            runtime.shard,
            outside.published,
            head=runtime.head,
            check_outside=outside.check_outside,
        )
        thread = SequencerThread(sequencer, tick=settings.sequencer_tick)
        thread.start()
        try:
            with (
                outside.beside(thread),
                timestamping(runtime.sessions, runtime.shard, settings.tsa_url, settings.timestamp_interval),
            ):
                yield thread
        finally:
            thread.stop()
