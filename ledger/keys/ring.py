"""The keys of one ledger: the log's, the statements', the receipts', and a content credential with its certificate.

One folder, 0700, of files, 0600:

    log.skey             note key of the log's checkpoints (C2SP signed-note, Ed25519)
    log.vkey             its public half
    statements.pem       key that signs statements (COSE, EdDSA)
    receipts.key.pem     key that signs COSE receipts (ES256)
    credential.key.pem   key that signs C2PA claims (ES256)
    credential.pem       its certificate: claimSigning and emailProtection, one year
    root.pem             the development CA's certificate, ten years: what others need to see our files as Trusted
    root.key.pem         the CA's key; read only when the certificate is renewed

With a key provider the four signing keys are kept there and not here. A file ending in `.next` is a key on its way in
(`ledger.keys.rotation`); which of the two is in force, the database says.
"""

import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.durable import sync
from ledger.errors import Conflict, Inconsistent, LedgerError, NotFound
from ledger.keys.certificates import new_leaf, new_root, pem
from ledger.keys.files import read_private, write_private
from ledger.keys.provider import GuardedProvider, load_provider
from ledger.log.announcements import KeyUse, PublicKey
from ledger.log.notes import NoteSigner, NoteVerifier
from ledger.log.signing import Ed25519Signer, Es256Signer, SoftwareEs256Key, SoftwareKey
from ledger.log.statements import StatementKey, key_id
from ledger.settings import Settings

Key = TypeVar("Key")

STATEMENTS, RECEIPTS = "statements.pem", "receipts.key.pem"
CREDENTIAL, CREDENTIAL_KEY = "credential.pem", "credential.key.pem"
ROOT, ROOT_KEY = "root.pem", "root.key.pem"
LOG, LOG_VKEY = "log.skey", "log.vkey"
NEXT = ".next"

Use = Literal["statements", "receipts", "credential"]
"""The keys that one can follow another in, as commands call them; the log says `credentials` of the last."""

InForce = Mapping[KeyUse, bytes]
"""use → kid of the announced key that signs now. Empty: nobody asked the database, the files stand for themselves."""


@dataclass(frozen=True)
class CredentialKey:
    """What signs a claim: certificates (PEM, leaf first, root left out) and the leaf's key, wherever it is kept."""

    certificates_pem: str
    key: Es256Signer = field(repr=False)

    @cached_property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificates_pem.encode())

    @property
    def not_after(self) -> datetime:
        """When the leaf expires (aware UTC). Files signed without a timestamp read `expired` from then on."""
        return self.leaf.not_valid_after_utc


@dataclass(frozen=True)
class KeyRing:
    """All that a ledger signs with, and its own trust anchor."""

    log: NoteSigner
    statements: StatementKey
    receipts: Es256Signer
    credential: CredentialKey
    root_pem: str

    @property
    def announced(self) -> tuple[PublicKey, ...]:
        """What the log has to announce of these keys; its own key it announces by every checkpoint."""
        return (
            PublicKey("statements", self.statements.public_key),
            PublicKey("receipts", self.receipts.public_key_der),
            PublicKey("credentials", self.credential.leaf.public_bytes(Encoding.DER)),
        )


def init_keys(folder: Path, origin: str, *, now: datetime, provider: GuardedProvider | None = None) -> KeyRing:
    """Make every key of a ledger that `provider` does not keep, and put them into `folder` at once.

    They are written beside it and moved there by one rename, so a run that dies half-way leaves nothing `load_keys`
    would accept, and of two runs at once one wins. `origin` is the log's origin line; `now` starts the certificates.
    Raises Conflict `keys_exist` where the folder holds anything: keys are never overwritten. Unavailable as
    GuardedProvider does.
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
        for name, text in _new_keys(origin, now, provider).items():
            write_private(staging / name, text)
        sync(staging)
        try:
            staging.rename(folder)  # fails on a folder that is not empty: whoever renamed first has won
        except OSError as error:
            raise exists from error
        sync(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_keys(folder, provider=provider)


def load_keys(folder: Path, *, provider: GuardedProvider | None = None, in_force: InForce | None = None) -> KeyRing:
    """Read the keys that `init_keys` made; with `in_force`, exactly those that the log announced last.

    Raises NotFound `keys_missing`; NotAllowed `keys_exposed`, `keys_of_another` as `read_private`; Inconsistent
    `keys_damaged` where a file does not hold what it should or the certificate belongs to another key, `key_not_here`
    where the announced key is not among the files; Unavailable as GuardedProvider does.
    """
    wanted = in_force or {}
    try:
        root_pem = read_private(folder, ROOT)
        return KeyRing(
            log=_log(folder, provider),
            statements=StatementKey(_statements(folder, provider, wanted.get("statements"))),
            receipts=_receipts(folder, provider, wanted.get("receipts")),
            credential=_credential(folder, provider, wanted.get("credentials"), root_pem),
            root_pem=root_pem,
        )
    except LedgerError as error:
        if error.code in {"key_malformed", "skey_malformed", "vkey_malformed"}:
            raise _damaged(folder, error) from error
        raise
    except Exception as error:  # each parser has its own errors; to an operator all mean the same
        raise _damaged(folder, error) from error


def keys_of(settings: Settings, in_force: InForce | None = None) -> KeyRing:
    """`load_keys` as the settings say. Raises as it does, and as `load_provider`."""
    return load_keys(settings.keys_folder, provider=load_provider(settings.key_provider), in_force=in_force)


@dataclass(frozen=True)
class Anchors:
    """What others need to check this ledger: the log's verifier key, and the root (PEM) of its certificates. Public."""

    log_vkey: str
    root_pem: str


def load_anchors(folder: Path) -> Anchors:
    """Read them without touching a private key or a key provider. Raises as `read_private`."""
    return Anchors(read_private(folder, LOG_VKEY).strip(), read_private(folder, ROOT))


def staged(folder: Path) -> list[Use]:
    """The uses for which a successor lies in the folder: somebody rotates just now, or was cut off."""
    files: dict[Use, str] = {"statements": STATEMENTS, "receipts": RECEIPTS, "credential": CREDENTIAL}
    return [use for use, name in files.items() if (folder / (name + NEXT)).exists()]


def texts(folder: Path, name: str) -> list[str]:
    """The file and, where one is on its way in, its successor. Raises as `read_private`."""
    try:
        successor = [read_private(folder, name + NEXT)]  # first: a rename in between then shows it twice, never not
    except NotFound:
        successor = []
    return [read_private(folder, name), *successor]


# ---- one use after the other -----------------------------------------------------------------------------------------


def _log(folder: Path, provider: GuardedProvider | None) -> NoteSigner:
    verifier = NoteVerifier.parse(read_private(folder, LOG_VKEY).strip())
    if provider is None:
        signer = NoteSigner.parse(read_private(folder, LOG).strip())
    else:
        signer = NoteSigner(verifier.name, provider.ed25519("log", key_id(verifier.public_key)))
    if signer.vkey != verifier.vkey:
        raise Inconsistent(
            f"The log's signing key is not the one of {LOG_VKEY}, with which this log began.",
            code="log_key_mismatch",
            next_step="Bring back this log's key; never put another one under an old log.",
        )
    return signer


def _statements(folder: Path, provider: GuardedProvider | None, kid: bytes | None) -> Ed25519Signer:
    if provider is not None:
        signer = provider.ed25519("statements", kid)
        return _wanted([signer], [key_id(signer.public_key)], kid, "statements")
    keys = [SoftwareKey.from_pem(text.encode()) for text in texts(folder, STATEMENTS)]
    return _wanted(keys, [key_id(key.public_key) for key in keys], kid, "statements")


def _receipts(folder: Path, provider: GuardedProvider | None, kid: bytes | None) -> Es256Signer:
    keys: list[Es256Signer]
    if provider is not None:
        keys = [provider.es256("receipts", kid)]
    else:
        keys = [SoftwareEs256Key.from_pem(text.encode()) for text in texts(folder, RECEIPTS)]
    return _wanted(keys, [key_id(key.public_key_der) for key in keys], kid, "receipts")


def _credential(folder: Path, provider: GuardedProvider | None, kid: bytes | None, root_pem: str) -> CredentialKey:
    """The chain that is wanted, with the key that belongs to its leaf: each may already have moved into its place."""
    chains = {leaf_kid(chain): chain for chain in texts(folder, CREDENTIAL)}
    wanted = list(chains.values()) if kid is None else [_wanted(list(chains.values()), list(chains), kid, "credential")]
    root = x509.load_pem_x509_certificate(root_pem.encode())
    for chain in wanted:
        leaf = x509.load_pem_x509_certificate(chain.encode())
        if leaf.issuer == root.subject:  # a certificate of another CA may stand here, with its own root elsewhere
            leaf.verify_directly_issued_by(root)
        spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for key in _credential_keys(folder, provider, spki):
            if key.public_key_der == spki:
                return CredentialKey(chain, key)
    raise ValueError(f"{CREDENTIAL} and {CREDENTIAL_KEY} belong to different keys")


def _credential_keys(folder: Path, provider: GuardedProvider | None, spki: bytes) -> Sequence[Es256Signer]:
    if provider is not None:
        return [provider.es256("credential", key_id(spki))]
    return [SoftwareEs256Key.from_pem(text.encode()) for text in texts(folder, CREDENTIAL_KEY)]


def leaf_kid(chain_pem: str) -> bytes:
    """SHA-256 of the first certificate: its kid as it is announced, and what tools call its fingerprint."""
    return x509.load_pem_x509_certificate(chain_pem.encode()).fingerprint(hashes.SHA256())


def _wanted(keys: Sequence[Key], kids: Sequence[bytes], kid: bytes | None, use: str) -> Key:
    """The key that the log announced; without its word, the one in its place."""
    if kid is None:
        return keys[0]
    for key, its_kid in zip(keys, kids, strict=True):
        if its_kid == kid:
            return key
    raise Inconsistent(
        f"The log announced the {use} key {kid.hex()[:16]}…, and it is not here.",
        code="key_not_here",
        next_step="Restore the keys folder from its newest backup. A receipts or credential key that was replaced by"
        " hand takes effect with `lawful keys rotate`.",
    )


def _damaged(folder: Path, error: Exception) -> Inconsistent:
    return Inconsistent(
        f"The keys in {folder} do not hold together: {type(error).__name__}.",
        code="keys_damaged",
        next_step="Restore the folder from its backup; do not make new keys for a log that has entries.",
    )


def _new_keys(origin: str, now: datetime, provider: GuardedProvider | None) -> Mapping[str, str]:
    root_key = SoftwareEs256Key.generate()
    root = new_root(root_key, origin, now)
    made = {ROOT: pem(root), ROOT_KEY: root_key.to_pem().decode()}
    if provider is not None:
        credential = provider.es256("credential")
        log = NoteSigner(origin, provider.ed25519("log"))
    else:
        own = credential = SoftwareEs256Key.generate()
        log = NoteSigner.generate(origin)
        made[LOG] = log.skey + "\n"
        made[STATEMENTS] = SoftwareKey.generate().to_pem().decode()
        made[RECEIPTS] = SoftwareEs256Key.generate().to_pem().decode()
        made[CREDENTIAL_KEY] = own.to_pem().decode()
    made[LOG_VKEY] = log.vkey + "\n"
    made[CREDENTIAL] = pem(new_leaf(credential.public_key_der, root, root_key, origin, now))
    return made
