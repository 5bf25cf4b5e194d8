"""The log loads without the heavy floors, and its offline checks without a database driver."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "faiss", "cv2", "diffusers", "transformers", "c2pa", "litestar"}
DATABASE = {"sqlalchemy", "psycopg"}


@pytest.mark.parametrize(
    ("module", "kept_out"),
    [
        ("ledger.log.merkle", HEAVY | DATABASE),
        ("ledger.log.notes", HEAVY | DATABASE),
        ("ledger.log.cosignatures", HEAVY | DATABASE),
        ("ledger.log.policy", HEAVY | DATABASE),
        ("ledger.log.receipts", HEAVY | DATABASE),
        ("ledger.log.statements", HEAVY | DATABASE),
        ("ledger.log.verify", HEAVY | DATABASE),
        ("ledger.log.sequencer", HEAVY),
    ],
)
def test_a_module_keeps_out_what_it_does_not_need(module: str, kept_out: set[str]) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert kept_out.isdisjoint(json.loads(done.stdout))
