"""What signs: a private key in this process's memory, or a call to whatever keeps one (a KMS, an HSM)."""

from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Ed25519Signer(Protocol):
    """Signs with one Ed25519 key (RFC 8032, pure). `sign` may go over a network; it raises Unavailable."""

    @property
    def public_key(self) -> bytes:
        """Raw, 32 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        ...


@dataclass(frozen=True)
class SoftwareKey:
    """An Ed25519 key in memory. `repr` never shows it."""

    private_key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> "SoftwareKey":
        return cls(Ed25519PrivateKey.generate())

    @property
    def public_key(self) -> bytes:
        return self.private_key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self.private_key.sign(message)
