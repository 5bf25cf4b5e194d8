"""The PDF's signature under the ledger's own certificate, as programs of others read it with nothing told to them."""

import datetime as dt
import io
import re
import shutil
import subprocess
from pathlib import Path

import pikepdf
import pytest
from asn1crypto import x509  # type: ignore[import-untyped]
from cryptography import x509 as certificates
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

from ledger.keys.ring import KeyRing, init_keys
from ledger.reports.signature import sign_document

ORIGIN = "ledger.test/2026"


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return init_keys(tmp_path_factory.mktemp("home") / "keys", ORIGIN, now=dt.datetime.now(dt.UTC))


@pytest.fixture(scope="module")
def signed(ring: KeyRing) -> bytes:
    out = io.BytesIO()
    with pikepdf.new() as empty:
        empty.add_blank_page()
        empty.save(out)
    return sign_document(out.getvalue(), ring.credential, about="record 1", origin=ORIGIN, tsa_url=None)


def test_pyhanko_believes_it_by_its_own_default_policy_under_the_ledgers_root(ring: KeyRing, signed: bytes) -> None:
    """That policy asks for a certificate that may bind its holder to content (nonRepudiation)."""
    (root,) = certificates.load_pem_x509_certificates(ring.root_pem.encode())
    roots = [x509.Certificate.load(root.public_bytes(Encoding.DER))]
    (signature,) = PdfFileReader(io.BytesIO(signed)).embedded_signatures
    status = validate_pdf_signature(signature, ValidationContext(trust_roots=roots, allow_fetching=False))
    assert (status.intact, status.valid, status.trusted, status.bottom_line) == (True, True, True, True)
    changed = bytearray(signed)
    changed[changed.index(b"/MediaBox") + 12] ^= 1
    (signature,) = PdfFileReader(io.BytesIO(changed)).embedded_signatures
    assert not validate_pdf_signature(signature, ValidationContext(trust_roots=roots, allow_fetching=False)).intact


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is the second reader of the signature")
def test_openssl_verifies_the_cms_over_the_bytes_that_the_pdf_names(
    ring: KeyRing, signed: bytes, tmp_path: Path
) -> None:
    found = re.search(rb"/ByteRange\s*\[\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*\]", signed)
    assert found is not None
    begin, length, after, rest = (int(each) for each in found.groups())
    assert (begin, after + rest) == (0, len(signed))
    padded = bytes.fromhex(signed[length + 1 : after - 1].decode())  # between the angle brackets
    cms = padded[: 4 + int.from_bytes(padded[2:4], "big")]  # DER: a sequence with a length of two bytes
    covered = signed[:length] + signed[after:]
    for name, data in (("cms.der", cms), ("covered", covered), ("root.pem", ring.root_pem.encode())):
        (tmp_path / name).write_bytes(data)
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "cms.der", "-content", "covered"]
    command += ["-CAfile", "root.pem", "-out", "seen"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").read_bytes() == covered
    (tmp_path / "covered").write_bytes(covered[:-1] + b"\0")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0
