"""Files that earlier releases signed still read as they did (`tests/golden/credentials/sign.py` makes a release's)."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.credentials.read import read_credential

GOLDEN = Path(__file__).parents[2] / "golden" / "credentials"
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
INGREDIENTS = {"created": "none", "declared": "not_checked", "edited": "intact"}

FILES = [
    pytest.param(path.parent / name, said, id=f"{path.parent.name}/{name}")
    for path in sorted(GOLDEN.glob("*/expected.json"))
    for name, said in json.loads(path.read_text()).items()
]


def test_there_are_golden_files() -> None:
    assert len(FILES) >= 9


@pytest.mark.parametrize(("path", "said"), FILES)
def test_a_golden_file_reads_as_it_did(path: Path, said: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    anchors = (path.parent / "root.pem").read_text()
    reading = read_credential(path.read_bytes(), MEDIA_TYPES[path.suffix], anchors_pem=anchors, now=now)
    assert (reading.credential, reading.content) == ("present", "intact")
    assert reading.ingredients == INGREDIENTS[path.stem]
    assert reading.manifest_urn == said["manifest_urn"]
    assert reading.claim_sha256 == said["claim_sha256"]
    assert reading.data_hash == said["data_hash"]
    assert reading.ledger == said["ledger"]
    assert reading.certificate_expires is not None
    in_time = now < reading.certificate_expires  # golden certificates last a year; the files last
    assert (reading.signature, reading.signer) == (("valid", "trusted") if in_time else ("expired", "not_checked"))
