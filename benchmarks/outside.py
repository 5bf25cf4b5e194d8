"""What a ledger leans on outside of itself, made to fail at will: a gate before any port, a bucket, a clock."""

import contextlib
import mmap
import random
import shutil
import socket
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

# ---- a gate ----------------------------------------------------------------------------------------------------------


class Gate:
    """A port that leads to another one. While it `hangs`, connections are taken and nothing is said; while it
    `refuses`, there is none.
    """

    def __init__(self, port: int) -> None:
        self._behind = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._hangs = threading.Event()
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        self._hangs.set()
        try:
            yield
        finally:
            self._hangs.clear()
            for each in self._held:
                each.close()
            self._held.clear()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        self.close()
        try:
            yield
        finally:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or `accept` would go on in its thread
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                visitor, _ = listener.accept()
            except OSError:
                return
            if self._hangs.is_set():
                self._held.append(visitor)
                continue
            try:
                behind = socket.create_connection(("127.0.0.1", self._behind))
            except OSError:
                visitor.close()
                continue
            for source, target in ((visitor, behind), (behind, visitor)):
                threading.Thread(target=_pass, args=(source, target), daemon=True).start()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


# ---- a bucket --------------------------------------------------------------------------------------------------------


class Bucket:
    """As much of S3 as obstore asks for, over a folder. `failing`: the part of writes that fail.

    Half of those that fail are stored all the same, and only the answer is an error: the worse case. Half say 503,
    which obstore tries again by itself; the others 403, which it passes on.
    """

    NAME = "ledger"

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.failing = folder, 0.0
        self.writes: Counter[str] = Counter()
        self._chance = random.Random(seed)
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                self._answer(*bucket.put(self._key(), data))

            def do_GET(self) -> None:
                key, query = self._key(), parse_qs(urlsplit(self.path).query)
                if "list-type" in query:
                    return self._answer(200, bucket.listing(query.get("prefix", [""])[0]))
                path = bucket.folder / key
                return (
                    self._answer(200, path.read_bytes()) if path.is_file() else self._answer(404, _error("NoSuchKey"))
                )

            def do_HEAD(self) -> None:
                path = bucket.folder / self._key()
                self._answer(200 if path.is_file() else 404, path.read_bytes() if path.is_file() else b"")

            def do_POST(self) -> None:
                self._answer(200, bucket.delete(self.rfile.read(int(self.headers["content-length"]))))

            def _key(self) -> str:
                return unquote(urlsplit(self.path).path).removeprefix(f"/{bucket.NAME}").lstrip("/")

            def _answer(self, status: int, body: bytes = b"") -> None:
                self.send_response(status)
                self.send_header("ETag", '"0"')
                self.send_header("Last-Modified", self.date_time_string())
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        }

    def put(self, key: str, data: bytes) -> tuple[int, bytes]:
        fails = self._chance.random() < self.failing
        if not fails or self._chance.random() < 0.5:
            path = self.folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f"{path.name}.{threading.get_ident()}")
            aside.write_bytes(data)
            aside.rename(path)
        self.writes["failed" if fails else "done"] += 1
        if not fails:
            return 200, b""
        return (503, _error("SlowDown")) if self._chance.random() < 0.5 else (403, _error("AccessDenied"))

    def delete(self, said: bytes) -> bytes:
        """The answer to a request to delete several."""
        deleted = b""
        for key in ElementTree.fromstring(said).iterfind("{*}Object/{*}Key"):
            (self.folder / str(key.text)).unlink(missing_ok=True)
            deleted += f"<Deleted><Key>{escape(str(key.text))}</Key></Deleted>".encode()
        return b"<DeleteResult>" + deleted + b"</DeleteResult>"

    def listing(self, prefix: str) -> bytes:
        found = "".join(
            f"<Contents><Key>{escape(path.relative_to(self.folder).as_posix())}</Key>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>0</ETag><Size>{path.stat().st_size}</Size>"
            "</Contents>"
            for path in sorted((self.folder / prefix).rglob("*"))
            if path.is_file()
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


# ---- a clock ---------------------------------------------------------------------------------------------------------

_SHIFTED_CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t seconds(void) {
    static volatile int64_t *shared;
    if (!shared) {
        int file = open(OFFSET, O_RDONLY | O_CLOEXEC);
        void *found = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
        if (file >= 0) close(file);
        if (found == MAP_FAILED) return 0;
        shared = found;
    }
    return *shared;
}
int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += seconds();
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


class ShiftedClock:
    """The time of day of every process that is started with `environment`, the database among them; `jump` moves it.

    A few lines of C that stand before libc's functions. `build` returns None where there is no compiler.
    """

    def __init__(self, library: Path, offset: Path) -> None:
        self.environment = {"LD_PRELOAD": str(library)}
        with offset.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), 8)

    @classmethod
    def build(cls, folder: Path) -> "ShiftedClock | None":
        compiler = shutil.which("cc")
        if compiler is None:
            return None
        library, offset, source = folder / "clock.so", folder / "clock.offset", folder / "clock.c"
        offset.write_bytes(bytes(8))
        offset.chmod(0o644)
        source.write_text(_SHIFTED_CLOCK)
        command: list[Any] = [compiler, "-O2", "-shared", "-fPIC", f'-DOFFSET="{offset}"', source, "-o", library]
        subprocess.run(command, check=True)
        return cls(library, offset)

    def jump(self, seconds: int) -> None:
        """From now on, so many seconds off the true time."""
        self._offset[:] = struct.pack("=q", seconds)
