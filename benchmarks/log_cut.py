"""A wire to Postgres that can be cut: a Unix socket that passes everything on, until it is told to drop it all."""

import contextlib
import socket
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict


class Wire:
    """Stands before the database of `url`; `self.url` leads through it. `cut` drops every connection at once.

    While it is cut, what clients said still reaches Postgres and its answers go nowhere: so a transaction may be
    committed and its author never told.
    """

    def __init__(self, url: str) -> None:
        given = {key: str(value) for key, value in conninfo_to_dict(url).items()}
        host, port = given.get("host", "localhost"), given.get("port", "5432")
        self._behind: str | tuple[str, int] = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, int(port))
        self._folder = tempfile.TemporaryDirectory(prefix="lawful-wire-")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(Path(self._folder.name) / ".s.PGSQL.5432"))
        self._listener.listen(64)
        self._deaf = threading.Event()
        self._ends: set[socket.socket] = set()
        self._guard = threading.Lock()
        login = given["user"] + (f":{quote(given['password'], safe='')}" if "password" in given else "")
        self.url = f"postgresql://{login}@/{given['dbname']}?host={quote(self._folder.name, safe='/')}&port=5432"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, seconds: float = 0.05) -> int:
        """Swallow all answers for so long, then drop every connection; returns how many there were."""
        self._deaf.set()
        time.sleep(seconds)
        with self._guard:
            ends, self._ends = self._ends, set()
        for end in ends:
            _drop(end)
        self._deaf.clear()
        return len(ends) // 2

    def close(self) -> None:
        _drop(self._listener)
        self.cut(0)
        self._folder.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            behind = socket.socket(socket.AF_UNIX if isinstance(self._behind, str) else socket.AF_INET)
            try:
                behind.connect(self._behind)
            except OSError:  # Postgres is down: so is the wire
                _drop(client)
                continue
            with self._guard:
                self._ends |= {client, behind}
            threading.Thread(target=self._pass, args=(client, behind, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(behind, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if not (answers and self._deaf.is_set()):
                    target.sendall(data)
        for end in (source, target):
            with self._guard:
                self._ends.discard(end)
            _drop(end)


def _drop(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
