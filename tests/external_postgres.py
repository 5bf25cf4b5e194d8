"""Runs the tests against an external server: `python -m tests.external_postgres -- tests/integration -n 2`.

The stand-in is the wheel's Postgres 16, one major version behind the embedded one, reached over TCP with passwords
(SCRAM) and without trust for anybody. Exits as pytest does.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ledger.database import binaries
from tests.ports import free_port


@contextlib.contextmanager
def external_postgres(version: int = 16) -> Iterator[str]:
    """A throw-away server on a free port of 127.0.0.1; yields the URL of its superuser and stops it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="lawful-external-"))
    folder.chmod(0o755)
    data, secret, log, password = folder / "data", folder / "secret", folder / "log", secrets.token_hex(16)
    programs = binaries.programs(version, binaries.account_for(data))
    data.mkdir()
    secret.write_text(password)
    log.touch()
    for path in (data, secret, log):
        programs.give(path)
    port = free_port()
    try:
        made = programs.run(
            "initdb", "-D", str(data), "-U", "postgres", "-E", "UTF8", "-A", "scram-sha-256", f"--pwfile={secret}"
        )
        made.check_returncode()
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= -c fsync=off"
        programs.run("pg_ctl", "start", "-w", "-D", str(data), "-l", str(log), "-o", options).check_returncode()
        yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    finally:
        programs.run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(data))
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    arguments = [argument for argument in sys.argv[1:] if argument != "--"]
    with external_postgres() as url:
        environment = {**os.environ, "LAWFUL_TEST_DATABASE_URL": url}
        return subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
