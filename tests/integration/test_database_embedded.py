"""The embedded server under everything that happens to processes and folders. Real servers, real kills."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.database import binaries, embedded
from ledger.database.embedded import SUPERUSER, EmbeddedPostgres
from ledger.database.postmaster import Postmaster, command_line
from ledger.database.session import open_database
from ledger.errors import LedgerError, StorageFull, Unavailable
from ledger.settings import Settings

REPOSITORY = Path(__file__).parents[2]
READY = "SELECT 'ready'"

# Attaches, says where, and stays until its standard input ends.
HOLDER = """
import sys
from pathlib import Path
from ledger.database.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
print(server.url("lawful_app"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(stopped_cluster: Path) -> Iterator[Path]:
    """A folder with a cluster in it that has run before and is stopped."""
    with open_folder() as folder:
        folder.mkdir()
        subprocess.run(["cp", "-pR", str(stopped_cluster), str(folder / "cluster")], check=True)
        yield folder


@pytest.fixture
def new_folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def stopped_cluster() -> Iterator[Path]:
    with open_folder() as folder:
        EmbeddedPostgres(folder).detach()
        yield folder / "cluster"


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A place for a database that Postgres's account may reach when root runs the tests; pytest's own are 0700."""
    parent = Path(tempfile.mkdtemp(prefix="ll-", dir="/tmp"))
    parent.chmod(0o755)
    try:
        yield parent / "postgres"
    finally:
        if running(parent / "postgres"):
            os.kill(pid(parent / "postgres"), signal.SIGQUIT)
        shutil.rmtree(parent, ignore_errors=True)


def pid(folder: Path) -> int:
    postmaster = Postmaster.read(folder / "cluster/data")
    assert postmaster is not None
    return postmaster.pid


def running(folder: Path) -> bool:
    postmaster = Postmaster.read(folder / "cluster/data")
    return postmaster is not None and postmaster.lives(folder / "cluster/data")


def holder(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def attached(process: subprocess.Popen[str]) -> str:
    """Waits until that holder is attached; the URL it was given."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def query(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return None if row is None else row[0]


# ---- what it is ----------------------------------------------------------------------------------------------------


def test_the_server_listens_on_one_socket_in_a_private_folder_and_on_no_address(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    url = server.url(SUPERUSER)
    assert query(url, "SHOW listen_addresses") == ""
    assert query(url, "SHOW unix_socket_directories") == str(server.socket_folder)
    assert server.socket_folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "cluster/data").stat().st_mode & 0o777 == 0o700
    assert query(url, "SHOW fsync") == "on"
    server.detach()


def test_it_has_the_ledgers_two_roles_and_pgvector_from_its_first_moment(new_folder: Path) -> None:
    server = EmbeddedPostgres(new_folder)
    for role in ("lawful_owner", "lawful_app"):
        url = server.url(role)
        assert query(url, "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = user") is False
    assert query(server.url("lawful_owner"), "SELECT pg_catalog.pg_get_userbyid(datdba) FROM pg_database"
                 " WHERE datname = current_database()") == "lawful_owner"  # fmt: skip
    assert query(server.url("lawful_app"), "SELECT '[1,2]'::halfvec::text") == "[1,2]"
    server.detach()


def test_another_servers_environment_is_not_ours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("LC_ALL", "xx_XX.nonsense")
    server = EmbeddedPostgres(folder)
    assert query(server.url(SUPERUSER), "SHOW port") == "5432"
    server.detach()


# ---- who holds it --------------------------------------------------------------------------------------------------


def test_the_last_holder_to_leave_stops_it(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    other = holder(folder)
    attached(other)
    assert server.detach() is False
    assert running(folder)
    other.communicate()
    assert not running(folder)


def test_letting_go_twice_is_once(folder: Path) -> None:
    first, second = EmbeddedPostgres(folder), EmbeddedPostgres(folder)
    assert first.detach() is False
    assert first.detach() is False
    assert running(folder)
    assert second.detach() is True
    assert second.detach() is False


def test_a_holder_that_is_killed_counts_no_longer(folder: Path) -> None:
    killed = holder(folder)
    attached(killed)
    server = EmbeddedPostgres(folder)
    killed.kill()
    killed.communicate()
    assert running(folder)
    assert server.detach() is True
    assert not running(folder)


def test_an_orphan_is_adopted_and_stopped_by_whoever_comes_next(folder: Path) -> None:
    killed = holder(folder)
    attached(killed)
    killed.kill()
    killed.communicate()
    orphan = pid(folder)
    assert running(folder)
    server = EmbeddedPostgres(folder)
    assert pid(folder) == orphan
    assert query(server.url("lawful_app"), "SELECT 1") == 1
    assert server.detach() is True
    assert not running(folder)


def test_a_forks_end_takes_nothing_from_its_parent(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    child = os.fork()
    if child == 0:
        server.detach()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert query(server.url("lawful_app"), "SELECT 1") == 1
    assert server.detach() is True


def test_two_processes_that_come_at_once_to_an_empty_folder_share_one_server(new_folder: Path) -> None:
    both = [holder(new_folder), holder(new_folder)]
    urls = {attached(process) for process in both}
    assert len(urls) == 1
    assert query(urls.pop(), "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'lawful%'") == 2
    for process in both:
        process.communicate()
        assert process.returncode == 0
    assert not running(new_folder)


def test_waiting_for_another_process_ends_with_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = EmbeddedPostgres(folder)
    monkeypatch.setattr(embedded, "PATIENCE", -30)  # the wait for the other is this and 30 s
    with server._alone(), pytest.raises(Unavailable) as caught:
        EmbeddedPostgres(folder)
    assert caught.value.code == "database_busy"
    assert str(folder / "change.lock") in caught.value.next_step
    assert server.detach() is True


# ---- how it dies ---------------------------------------------------------------------------------------------------


def test_a_killed_server_comes_back_with_what_was_committed(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    query(server.url("lawful_owner"), "CREATE TABLE kept AS SELECT 7 AS x")
    os.kill(pid(folder), signal.SIGKILL)
    began = time.monotonic()
    server.ensure_running()
    assert query(server.url("lawful_owner"), "SELECT x FROM kept") == 7
    assert time.monotonic() - began < 60
    server.detach()


def test_a_new_server_waits_until_the_killed_ones_children_have_left(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    with psycopg.connect(server.url("lawful_app"), autocommit=True) as busy:
        backend = busy.info.backend_pid
        # A loop that does not look up until it is done: it outlives its postmaster by seconds.
        spin = "DO $$ BEGIN FOR i IN 1..200000000 LOOP END LOOP; END $$"
        thread = threading.Thread(target=run_until_cut_off, args=(busy, spin))
        thread.start()
        time.sleep(0.3)
        os.kill(pid(folder), signal.SIGKILL)
        time.sleep(0.1)
        assert is_backend(backend), "the child must still be there for this to show anything"
        server.ensure_running()
        assert not is_backend(backend)
        thread.join()
    assert query(server.url("lawful_app"), "SELECT 1") == 1
    server.detach()


def run_until_cut_off(connection: psycopg.Connection, statement: str) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        connection.execute(statement.encode())


def is_backend(process: int) -> bool:
    """Whether it still runs as a server's child; one that ended and was not waited for does not."""
    return command_line(process).startswith("postgres: ")


def test_an_open_database_goes_on_after_its_server_was_killed(new_folder: Path) -> None:
    settings = Settings(_env_file=None, home=new_folder.parent)
    with open_database(settings) as database:
        with database.sessions() as session:
            session.connection()
        os.kill(pid(new_folder), signal.SIGKILL)
        time.sleep(0.2)
        with database.sessions() as session:
            assert session.connection().exec_driver_sql("SELECT count(*) FROM records").scalar() == 0
        os.kill(pid(new_folder), signal.SIGKILL)
        with database.connect() as connection:
            assert connection.execute("SELECT count(*) FROM records").fetchone() == (0,)
    assert not running(new_folder)


@pytest.mark.parametrize("command", [["sleep", "60"], ["true"]], ids=["living", "zombie"])
def test_leftovers_that_name_another_process_hinder_nobody(folder: Path, command: list[str]) -> None:
    server = EmbeddedPostgres(folder)
    os.kill(pid(folder), signal.SIGKILL)
    time.sleep(0.5)
    server.detach()
    # As after a reboot: the number is another process's now, of the very account that Postgres runs as. A zombie's
    # number is taken too: nobody has waited for it yet.
    owner = (folder / "cluster/data").stat().st_uid
    stranger = subprocess.Popen(command, user=owner if os.geteuid() == 0 else None)
    time.sleep(0.2)
    for leftover in (folder / "cluster/data/postmaster.pid", folder / "cluster/run/.s.PGSQL.5432.lock"):
        _, *rest = leftover.read_text().splitlines(keepends=True)
        leftover.write_text("".join((f"{stranger.pid}\n", *rest)))
    server = EmbeddedPostgres(folder)
    assert query(server.url("lawful_app"), "SELECT 1") == 1
    server.detach()
    if command[0] == "sleep":
        assert stranger.poll() is None, "nobody kills what is not his"
    stranger.kill()
    stranger.wait()


def test_a_socket_that_was_cleaned_away_is_made_again(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    (server.socket_folder / ".s.PGSQL.5432").unlink()
    server.ensure_running()
    assert query(server.url("lawful_app"), "SELECT 1") == 1
    server.detach()


def test_a_half_made_cluster_is_made_anew(new_folder: Path) -> None:
    maker = holder(new_folder)
    deadline = time.monotonic() + 60
    while not list(new_folder.glob("cluster/initdb-*/base")) and time.monotonic() < deadline:
        time.sleep(0.005)
    maker.kill()
    maker.communicate()
    assert not (new_folder / "cluster/data").exists()
    server = EmbeddedPostgres(new_folder)
    assert query(server.url("lawful_app"), "SELECT 1") == 1
    server.detach()


# ---- where it lies -------------------------------------------------------------------------------------------------


def attempt(folder: Path, *, system_folder: Path, path: Path | None = None, uid: int | None = None) -> str:
    """What happens in a process of that user, or with that folder of packages: `ready` and where, or the error.

    A fork, because the other user need not be able to start this Python.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writing, "w") as told:
            try:
                binaries.SYSTEM_FOLDER = system_folder
                if path is not None:
                    sys.path.insert(0, str(path))
                if uid is not None:
                    os.setgroups([])
                    os.setuid(uid)
                server = EmbeddedPostgres(folder)
                told.write(f"{query(server.url('lawful_app'), READY)} {server._programs.folder}")
                server.detach()
            except LedgerError as error:
                told.write(f"{error.code}: {error.detail} | {error.next_step}")
            except BaseException as error:  # noqa: BLE001 - the parent fails on it
                told.write(repr(error))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        os.waitpid(child, 0)
        return told.read()


@pytest.fixture
def unprivileged() -> int | None:
    """A user who is not root: ourselves (None), or the one that Postgres would run as."""
    account = binaries.account_for(Path("/nonexistent"))
    return None if account is None else account.uid


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about what root does")


def test_an_ordinary_user_needs_nobody_else(new_folder: Path, unprivileged: int | None) -> None:
    if unprivileged is not None:
        os.chown(new_folder.parent, unprivileged, -1)
    assert attempt(new_folder, system_folder=Path("/nonexistent"), uid=unprivileged).startswith("ready")
    assert not running(new_folder)


@needs_root
def test_root_serves_a_users_cluster_as_that_user(new_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(new_folder.parent, nobody, -1)
    new_folder.parent.chmod(0o700)
    assert attempt(new_folder, system_folder=Path("/nonexistent"), uid=nobody).startswith("ready")
    assert attempt(new_folder, system_folder=Path("/nonexistent")).startswith("ready")
    assert (new_folder / "cluster/data").stat().st_uid == nobody
    assert attempt(new_folder, system_folder=Path("/nonexistent"), uid=nobody).startswith("ready")


@needs_root
def test_below_roots_closed_home_the_cluster_lies_where_postgres_can_reach_it(new_folder: Path) -> None:
    home, system = new_folder.parent / "root/.lawful", new_folder.parent / "system"
    home.mkdir(parents=True)
    home.parent.chmod(0o700)
    assert attempt(home / "postgres", system_folder=system).startswith("ready")
    assert attempt(home / "postgres", system_folder=system).startswith("ready")
    (cluster,) = (system / "clusters").iterdir()
    assert (home / "postgres/cluster").resolve() == cluster
    assert cluster.stat().st_mode & 0o777 == 0o700
    assert home.parent.stat().st_mode & 0o777 == 0o700, "nobody's home is opened for this"

    # A ledger made anew at the same path is a new ledger.
    shutil.rmtree(home)
    home.mkdir()
    assert attempt(home / "postgres", system_folder=system).startswith("ready")
    assert len(list((system / "clusters").iterdir())) == 2


@needs_root
def test_binaries_that_only_root_can_read_are_copied_once(new_folder: Path) -> None:
    closed, system = new_folder.parent / "venv", new_folder.parent / "system"
    installed = binaries.programs(binaries.NEWEST, None).folder
    shutil.copytree(installed, closed / installed.parent.name / installed.name, symlinks=True)
    (closed / installed.parent.name / "__init__.py").touch()
    libraries = installed.parent.parent / f"{installed.parent.name}.libs"
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name, symlinks=True)
    closed.chmod(0o700)
    ready, copied = attempt(new_folder, system_folder=system, path=closed).split()
    assert ready == "ready"
    assert Path(copied).is_relative_to(system)
    made = Path(copied).stat().st_ctime_ns
    assert attempt(new_folder, system_folder=system, path=closed).split() == [ready, copied]
    assert Path(copied).stat().st_ctime_ns == made


@needs_root
def test_a_cluster_whose_place_is_gone_is_never_replaced_by_an_empty_one(new_folder: Path) -> None:
    new_folder.mkdir()
    (new_folder / "cluster").symlink_to(new_folder.parent / "gone")
    with pytest.raises(Unavailable) as caught:
        EmbeddedPostgres(new_folder)
    assert caught.value.code == "database_cluster_missing"
    assert not (new_folder.parent / "gone").exists()


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(folder: Path) -> None:
    deep = folder.parent / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    folder.rename(deep / "postgres")
    server = EmbeddedPostgres(deep / "postgres")
    short = server.socket_folder
    assert len(os.fsencode(short)) < 30
    assert short.stat().st_mode & 0o777 == 0o700
    other = holder(deep / "postgres")
    assert attached(other) == server.url("lawful_app")
    other.communicate()
    os.kill(pid(deep / "postgres"), signal.SIGKILL)
    server.ensure_running()
    assert server.socket_folder == short, "others know the server under this path"
    assert query(server.url("lawful_app"), "SELECT 1") == 1
    server.detach()
    assert not short.exists()


@pytest.mark.parametrize("name", ["with space", "comma,comma", "it's", "ünï"])
def test_unusual_folder_names_work(folder: Path, name: str) -> None:
    folder.rename(folder.parent / name)
    server = EmbeddedPostgres(folder.parent / name)
    assert query(server.url("lawful_app"), "SELECT 1") == 1
    server.detach()


@pytest.mark.parametrize("name", ['a"b', "$(touch owned)", "`x`", "a\nb", "a\\b"])
def test_names_that_a_shell_would_read_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unavailable) as caught:
        EmbeddedPostgres(tmp_path / name)
    assert caught.value.code == "database_folder_name"
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_a_clear_error(new_folder: Path, unprivileged: int | None) -> None:
    new_folder.parent.chmod(0o555)
    told = attempt(new_folder, system_folder=Path("/nonexistent"), uid=unprivileged)
    assert told.startswith("database_folder_unwritable")
    assert str(new_folder) in told
    assert "LAWFUL_HOME" in told


def test_a_file_where_the_folder_should_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(Unavailable) as caught:
        EmbeddedPostgres(tmp_path / "home/postgres")
    assert caught.value.code == "database_folder_unwritable"


@needs_root
def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_made(new_folder: Path) -> None:
    disk = new_folder.parent
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0755", "tmpfs", str(disk)])
    if mounted.returncode != 0:
        pytest.skip("may not mount a small disk here")
    try:
        with pytest.raises(StorageFull) as caught:
            EmbeddedPostgres(new_folder)
        assert caught.value.code == "storage_full"
        assert "LAWFUL_HOME" in caught.value.next_step
        assert not list((new_folder / "cluster").iterdir())
        # With room it goes on from there.
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        assert EmbeddedPostgres(new_folder).detach() is True
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
