"""What the witnesses' tests share: real witnesses on real sockets, ledgers with a policy, copies of a database."""

import http.server
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from ledger import supervisor
from ledger.log.entries import append
from ledger.log.notes import NoteVerifier
from ledger.runtime import Runtime
from ledger.web.witness import serve_witness
from ledger.witness.witness import Witness, init_witness, load_witness


@dataclass
class Served:
    """A witness that runs: `folder` is its state, `url` where it answers."""

    witness: Witness
    folder: Path
    url: str

    @property
    def vkey(self) -> str:
        return self.witness.cosigner.vkey

    def size(self, origin: str) -> int | None:
        held = self.witness.held(origin)
        return None if held is None else held.checkpoint.size


@contextmanager
def a_witness(folder: Path, *logs: NoteVerifier, name: str = "w.example", port: int = 0) -> Iterator[Served]:
    """A witness of these logs on a free port; the folder's, if it has been one before."""
    cosigner = load_witness(folder) if (folder / "witness.skey").exists() else init_witness(folder, name)
    witness = Witness(folder, cosigner, {log.name: [log] for log in logs}, lambda: int(time.time()))
    listener = supervisor.listen("127.0.0.1", port)
    served = Served(witness, folder, f"http://127.0.0.1:{listener.getsockname()[1]}")
    stop = threading.Event()
    thread = threading.Thread(target=serve_witness, args=(witness, listener, stop), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        stop.set()
        thread.join(10)


def policy(path: Path, witnesses: Sequence[tuple[str, str | None]], quorum: str = "all") -> Path:
    """A policy file over (vkey, URL)s, whose names in it are w0, w1 …; `quorum` as a group line has it, or `none`."""
    lines = [f"witness w{i} {vkey} {url or ''}".rstrip() for i, (vkey, url) in enumerate(witnesses)]
    if quorum == "none":
        lines.append("quorum none")
    else:
        members = " ".join(f"w{i}" for i in range(len(witnesses)))
        lines += [f"group all-of-them {quorum} {members}", "quorum all-of-them"]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write(runtime: Runtime, *texts: str) -> list[bytes]:
    """Entries that say nothing, into the outbox; their leaf hashes."""
    with runtime.sessions.begin() as session:
        return [append(session, text.encode()) for text in texts]


def copy_database(superuser: psycopg.Connection, source: str, target: str) -> None:
    """A backup, or its restoration: `target` is made, or made anew, as `source` is now. Nobody may be connected."""
    for name in (source, target):
        superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    names = {"target": sql.Identifier(target), "source": sql.Identifier(source)}
    superuser.execute(sql.SQL("DROP DATABASE IF EXISTS {target} WITH (FORCE)").format(**names))
    superuser.execute(
        sql.SQL("CREATE DATABASE {target} OWNER lawful_owner TEMPLATE {source} STRATEGY file_copy").format(**names)
    )


@contextmanager
def a_strange_witness(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """The URL of a server that answers every request as it likes: what no honest witness does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.body = self.rfile.read(int(self.headers["content-length"]))
            answer(self)

        def do_GET(self) -> None:
            self.body = b""
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


def reply(handler: http.server.BaseHTTPRequestHandler, status: int, media_type: str, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", media_type)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
