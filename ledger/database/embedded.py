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
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from ledger.database import binaries
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
NO_PROCESS = 2**31 - 1  # beyond every kernel's largest process id

# Run by the single-user server into a template before the cluster gets its name: it exists whole or not at all.
BOOTSTRAP = f"""\
CREATE EXTENSION vector;
CREATE ROLE {OWNER} LOGIN;
CREATE ROLE {APP} LOGIN;
CREATE DATABASE {DATABASE} OWNER {OWNER};
"""


@dataclass(frozen=True)
class Postmaster:
    """What `postmaster.pid` says: the process id, and the socket's folder once it is open."""

    pid: int
    socket_folder: Path | None

    @classmethod
    def read(cls, data: Path) -> "Postmaster | None":
        try:
            lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
            return cls(abs(int(lines[0])), Path(lines[4]) if len(lines) > 4 and lines[4] else None)
        except FileNotFoundError:
            return None
        except (ValueError, IndexError):
            return cls(0, None)  # just being written, or cut off by a full disk

    def lives(self, data: Path) -> bool:
        """Whether that process is this cluster's server: after a reboot its number may be anybody's."""
        return self.pid > 0 and serves(_command(self.pid), data)


def serves(command: str, data: Path) -> bool:
    """Whether a command line may be that of the postmaster of `data`.

    False only if it cannot: another program, a backend (`postgres: …`), or a postmaster of another folder that exists.
    """
    if re.match(r"postgres: ", command) or not re.match(r"(.*/)?postgres( |$)", command):
        return False
    served = re.search(r" -D (.+?)(?: -[a-z] |$)", command)
    try:
        return served is None or Path(served[1]).samefile(data)
    except OSError:
        return True


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # no /proc: macOS
        if Path("/proc/self").exists():
            return ""
    return subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()


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
            with self._alone():
                try:
                    fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                self._stop()
                return True

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
        for leftover in self.cluster.glob("initdb-*"):
            shutil.rmtree(leftover)
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
                if postmaster.socket_folder is not None and self._answers(postmaster.socket_folder):
                    self.socket_folder = postmaster.socket_folder
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
            _disown(lock)
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
            if before is not None and _is_short(before) and before.is_dir() and before.owner() == self.data.owner():
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


def _disown(lock: Path) -> None:
    """Takes a dead server's process id out of its lock file, where it may by now be another process's.

    Postgres would wait for that process for ever. The rest of the file stays: by it Postgres sees whether children
    of a killed server still write to the data. Called only when no server of this cluster lives.
    """
    try:
        first, *rest = lock.read_text(errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return
    except ValueError:  # empty: cut off by a full disk
        lock.unlink()
        return
    if not first.strip().lstrip("-").isdigit():
        lock.unlink()
    elif _command(abs(int(first))):
        lock.write_text("".join((f"{NO_PROCESS}\n", *rest)))
