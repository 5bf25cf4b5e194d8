"""What signs: a private key in this process's memory, or a call to whatever keeps one (a KMS, an HSM)."""

from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ledger.errors import BadRequest

_SMALL_ORDER = frozenset(
    bytes.fromhex(y)
    for y in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)
"""y-coordinates, sign bit cleared, of the points whose order divides 8: under them one signature fits every message."""


def is_ed25519_key(public_key: bytes) -> bool:
    """Whether these are the 32 bytes of a key that can speak for somebody: not a point of small order."""
    return len(public_key) == 32 and public_key[:31] + bytes([public_key[31] & 0x7F]) not in _SMALL_ORDER


class SigningKeyError(BadRequest):
    """A text that is not the private key it should be. Never quotes it."""

    code = "key_malformed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, next_step="Restore the file from its backup; do not make a new key in its place.")


class Ed25519Signer(Protocol):
    """Signs with one Ed25519 key (RFC 8032, pure). `sign` may go over a network; it raises Unavailable."""

    @property
    def public_key(self) -> bytes:
        """Raw, 32 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        ...


class Es256Signer(Protocol):
    """Signs with one P-256 key, ECDSA over SHA-256 (ES256, RFC 9053 section 2.1). `sign` may go over a network; it
    raises Unavailable."""

    @property
    def public_key_der(self) -> bytes:
        """SubjectPublicKeyInfo, DER (RFC 5480): 91 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """r ‖ s, each 32 bytes big-endian, as COSE and JOSE have it; not the DER of X.509. Different at every call."""
        ...


@dataclass(frozen=True)
class SoftwareKey:
    """An Ed25519 key in memory. `repr` never shows it."""

    private_key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> "SoftwareKey":
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> "SoftwareKey":
        """From unencrypted PKCS #8. Raises SigningKeyError code `key_malformed`."""
        key = _private_key(pem)
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningKeyError("a private key of another kind than Ed25519")
        return cls(key)

    def to_pem(self) -> bytes:
        """PKCS #8, unencrypted. A secret: it belongs into a file of mode 0600."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def public_key(self) -> bytes:
        return self.private_key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self.private_key.sign(message)


@dataclass(frozen=True)
class SoftwareEs256Key:
    """A P-256 key in memory. `repr` never shows it."""

    private_key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> "SoftwareEs256Key":
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> "SoftwareEs256Key":
        """From unencrypted PKCS #8. Raises SigningKeyError code `key_malformed`."""
        key = _private_key(pem)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise SigningKeyError("a private key of another kind than P-256")
        return cls(key)

    def to_pem(self) -> bytes:
        """PKCS #8, unencrypted. A secret: it belongs into a file of mode 0600."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def public_key_der(self) -> bytes:
        return self.private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self.private_key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _private_key(pem: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise SigningKeyError("not an unencrypted private key in PEM") from error
