"""Which keys speak for a log, told by its own entries: the genesis announces the first, `keys/1` entries the next ones.

An announcement is a statement with the payload

    {"type": "lawful-ledger/genesis/1" or "lawful-ledger/keys/1", "origin": …, "log_vkey": …, "created_at": …,
     "keys":    [{"use": "statements", "kid": hex, "public_key": hex}, …],     from this entry's index on in force
     "retired": [{"use": "statements", "kid": hex, "compromised": false}, …]}  from this entry's index on no longer

`kid` is SHA-256 of the public key's bytes: raw Ed25519 for `statements`, SubjectPublicKeyInfo (DER) of a P-256 key for
`receipts` and `reports`, the whole certificate (DER) for `credentials`. The genesis is entry 0 and signed by the key it
announces; every later announcement is signed by the statements key that was in force until then.

What this does not prove: that the operator's secrets are still his. A compromise is known only from the entry that says
so; whatever the thief signed and got into the log before that entry reads as the ledger's own.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from ledger.log.signing import is_ed25519_key
from ledger.log.statements import Statement, StatementError, check_signature, parse_statement

GENESIS = "lawful-ledger/genesis/1"
KEYS = "lawful-ledger/keys/1"

KeyUse = Literal["statements", "receipts", "credentials", "reports"]


@dataclass(frozen=True)
class PublicKey:
    """A key that an entry announces; the module says which bytes `public_key` holds for which use."""

    use: KeyUse
    public_key: bytes

    @property
    def kid(self) -> bytes:
        """SHA-256 of `public_key`, 32 bytes."""
        return hashlib.sha256(self.public_key).digest()


@dataclass(frozen=True)
class Retirement:
    """A key that signs no more. Where it is `compromised`, what it signed and was logged later proves nothing."""

    use: KeyUse
    kid: bytes
    compromised: bool


@dataclass(frozen=True)
class Announcement:
    """What one entry says of the keys of `origin`, whose checkpoints the key of `log_vkey` signs."""

    type: str
    origin: str
    log_vkey: str
    keys: tuple[PublicKey, ...]
    retired: tuple[Retirement, ...]

    def payload(self, created_at: str) -> dict[str, Any]:
        """The statement's payload; `created_at` in ISO 8601."""
        return {
            "type": self.type,
            "origin": self.origin,
            "log_vkey": self.log_vkey,
            "keys": [{"use": key.use, "kid": key.kid.hex(), "public_key": key.public_key.hex()} for key in self.keys],
            "retired": [
                {"use": each.use, "kid": each.kid.hex(), "compromised": each.compromised} for each in self.retired
            ],
            "created_at": created_at,
        }


def read_announcement(statement: Statement) -> Announcement | None:
    """What a statement announces; None for statements of other types. Its signature is not checked here.

    Raises StatementError code `announcement_malformed`, also for a kid that is not its key's.
    """
    said = statement.payload
    if said.get("type") not in (GENESIS, KEYS):
        return None
    try:
        announcement = Announcement(
            said["type"],
            _text(said["origin"]),
            _text(said["log_vkey"]),
            tuple(_public_key(key) for key in said["keys"]),
            tuple(
                Retirement(_use(each["use"]), bytes.fromhex(each["kid"]), _flag(each["compromised"]))
                for each in said["retired"]
            ),
        )
        if announcement.payload(said["created_at"]) != said:
            raise ValueError("another spelling, a further field, or a kid of another key")
    except (KeyError, TypeError, ValueError) as error:
        raise StatementError("an announcement of keys in another form", code="announcement_malformed") from error
    return announcement


@dataclass(frozen=True)
class KnownKey:
    """What is known of a key: the entries (by index) since which it is in force, retired, compromised."""

    public_key: bytes
    since: int
    retired: int | None = None
    compromised: int | None = None

    def suspect_at(self, index: int) -> bool:
        """Whether a statement logged at `index` may be a thief's, by the log's own word."""
        return self.compromised is not None and index > self.compromised


@dataclass
class KeyHistory:
    """Who walks a log learns its keys here, entry by entry in the log's order. Pure: no database, no network.

    It believes announcements signed by a statements key that it knows and that is in force; the first one, at index 0,
    is believed because the log's own key signs the tree over it, which the caller has checked.
    """

    keys: dict[tuple[KeyUse, bytes], KnownKey] = field(default_factory=dict)

    def learn(self, index: int, entry: bytes) -> Announcement | None:
        """Take in entry `index`; what it announced, or None for an entry that is no announcement.

        Raises StatementError with code `announcement_malformed` or `announcement_not_believed`.
        """
        statement = parse_statement(entry)
        announcement = read_announcement(statement)
        if announcement is None:
            return None
        signer = self._signer(index, statement, announcement)
        if signer is None:
            raise StatementError(
                f"entry {index} announces keys and is not signed by a key in force", code="announcement_not_believed"
            )
        check_signature(statement, signer)
        self._take(index, announcement)
        return announcement

    def key(self, use: KeyUse, kid: bytes) -> KnownKey | None:
        """What is known of this key, retired ones too."""
        return self.keys.get((use, kid))

    def _signer(self, index: int, statement: Statement, announcement: Announcement) -> bytes | None:
        if announcement.type == GENESIS:
            own = [key.public_key for key in announcement.keys if (key.use, key.kid) == ("statements", statement.kid)]
            return own[0] if own and index == 0 else None
        known = self.key("statements", statement.kid)
        return known.public_key if known is not None and known.retired is None else None

    def _take(self, index: int, announcement: Announcement) -> None:
        for retired in announcement.retired:
            known = self.key(retired.use, retired.kid)
            if known is None:
                raise StatementError(
                    f"entry {index} retires a key that no entry announced", code="announcement_not_believed"
                )
            self.keys[retired.use, retired.kid] = KnownKey(
                known.public_key,
                known.since,
                index if known.retired is None else known.retired,
                index if retired.compromised and known.compromised is None else known.compromised,
            )
        for key in announcement.keys:
            self.keys.setdefault((key.use, key.kid), KnownKey(key.public_key, index))


def replaced(origin: str, log_vkey: str, old: Sequence[Retirement], new: Sequence[PublicKey]) -> Announcement:
    """The announcement that puts `new` in the place of `old`."""
    return Announcement(KEYS, origin, log_vkey, tuple(new), tuple(old))


def _public_key(said: Mapping[str, Any]) -> PublicKey:
    key = PublicKey(_use(said["use"]), bytes.fromhex(said["public_key"]))
    if key.use == "statements" and not is_ed25519_key(key.public_key):
        raise ValueError("no Ed25519 key, or one that fits anybody")
    return key


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


def _use(value: object) -> KeyUse:
    if value not in get_args(KeyUse):
        raise ValueError("an unknown use of a key")
    return cast("KeyUse", value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
