"""What release 0.1.0 signed still reads as it did, by every later version, and is still signed to the same bytes.

The keys were made from fixed seeds for these files and are used nowhere else. Releases add files, never change them.
"""

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log import merkle
from ledger.log.notes import Checkpoint, NoteSigner, TlogProof, open_note, sign_note
from ledger.log.signing import SoftwareKey
from ledger.log.statements import StatementKey, sign_statement, verify_statement
from ledger.log.verify import check_tlog_proof

FOLDER = Path(__file__).parents[2] / "golden" / "log" / "0.1.0"


def seed(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"lawful-ledger golden {name}".encode()).digest())


LOG = NoteSigner("golden.example/ledger/2026", SoftwareKey(seed("log")))
STATEMENTS = StatementKey(SoftwareKey(seed("statements")))
ENTRIES = [(FOLDER / f"entry-{index}.cose").read_bytes() for index in range(3)]


@pytest.mark.parametrize("index", range(3))
def test_a_golden_statement_verifies_and_is_signed_to_the_same_bytes(index: int) -> None:
    public_key = bytes.fromhex((FOLDER / "statements.pub").read_text().strip())
    statement = verify_statement(ENTRIES[index], public_key)
    assert statement.payload == json.loads((FOLDER / f"entry-{index}.json").read_bytes())
    assert (statement.issuer, statement.subject) == (LOG.name, f"golden:{index}")
    assert sign_statement(statement.payload, STATEMENTS, statement.issuer, statement.subject) == ENTRIES[index]


@pytest.mark.parametrize("index", range(3))
def test_a_golden_proof_shows_its_entry_and_is_written_to_the_same_bytes(index: int) -> None:
    vkey = (FOLDER / "log.vkey").read_text().strip()
    proof = (FOLDER / f"entry-{index}.tlog-proof").read_bytes()
    reading = check_tlog_proof(ENTRIES[index], proof, [vkey])
    assert (reading.origin, reading.index, reading.size) == (LOG.name, index, 3)
    assert (reading.inclusion, reading.log_key, reading.witnesses) == (True, "trusted", 0)
    leaves = [merkle.leaf_hash(entry) for entry in ENTRIES]
    path = tuple(merkle.inclusion_proof(merkle.reader_over(leaves), index, 3))
    assert TlogProof(index, path, (FOLDER / "checkpoint").read_bytes()).to_bytes() == proof


def test_the_golden_checkpoint_opens_and_is_signed_to_the_same_bytes() -> None:
    note = (FOLDER / "checkpoint").read_bytes()
    opened = open_note(note, [LOG.verifier])
    assert Checkpoint.parse(opened.text).root == merkle.root([merkle.leaf_hash(entry) for entry in ENTRIES])
    assert sign_note(opened.text, LOG) == note
