"""One key follows another: statements, receipts and the content credential's; the log's own key stays with its log.

The order, and what is durable after each step:

    1 staged     the new key lies beside the old one, as `<file>.next`; with a key provider, it is the newest version
    2 committed  one transaction: the entry that announces it (in the outbox), its row, and the old row's retirement.
                 This is the moment of the change: the unique row without `retired_at` is the key in force
    3 renamed    the new key stands in the old one's place, whose file is gone

A run that is cut off after 1 is gone on with by the next one, with the same key; after 2, everybody finds the new key
in `<file>.next` (`ledger.keys.current`) and the next run renames. The entry is signed by the statements key that was in
force, so that whoever follows the log passes from one key to the next (`ledger.log.announcements`).

What it does not give: a way back for who has lost the statements key, files and backups. Nobody can then announce
another in this log, and a new shard has to begin.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.orm import Session, sessionmaker

from ledger.durable import sync
from ledger.errors import Conflict, NotFound
from ledger.keys.announced import announce, in_force, retire
from ledger.keys.certificates import new_leaf, pem
from ledger.keys.files import locked, read_private, replace_private
from ledger.keys.provider import GuardedProvider, load_provider
from ledger.keys.ring import (
    CREDENTIAL,
    CREDENTIAL_KEY,
    NEXT,
    RECEIPTS,
    ROOT,
    ROOT_KEY,
    STATEMENTS,
    KeyRing,
    Use,
    leaf_kid,
    load_anchors,
    load_keys,
)
from ledger.log import entries
from ledger.log.announcements import KEYS, Announcement, KeyUse, PublicKey, Retirement
from ledger.log.signing import Es256Signer, SoftwareEs256Key, SoftwareKey
from ledger.log.statement_types import sign_entry
from ledger.settings import Settings

ANNOUNCED_AS: dict[Use, KeyUse] = {"statements": "statements", "receipts": "receipts", "credential": "credentials"}
FILES: dict[Use, tuple[str, ...]] = {
    "statements": (STATEMENTS,),
    "receipts": (RECEIPTS,),
    "credential": (CREDENTIAL_KEY, CREDENTIAL),
}


@dataclass(frozen=True)
class Rotated:
    """`new` is in force. `old` is what it followed, None where this run only finished one that had been cut off after
    its commit; `leaf_hash` of the announcing entry then is None too."""

    use: Use
    new: bytes
    old: bytes | None
    compromised: bool
    leaf_hash: bytes | None


def _nothing(_: str) -> None:
    pass


def rotate(
    settings: Settings,
    sessions: sessionmaker[Session],
    use: Use,
    *,
    compromised: bool,
    now: dt.datetime,
    step: Callable[[str], None] = _nothing,
) -> Rotated:
    """Put a new key of this use in force, or finish the rotation that a former run began.

    `compromised`: the log says that somebody else may have the old key; what it signed and is logged later is not
    believed. `step` is called with the name of every step reached; tests kill there.
    Raises Conflict with code `key_not_new` (the provider still gives the announced key) or `certificate_elsewhere`;
    NotFound `ledger_missing` before the genesis; as `load_keys`, and as the database.
    """
    folder, provider = settings.keys_folder, load_provider(settings.key_provider)
    with locked(folder):
        with sessions() as session:
            known = in_force(session)
        old = known.get(ANNOUNCED_AS[use])
        if old is None:
            raise NotFound(
                f"this ledger's log has announced no {use} key",
                code="ledger_missing",
                next_step="run `lawful init`: it finishes what it began",
            )
        new = _staged(folder, provider, use, old, now, compromised)
        step("staged")
        if new.kid == old:
            _rename(folder, use)
            return Rotated(use, new.kid, None, False, None)
        ring = load_keys(folder, provider=provider, in_force={"statements": known["statements"]})
        with sessions.begin() as session:
            leaf = _commit(session, ring, use, Retirement(new.use, old, compromised), new, now)
            step("appended")
        step("committed")
        _rename(folder, use)
        step("renamed")
    return Rotated(use, new.kid, old, compromised, leaf)


# ---- 1 ---------------------------------------------------------------------------------------------------------------


def _staged(
    folder: Path, provider: GuardedProvider | None, use: Use, old: bytes, now: dt.datetime, compromised: bool
) -> PublicKey:
    """The new key, durable. One that a former run staged or an operator put there comes first, then one in the old
    one's place that no entry has announced; only then is one made."""
    if use == "credential":
        return _staged_credential(folder, provider, old, now, compromised)
    if provider is not None:
        newest = (
            PublicKey("statements", provider.ed25519("statements").public_key)
            if use == "statements"
            else PublicKey("receipts", provider.es256("receipts").public_key_der)
        )
        if newest.kid == old:
            raise _not_new(use)
        return newest
    name = FILES[use][0]
    if not (folder / (name + NEXT)).exists():
        here = _public(use, read_private(folder, name))
        if here.kid != old:
            return here
        replace_private(folder / (name + NEXT), _made(use).to_pem().decode())
    return _public(use, read_private(folder, name + NEXT))


def _made(use: Use) -> SoftwareKey | SoftwareEs256Key:
    return SoftwareKey.generate() if use == "statements" else SoftwareEs256Key.generate()


def _public(use: Use, text: str) -> PublicKey:
    if use == "statements":
        return PublicKey("statements", SoftwareKey.from_pem(text.encode()).public_key)
    return PublicKey("receipts", SoftwareEs256Key.from_pem(text.encode()).public_key_der)


def _staged_credential(
    folder: Path, provider: GuardedProvider | None, old: bytes, now: dt.datetime, compromised: bool
) -> PublicKey:
    if not (folder / (CREDENTIAL + NEXT)).exists():
        here = load_keys(folder, provider=provider).credential
        if leaf_kid(here.certificates_pem) != old:
            return _certificate(here.leaf)
        key = _next_credential_key(folder, provider)
        if compromised and key.public_key_der == here.key.public_key_der:
            raise _not_new("credential")
        replace_private(folder / (CREDENTIAL + NEXT), _next_certificate(folder, here.leaf, key, now))
    chain = read_private(folder, CREDENTIAL + NEXT)
    # reads the chain back, and with it the key that has to be there for it
    staged = load_keys(folder, provider=provider, in_force={"credentials": leaf_kid(chain)}).credential
    return _certificate(staged.leaf)


def _next_credential_key(folder: Path, provider: GuardedProvider | None) -> Es256Signer:
    """A new key; with a provider its newest, which may be the same again: then only the certificate is renewed."""
    if provider is not None:
        return provider.es256("credential")
    if not (folder / (CREDENTIAL_KEY + NEXT)).exists():
        replace_private(folder / (CREDENTIAL_KEY + NEXT), SoftwareEs256Key.generate().to_pem().decode())
    return SoftwareEs256Key.from_pem(read_private(folder, CREDENTIAL_KEY + NEXT).encode())


def _next_certificate(folder: Path, leaf: x509.Certificate, key: Es256Signer, now: dt.datetime) -> str:
    root = x509.load_pem_x509_certificate(read_private(folder, ROOT).encode())
    if leaf.issuer != root.subject:
        raise Conflict(
            f"The credential's certificate is another CA's: {leaf.issuer.rfc4514_string()[:100]}.",
            code="certificate_elsewhere",
            next_step=f"Have that CA certify a new key; put the chain into keys/{CREDENTIAL}{NEXT}, its key into"
            f" keys/{CREDENTIAL_KEY}{NEXT} (0600), and run this again.",
        )
    root_key = SoftwareEs256Key.from_pem(read_private(folder, ROOT_KEY).encode())
    origin = load_anchors(folder).log_vkey.split("+")[0]
    return pem(new_leaf(key.public_key_der, root, root_key, origin, now))


def _certificate(leaf: x509.Certificate) -> PublicKey:
    return PublicKey("credentials", leaf.public_bytes(Encoding.DER))


def _not_new(use: Use) -> Conflict:
    return Conflict(
        f"The key provider's newest {use} key is the one that is in force.",
        code="key_not_new",
        next_step="Make a new version of that key in the key service, keep the old one enabled, and run this again.",
    )


# ---- 2 and 3 ---------------------------------------------------------------------------------------------------------


def _commit(session: Session, ring: KeyRing, use: Use, retired: Retirement, new: PublicKey, now: dt.datetime) -> bytes:
    """Entry, new row and the old row's end, in the caller's transaction; returns the entry's leaf hash."""
    if in_force(session, lock=True).get(new.use) != retired.kid:
        raise Conflict(
            f"Somebody else has rotated the {use} key in the meantime.",
            code="keys_rotated_meanwhile",
            next_step="Look at `lawful keys show` and rotate again if it is still wanted.",
        )
    said = Announcement(KEYS, ring.log.name, ring.log.vkey, (new,), (retired,))
    entry = sign_entry(said.payload(now.isoformat()), ring.statements, issuer=ring.log.name)
    leaf = entries.append(session, entry)
    retire(session, retired.use, retired.kid, now, leaf if retired.compromised else None)
    announce(session, (new,), entry, leaf)
    return leaf


def _rename(folder: Path, use: Use) -> None:
    """In any order and as often as it takes: a chain and its key are found whichever of them has moved."""
    for name in FILES[use]:
        if (folder / (name + NEXT)).exists():
            (folder / (name + NEXT)).rename(folder / name)
    sync(folder)
