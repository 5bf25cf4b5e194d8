"""A clean, migrated Postgres database for every test that asks for one.

One server for the whole run, shared by xdist's workers: the product's own embedded one, or, with
`LAWFUL_TEST_DATABASE_URL` set to a superuser's URL, an external throw-away one (`python -m tests.external_postgres`).
Each test gets a copy of a migrated template: 30 ms in memory, a quarter of a second on a disk. Emptying tables instead
is refused by the log's triggers.
"""

import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import hypothesis
import psycopg
import pytest
import sqlalchemy as sa
import structlog
from psycopg import sql

import migrations
from ledger import genesis
from ledger.database import binaries
from ledger.database.address import Address
from ledger.database.embedded import SUPERUSER, EmbeddedPostgres
from ledger.database.migrate import migrate
from ledger.database.session import Database, open_database
from ledger.decoding.decoders import Decoders
from ledger.log.shard import published_head, query_of
from ledger.runtime import Runtime, open_decoders, open_runtime, sequencing
from ledger.settings import Settings
from tests.waiting import until

EXTERNAL = os.environ.get("LAWFUL_TEST_DATABASE_URL")
PASSWORD = "only-for-tests"  # the same for both roles on an external server; the embedded one asks for none
FOLDER = "LAWFUL_TEST_FOLDER"
ROOM = 4 << 30

# xdist's workers and the processes they start share the cores: small networks on two threads each would only wait for
# one another. Read when torch and FAISS load.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A loaded machine is slow, which is no failure; what hangs is ended by the timeout of every test.
hypothesis.settings.register_profile("lawful", deadline=None)
hypothesis.settings.load_profile("lawful")

for name in list(os.environ):  # a developer's own settings stay out of the tests and of the processes they start
    if name.startswith(("LAWFUL_", "OTEL_")) and not name.startswith("LAWFUL_TEST_"):
        del os.environ[name]


def _in_memory() -> str | None:
    """Where Linux keeps files in memory, if there is room: a database is copied there in a tenth of the time."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shutil.disk_usage(shm).free < ROOM:
        return None
    for left in shm.glob("lawful-tests-*"):  # by a run that was killed
        if time.time() - left.stat().st_mtime > 86_400:
            shutil.rmtree(left, ignore_errors=True)
    return str(shm)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="lawful-tests-", dir=_in_memory())  # xdist's workers inherit it
        Path(os.environ[FOLDER]).chmod(0o755)  # Postgres's account has to pass when root runs the tests
    # A test that starts a server of its own below pytest's 0700 folders leaves nothing on root's machine.
    binaries.SYSTEM_FOLDER = Path(os.environ[FOLDER]) / "system"


@pytest.fixture(scope="session", autouse=True)
def decoders_for_many_tests() -> Iterator[None]:
    """One set of decoders for all runtimes of a worker: each costs a second of a processor to start."""
    opened: dict[tuple[int, int], Decoders] = {}

    def shared(settings: Settings) -> AbstractContextManager[Decoders]:
        key = settings.max_upload_bytes, settings.decoders
        if key not in opened:
            opened[key] = open_decoders(settings)
        return nullcontext(opened[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ledger.runtime.open_decoders", shared)
        yield
    for each in opened.values():
        each.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


@pytest.fixture(autouse=True)
def _logging_as_at_the_start() -> None:
    """A command that a test ran in this process has sent the log to a stderr that is gone."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def superuser_url() -> Iterator[str]:
    """A superuser's URL of the run's server."""
    if EXTERNAL is not None:
        yield EXTERNAL
        return
    server = EmbeddedPostgres(Path(os.environ[FOLDER]) / "postgres")
    url = server.url(SUPERUSER, "postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # nothing here outlives the run
        connection.execute("SELECT pg_reload_conf()")
    yield url
    server.detach()


@pytest.fixture(scope="session")
def superuser(superuser_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template(superuser: psycopg.Connection, superuser_url: str) -> str:
    """The name of a migrated database to copy. It is named by the migrations, so an external server makes it once."""
    digest = hashlib.sha256()
    for path in sorted(migrations.FOLDER.rglob("*.[ps]*[yl]")):
        digest.update(path.read_bytes())
    name = f"lawful_template_{digest.hexdigest()[:12]}"
    superuser.execute("SELECT pg_advisory_lock(1)")  # one worker makes it, the others find it
    try:
        if superuser.execute("SELECT 1 FROM pg_database WHERE datname = %s AND NOT datallowconn", [name]).fetchone():
            return name
        for role in ("lawful_owner", "lawful_app"):
            if not superuser.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
                superuser.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
            superuser.execute(
                sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD))
            )
        superuser.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        superuser.execute(sql.SQL("CREATE DATABASE {} OWNER lawful_owner").format(sql.Identifier(name)))
        with psycopg.connect(_url(superuser_url, None, name), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        migrate(Address.parse(_url(superuser_url, "lawful_owner", name), setting="template"))
        superuser.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
    finally:
        superuser.execute("SELECT pg_advisory_unlock(1)")
    return name


@pytest.fixture
def database_name(superuser: psycopg.Connection, template: str) -> Iterator[str]:
    """A database of this test's own, migrated and empty."""
    name = f"test_{uuid.uuid4().hex}"
    names = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    superuser.execute(sql.SQL("CREATE DATABASE {name} OWNER lawful_owner TEMPLATE {template}").format(**names))
    yield name
    superuser.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**names))


@pytest.fixture
def settings(tmp_path: Path, superuser_url: str, database_name: str) -> Settings:
    """Settings of a ledger of this test's own: its home is `tmp_path`, its database `database_name`."""
    return Settings(
        _env_file=None,
        home=tmp_path,
        looks_per_minute=1_000_000,
        database_url=_url(superuser_url, "lawful_app", database_name),
        database_owner_url=_url(superuser_url, "lawful_owner", database_name),
    )


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """That database, open as lawful_app."""
    with open_database(settings) as opened:
        yield opened


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """A founded ledger with a sequencer beside it, whose log has begun."""
    genesis.found(settings)
    with open_runtime(settings) as opened, sequencing(opened):

        def begun() -> object:
            with opened.reading() as session:
                return published_head(query_of(session), opened.shard)

        until(begun)
        yield opened


def _url(superuser_url: str, role: str | None, database: str) -> str:
    url = sa.make_url(superuser_url).set(drivername="postgresql", database=database)
    if role is not None:
        url = url.set(username=role, password=PASSWORD)
    return url.render_as_string(hide_password=False)
