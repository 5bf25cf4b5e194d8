"""A development CA and the certificate that it gives a ledger's content credentials.

A certificate under this CA proves that one ledger signed, to those who were given its root by a way they trust. It
proves no organisation's name to anybody else: for that, put a certificate of a CA on the C2PA trust list in its place.
Certificate profile: C2PA specification 2.4, chapter 14 (trust model).
"""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID, ObjectIdentifier

from ledger.errors import Inconsistent
from ledger.log.signing import SoftwareEs256Key

CLAIM_SIGNING = "1.3.6.1.4.1.62558.2.1"
EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"

LEAF_LIFETIME = timedelta(days=365)
ROOT_LIFETIME = timedelta(days=3652)
CLOCK_SKEW = timedelta(hours=1)  # a checker whose clock is behind ours still finds the certificate valid


def new_root(key: SoftwareEs256Key, origin: str, now: datetime) -> x509.Certificate:
    """The CA's own certificate, valid for ten years from `now` (aware)."""
    public = key.private_key.public_key()
    name = _name("Lawful Ledger development CA", origin)
    return (
        _certificate(name, name, public, now, now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key.private_key, hashes.SHA256())
    )


def new_leaf(
    public_key_der: bytes, root: x509.Certificate, root_key: SoftwareEs256Key, origin: str, now: datetime
) -> x509.Certificate:
    """A certificate to sign claims with, for a P-256 key (SubjectPublicKeyInfo): one year, never beyond its root's."""
    public = load_der_public_key(public_key_der)
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise TypeError("not an EC key")
    root_id = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usages = x509.ExtendedKeyUsage([ObjectIdentifier(CLAIM_SIGNING), ObjectIdentifier(EMAIL_PROTECTION)])
    end = min(now.astimezone(UTC) + LEAF_LIFETIME, root.not_valid_after_utc)
    if end <= now:
        raise Inconsistent(
            f"The development CA expired at {root.not_valid_after_utc.isoformat()}.",
            code="root_expired",
            next_step="Put a certificate of another CA into the keys folder; what was signed stays as it is.",
        )
    return (
        _certificate(_name("Lawful Ledger", origin), root.subject, public, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign=True), critical=True)
        .add_extension(usages, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id), critical=False)
        .sign(root_key.private_key, hashes.SHA256())
    )


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start.astimezone(UTC) - CLOCK_SKEW)
        .not_valid_after(end.astimezone(UTC))
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
        digital_signature=sign,  # what C2PA asks for; it forbids nothing but certificates' own signing
        content_commitment=sign,  # what PDF readers ask of a signature under a document (ISO 32000-2, PAdES)
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not sign,
        crl_sign=not sign,
        encipher_only=False,
        decipher_only=False,
    )
