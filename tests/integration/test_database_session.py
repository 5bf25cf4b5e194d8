"""Opening a database: what is checked, how fast it is, and what it says when it cannot be had."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from pydantic import SecretStr

import migrations
from ledger.database.embedded import EmbeddedPostgres
from ledger.database.session import Database, open_database
from ledger.database.tables.principals import Principal
from ledger.errors import Unavailable
from ledger.settings import Settings
from tests.external_postgres import external_postgres

REPOSITORY = Path(__file__).parents[2]


def with_url(settings: Settings, url: str, owner_url: str | None = None) -> Settings:
    owner = None if owner_url is None else SecretStr(owner_url)
    return settings.model_copy(update={"database_url": SecretStr(url), "database_owner_url": owner})


def refused(settings: Settings, *, migrate: bool = True) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        open_database(settings, migrate=migrate).close()
    assert caught.value.next_step
    return caught.value


# ---- the ordinary way ----------------------------------------------------------------------------------------------


def test_a_new_ledger_needs_no_setting_at_all(settings: Settings, tmp_path: Path) -> None:
    embedded = settings.model_copy(update={"database_url": None, "database_owner_url": None})
    with open_database(embedded) as database, database.connect() as connection:
        assert connection.execute("SELECT user, current_database()").fetchone() == ("lawful_app", "lawful")
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (0,)
    assert (tmp_path / "postgres/cluster/data/PG_VERSION").exists()
    with pytest.raises(Unavailable):
        database._address.connect()  # closing it stopped the server


def test_the_service_is_lawful_app_with_a_name_and_timeouts(database: Database) -> None:
    with database.sessions() as session:
        asked = "SELECT user, current_setting('application_name'), current_setting('statement_timeout')"
        assert tuple(session.execute(sa.text(asked)).one()) == ("lawful_app", "lawful-ledger", "1min")


def test_a_session_commits_and_a_raw_connection_sees_it(database: Database) -> None:
    with database.sessions.begin() as session:
        session.add(Principal(id="018f0000-0000-7000-8000-000000000000", name="somebody", role="operator"))
    with database.connect() as connection:
        assert connection.autocommit is False
        assert connection.execute("SELECT name FROM principals").fetchall() == [("somebody",)]


def test_what_is_read_without_a_transaction_stays_prepared(database: Database) -> None:
    """psycopg prepares what it has sent five times, and forgets it with a rollback."""
    asked = sa.text("SELECT count(*) FROM records")
    for _ in range(8):
        with database.reading() as session:
            session.execute(asked)
    with database.reading() as session:
        prepared = session.scalars(sa.text("SELECT statement FROM pg_prepared_statements")).all()
    assert asked.text in prepared


def test_a_lock_is_free_again_the_moment_its_context_ends(database: Database) -> None:
    """Closing the connection is not enough: the server may notice that after the next attempt."""
    name = uuid.uuid4()

    def taken() -> bool:
        with database.advisory_lock(name) as ours:
            return ours

    assert all(taken() for _ in range(300))


def test_a_lock_whose_connection_is_lost_hides_no_error_of_the_work_under_it(database: Database) -> None:
    end = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    )

    def work() -> None:
        with database.advisory_lock(uuid.uuid4()), database.connect() as other:
            assert other.execute(end).fetchall() == [(True,)]
            raise KeyError

    with pytest.raises(KeyError):
        work()


def test_the_dsn_for_asynchronous_clients_reaches_the_same_database(database: Database) -> None:
    with psycopg.connect(database.async_dsn) as there, database.connect() as here:
        asked = "SELECT user, current_database()"
        assert there.execute(asked).fetchone() == here.execute(asked).fetchone()


@pytest.fixture(scope="module")
def embedded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def test_opening_an_up_to_date_database_does_not_load_alembic(settings: Settings) -> None:
    assert settings.database_url is not None
    program = (
        "import sys; from ledger.settings import Settings; from ledger.database.session import open_database;"
        f"open_database(Settings(_env_file=None, database_url={settings.database_url.get_secret_value()!r})).close();"
        "print('alembic' in sys.modules, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert told.stdout.split() == ["False", "False"]


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_the_owner_may_not_serve_as_the_service(settings: Settings) -> None:
    assert settings.database_owner_url is not None
    assert (
        refused(with_url(settings, settings.database_owner_url.get_secret_value())).code == "database_role_too_powerful"
    )


def test_a_database_of_a_newer_ledger_is_left_alone(settings: Settings, owner: psycopg.Connection) -> None:
    owner.execute("UPDATE alembic_version SET version_num = '9999'")
    owner.commit()
    error = refused(settings)
    assert error.code == "database_newer"
    assert "9999" in error.detail
    assert migrations.HEAD in error.detail


def test_without_migrate_a_database_that_is_behind_is_refused_and_unchanged(
    settings: Settings, owner: psycopg.Connection
) -> None:
    owner.execute("DROP TABLE alembic_version")
    owner.commit()
    assert refused(settings, migrate=False).code == "database_not_migrated"
    assert owner.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)


def test_a_database_that_is_behind_needs_the_owners_url(settings: Settings, owner: psycopg.Connection) -> None:
    owner.execute("DROP TABLE alembic_version")
    owner.commit()
    assert settings.database_url is not None
    error = refused(with_url(settings, settings.database_url.get_secret_value()))
    assert error.code == "database_not_migrated"
    assert "LAWFUL_DATABASE_OWNER_URL" in error.next_step


def test_a_connection_cut_in_the_middle_is_a_database_that_is_down(
    database: Database, superuser: psycopg.Connection
) -> None:
    with database.sessions() as session:
        backend = session.execute(sa.text("SELECT pg_backend_pid()")).scalar()
        superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
        with pytest.raises(Unavailable) as caught:
            session.execute(sa.text("SELECT 1"))
    assert caught.value.code == "database_down"
    with database.sessions() as session:  # and the next request has a connection that works
        assert session.execute(sa.text("SELECT 1")).scalar() == 1


@pytest.fixture
def owner(settings: Settings) -> Iterator[psycopg.Connection]:
    assert settings.database_owner_url is not None
    with psycopg.connect(settings.database_owner_url.get_secret_value()) as connection:
        yield connection


# ---- an external server --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def external() -> Iterator[str]:
    """The superuser's URL of a Postgres 16 over TCP that asks for passwords and knows nothing of ledgers."""
    with external_postgres(16) as url:
        yield url


@pytest.fixture
def prepared(external: str) -> Iterator[tuple[str, str]]:
    """URLs of lawful_app and lawful_owner for a database made as the documentation says."""
    made = [
        "CREATE ROLE lawful_owner LOGIN PASSWORD 'owner-s3cret'",
        "CREATE ROLE lawful_app LOGIN PASSWORD 'app-s3cret'",
        "CREATE DATABASE ledger OWNER lawful_owner",
    ]
    undone = ["DROP DATABASE ledger WITH (FORCE)", "DROP ROLE IF EXISTS lawful_app", "DROP ROLE lawful_owner"]
    with psycopg.connect(external, autocommit=True) as superuser:
        for statement in made:
            superuser.execute(sql.SQL(statement))  # type: ignore[arg-type]
        place = external.rpartition("@")[2].replace("/postgres", "/ledger")
        yield f"postgresql://lawful_app:app-s3cret@{place}", f"postgresql://lawful_owner:owner-s3cret@{place}"
        for statement in undone:
            superuser.execute(sql.SQL(statement))  # type: ignore[arg-type]


def create_vector(external: str) -> None:
    with psycopg.connect(f"{external.rpartition('/')[0]}/ledger", autocommit=True) as superuser:
        superuser.execute("CREATE EXTENSION vector")


def test_an_external_server_prepared_as_documented_is_migrated_and_served(
    settings: Settings, external: str, prepared: tuple[str, str]
) -> None:
    create_vector(external)
    with open_database(with_url(settings, *prepared)) as database, database.connect() as connection:
        assert connection.execute("SELECT user, current_database()").fetchone() == ("lawful_app", "ledger")
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (0,)


def test_an_owner_who_may_not_create_pgvector_is_told_who_can(settings: Settings, prepared: tuple[str, str]) -> None:
    error = refused(with_url(settings, *prepared))
    assert error.code == "database_rights"
    assert "CREATE EXTENSION" in error.next_step


def test_a_wrong_password_is_named_and_never_shown(settings: Settings, prepared: tuple[str, str]) -> None:
    error = refused(with_url(settings, prepared[0].replace("app-s3cret", "wr0ng-s3cret"), prepared[1]))
    assert error.code == "database_password"
    assert "s3cret" not in f"{error.detail}{error.next_step}{error!r}"
    assert "lawful_app" in error.detail


def test_a_missing_service_role_is_named_by_the_migration(
    settings: Settings, external: str, prepared: tuple[str, str]
) -> None:
    with psycopg.connect(external, autocommit=True) as superuser:
        superuser.execute("DROP ROLE lawful_app")
    url = prepared[1]
    error = refused(with_url(settings, url, url))
    assert error.code == "database_role_missing"
    assert "CREATE ROLE lawful_app" in error.next_step


def test_a_missing_database_is_named(settings: Settings, prepared: tuple[str, str]) -> None:
    assert refused(with_url(settings, prepared[0].replace("/ledger", "/nothing"))).code == "database_missing"


def test_a_missing_role_over_trust_is_named(settings: Settings, embedded_home: Path) -> None:
    server = EmbeddedPostgres(embedded_home / "postgres")
    assert refused(with_url(settings, server.url("nobody_here"))).code == "database_role_missing"
    server.detach()
