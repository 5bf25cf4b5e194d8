"""A real RFC 3161 authority (OpenSSL's) on a loopback port, which can be made to fail."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the authority is OpenSSL's `ts`")

CONFIGURATION = """
[tsa]
default_tsa = authority
[authority]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
certs = {folder}/root.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_chain = no
"""


class Authority:
    """`openssl ts -reply` behind HTTP (RFC 3161, section 3.4).

    `mode`: well, broken (500), lying (a grant without a token), refusing, repeating (the answer it gave before), wordy
    (200 KB), silent (no answer until `released`).
    """

    def __init__(self, folder: Path) -> None:
        self.root_pem = _certificates(folder)
        (folder / "serial").write_text("01")
        (folder / "tsa.cnf").write_text(CONFIGURATION.format(folder=folder))
        self.folder, self.mode, self.requests = folder, "well", 0
        self.last, self.released = b"", threading.Event()
        self.one_at_a_time = threading.Lock()  # one query file, one serial number
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["content-length"]))
                authority.requests += 1
                status, body = authority.answer(query)
                self.send_response(status)
                self.send_header("content-type", "application/timestamp-reply")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def answer(self, query: bytes) -> tuple[int, bytes]:
        if self.mode == "broken":
            return 500, b""
        if self.mode == "lying":
            return 200, b"\x30\x03\x02\x01\x00"
        if self.mode == "refusing":
            return 200, b"\x30\x05\x30\x03\x02\x01\x02"  # PKIStatus rejection
        if self.mode == "repeating":
            return 200, self.last
        if self.mode == "wordy":
            return 200, bytes(200_000)
        if self.mode == "silent":
            self.released.wait(30)
            return 500, b""
        with self.one_at_a_time:
            return 200, self._stamped(query)

    def _stamped(self, query: bytes) -> bytes:
        (self.folder / "query.tsq").write_bytes(query)
        command: list[str | Path] = [
            "openssl",
            "ts",
            "-reply",
            "-config",
            self.folder / "tsa.cnf",
            "-queryfile",
            self.folder / "query.tsq",
        ]
        self.last = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
        return self.last


@contextmanager
def running_authority(folder: Path) -> Iterator[Authority]:
    """It answers while the context lasts; `folder` is made for its keys."""
    folder.mkdir()
    tsa = Authority(folder)
    threading.Thread(target=tsa.server.serve_forever, daemon=True).start()
    try:
        yield tsa
    finally:
        tsa.released.set()
        tsa.server.shutdown()
        tsa.server.server_close()


def _certificates(folder: Path) -> str:
    """A root and a leaf that may only timestamp (RFC 3161, section 2.3: one critical extended key usage)."""
    now, day = datetime.now(UTC), timedelta(days=1)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, name = (
        x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
        )
        for common in ("Timestamp root", "Timestamp authority")
    )

    def start(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        serial = x509.random_serial_number()
        builder = x509.CertificateBuilder(root_name, subject, public, serial, now - 400 * day, now + 400 * day)
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)

    def usage(*, sign: bool) -> x509.KeyUsage:
        return x509.KeyUsage(sign, False, False, False, False, not sign, not sign, False, False)

    root = (
        start(root_name, root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(sign=False), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        start(name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(sign=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    root_pem = root.public_bytes(Encoding.PEM).decode()
    (folder / "root.pem").write_text(root_pem)
    (folder / "tsa.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (folder / "tsa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return root_pem
