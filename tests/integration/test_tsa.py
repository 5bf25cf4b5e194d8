"""Timestamps of a real RFC 3161 authority (OpenSSL's) on a loopback port: what they save, and what a dead one costs."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ledger.credentials.keys import LEAF_LIFETIME, KeyRing, init_keys
from ledger.credentials.read import CredentialReading, read_credential, trust_list
from ledger.credentials.write import (
    CredentialRequest,
    ModelDisclosure,
    WrittenCredential,
    new_manifest_urn,
    write_credential,
)
from ledger.errors import Unavailable

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the authority is OpenSSL's `ts`")

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
    """`openssl ts -reply` behind HTTP (RFC 3161, section 3.4). `answer` can be made to fail."""

    def __init__(self, folder: Path) -> None:
        self.root_pem = _certificates(folder)
        (folder / "serial").write_text("01")
        (folder / "tsa.cnf").write_text(CONFIGURATION.format(folder=folder))
        self.folder, self.mode, self.requests = folder, "well", 0
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
        (self.folder / "query.tsq").write_bytes(query)
        command = [
            "openssl",
            "ts",
            "-reply",
            "-config",
            self.folder / "tsa.cnf",
            "-queryfile",
            self.folder / "query.tsq",
        ]
        return 200, subprocess.run(command, check=True, capture_output=True, timeout=30).stdout


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    tsa = Authority(tmp_path)
    threading.Thread(target=tsa.server.serve_forever, daemon=True).start()
    yield tsa
    tsa.server.shutdown()
    tsa.server.server_close()


@pytest.fixture
def picture() -> bytes:
    return (Path(__file__).parent.parent / "golden" / "credentials" / "plain.png").read_bytes()


def sign(picture: bytes, ring: KeyRing, tsa_url: str | None) -> WrittenCredential:
    request = CredentialRequest(
        manifest_urn=new_manifest_urn(),
        intent="create",
        software=("atelier", "r1"),
        ledger={"schema": "lawful-ledger/record/1"},
        model=ModelDisclosure("atelier", "atelier@sha256:00ff"),
    )
    return write_credential(picture, "image/png", request, ring.credential, tsa_url=tsa_url, root_pem=ring.root_pem)


def read(written: WrittenCredential, *anchors: str) -> CredentialReading:
    return read_credential(
        written.data, "image/png", anchors_pem=trust_list(*anchors), now=datetime.now(UTC) + timedelta(seconds=1)
    )


def test_a_timestamp_outlives_the_certificate(authority: Authority, tmp_path: Path, picture: bytes) -> None:
    made = datetime.now(UTC) - LEAF_LIFETIME + timedelta(seconds=5)
    ring = init_keys(tmp_path / "keys", "localhost/ledger/2025", now=made)
    stamped, bare = sign(picture, ring, authority.url), sign(picture, ring, None)
    time.sleep(max(0.0, (ring.credential.not_after - datetime.now(UTC)).total_seconds() + 1.1))

    known = read(stamped, ring.root_pem, authority.root_pem)
    assert (known.content, known.signature, known.signer) == ("intact", "valid", "trusted")
    assert known.signed_at is not None
    assert datetime.fromisoformat(known.signed_at) <= ring.credential.not_after

    unknown_authority = read(stamped, ring.root_pem)
    assert (unknown_authority.content, unknown_authority.signature) == ("intact", "expired")
    assert unknown_authority.signed_at is None
    assert (read(bare, ring.root_pem).content, read(bare, ring.root_pem).signature) == ("intact", "expired")


def test_the_time_is_told_only_by_an_authority_the_checker_trusts(
    authority: Authority, tmp_path: Path, picture: bytes
) -> None:
    ring = init_keys(tmp_path / "keys", "localhost/ledger/2026", now=datetime.now(UTC))
    written = sign(picture, ring, authority.url)
    assert authority.requests == 1
    assert read(written, ring.root_pem, authority.root_pem).signed_at is not None
    without = read(written, ring.root_pem)
    assert (without.signature, without.signer, without.signed_at) == ("valid", "trusted", None)
    assert "timeStamp.untrusted" in without.codes


@pytest.mark.parametrize("mode", ["broken", "lying", "gone"])
def test_an_authority_that_fails_stops_the_signing_and_is_named(
    mode: str, authority: Authority, tmp_path: Path, picture: bytes
) -> None:
    ring = init_keys(tmp_path / "keys", "localhost/ledger/2026", now=datetime.now(UTC))
    authority.mode = mode
    url = "http://127.0.0.1:1/" if mode == "gone" else authority.url
    with pytest.raises(Unavailable) as caught:
        sign(picture, ring, url)
    assert caught.value.code == "tsa_down"
    assert "LAWFUL_TSA_URL" in caught.value.next_step


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
