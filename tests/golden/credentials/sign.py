"""Sign the golden files of a release: `python tests/golden/credentials/sign.py 0.2.0`. Never sign an old folder again.

The keys are made for the occasion and thrown away; the root stays, so that every later version can check the files.
"""

import json
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from ledger.credentials.write import CredentialRequest, ModelDisclosure, new_manifest_urn, write_credential
from ledger.keys.ring import init_keys

HERE = Path(__file__).parent
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}


def sign_release(version: str) -> None:
    folder = HERE / version
    folder.mkdir()
    with tempfile.TemporaryDirectory() as home:
        ring = init_keys(Path(home) / "keys", "golden.invalid/ledger/2026", now=datetime.now(UTC))
    (folder / "root.pem").write_text(ring.root_pem)
    expected = {}

    def sign(name: str, data: bytes, request: CredentialRequest) -> bytes:
        media_type = MEDIA_TYPES[name.rsplit(".", 1)[1]]
        written = write_credential(data, media_type, request, ring.credential, root_pem=ring.root_pem)
        (folder / name).write_bytes(written.data)
        expected[name] = {key: value for key, value in asdict(written).items() if key != "data"}
        expected[name]["ledger"] = dict(request.ledger)
        return written.data

    for extension in MEDIA_TYPES:
        plain = (HERE / f"plain.{extension}").read_bytes()
        created = sign(f"created.{extension}", plain, _request("create"))
        sign(f"declared.{extension}", plain, _request("declared"))
        sign(f"edited.{extension}", created, _request("edit"))
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


def _request(intent: str) -> CredentialRequest:
    return CredentialRequest(
        manifest_urn=new_manifest_urn(),
        intent=intent,  # type: ignore[arg-type]
        software=("atelier", "r1"),
        ledger={"schema": "lawful-ledger/record/1", "canonical": "rgb8/1", "record_id": "golden"},
        attribution={"statement": "no single source stands out"},
        iscc="ISCC:EEDWXRKVZSHAXOSQ",
        model=ModelDisclosure("atelier", "atelier@sha256:00ff") if intent == "create" else None,
    )


if __name__ == "__main__":
    sign_release(sys.argv[1])
