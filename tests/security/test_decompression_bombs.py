"""What is small on the wire and large in memory is refused where it comes in, before it is unpacked or accepted.

Pictures of every format, profiles and text chunks: tests/unit/models/test_images.py. Evidence zips:
tests/unit/ledger/reports/test_forms.py. Pages that are fetched: tests/unit/claims/test_fetching.py.
"""

import gzip
import struct
import time
import zlib
from pathlib import Path

import pytest
import sqlalchemy as sa

from ledger.claims import identities
from ledger.database.tables.claims import Claim
from ledger.database.tables.records import Record
from ledger.runtime import Runtime
from ledger.web.sessions import cookie_name

from ..integration.http_ledger import api_key, serving, stamped  # noqa: TID252 - tests are no package
from ..integration.http_ledger import png as small_png  # noqa: TID252

pytestmark = pytest.mark.postgres

SIDE = 30_000  # 2.7 GB of pixels


def bomb() -> bytes:
    """A PNG that names 30,000 rows and holds the first 1,000: zeros, which pack 1000 to 1."""
    packer = zlib.compressobj(9)
    row = b"\0" * (SIDE * 3 + 1)
    packed = b"".join(packer.compress(row * 100) for _ in range(10)) + packer.flush()
    parts = ((b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_picture_that_would_fill_the_memory_is_refused_by_every_address_that_takes_one(runtime: Runtime) -> None:
    data = bomb()
    assert len(data) < 2**20
    now = runtime.clock()
    with runtime.sessions.begin() as session:
        cookie = identities.sign_in(session, identities.new_link(session, "jane@example.org", now), now)
    key = {"authorization": f"Bearer {api_key(runtime)}"}
    person = {"cookie": f"{cookie_name(runtime.settings)}={cookie}"}
    about = str(stamped(runtime, small_png(2)))
    claim = {"kind": "mine", "about": about, "claimant": "Jane Doe"}
    before, began = _most_memory(), time.process_time()
    with serving(runtime) as client:
        for address, headers, form in (
            ("/v1/stamps", key, {}),
            ("/v1/verifications", {}, {}),
            ("/v1/matches/byContent", {}, {}),
            ("/", {}, {}),
            ("/claims/new", person, claim),
        ):
            files = {"file": ("a.png", data, "image/png")}
            answer = client.post(address, headers=headers, files=files, data=form, follow_redirects=False)
            assert answer.status_code in {400, 413, 422}, (address, answer.status_code)
    assert _most_memory() - before < SIDE * SIDE
    assert time.process_time() - began < 30
    with runtime.sessions() as session:
        counts = [session.scalar(sa.select(sa.func.count()).select_from(each)) for each in (Record, Claim)]
    assert counts == [1, 0]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_a_body_that_comes_packed_is_not_unpacked(runtime: Runtime, encoding: str) -> None:
    text = b'{"prompt": "' + b"a" * 20_000_000 + b'"}'
    packed = gzip.compress(text)
    assert len(packed) < 50_000
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    before = _most_memory()
    with serving(runtime) as client:
        answer = client.post(
            "/v1/generations", content=packed, headers=headers | {"authorization": f"Bearer {api_key(runtime)}"}
        )
    assert answer.status_code in {400, 415, 422}, answer.text
    assert _most_memory() - before < len(text)


def _most_memory() -> int:
    """Most that this process ever had, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    pytest.skip("memory is read from /proc")
