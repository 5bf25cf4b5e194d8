"""Keys that are kept elsewhere (a KMS, an HSM): the operator's own function gives objects that sign with them.

The setting `key_provider` names it, `package.module:function`; it is called once a process, without arguments, and
returns a `KeyProvider`. Nothing that it answers is believed: every signature is verified before anything is done with
it, and every call ends after `TIMEOUT`, so that a provider that is down, slow or wrong costs an error with a code and
never a false signature, a half-written row or a process that hangs.
"""

import importlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ledger.errors import BadRequest, LedgerError, Unavailable
from ledger.log.signing import Ed25519Signer, Es256Signer

TIMEOUT = 10.0  # seconds for one question, a signature among them
MAX_QUESTIONS = 32  # open at once; those that never come back stop new ones from piling up behind them

Ed25519Use = Literal["log", "statements"]
Es256Use = Literal["receipts", "credential"]

T = TypeVar("T")


class KeyProvider(Protocol):
    """What the operator's function returns. Its methods, and its signers', may be called from several threads.

    `kid` is SHA-256 of the wanted key's public key (raw Ed25519; SubjectPublicKeyInfo for ES256): old versions stay
    available until their successor is announced. None asks for the newest version of that use's key. For the log's key
    there is only one, ever.
    """

    def ed25519(self, use: Ed25519Use, kid: bytes | None) -> Ed25519Signer:
        """The key that signs checkpoints, or statements."""
        ...

    def es256(self, use: Es256Use, kid: bytes | None) -> Es256Signer:
        """The key that signs COSE receipts, or content credentials."""
        ...


@lru_cache(maxsize=4)
def load_provider(setting: str | None) -> "GuardedProvider | None":
    """The provider named `package.module:function`; None for None. Raises BadRequest code `key_provider_invalid` where
    the name leads nowhere, Unavailable code `key_provider_down` where the function fails."""
    if setting is None:
        return None
    module, colon, function = setting.partition(":")
    try:
        if not colon:
            raise ImportError("package.module:function is wanted")
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadRequest(
            f"key_provider {setting[:200]}: {error}",
            code="key_provider_invalid",
            next_step="Install the package that holds it, and name it as package.module:function.",
        ) from error
    return GuardedProvider(_asked("its function", make, threading.BoundedSemaphore(1)))


class GuardedProvider:
    """A provider whose signers verify what they are given. Raises Unavailable: `key_provider_down` for any failure or
    silence, `key_provider_wrong` for an answer that is not what was asked for."""

    def __init__(self, provider: KeyProvider) -> None:
        self._provider = provider
        self._open = threading.BoundedSemaphore(MAX_QUESTIONS)

    def ed25519(self, use: Ed25519Use, kid: bytes | None = None) -> Ed25519Signer:
        """The key of this `use` as its provider gives it; which one it is, the caller compares."""
        signer = _asked(use, lambda: self._provider.ed25519(use, kid), self._open)
        public = _asked(use, lambda: signer.public_key, self._open)
        if not isinstance(public, bytes) or len(public) != 32:
            raise _wrong(use, "gave no Ed25519 public key of 32 bytes")
        return _Ed25519(use, public, signer, self._open)

    def es256(self, use: Es256Use, kid: bytes | None = None) -> Es256Signer:
        """As `ed25519`, for a P-256 key."""
        signer = _asked(use, lambda: self._provider.es256(use, kid), self._open)
        public = _asked(use, lambda: signer.public_key_der, self._open)
        try:
            key = load_der_public_key(public)
        except (ValueError, TypeError) as error:
            raise _wrong(use, "gave no public key in DER") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise _wrong(use, "gave a key of another kind than P-256")
        return _Es256(use, public, key, signer, self._open)


@dataclass(frozen=True, eq=False)
class _Ed25519:
    use: str
    public_key: bytes
    signer: Ed25519Signer
    open: threading.BoundedSemaphore

    def sign(self, message: bytes) -> bytes:
        signature = _asked(self.use, lambda: self.signer.sign(message), self.open)
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (InvalidSignature, TypeError, ValueError) as error:
            raise _wrong(self.use, "gave a signature that its own public key does not verify") from error
        return bytes(signature)


@dataclass(frozen=True, eq=False)
class _Es256:
    use: str
    public_key_der: bytes
    public_key: ec.EllipticCurvePublicKey
    signer: Es256Signer
    open: threading.BoundedSemaphore

    def sign(self, message: bytes) -> bytes:
        signature = _asked(self.use, lambda: self.signer.sign(message), self.open)
        try:
            if len(signature) != 64:
                raise ValueError("not r and s")
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            self.public_key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, TypeError, ValueError) as error:
            raise _wrong(self.use, "gave a signature that its own public key does not verify") from error
        return bytes(signature)


def _asked(use: str, question: Callable[[], T], open_questions: threading.BoundedSemaphore) -> T:
    """The answer to `question`, which somebody else's code gives, in a thread that may be left behind."""
    if not open_questions.acquire(timeout=TIMEOUT):
        raise _down(use, f"has left {MAX_QUESTIONS} questions unanswered")
    answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((True, question()))
        except Exception as error:  # noqa: BLE001 - a plug-in's errors are its own; here all of them mean the same
            answers.put((False, error))
        finally:
            open_questions.release()

    threading.Thread(target=ask, name=f"key-provider {use}", daemon=True).start()
    try:
        answered, value = answers.get(timeout=TIMEOUT)
    except queue.Empty:
        raise _down(use, f"did not answer within {TIMEOUT:g} s") from None
    if not answered:
        if isinstance(value, LedgerError):
            raise value
        raise _down(use, f"failed with {type(value).__name__}") from value
    return value  # type: ignore[no-any-return]  # what the queue carries is what `question` returned


def _down(use: str, what: str) -> Unavailable:
    return Unavailable(
        f"The key provider {what} (asked for: {use}).",
        code="key_provider_down",
        next_step="See that the key service runs and lets this account sign. Nothing was written; work goes on then.",
    )


def _wrong(use: str, what: str) -> Unavailable:
    return Unavailable(
        f"The key provider {what} (asked for: {use}).",
        code="key_provider_wrong",
        next_step="Compare the key service's keys with `lawful keys show`; nothing was written with that answer.",
    )
