"""Brings a database to the newest revision, as its owner, and says plainly when it cannot be."""

import psycopg
import sqlalchemy as sa
from psycopg import errors

import migrations
from ledger.database.address import Address
from ledger.errors import Unavailable

OLDEST_SERVER = 15
OLDEST_VECTOR = (0, 8)

LOOK = """
SELECT current_setting('server_version_num')::int / 10000,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
       (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'),
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'lawful_app')
"""


def migrate(owner: Address) -> None:
    """Runs what is missing of `migrations/versions`; another process that is doing the same is waited for.

    Each revision happens whole or not at all. Raises Unavailable: `database_too_old`, `vector_missing`,
    `vector_too_old`, `database_role_missing`, `database_rights`, `database_locked`, or as `Address.connect` does.
    """
    from alembic import command  # imports as long as all the rest of a start takes
    from alembic.config import Config

    with owner.connect() as looking:
        row = looking.execute(LOOK).fetchone()
        assert row is not None
        check_server(*row, where=owner.name)
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER).replace("%", "%%"))
    engine = sa.create_engine("postgresql+psycopg://", creator=owner.connect, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (psycopg.Error, sa.exc.DBAPIError) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        raise _failure(cause, owner) from error


def check_server(server: int, installed: str | None, available: str | None, has_app: bool, *, where: str) -> None:
    """Whether this Postgres can hold a ledger; the arguments are the columns of LOOK."""
    if server < OLDEST_SERVER:
        raise Unavailable(
            f"{where} is Postgres {server}; the ledger needs {OLDEST_SERVER} or newer",
            code="database_too_old",
            next_step="Upgrade that server, or leave LAWFUL_DATABASE_URL unset for the embedded one.",
        )
    vector = installed or available
    if vector is None:
        raise Unavailable(
            f"{where} has no pgvector",
            code="vector_missing",
            next_step="Install pgvector 0.8 or newer on that server.",
        )
    if tuple(int(part) for part in vector.split(".")[:2]) < OLDEST_VECTOR:
        raise Unavailable(
            f"{where} has pgvector {vector}; the ledger needs 0.8 or newer",
            code="vector_too_old",
            next_step="Install a newer pgvector there, then as a superuser run: ALTER EXTENSION vector UPDATE.",
        )
    if not has_app:
        raise Unavailable(
            f"{where} has no role lawful_app, which the service runs as",
            code="database_role_missing",
            next_step="As a superuser run: CREATE ROLE lawful_app LOGIN PASSWORD '…'.",
        )


def _failure(cause: BaseException | None, owner: Address) -> Unavailable:
    told = str(cause).strip().splitlines()[0] if cause is not None else "no message"
    if isinstance(cause, errors.InsufficientPrivilege):
        return Unavailable(
            f"migrating {owner.name}: {told}",
            code="database_rights",
            next_step="As a superuser run in that database: CREATE EXTENSION IF NOT EXISTS vector;"
            " GRANT CREATE ON SCHEMA public TO lawful_owner.",
        )
    if isinstance(cause, (errors.LockNotAvailable, errors.QueryCanceled)):
        return Unavailable(
            f"migrating {owner.name}: {told}",
            code="database_locked",
            next_step="Stop the ledger's other processes and try again; nothing was changed.",
        )
    return Unavailable(
        f"migrating {owner.name} failed: {told}",
        code="database_migration_failed",
        next_step="Nothing was changed by the step that failed. Report this with the message above.",
    )
