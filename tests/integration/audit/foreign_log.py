"""Somebody else's log and its web server: written from the texts of C2SP and RFC 6962, with nothing of this project.

Every file is made anew from the entries, by the recursive definitions, so that an error in `ledger.log` cannot hide in
what is audited. The server says what it is told to, also what no log would.
"""

import base64
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def key_id(name: str, kind: int, public_key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + bytes([kind]) + public_key)[:4]


class Key:
    """An Ed25519 key that signs notes (kind 1) or cosigns checkpoints (kind 4)."""

    def __init__(self, name: str, kind: int = 1) -> None:
        self.name, self.kind = name, kind
        self._private = Ed25519PrivateKey.generate()
        self._public = self._private.public_key().public_bytes_raw()

    @property
    def vkey(self) -> str:
        encoded = base64.b64encode(bytes([self.kind]) + self._public).decode()
        return f"{self.name}+{key_id(self.name, self.kind, self._public).hex()}+{encoded}"

    def line(self, text: str, at: int = 0) -> str:
        if self.kind == 1:
            signature = self._private.sign(text.encode())
        else:
            signature = at.to_bytes(8, "big") + self._private.sign(f"cosignature/v1\ntime {at}\n{text}".encode())
        identified = key_id(self.name, self.kind, self._public) + signature
        return f"— {self.name} {base64.b64encode(identified).decode()}\n"


def number(index: int) -> str:
    parts = [f"{index % 1000:03d}"]
    while index := index // 1000:
        parts.insert(0, f"x{index % 1000:03d}")
    return "/".join(parts)


class Log:
    """All files of a log over `entries`: `files`, by path below its prefix, as a web server would have in a folder."""

    def __init__(self, origin: str, entries: list[bytes], key: Key | None = None, *, partial: bool = True) -> None:
        self.origin, self.key, self.partial = origin, key or Key(origin), partial
        self.leaves: list[bytes] = []
        self.files: dict[str, bytes] = {}
        self.witnesses: list[tuple[Key, int]] = []
        self._entries: list[bytes] = []
        self._mth = cache(self._mth_of)  # leaves are only added, so what a range hashes to stays
        self.append(entries)

    @property
    def size(self) -> int:
        return len(self.leaves)

    def append(self, entries: list[bytes]) -> None:
        before = self.size
        self._entries += entries
        self.leaves += [sha256(b"\x00" + entry) for entry in entries]
        for index in range(before // 256, -(-self.size // 256)):
            bundle = self._entries[index * 256 : index * 256 + 256]
            body = b"".join(len(entry).to_bytes(2, "big") + entry for entry in bundle)
            self.put(f"tile/entries/{number(index)}", len(bundle), body)
        level, nodes = 0, self.size
        while nodes:
            for index in range(before // 256 ** (level + 1), -(-nodes // 256)):
                hashes = [
                    self._mth(at * 256**level, (at + 1) * 256**level)
                    for at in range(index * 256, min(index * 256 + 256, nodes))
                ]
                self.put(f"tile/{level}/{number(index)}", len(hashes), b"".join(hashes))
            level, nodes = level + 1, nodes // 256
        self.sign()

    def put(self, path: str, width: int, body: bytes) -> None:
        if width == 256:
            for stale in [each for each in self.files if each.startswith(f"{path}.p/")] if not self.partial else []:
                del self.files[stale]
            self.files[path] = body
        else:
            self.files[f"{path}.p/{width}"] = body

    def sign(self, size: int | None = None, root: bytes | None = None, origin: str | None = None) -> None:
        """Publish a checkpoint: by default of what there is."""
        size = self.size if size is None else size
        self.files["checkpoint"] = self.note(size, self.root(size) if root is None else root, origin or self.origin)

    def note(self, size: int, root: bytes, origin: str) -> bytes:
        text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        lines = [self.key.line(text), *(witness.line(text, at) for witness, at in self.witnesses)]
        return f"{text}\n{''.join(lines)}".encode()

    def root(self, size: int | None = None) -> bytes:
        size = self.size if size is None else size
        return self._mth(0, size) if size else sha256(b"")

    def _mth_of(self, start: int, end: int) -> bytes:
        """RFC 6962, section 2.1: MTH(D[start:end])."""
        if end - start == 1:
            return self.leaves[start]
        k = 1
        while k * 2 < end - start:
            k *= 2
        return sha256(b"\x01" + self._mth(start, start + k) + self._mth(start + k, end))


Answer = Callable[[BaseHTTPRequestHandler], None]
"""Writes a whole answer, headers included."""


class Server:
    """Serves `files` below `prefix`; `answers` go before them. `asked` are the paths below the prefix, in order."""

    def __init__(self, files: dict[str, bytes], prefix: str) -> None:
        self.files, self.prefix = files, prefix
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.stopping = threading.Event()
        outer = self

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A reader that has had enough is no error."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65_536  # head and body in one packet
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}{prefix}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.removeprefix(self.prefix) if request.path.startswith(self.prefix) else "(outside)"
        self.asked.append(path)
        with contextlib.suppress(ConnectionError):
            if path in self.answers:
                self.answers[path](request)
            elif path in self.files:
                reply(200, self.files[path])(request)
            else:
                reply(404, b"no such file\n")(request)

    def __enter__(self) -> "Server":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()


def reply(status: int, body: bytes, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def streamed(chunks: Callable[[], Iterator[bytes]], **headers: str) -> Answer:
    """A body without a length, for as long as there are chunks and a reader."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        for name, value in {"Connection": "close", **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        for chunk in chunks():
            request.wfile.write(chunk)
            request.wfile.flush()
        request.close_connection = True

    return answer
