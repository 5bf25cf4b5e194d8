"""What a file's own proof costs: time to check it, bytes it adds. `python -m benchmarks.file_proof`.

One ledger assertion as files carry it, from a log of a million leaves: statement, tlog-proof, and the genesis that
announces the keys, proved under the same checkpoint. Checked as `lawful verify --offline` does once the image is
decoded and its credential read: with the log's key, then with three witnesses, then after two rotations of the keys.
The bare part beside it is the Ed25519 verifications alone, as many as the chain has.
"""

import argparse
import base64
import datetime as dt
import hashlib
import json
import secrets
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.measuring import show, spread
from ledger.credentials.read import CredentialReading
from ledger.file_proof import Trust, read_ledger_claim
from ledger.issue import RECORD, REPORT_DOMAIN
from ledger.log import merkle
from ledger.log.announcements import GENESIS, KEYS, Announcement, PublicKey, Retirement
from ledger.log.cosignatures import Cosigner, add_signatures
from ledger.log.notes import Checkpoint, NoteSigner, TlogProof, sign_note
from ledger.log.statement_types import PIXELS_DOMAIN, sign_entry
from ledger.log.statements import StatementKey, commitment

TARGET_MS = 1.0
ORIGIN = "ledger.example.org/ledger/2026"
NOW = "2026-11-22T10:00:00+00:00"
CERTIFICATE = secrets.token_bytes(570)  # about what ours has
PIXELS, REPORT = secrets.token_bytes(32), secrets.token_bytes(32)


Made = tuple[NoteSigner, list[bytes], list[int], bytes, merkle.HashReader]
"""(log's key, entries that matter, their indices, salt, reader of the tree); announcements first, the statement last"""


def log_with(rotations: int, leaves: int) -> Made:
    log, key, salt = NoteSigner.generate(ORIGIN), StatementKey.generate(), secrets.token_bytes(32)
    keys = [
        PublicKey("statements", key.public_key),
        PublicKey("receipts", secrets.token_bytes(91)),
        PublicKey("credentials", CERTIFICATE),
    ]
    entries = [sign_entry(Announcement(GENESIS, ORIGIN, log.vkey, tuple(keys), ()).payload(NOW), key, issuer=ORIGIN)]
    for _ in range(rotations):
        fresh, old = StatementKey.generate(), Retirement("statements", key.kid, compromised=False)
        said = Announcement(KEYS, ORIGIN, log.vkey, (PublicKey("statements", fresh.public_key),), (old,))
        entries.append(sign_entry(said.payload(NOW), key, issuer=ORIGIN))
        key = fresh
    payload = {
        "type": RECORD,
        "record_id": "0190e7a2-7c3b-7d1e-9f00-3c5a1b2d4e6f",
        "kind": "generation",
        "created_at": NOW,
        "commitments": {
            "pixels": commitment(PIXELS_DOMAIN, salt, PIXELS).hex(),
            "report": commitment(REPORT_DOMAIN, salt, REPORT).hex(),
        },
        "model": {"name": "generator", "revision": "1", "weights_sha256": "0" * 64, "licence": "Apache-2.0"},
        "snapshot": "0" * 64,
    }
    entries.append(sign_entry(payload, key, issuer=ORIGIN))
    hashes = [hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(leaves)]
    indices = [*range(rotations + 1), leaves // 3]
    for index, entry in zip(indices, entries, strict=True):
        hashes[index] = merkle.leaf_hash(entry)
    return log, entries, indices, salt, merkle.reader_over(hashes)


def assertion(made: Made, leaves: int, witnesses: list[Cosigner]) -> dict[str, object]:
    log, entries, indices, salt, read = made
    text = Checkpoint(ORIGIN, leaves, merkle.root_at(read, leaves)).text
    note = sign_note(text, log)
    for witness in witnesses:
        note = add_signatures(note, witness.cosign(text, 1_790_000_000))
    proofs = [
        TlogProof(index, tuple(merkle.inclusion_proof(read, index, leaves)), note).to_bytes().decode()
        for index in indices
    ]
    statements = [base64.b64encode(entry).decode() for entry in entries]
    return {
        "statement": statements[-1],
        "salt": salt.hex(),
        "report_sha256": REPORT.hex(),
        "tlog_proof": proofs[-1],
        "keys": [{"statement": s, "tlog_proof": p} for s, p in zip(statements[:-1], proofs[:-1], strict=True)],
    }


def timed(work: Callable[[], object], runs: int) -> list[float]:
    took = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return took


def bare(verifications: int) -> Callable[[], None]:
    key = Ed25519PrivateKey.generate()
    message = secrets.token_bytes(400)
    signature, public = key.sign(message), key.public_key()

    def work() -> None:
        for _ in range(verifications):
            public.verify(signature, message)

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=500)
    options = parser.parse_args()
    results = {}
    for name, rotations, witnessing in (("log key", 0, 0), ("3 witnesses", 0, 3), ("2 rotations", 2, 0)):
        made = log_with(rotations, options.leaves)
        them = [Cosigner.generate(f"w{number}.example") for number in range(witnessing)]
        said = assertion(made, options.leaves, them)
        trust = Trust([made[0].vkey], [each.vkey for each in them])
        reading = CredentialReading(
            "present", dt.datetime.now(dt.UTC), "", ledger=said,
            certificate_sha256=hashlib.sha256(CERTIFICATE).hexdigest(),
        )  # fmt: skip

        def check(reading: CredentialReading = reading, trust: Trust = trust) -> bool:
            return read_ledger_claim(reading, PIXELS.hex(), trust).is_proven

        assert check()
        results[name] = {
            "check": spread(timed(check, options.runs)),
            "signatures_alone": spread(timed(bare(3 + rotations + witnessing), options.runs)),
            "assertion_bytes": len(json.dumps(said)),
            "of_them_announcements_bytes": len(json.dumps(said["keys"])),
        }
    show({"leaves": options.leaves, "target_ms": TARGET_MS, "results": results})


if __name__ == "__main__":
    main()
