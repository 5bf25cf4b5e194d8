"""The keys of one ledger: the log's, the statements', and a content credential under a development CA of its own.

One folder, 0700, of files, 0600:

    log.skey             note key of the log's checkpoints (C2SP signed-note, Ed25519)
    statements.pem       key that signs statements (COSE, EdDSA)
    credential.key.pem   key that signs C2PA claims (ES256)
    credential.pem       its certificate: claimSigning and emailProtection, one year
    root.pem             the development CA's certificate, ten years: what others need to see our files as Trusted
    root.key.pem         the CA's key; nothing here reads it again until the certificate is renewed

A certificate under this CA proves that one ledger signed, to those who were given `root.pem` by a way they trust. It
proves no organisation's name to anybody else: for that, put a certificate of a CA on the C2PA trust list in its place.
Certificate profile: C2PA specification 2.4, chapter 14 (trust model).
"""

import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID, ObjectIdentifier

from ledger.errors import Conflict, Inconsistent, NotAllowed, NotFound
from ledger.log.notes import NoteSigner
from ledger.log.statements import StatementKey

CLAIM_SIGNING = "1.3.6.1.4.1.62558.2.1"
EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"

LEAF_LIFETIME = timedelta(days=365)
ROOT_LIFETIME = timedelta(days=3652)
CLOCK_SKEW = timedelta(hours=1)  # a checker whose clock is behind ours still finds the certificate valid

_FILES = ("log.skey", "statements.pem", "credential.key.pem", "credential.pem", "root.pem", "root.key.pem")


@dataclass(frozen=True)
class CredentialKey:
    """What signs a claim: certificates (PEM, leaf first, root left out) and the leaf's private key (PKCS #8 PEM)."""

    certificates_pem: str
    private_key_pem: str = field(repr=False)

    @property
    def not_after(self) -> datetime:
        """When the leaf expires (aware UTC). Files signed without a timestamp read `expired` from then on."""
        return x509.load_pem_x509_certificate(self.certificates_pem.encode()).not_valid_after_utc


@dataclass(frozen=True)
class KeyRing:
    """All that a ledger signs with, and its own trust anchor."""

    log: NoteSigner
    statements: StatementKey
    credential: CredentialKey
    root_pem: str


def init_keys(folder: Path, origin: str, *, now: datetime) -> KeyRing:
    """Make every key of a ledger and put them into `folder` at once.

    They are written beside it and moved there by one rename, so a run that dies half-way leaves nothing `load_keys`
    would accept, and of two runs at once one wins. `origin` is the log's origin line; `now` starts the certificates.
    Raises Conflict `keys_exist` where the folder holds anything: keys are never overwritten.
    """
    exists = Conflict(
        f"{folder} exists already; its keys are kept.",
        code="keys_exist",
        next_step="Use the keys that are there, or choose another home: a new log key starts a new log.",
    )
    if folder.exists() and any(folder.iterdir()):
        raise exists
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.new"
    staging.mkdir(mode=0o700)
    try:
        for name, text in _new_keys(origin, now).items():
            _write_private(staging / name, text)
        _sync(staging)
        try:
            staging.rename(folder)  # fails on a folder that is not empty: whoever renamed first has won
        except OSError as error:
            raise exists from error
        _sync(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_keys(folder)


def load_keys(folder: Path) -> KeyRing:
    """Read the keys that `init_keys` made.

    Raises NotFound `keys_missing`, NotAllowed `keys_exposed` where others than the owner may read them, Inconsistent
    `keys_damaged` where a file does not hold what it should or the certificate belongs to another key.
    """
    texts = {name: _read_private(folder, name) for name in _FILES if name != "root.key.pem"}
    try:
        credential = CredentialKey(texts["credential.pem"], texts["credential.key.pem"])
        leaf = x509.load_pem_x509_certificate(credential.certificates_pem.encode())
        root = x509.load_pem_x509_certificate(texts["root.pem"].encode())
        private = load_pem_private_key(credential.private_key_pem.encode(), None)
        if private.public_key() != leaf.public_key():
            raise ValueError("credential.pem and credential.key.pem belong to different keys")
        if leaf.issuer == root.subject:  # a certificate of another CA may stand here, with its own root elsewhere
            leaf.verify_directly_issued_by(root)
        return KeyRing(
            log=NoteSigner.parse(texts["log.skey"].strip()),
            statements=StatementKey.from_pem(texts["statements.pem"].encode()),
            credential=credential,
            root_pem=texts["root.pem"],
        )
    except Exception as error:  # each parser has its own errors; to an operator all mean the same
        raise Inconsistent(
            f"The keys in {folder} do not hold together: {type(error).__name__}.",
            code="keys_damaged",
            next_step="Restore the folder from its backup; do not make new keys for a log that has entries.",
        ) from error


def anchor_pem(folder: Path) -> str:
    """The ledger's own root certificate as PEM, for those who want to see its files as Trusted. Public."""
    return _read_private(folder, "root.pem")


def _new_keys(origin: str, now: datetime) -> Mapping[str, str]:
    root_key = ec.generate_private_key(ec.SECP256R1())
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    root_name, leaf_name = _name("Lawful Ledger development CA", origin), _name("Lawful Ledger", origin)
    root_id = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    root = (
        _certificate(root_name, root_name, root_key.public_key(), now, ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign=False), critical=True)
        .add_extension(root_id, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        _certificate(leaf_name, root_name, leaf_key.public_key(), now, LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ObjectIdentifier(CLAIM_SIGNING), ObjectIdentifier(EMAIL_PROTECTION)]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(leaf_key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return {
        "log.skey": NoteSigner.generate(origin).skey + "\n",
        "statements.pem": StatementKey.generate().to_pem().decode(),
        "credential.key.pem": _private_pem(leaf_key),
        "credential.pem": leaf.public_bytes(Encoding.PEM).decode(),
        "root.pem": root.public_bytes(Encoding.PEM).decode(),
        "root.key.pem": _private_pem(root_key),
    }


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    start = now.astimezone(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - CLOCK_SKEW)
        .not_valid_after(start + lifetime)
    )


def _name(common: str, origin: str) -> x509.Name:
    # X.520 allows 64 characters in each; checkers show the organisation as the signer's name
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"{common}, {origin}"[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _key_usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not sign,
        crl_sign=not sign,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _read_private(folder: Path, name: str) -> str:
    path = folder / name
    try:
        for checked in (folder, path):
            if checked.stat().st_mode & 0o077:
                raise NotAllowed(
                    f"{checked} can be read by others than its owner.",
                    code="keys_exposed",
                    next_step=f"Run: chmod -R go= {folder}, and ask who could have read it.",
                )
        return path.read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"{path} is missing.", code="keys_missing", next_step="Run `lawful init` to make this ledger's keys."
        ) from error
    except (UnicodeDecodeError, PermissionError) as error:
        raise Inconsistent(
            f"{path} cannot be read: {type(error).__name__}.",
            code="keys_damaged",
            next_step="Check the file's owner, or restore the folder from its backup.",
        ) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
