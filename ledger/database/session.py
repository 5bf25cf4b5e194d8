"""The one way to a database: starts or finds it, brings it up to date, hands out sessions and connections."""

import contextlib
import uuid
from collections.abc import Iterator

import psycopg
import sqlalchemy as sa
from psycopg import errors
from sqlalchemy.orm import Session, sessionmaker

import migrations
from ledger.database.address import Address
from ledger.database.embedded import APP, OWNER, EmbeddedPostgres
from ledger.database.migrate import migrate as run_migrations
from ledger.errors import LedgerError, StorageFull, Unavailable
from ledger.settings import Settings

REVISION = "SELECT version_num, has_table_privilege('log_entries', 'UPDATE, DELETE, TRUNCATE') FROM alembic_version"

FAREWELLS = (errors.AdminShutdown, errors.CrashShutdown, errors.IdleInTransactionSessionTimeout)


class Database:
    """A database as `lawful_app`, and the hold on the embedded server if it is that one. Close it when done.

    `sessions.begin()` is a transaction. `reading()` is for reads without one: each statement sees what is committed
    when it runs, as it would in a transaction of ours (READ COMMITTED), and one that is asked often stays prepared.
    """

    def __init__(self, address: Address, server: EmbeddedPostgres | None = None) -> None:
        self._address = address
        self._server = server
        self.engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=self.connect,
            hide_parameters=True,  # an error may be logged: it names the statement, never a prompt
            pool_pre_ping=True,  # a restarted server costs nobody a request
            max_overflow=15,
            use_native_hstore=False,  # saves the search for a type that we do not use
        )
        sa.event.listen(self.engine, "handle_error", self._explain)
        self.sessions: sessionmaker[Session] = sessionmaker(self.engine, expire_on_commit=False)
        # A rollback, which is how a transaction of reads ends, makes psycopg forget every statement that it prepared.
        self.reading: sessionmaker[Session] = sessionmaker(self.engine.execution_options(isolation_level="AUTOCOMMIT"))

    @property
    def async_dsn(self) -> str:
        """A libpq connection string for procrastinate's own pool. It holds the password."""
        return self._address.conninfo

    def connect(self) -> psycopg.Connection:
        """A connection of its own, not autocommit; the caller closes it.

        The embedded server is started again if it has died. Raises Unavailable (`database_down` and others).
        """
        try:
            return self._address.connect()
        except Unavailable as error:
            if self._server is None or error.code != "database_down":
                raise
        self._server.ensure_running()
        self._address = _embedded(self._server, APP)  # its socket may have moved
        return self._address.connect()

    @contextlib.contextmanager
    def advisory_lock(self, name: uuid.UUID) -> Iterator[bool]:
        """Hold the lock of this name if it is free (true), for as long as the context and this process live."""
        connection = self.connect()
        try:
            connection.autocommit = True
            key = int.from_bytes(name.bytes[8:], "big", signed=True)
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
            ours = row is not None and bool(row[0])
            try:
                yield ours
            finally:
                if ours:
                    # Closing alone frees it only once the server notices, which may be after our next attempt.
                    with contextlib.suppress(psycopg.OperationalError):
                        connection.execute("SELECT pg_advisory_unlock(%s)", (key,))
        finally:
            connection.close()

    def close(self) -> None:
        """Closes the pool and lets the embedded server go; twice is once."""
        self.engine.dispose()
        if self._server is not None:
            self._server.detach()

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _explain(self, context: sa.engine.ExceptionContext) -> LedgerError | None:
        """Turns the two failures that no caller can foresee into errors with a code and a next step."""
        # The farewell of a server that shuts down arrives before the driver sees the connection close.
        context.is_disconnect |= isinstance(context.original_exception, FAREWELLS)
        if context.is_disconnect and not context.is_pre_ping:
            return Unavailable(
                f"the connection to {self._address.name} broke",
                code="database_down",
                next_step="Try again; if it stays down, see that Postgres runs.",
            )
        if isinstance(context.original_exception, errors.DiskFull):
            return StorageFull(
                f"the disk of {self._address.name} is full",
                next_step="Free some space there and try again; the transaction was not committed.",
            )
        return None


def open_database(settings: Settings, migrate: bool = True) -> Database:
    """Opens the database of `database_url`, or the embedded one in `<home>/postgres`, at the newest revision.

    `migrate=False` never changes the schema and refuses one that is behind. Raises Unavailable, whose codes are
    `database_not_migrated`, `database_newer`, `database_role_too_powerful`, those of `Address` and
    `migrate.migrate`; for the embedded server also those of `EmbeddedPostgres`, and StorageFull.
    """
    server, owner = None, None
    if settings.database_url is None:
        server = EmbeddedPostgres(settings.postgres_folder)
        app, owner = _embedded(server, APP), _embedded(server, OWNER)
    else:
        app = Address.parse(settings.database_url.get_secret_value(), setting="LAWFUL_DATABASE_URL")
        if settings.database_owner_url is not None:
            given = settings.database_owner_url.get_secret_value()
            owner = Address.parse(given, setting="LAWFUL_DATABASE_OWNER_URL")
    database = Database(app, server)
    try:
        if not _is_current(database, app) and migrate:
            if owner is None:
                raise Unavailable(
                    f"{app.name} has to be migrated, and LAWFUL_DATABASE_OWNER_URL is not set",
                    code="database_not_migrated",
                    next_step="Set LAWFUL_DATABASE_OWNER_URL to the same database as role lawful_owner.",
                )
            run_migrations(owner)
        if not _is_current(database, app):
            raise Unavailable(
                f"{app.name} is behind this version of the ledger",
                code="database_not_migrated",
                next_step="Run `lawful init`, which migrates.",
            )
    except BaseException:
        database.close()
        raise
    return database


def _embedded(server: EmbeddedPostgres, role: str) -> Address:
    return Address.parse(server.url(role), setting="the embedded server's address")


def _is_current(database: Database, app: Address) -> bool:
    """Whether the schema is at HEAD. Raises Unavailable if it is beyond it, or if the role could rewrite the log."""
    with contextlib.closing(database.connect()) as connection:
        try:
            row = connection.execute(REVISION).fetchone()
        except (errors.UndefinedTable, errors.InsufficientPrivilege):
            return False
    if row is None:
        return False
    revision, may_rewrite = row
    if revision > migrations.HEAD:
        raise Unavailable(
            f"{app.name} is at revision {revision}, this ledger knows {migrations.HEAD}",
            code="database_newer",
            next_step="Upgrade lawful-ledger on this machine.",
        )
    if may_rewrite:
        raise Unavailable(
            f"{app.name} may change what the log holds",
            code="database_role_too_powerful",
            next_step="Put the role lawful_app into LAWFUL_DATABASE_URL; lawful_owner is for migrations only.",
        )
    return bool(revision == migrations.HEAD)
