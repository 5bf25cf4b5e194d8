"""Make the files of the example in docs/log.md: a log of 300 entries, by the ledger's own code, the same every time.

The keys are made from the seed that the page prints, so everybody has them: never use them for anything. Writing the
files, and the page's blocks from them: `python -m docs.examples.log.page`.
"""

import base64
import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ledger.log import merkle
from ledger.log.announcements import GENESIS, Announcement, PublicKey, Retirement, replaced
from ledger.log.cosignatures import Cosigner, add_signatures
from ledger.log.notes import Checkpoint, NoteSigner, TlogProof, sign_note
from ledger.log.policy import Policy
from ledger.log.receipts import sign_receipt
from ledger.log.signing import SoftwareEs256Key, SoftwareKey
from ledger.log.statement_types import sign_entry
from ledger.log.statements import StatementKey, commitment

FOLDER = Path(__file__).parent
SEED = "lawful-ledger example"
ORIGIN = "example.org/ledger/2026"
OLD_SIZE, SIZE, INDEX = 7, 300, 4
BORN = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
WITNESSED = (BORN + dt.timedelta(minutes=5), BORN + dt.timedelta(minutes=5, seconds=1))

RECORD_ID = "019b79cb-1c80-7000-8000-000000000004"
SALT = hashlib.sha256(b"lawful-ledger example salt").digest()
PIXELS = hashlib.sha256(b"lawful-ledger example pixels").digest()
REPORT = hashlib.sha256(b"lawful-ledger example report").digest()


def secret(name: str) -> bytes:
    """32 bytes for the key of this name: SHA-256 of the seed, a space and the name."""
    return hashlib.sha256(f"{SEED} {name}".encode()).digest()


def ed25519_key(name: str) -> SoftwareKey:
    return SoftwareKey(Ed25519PrivateKey.from_private_bytes(secret(name)))


@dataclass(frozen=True)
class RepeatableEs256Key(SoftwareEs256Key):
    """Signs by RFC 6979, the same bytes every time; the ledger's own key draws a fresh nonce, and both verify alike."""

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(
            self.private_key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        )
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


LOG = NoteSigner(ORIGIN, ed25519_key("log"))
WITNESSES = (Cosigner("witness.example.net", ed25519_key("witness 1")),
             Cosigner("witness.example.com", ed25519_key("witness 2")))  # fmt: skip
STATEMENTS = (StatementKey(ed25519_key("statements 1")), StatementKey(ed25519_key("statements 2")))
RECEIPTS = RepeatableEs256Key(ec.derive_private_key(int.from_bytes(secret("receipts"), "big"), ec.SECP256R1()))

POLICY = Policy.parse(
    f"log {LOG.vkey} https://{ORIGIN}\n"
    f"witness one {WITNESSES[0].vkey}\nwitness two {WITNESSES[1].vkey}\n"
    "group enough any one two\nquorum enough\n"
)


@cache
def entries() -> tuple[bytes, ...]:
    """The log's leaves: 0 the genesis, 1 the witness policy, 3 a further key, 4 the record that the page follows."""
    first, second = STATEMENTS
    made = [
        _signed(genesis().payload(BORN.isoformat()), first),
        _signed(policy(), first),
        _signed(grant(2), first),
        _signed(second_key().payload(BORN.isoformat()), first),
        _signed(record(), second),
    ]
    made += [_signed(grant(number), second) for number in range(len(made), SIZE)]
    return tuple(made)


def _signed(payload: dict[str, Any], key: StatementKey) -> bytes:
    return sign_entry(payload, key, issuer=ORIGIN)


def policy() -> dict[str, Any]:
    """As `ledger.witness.entries` signs it when the policy changes."""
    said = {"sha256": POLICY.sha256.hex(), "text": POLICY.text, "created_at": BORN.isoformat()}
    return {"type": "lawful-ledger/policy/1", "origin": ORIGIN, **said}


def genesis() -> Announcement:
    keys = (PublicKey("statements", STATEMENTS[0].public_key), PublicKey("receipts", RECEIPTS.public_key_der))
    return Announcement(GENESIS, ORIGIN, LOG.vkey, keys, ())


def second_key() -> Announcement:
    """The first statements key retires, not compromised, and signs for the second."""
    old = Retirement("statements", STATEMENTS[0].kid, compromised=False)
    return replaced(ORIGIN, LOG.vkey, [old], [PublicKey("statements", STATEMENTS[1].public_key)])


def record() -> dict[str, Any]:
    """As `ledger.issue` signs it for an image that it made."""
    return {
        "type": "lawful-ledger/record/1",
        "record_id": RECORD_ID,
        "kind": "generation",
        "created_at": BORN.isoformat(),
        "commitments": {
            "pixels": commitment("lawful-ledger/pixels/1", SALT, PIXELS).hex(),
            "report": commitment("lawful-ledger/report/1", SALT, REPORT).hex(),
        },
        "model": {
            "name": "example generator",
            "revision": "1",
            "weights_sha256": hashlib.sha256(b"weights").hexdigest(),
            "licence": "Apache-2.0",
        },
        "snapshot": hashlib.sha256(b"snapshot").hexdigest(),
    }


def grant(number: int) -> dict[str, Any]:
    """What fills the rest of the log."""
    work = f"019b79cb-1c80-7000-8000-{number:012x}"
    said = {"work_id": work, "grant": "compare", "allowed": True, "by_role": "artist", "created_at": BORN.isoformat()}
    return {"type": "lawful-ledger/grant/1", **said}


@cache
def leaves() -> tuple[bytes, ...]:
    return tuple(merkle.leaf_hash(entry) for entry in entries())


def checkpoint(size: int) -> bytes:
    """The signed note at this size; the newest is cosigned by both witnesses."""
    text = Checkpoint(ORIGIN, size, merkle.root(leaves()[:size])).text
    note = sign_note(text, LOG)
    if size == SIZE:
        for witness, at in zip(WITNESSES, WITNESSED, strict=True):
            note = add_signatures(note, witness.cosign(text, int(at.timestamp())))
    return note


def path_of(index: int) -> list[bytes]:
    return merkle.inclusion_proof(merkle.reader_over(leaves()), index, SIZE)


def proof(index: int) -> bytes:
    return TlogProof(index, tuple(path_of(index)), checkpoint(SIZE)).to_bytes()


def tiles(size: int) -> dict[str, bytes]:
    """Every tile and entry bundle of the tree of this size, by its path, as C2SP tlog-tiles serves them."""
    edge = merkle.RightEdge()
    made = {(tile.level, tile.index): tile.data for tile in edge.append(leaves()[:size])}
    for level, hashes_ in enumerate(edge.levels):
        if hashes_:
            made[level, (size >> 8 * level) // merkle.TILE_WIDTH] = b"".join(hashes_)
    files = {}
    for (level, index), data in made.items():
        width = len(data) // merkle.HASH_BYTES
        path = merkle.tile_path(level, index, width)
        files[path] = data
        if level == 0:
            first = index * merkle.TILE_WIDTH
            bundle = b"".join(len(e).to_bytes(2, "big") + e for e in entries()[first : first + width])
            files[path.replace("tile/0/", "tile/entries/")] = bundle
    return files


@cache
def files() -> dict[str, bytes]:
    """Every file of the example by its path under this folder."""
    opening = {"domain": "lawful-ledger/pixels/1", "salt": SALT.hex(), "digest": PIXELS.hex()}
    chain = [
        {"statement": base64.b64encode(entries()[index]).decode(), "tlog_proof": proof(index).decode()}
        for index in (0, 3)
    ]
    consistency = merkle.consistency_proof(merkle.reader_over(leaves()), OLD_SIZE, SIZE)
    root = merkle.root(leaves())
    return {
        "policy": POLICY.text.encode(),
        "checkpoint": checkpoint(SIZE),
        f"checkpoint.{OLD_SIZE}": checkpoint(OLD_SIZE),
        **tiles(OLD_SIZE),
        **tiles(SIZE),
        f"entry-{INDEX}.cose": entries()[INDEX],
        f"entry-{INDEX}.tlog-proof": proof(INDEX),
        f"entry-{INDEX}.receipt": sign_receipt(INDEX, SIZE, path_of(INDEX), root, RECEIPTS, ORIGIN),
        f"entry-{INDEX}.keys.json": (json.dumps(chain, indent=1, ensure_ascii=False) + "\n").encode(),
        f"entry-{INDEX}.opening.json": (json.dumps(opening, indent=1) + "\n").encode(),
        f"consistency-{OLD_SIZE}-{SIZE}": b"".join(base64.b64encode(value) + b"\n" for value in consistency),
    }
