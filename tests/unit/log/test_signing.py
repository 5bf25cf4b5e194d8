"""Software keys: kept as PEM, signing as KMS and COSE have it, never shown."""

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from ledger.log.signing import SigningKeyError, SoftwareEs256Key, SoftwareKey

ED25519, P256 = SoftwareKey.generate(), SoftwareEs256Key.generate()


def test_keys_come_back_from_their_pem() -> None:
    assert SoftwareKey.from_pem(ED25519.to_pem()).public_key == ED25519.public_key
    assert SoftwareEs256Key.from_pem(P256.to_pem()).public_key_der == P256.public_key_der


def test_a_private_key_is_not_in_what_is_printed() -> None:
    assert repr(ED25519) == "SoftwareKey()"
    assert repr(P256) == "SoftwareEs256Key()"


@given(st.binary(max_size=200))
def test_an_es256_signature_is_r_and_s_of_32_bytes_each(message: bytes) -> None:
    signature = P256.sign(message)
    assert len(signature) == 64
    public = load_der_public_key(P256.public_key_der)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    public.verify(der, message, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(der, message + b"x", ec.ECDSA(hashes.SHA256()))


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


@pytest.mark.parametrize(
    ("kind", "pem"),
    [
        (SoftwareKey, b""),
        (SoftwareKey, b"nonsense"),
        (SoftwareKey, P256.to_pem()),
        (SoftwareKey, _pem(ED25519.private_key, b"secret")),
        (SoftwareEs256Key, ED25519.to_pem()),
        (SoftwareEs256Key, _pem(ec.generate_private_key(ec.SECP384R1()))),
    ],
)
def test_other_pem_files_are_refused_without_being_quoted(
    kind: type[SoftwareKey] | type[SoftwareEs256Key], pem: bytes
) -> None:
    with pytest.raises(SigningKeyError) as raised:
        kind.from_pem(pem)
    assert raised.value.code == "key_malformed"
    assert "PRIVATE KEY-----" not in str(raised.value)
