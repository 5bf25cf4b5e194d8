"""A stand-in for a KMS: a process of its own that holds every private key and signs over a socket. It can fail.

`python -m tests.integration.key_service SOCKET FOLDER` serves; `provider` is what the setting `key_provider` names. One
JSON object a connection: {"op": "public" | "sign" | "new" | "mode", …}.
"""

import base64
import contextlib
import hashlib
import json
import os
import socket
import socketserver
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.log.signing import SoftwareEs256Key, SoftwareKey

ADDRESS = "LAWFUL_TEST_KEY_SERVICE"
SETTING = "tests.integration.key_service:provider"
ED25519 = ("log", "statements")

# ---- in the ledger's process -----------------------------------------------------------------------------------------


def ask(**question: Any) -> Any:
    """One question to the service at ADDRESS. Raises OSError or ValueError when it does not answer well."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[ADDRESS])
        connection.sendall(json.dumps(question).encode() + b"\n")
        answer = connection.makefile().readline()
    return json.loads(answer)


@dataclass(frozen=True)
class RemoteKey:
    """Both of the ledger's signer protocols: the bytes of the public key are all that it knows of the key."""

    public_key: bytes

    @property
    def public_key_der(self) -> bytes:
        return self.public_key

    def sign(self, message: bytes) -> bytes:
        kid = hashlib.sha256(self.public_key).hexdigest()
        return base64.b64decode(ask(op="sign", kid=kid, message=base64.b64encode(message).decode()))


class Provider:
    def ed25519(self, use: str, kid: bytes | None) -> RemoteKey:
        return RemoteKey(base64.b64decode(ask(op="public", use=use, kid=kid.hex() if kid else None)))

    es256 = ed25519


def provider() -> Provider:
    return Provider()


# ---- the service -----------------------------------------------------------------------------------------------------


class Service:
    """Keys by use, oldest first; kept in a folder, so that the service can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mode, self.keys = folder, "well", {}
        for use in ("log", "statements", "receipts", "credential"):
            self.keys[use] = [self._load(use, path.read_bytes()) for path in sorted(folder.glob(f"{use}-*.pem"))]
            if not self.keys[use]:
                self.new(use)

    def new(self, use: str) -> str:
        key = SoftwareKey.generate() if use in ED25519 else SoftwareEs256Key.generate()
        (self.folder / f"{use}-{len(self.keys.setdefault(use, []))}.pem").write_bytes(key.to_pem())
        self.keys[use].append(key)
        return "made"

    def answer(self, question: dict[str, Any]) -> str:
        match question["op"]:
            case "mode":
                self.mode = question["mode"]
                return "set"
            case "new":
                return self.new(question["use"])
            case "public":
                found = self._find(question["use"], question["kid"])
                return base64.b64encode(self._public(found)).decode()
        if self.mode == "slow":
            time.sleep(3)
        key = next(key for keys in self.keys.values() for key in keys if self._kid(key) == question["kid"])
        if self.mode == "wrong":
            key = type(key).generate()
        signature = key.sign(base64.b64decode(question["message"]))
        return base64.b64encode(signature[:-1] if self.mode == "short" else signature).decode()

    def _find(self, use: str, kid: str | None) -> Any:
        return next((key for key in self.keys[use] if self._kid(key) == kid), self.keys[use][-1])

    @staticmethod
    def _load(use: str, pem: bytes) -> Any:
        return SoftwareKey.from_pem(pem) if use in ED25519 else SoftwareEs256Key.from_pem(pem)

    @staticmethod
    def _public(key: Any) -> bytes:
        return key.public_key if isinstance(key, SoftwareKey) else key.public_key_der

    def _kid(self, key: Any) -> str:
        return hashlib.sha256(self._public(key)).hexdigest()


def serve(address: str, folder: Path) -> None:
    service = Service(folder)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(json.dumps(service.answer(json.loads(self.rfile.readline()))).encode() + b"\n")

    Path(address).unlink(missing_ok=True)
    with socketserver.ThreadingUnixStreamServer(address, Handler) as server:
        print("ready", flush=True)
        server.serve_forever()


@contextlib.contextmanager
def running(address: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """The service in a process of its own, killed at the end if it has not been."""
    command = [sys.executable, "-m", "tests.integration.key_service", address, str(folder)]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert service.stdout is not None
        assert service.stdout.readline() == "ready\n"
        yield service
    finally:
        service.kill()
        service.wait()


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
