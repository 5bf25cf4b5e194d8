"""The migrated schema: it is what tables.py says, the log in it only grows, and two may migrate at once."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import procrastinate
import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from procrastinate.schema import SchemaManager
from psycopg import errors, sql

import ledger.database.claims  # noqa: F401 - its tables are compared too
import migrations
from ledger.database.address import Address
from ledger.database.migrate import migrate
from ledger.database.session import Database
from ledger.database.tables import Base
from ledger.errors import Unavailable
from ledger.settings import Settings

REPOSITORY = Path(__file__).parents[2]
LOG = ["log_shards", "log_entries", "log_tiles", "log_checkpoints"]

# Everything the database knows of our tables' columns, constraints and indexes, names included.
SHAPE = """
SELECT 'column', c.relname, a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
       a.attidentity, pg_get_expr(d.adbin, d.adrelid))
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 't'
UNION ALL
SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
"""


@pytest.fixture
def owner(settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection as lawful_owner, autocommit."""
    assert settings.database_owner_url is not None
    with psycopg.connect(settings.database_owner_url.get_secret_value(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def app(database: Database) -> Iterator[psycopg.Connection]:
    """A connection as lawful_app, autocommit."""
    with database.connect() as connection:
        connection.autocommit = True
        yield connection


@pytest.fixture
def empty(owner: psycopg.Connection, settings: Settings) -> Address:
    """The owner's address of a database with pgvector and nothing else in it."""
    owner.execute("DROP OWNED BY lawful_owner CASCADE")
    owner.execute("CREATE SCHEMA IF NOT EXISTS public")
    assert settings.database_owner_url is not None
    return Address.parse(settings.database_owner_url.get_secret_value(), setting="the test's owner")


# ---- the schema ----------------------------------------------------------------------------------------------------


def test_alembic_finds_no_difference_between_the_tables_and_the_migrations(settings: Settings) -> None:
    assert settings.database_owner_url is not None
    url = sa.make_url(settings.database_owner_url.get_secret_value()).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url)
    options = {
        "include_name": lambda name, kind, _: kind != "table" or not name.startswith("procrastinate_"),
        "compare_server_default": True,
    }
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []
    engine.dispose()


def test_the_tables_as_mapped_and_as_migrated_are_the_same_to_the_last_constraint(
    settings: Settings, owner: psycopg.Connection
) -> None:
    """What alembic does not compare: checks, index predicates and operator classes, names, identity."""
    tables = list(Base.metadata.tables)
    migrated = shape(owner, tables)
    assert len(migrated) > 200
    for table in (*tables, "alembic_version"):
        owner.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier(table)))
    assert settings.database_owner_url is not None
    engine = sa.create_engine(
        sa.make_url(settings.database_owner_url.get_secret_value()).set(drivername="postgresql+psycopg")
    )
    Base.metadata.create_all(engine)
    engine.dispose()
    assert migrated == shape(owner, tables)


def shape(connection: psycopg.Connection, tables: list[str]) -> list[tuple[str, ...]]:
    return sorted(row for row in connection.execute(SHAPE).fetchall() if row[1] in tables)


def test_there_is_one_newest_revision_and_the_package_names_it() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]


def test_the_frozen_queue_schema_is_the_installed_librarys() -> None:
    """When this fails after an upgrade: freeze the library's own new migrations as a revision of ours."""
    frozen = (migrations.FOLDER / "versions/0001_procrastinate.sql").read_text()
    assert frozen.endswith(SchemaManager.get_schema())


# ---- the log only grows --------------------------------------------------------------------------------------------


@pytest.fixture
def logged(app: psycopg.Connection) -> None:
    """One row in each of the log's tables, written as the service."""
    app.execute("INSERT INTO log_shards (name, origin, vkey) VALUES ('2026', 'localhost/ledger/2026', 'key')")
    app.execute("INSERT INTO log_entries (shard, idx, leaf_hash, entry) VALUES ('2026', 0, %s, 'x')", [b"h" * 32])
    tile = [b"r" * 32, b"m" * 512, b"t" * 8192]
    app.execute("INSERT INTO log_tiles (shard, level, idx, root, middle, data) VALUES ('2026', 0, 0, %s, %s, %s)", tile)
    app.execute("INSERT INTO log_checkpoints (shard, size, root, note) VALUES ('2026', 1, %s, 'n')", [b"r" * 32])


CHANGES = ["UPDATE {} SET shard = 'other'", "DELETE FROM {}", "TRUNCATE {} CASCADE"]


def change(statement: str, table: str) -> sql.Composed:
    shard = "name" if table == "log_shards" else "shard"
    return sql.SQL(statement.replace("shard", shard)).format(sql.Identifier(table))  # type: ignore[arg-type]


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize("table", LOG)
def test_the_service_may_read_and_append_and_nothing_else(app: psycopg.Connection, table: str) -> None:
    for statement in CHANGES:
        with pytest.raises(errors.InsufficientPrivilege):
            app.execute(change(statement, table))
    row = app.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    assert row == (1,)


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize("table", LOG)
def test_even_the_owner_is_stopped(owner: psycopg.Connection, table: str) -> None:
    for statement in CHANGES:
        with pytest.raises(errors.RestrictViolation, match="only grows"):
            owner.execute(change(statement, table))


@pytest.mark.usefixtures("logged")
def test_even_a_superuser_who_poses_as_a_replica_is_stopped(superuser_url: str, settings: Settings) -> None:
    assert settings.database_url is not None
    name = sa.make_url(settings.database_url.get_secret_value()).database
    url = sa.make_url(superuser_url).set(drivername="postgresql", database=name)
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")
        for table in LOG:
            for statement in CHANGES:
                with pytest.raises(errors.RestrictViolation, match="only grows"):
                    superuser.execute(change(statement, table))


@pytest.mark.usefixtures("logged")
def test_an_upsert_is_a_change_too(app: psycopg.Connection, owner: psycopg.Connection) -> None:
    upsert = (
        "INSERT INTO log_entries (shard, idx, leaf_hash, entry) VALUES ('2026', 0, %s, 'y')"
        " ON CONFLICT (shard, idx) DO UPDATE SET entry = 'y'"
    )
    with pytest.raises(errors.InsufficientPrivilege):
        app.execute(upsert, [b"g" * 32])
    with pytest.raises(errors.RestrictViolation):
        owner.execute(upsert, [b"g" * 32])


def test_the_outbox_can_be_filled_and_emptied_but_not_changed(app: psycopg.Connection) -> None:
    app.execute("INSERT INTO log_outbox (leaf_hash, entry) VALUES (%s, 'x')", [b"h" * 32])
    with pytest.raises(errors.InsufficientPrivilege):
        app.execute("UPDATE log_outbox SET entry = 'y'")
    assert app.execute("DELETE FROM log_outbox RETURNING entry").fetchall() == [(b"x",)]


def test_the_service_may_not_touch_the_schema(app: psycopg.Connection) -> None:
    for statement in (
        "DROP TRIGGER only_grows ON log_entries",
        "ALTER TABLE log_entries DISABLE TRIGGER ALL",
        "DROP TABLE log_entries CASCADE",
        "CREATE TABLE mine (x int)",
        "UPDATE alembic_version SET version_num = '0000'",
        "SET ROLE lawful_owner",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            app.execute(statement)


def test_every_table_is_within_the_services_reach(app: psycopg.Connection) -> None:
    for table in Base.metadata.tables:
        assert app.execute("SELECT has_table_privilege(%s, 'SELECT')", [table]).fetchone() == (True,)
        assert app.execute("SELECT has_table_privilege(%s, 'INSERT')", [table]).fetchone() == (True,)
        assert app.execute("SELECT has_table_privilege(%s, 'TRUNCATE')", [table]).fetchone() == (False,)


# ---- the queue -----------------------------------------------------------------------------------------------------


def test_the_service_can_put_a_job_into_the_queue_and_work_on_it(database: Database) -> None:
    import asyncio

    seen: list[int] = []
    connector = procrastinate.PsycopgConnector(conninfo=database.async_dsn)
    queue = procrastinate.App(connector=connector)

    @queue.task(name="look")
    def look(number: int) -> None:
        seen.append(number)

    async def work() -> None:
        async with queue.open_async():
            await look.defer_async(number=7)
            await queue.run_worker_async(wait=False, install_signal_handlers=False)

    asyncio.run(work())
    assert seen == [7]
    with database.connect() as connection:
        assert connection.execute("SELECT status::text FROM procrastinate_jobs").fetchall() == [("succeeded",)]


# ---- migrating -----------------------------------------------------------------------------------------------------

MIGRATE = """
import sys
from ledger.database.address import Address
from ledger.database.migrate import migrate
migrate(Address.parse(sys.argv[1], setting="the test"))
"""


def test_an_empty_database_is_migrated_and_a_second_time_changes_nothing(
    empty: Address, owner: psycopg.Connection
) -> None:
    migrate(empty)
    before = owner.execute(SHAPE).fetchall()
    migrate(empty)
    assert owner.execute(SHAPE).fetchall() == before
    assert owner.execute("SELECT version_num FROM alembic_version").fetchall() == [(migrations.HEAD,)]


@pytest.mark.usefixtures("empty")
def test_of_two_processes_that_migrate_at_once_one_waits(settings: Settings, owner: psycopg.Connection) -> None:
    assert settings.database_owner_url is not None
    url = settings.database_owner_url.get_secret_value()
    # Both are held at the gate, so that both have found the database empty, and then let go together.
    owner.execute("SELECT pg_advisory_lock(%s)", [migrations.ADVISORY_LOCK])
    both = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, url], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while owner.execute(waiting).fetchone() != (2,):
        assert all(process.poll() is None for process in both), [process.communicate() for process in both]
    assert owner.execute("SELECT to_regclass('records')").fetchone() == (None,)
    owner.execute("SELECT pg_advisory_unlock(%s)", [migrations.ADVISORY_LOCK])
    for process in both:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
    assert owner.execute("SELECT version_num FROM alembic_version").fetchall() == [(migrations.HEAD,)]


def test_a_migration_that_fails_leaves_nothing_behind(empty: Address, owner: psycopg.Connection) -> None:
    owner.execute("CREATE TABLE log_tiles (in_the_way int)")  # in the middle of the first revision
    with pytest.raises(Unavailable) as caught:
        migrate(empty)
    assert caught.value.code == "database_migration_failed"
    assert "log_tiles" in caught.value.detail
    assert owner.execute("SELECT to_regclass('records')").fetchone() == (None,)
    owner.execute("DROP TABLE log_tiles")
    migrate(empty)
    assert owner.execute("SELECT version_num FROM alembic_version").fetchall() == [(migrations.HEAD,)]
