"""Postgres without an installation: starts, shares, adopts and stops the ledger's own server.

Two files in the folder decide everything, both by flock, which the kernel drops with the process whatever kills it:
`holders.lock` is held shared by every process that uses the server: the reference count;
`change.lock` is held exclusively while somebody creates, starts or stops it.

    folder/change.lock, holders.lock
    folder/cluster/          the server's own, 0700; a link to SYSTEM_FOLDER where root's own folder is closed to others
        data/  run/  server.log

The server listens on one Unix socket in a 0700 folder and on no network address; whoever may enter that folder is
trusted as any role, for they own the data files too. One machine at a time: flock does not reach across hosts.
"""

import atexit
import contextlib
import errno
import fcntl
import os
import re
import secrets
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

from ledger.database import binaries
from ledger.database.postmaster import Postmaster, disown
from ledger.errors import LedgerError, StorageFull, Unavailable

DATABASE = "lawful"
OWNER = "lawful_owner"
APP = "lawful_app"
SUPERUSER = "postgres"

PATIENCE = 300  # seconds; crash recovery after a kill takes longer than one expects
SOCKET_LIMIT = 90  # bytes of the socket's path; the kernel's limit is 108 on Linux and 104 on macOS
SOCKET = ".s.PGSQL.5432"
SHORT = Path("/tmp/lawful-")  # noqa: S108 - not $TMPDIR, which is long on macOS; mkdtemp makes the name and 0700
LOG_LIMIT = 2**20  # bytes; a longer server.log is set aside at the next start

# Run by the single-user server into a template before the cluster gets its name: it exists whole or not at all.
BOOTSTRAP = f"""\
CREATE EXTENSION vector;
CREATE ROLE {OWNER} LOGIN;
CREATE ROLE {APP} LOGIN;
CREATE DATABASE {DATABASE} OWNER {OWNER};
"""


class EmbeddedPostgres:
    """This process's hold on the server of `folder`. The last holder to leave stops it."""

    def __init__(self, folder: Path, *, version: int = binaries.NEWEST) -> None:
        """Attaches, creating and starting what is not there yet.

        Raises Unavailable (`database_folder…`, `database_start_failed`, `database_busy`, `database_programs_missing`,
        `database_no_account`) or StorageFull.
        """
        self.folder = folder.resolve()
        self._version = version
        self._pid = os.getpid()
        self._holder: IO[bytes] | None = None
        self._programs: binaries.Programs
        self.socket_folder = Path()
        if re.search(r'["$`\\\n\r]', str(self.folder)):  # pg_ctl passes the path through a shell
            raise Unavailable(
                f"the database folder {str(self.folder)!r} has a quote, $, ` or line break in its path",
                code="database_folder_name",
                next_step="Choose another folder with LAWFUL_HOME.",
            )
        with self._clear_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with self._alone():
                    self._holder = _open_lock(self.folder / "holders.lock")
                    fcntl.flock(self._holder, fcntl.LOCK_SH)
                    self._programs = self._create()
                    self._ensure_running()
            except BaseException:
                self.detach()
                raise
        atexit.register(self.detach)

    @property
    def cluster(self) -> Path:
        return (self.folder / "cluster").resolve()

    @property
    def data(self) -> Path:
        return self.cluster / "data"

    def url(self, role: str, database: str = DATABASE) -> str:
        """A libpq URL for that role through the socket; it holds no secret."""
        return f"postgresql://{role}@/{database}?host={quote(str(self.socket_folder), safe='/')}&port=5432"

    def ensure_running(self) -> None:
        """Starts the server again if it died under its holders. Raises as the constructor does."""
        with self._clear_errors(), self._alone():
            self._ensure_running()

    def detach(self) -> bool:
        """Lets go. True if this was the last holder and the server is stopped now; twice is once."""
        holder, self._holder = self._holder, None
        if holder is None:
            return False
        atexit.unregister(self.detach)
        with holder:
            if self._pid != os.getpid():
                return False  # a fork's copy of the hold: the parent's is the same lock, and still in use
            try:
                with self._alone():
                    fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._stop()
                    return True
            except BlockingIOError:
                return False  # others hold it
            except FileNotFoundError:
                return False  # somebody removed the whole folder; the server ends by itself when it sees that

    # ---- one at a time -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        deadline = time.monotonic() + PATIENCE + 30
        with _open_lock(self.folder / "change.lock") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Unavailable(
                            f"another process has been starting or stopping the database in {self.folder} for too long",
                            code="database_busy",
                            next_step=f"See which process holds {self.folder / 'change.lock'} and end it.",
                        ) from None
                    time.sleep(0.02)
            yield

    # ---- creating ------------------------------------------------------------------------------------------------

    def _create(self) -> binaries.Programs:
        """The cluster, made by initdb under another name and then renamed; returns the programs that fit it."""
        link = self.folder / "cluster"
        if link.is_symlink() and not link.exists():
            raise Unavailable(
                f"the database of {self.folder} lies in {link.readlink()}, which is gone",
                code="database_cluster_missing",
                next_step=f"Bring that folder back; or, if its records are given up for lost, remove {link}.",
            )
        for leftover in self.cluster.glob("initdb-*"):
            shutil.rmtree(leftover, ignore_errors=True)  # the initdb of a killed process may still be filling it
        account = binaries.account_for(self.cluster)
        if (self.data / "PG_VERSION").exists():
            return binaries.programs(int((self.data / "PG_VERSION").read_text()), account)
        programs = binaries.programs(self._version, account)
        if not link.exists():
            link.mkdir()
            programs.give(link)
            if not programs.reaches(link):
                link.rmdir()
                link.symlink_to(_reachable_folder(programs))
        fresh = Path(tempfile.mkdtemp(dir=self.cluster, prefix="initdb-"))
        programs.give(fresh)
        try:
            self._initdb(programs, fresh)
            fresh.rename(self.data)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return programs

    def _initdb(self, programs: binaries.Programs, fresh: Path) -> None:
        # Trust is behind the socket's 0700 folder. C collation: the same order of text on every machine.
        options = ["--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C"]
        for setting in ("listen_addresses=", "log_checkpoints=off", "timezone=UTC", "log_timezone=UTC"):
            options += ["--set", setting]
        made = programs.run("initdb", "--pgdata", str(fresh), *options)
        if made.returncode == 0:
            # The single-user server takes one statement a line and, told so, ends at the first error.
            single = ("--single", "-c", "exit_on_error=on", "-D", str(fresh), "template1")
            made = programs.run("postgres", *single, script=BOOTSTRAP)
        if made.returncode != 0:
            raise self._failure(made.stdout + made.stderr)

    # ---- running -------------------------------------------------------------------------------------------------

    def _ensure_running(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            postmaster = Postmaster.read(self.data)
            if postmaster is not None and postmaster.lives(self.data):
                # Ours, or an orphan whose starter was killed: adopted either way, once it accepts connections.
                folder = postmaster.socket_folder
                if folder is not None and not (folder / SOCKET).exists():
                    self._stop()  # somebody cleaned the socket away; nobody can reach this server any more
                elif folder is not None and self._answers(folder):
                    self.socket_folder = folder
                    return
            elif self._start(postmaster):
                continue
            if time.monotonic() > deadline:
                raise self._failure(f"no answer within {PATIENCE} s")
            time.sleep(0.05)

    def _answers(self, socket_folder: Path) -> bool:
        ready = self._programs.run("pg_isready", "-h", str(socket_folder), "-p", "5432", "-U", SUPERUSER, "-t", "5")
        return ready.returncode == 0

    def _start(self, stale: Postmaster | None) -> bool:
        """Starts the server; False if it has to be tried again because a killed one's last children still leave."""
        socket_folder = self._choose_socket_folder(stale)
        for lock in (self.data / "postmaster.pid", socket_folder / f"{SOCKET}.lock"):
            disown(lock)
        log = self.cluster / "server.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        log.touch()
        self._programs.give(log)
        told_before = log.stat().st_size
        settings = f"-c unix_socket_directories={shlex.quote(str(socket_folder))} -c unix_socket_permissions=0700"
        started = self._programs.run(
            "pg_ctl", "start", "-w", "-t", str(PATIENCE), "-D", str(self.data), "-l", str(log), "-o", settings
        )
        if started.returncode == 0:
            return True
        told = log.read_bytes()[told_before:].decode(errors="replace") or started.stderr
        if re.search(r'pre-existing shared memory block|lock file "[^"]*" (already exists|is empty)', told):
            time.sleep(0.2)
            return False
        raise self._failure(told)

    def _choose_socket_folder(self, stale: Postmaster | None) -> Path:
        """`run/` in the cluster, or a private folder with a short name where that path is too long for a socket.

        Others learn its name from postmaster.pid; a server that was killed gets the same one again.
        """
        folder = self.cluster / "run"
        # A comma or a quote would be read as a list of folders, hence the second condition.
        if len(os.fsencode(folder / SOCKET)) >= SOCKET_LIMIT or not re.fullmatch(r"[\w./+@ -]+", str(folder)):
            before = None if stale is None else stale.socket_folder
            if before is not None and _is_short(before) and _is_own(before, self.data.stat().st_uid):
                return before
            folder = Path(tempfile.mkdtemp(dir=SHORT.parent, prefix=SHORT.name))  # 0700, and nobody can guess it
        folder.mkdir(exist_ok=True)
        self._programs.give(folder)
        return folder

    def _stop(self) -> None:
        postmaster = Postmaster.read(self.data)
        if postmaster is None or not postmaster.lives(self.data):
            return
        for mode in ("fast", "immediate"):
            if self._programs.run("pg_ctl", "stop", "-w", "-t", "60", "-m", mode, "-D", str(self.data)).returncode == 0:
                break
        if postmaster.socket_folder is not None and _is_short(postmaster.socket_folder):
            shutil.rmtree(postmaster.socket_folder, ignore_errors=True)

    # ---- what went wrong -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._failure(f"{error.strerror}: {error.filename}") from error

    def _failure(self, told: str) -> LedgerError:
        """The error for what Postgres or the kernel said."""
        last = told.strip().splitlines()[-1] if told.strip() else "no message"
        if os.strerror(errno.ENOSPC) in told or os.strerror(errno.EDQUOT) in told:
            return StorageFull(
                f"no room for the database in {self.cluster}",
                next_step="Free some space, or choose another folder with LAWFUL_HOME. Nothing recorded is lost.",
            )
        if any(os.strerror(code) in told for code in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)):
            return Unavailable(
                f"the database folder {self.folder} cannot be used: {last}",
                code="database_folder_unwritable",
                next_step="Run as the user who owns that folder, or choose another one with LAWFUL_HOME.",
            )
        return Unavailable(
            f"the database in {self.folder} does not start: {last}",
            code="database_start_failed",
            next_step=f"Read {self.cluster / 'server.log'}.",
        )


def _open_lock(path: Path) -> IO[bytes]:
    return path.open("ab")


def _reachable_folder(programs: binaries.Programs) -> Path:
    """A cluster's folder outside root's closed home.

    The name is random and only the link knows it: a ledger made anew at the same path never finds an old database.
    """
    folder = binaries.SYSTEM_FOLDER / "clusters" / secrets.token_hex(8)
    folder.mkdir(parents=True)
    programs.give(folder)
    if not programs.reaches(folder):
        folder.rmdir()
        raise Unavailable(
            f"Postgres runs as {programs.account and programs.account.name!r}, who cannot enter {folder.parent}",
            code="database_folder_unreachable",
            next_step="Choose a folder with LAWFUL_HOME that every account may enter, or run as an ordinary user.",
        )
    return folder


def _is_short(folder: Path) -> bool:
    return folder.parent == SHORT.parent and folder.name.startswith(SHORT.name)


def _is_own(folder: Path, uid: int) -> bool:
    """A folder, not a link to one, that only that account may enter."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    return status.st_uid == uid and status.st_mode == stat.S_IFDIR | 0o700
