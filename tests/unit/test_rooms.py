"""The walls of the design that only a running process shows: who loads without the heavy libraries."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "faiss", "cv2", "diffusers", "transformers"}


@pytest.mark.parametrize(
    "module",
    [
        "ledger.web.app",
        "ledger.client",
        "ledger.log.sequencer",
        "ledger.log.verify",
        "ledger.credentials.read",
        "ledger.credentials.write",
        "ledger.verify",
        "ledger.decoding.child",
        "ledger.cli",
        "attribution.fingerprints",
        "attribution.evidence",
        "attribution.gate",
        "attribution.levels",
        "attribution.wording",
        "attribution.snapshot",
        "models.images",
    ],
)
def test_it_loads_without_torch_and_faiss(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_the_client_needs_no_database_library() -> None:
    unwanted = {"sqlalchemy", "psycopg", "litestar", "c2pa"}
    program = f"import sys, ledger.client; print(*sorted({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
