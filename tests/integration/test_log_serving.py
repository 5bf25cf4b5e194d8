"""The log over HTTP: what any C2SP client reads, whole and right, and nothing beyond what is published."""

import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from ledger.database.tables.log import LogTimestamp, LogWitnessed
from ledger.database.tables.records import Record
from ledger.log import entries, merkle
from ledger.log.cosignatures import Cosigner, add_signatures
from ledger.log.notes import Note
from ledger.log.policy import Policy
from ledger.log.receipts import verify_receipt
from ledger.log.verify import check_tlog_proof
from ledger.runtime import Runtime
from ledger.witness.entries import record_policy

from . import tiled_log
from .http_ledger import generated, served, serving, with_a_port
from .log_growing import grow

pytestmark = pytest.mark.postgres


def ask(client: "TestClient", path: str, **headers: str) -> httpx.Response:  # type: ignore[type-arg]
    return client.get(f"/log/2026/{path}", headers=headers)


def reader(client: "TestClient") -> tiled_log.Get:  # type: ignore[type-arg]
    def get(path: str) -> bytes:
        response = ask(client, path)
        if response.status_code != 200:
            raise tiled_log.Missing(path, response.text)
        return bytes(response.content)

    return get


@pytest.mark.parametrize("count", [0, 1, 254, 255, 256, 511, 700])
def test_a_client_written_from_the_specification_reads_every_entry(quiet: Runtime, count: int) -> None:
    grow(quiet, count)
    with serving(quiet) as client:
        found = tiled_log.read_log(reader(client), quiet.keys.log.vkey)
    assert found[1:] == [b"entry %d" % number for number in range(count)]


def test_every_width_up_to_the_published_one_is_served_and_no_more(quiet: Runtime) -> None:
    grow(quiet, 299)  # 300 with the genesis entry
    with serving(quiet) as client:
        full, edge = ask(client, "tile/0/000").content, ask(client, "tile/0/001.p/44").content
        for width in (1, 2, 43, 44):
            assert ask(client, f"tile/0/001.p/{width}").content == edge[: 32 * width]
            assert len(tiled_log.bundle(ask(client, f"tile/entries/001.p/{width}").content)) == width
        assert ask(client, "tile/0/000.p/7").content == full[: 7 * 32]  # a full tile has its former parts too
        assert ask(client, "tile/1/000.p/1").content == tiled_log.tree([full[i : i + 32] for i in range(0, 8192, 32)])
        for beyond in ("0/001.p/45", "0/001", "0/002.p/1", "1/000.p/2", "1/000", "2/000.p/1", "63/000.p/1"):
            for path in (f"tile/{beyond}", f"tile/entries/{beyond.partition('/')[2]}"):
                if beyond.startswith("1/000") and "entries" in path:
                    continue
                if beyond.startswith(("2/", "63/")) and "entries" in path:
                    continue
                refused = ask(client, path)
                assert (refused.status_code, refused.json()["code"]) == (404, "tile_unknown"), path
                assert refused.headers["content-type"] == "application/problem+json"
                assert refused.headers["cache-control"] == "no-store", "a tile may come to be"


OTHER_SPELLINGS = (
    "0/x000/001", "0/0", "0/00", "0/0000", "0/1234/067", "0/x001/x234/x067", "0/001/234/067", "00/000", "-1/000",
    "+0/000", "0/-01", "0/+01", "64/000", "064/000", "256/000", "1e1/000", "0x0/000", "0/000.p/0", "0/000.p/256",
    "0/000.p/257", "0/000.p/01", "0/000.p/-1", "0/000.p/+1", "0/000.p/1/", "0/000.p/", "0/000.p", "0/000.q/1",
    "0/000/", "0//000", "/0/000", "0/000%20", "0/%30%30%30", "0%2f000", "0/000.p%2f1", "0/000%2Ep/1", "%65ntries/000",
    "0/./000", "0/../0/000", "entries/../0/000", "0/..%2f0/000", "0/%2e%2e/0/000", "0/\u0660\u0660\u0660",
    "0/\uff10\uff10\uff10", "0/000\u200b", "0/000;a=b", "0/000%00", "0/000%0a", "entries", "entries/", "Entries/000",
    "data/000", "0", "0/x999/x999/x999/x999/x999/x999/999", "0/" + "x999/" * 40 + "999", "0/009223372036854775807",
    "0/x009/x223/x372/x036/x854/x775/808", "63/x009/x223/x372/x036/x854/x775/807",
)  # fmt: skip


OTHER_ADDRESSES = (
    "/log//2026/tile/0/000.p/3", "//log/2026/tile/0/000.p/3", "/log/2026/tile//0/000.p/3", "/log/2026/checkpoint/",
    "/log/%32026/checkpoint", "/log/2026/checkpoint/integrated/", "/log/2026%2fcheckpoint", "/log/2025/checkpoint",
    "/log/2026/../2026/checkpoint", "/log/%00/checkpoint", "/log/\u0662\u0660\u0662\u0666/checkpoint",
    "/log/ /checkpoint",
)  # fmt: skip


def test_a_tile_has_one_spelling(quiet: Runtime) -> None:
    grow(quiet, 2)
    runtime = replace(quiet, settings=with_a_port(quiet.settings))
    with served(runtime):
        port = runtime.settings.port
        assert typed(port, "/log/2026/tile/0/000.p/3") == (200, b"application/octet-stream")
        for path in OTHER_SPELLINGS:
            assert typed(port, f"/log/2026/tile/{path}") == (404, b"application/problem+json"), path
        for path in OTHER_ADDRESSES:
            assert typed(port, path)[0] in (400, 404), path


def typed(port: int, path: str) -> tuple[int, bytes]:
    """Status and content type for a request line with exactly this path, which no client has mended."""
    path = "".join(each if each.isascii() else quote(each) for each in path)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head = answer.partition(b"\r\n\r\n")[0].lower()
    content_type = re.search(rb"\r\ncontent-type: ([^\r;]*)", head)
    return int(answer.split(b" ", 2)[1]), content_type[1] if content_type else b""


def test_nothing_is_shown_that_is_committed_and_not_published(quiet: Runtime) -> None:
    grow(quiet, 10)
    with serving(quiet) as client:
        before = tiled_log.read_log(reader(client), quiet.keys.log.vkey)
        grow(quiet, 300, first=10, publish=False)
        assert newest_committed(quiet) == 311
        assert tiled_log.read_log(reader(client), quiet.keys.log.vkey) == before
        for path in ("tile/0/000.p/12", "tile/entries/000.p/12", "tile/0/000", "tile/entries/000", "tile/1/000.p/1"):
            assert ask(client, path).status_code == 404, path
        leaf = merkle.leaf_hash(b"entry 100").hex()
        for address in (f"/v1/statements/{leaf}/proof", f"/v1/statements/{leaf}/receipt", "/v1/log/proofs/101"):
            assert client.get(address).json()["code"] == "entry_not_integrated", address
        assert client.get("/v1/log/proofs/10?size=311").json()["code"] == "size_not_published"
        assert client.get("/v1/log").json()["size"] == 11
        assert ask(client, "checkpoint/integrated").content == ask(client, "checkpoint").content


def newest_committed(runtime: Runtime) -> int:
    with runtime.sessions() as session:
        return int(session.scalar(sa.text("SELECT max(size) FROM log_checkpoints")))


def test_headers_say_how_long_each_file_may_be_kept(quiet: Runtime) -> None:
    grow(quiet, 256)
    with serving(quiet) as client:
        checkpoint, tile = ask(client, "checkpoint"), ask(client, "tile/0/000")
        bundle = ask(client, "tile/entries/000", **{"Accept-Encoding": "gzip"})
        plain = ask(client, "tile/entries/000", **{"Accept-Encoding": "identity, gzip;q=0"})
    assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
    assert checkpoint.headers["cache-control"] == "public, max-age=1"
    assert "expires" not in checkpoint.headers
    for each in (tile, bundle, plain):
        assert each.headers["content-type"] == "application/octet-stream"
        assert each.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert each.headers["access-control-allow-origin"] == "*"
    assert bundle.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in tile.headers, "hashes do not get smaller"
    assert bundle.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert len(tiled_log.bundle(plain.content)) == 256
    assert bundle.content == plain.content  # the client has unpacked it


def test_a_tile_costs_two_queries_however_large_the_log(quiet: Runtime) -> None:
    grow(quiet, 256 * 3 + 5)
    asked: list[str] = []
    with serving(quiet) as client:
        ask(client, "checkpoint")
        sa.event.listen(quiet.database.engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
        for path in ("tile/0/000", "tile/0/003.p/5", "tile/1/000.p/3", "tile/entries/002", "tile/entries/003.p/6"):
            asked.clear()
            assert ask(client, path).status_code == 200
            assert len(asked) == 2, asked
        asked.clear()
        ask(client, "checkpoint")
        assert len(asked) == 1


def test_a_head_request_is_answered_without_the_body(quiet: Runtime) -> None:
    with serving(quiet) as client:
        got, head = ask(client, "checkpoint"), client.head("/log/2026/checkpoint")
    assert (head.status_code, head.content, head.headers["content-type"]) == (200, b"", got.headers["content-type"])


def test_without_a_policy_the_log_asks_for_nobody_else(quiet: Runtime) -> None:
    with serving(quiet) as client:
        policy = Policy.parse(client.get("/log/policy").text)
        assert [(log.verifier.vkey, log.url) for log in policy.logs] == [
            (quiet.keys.log.vkey, "http://127.0.0.1:8000/log/2026")
        ]
        assert policy.met_by(())
        found = client.get("/v1/log").json()
    assert (found["vkey"], found["size"], found["witnessed_size"]) == (quiet.keys.log.vkey, 1, None)


def test_with_a_policy_the_checkpoint_is_the_newest_that_its_witnesses_signed(quiet: Runtime, tmp_path: Path) -> None:
    witness = Cosigner.generate("witness.example/w")
    text = f"# whom we ask\nwitness one {witness.vkey} http://127.0.0.1:1/\nquorum one\n"
    (tmp_path / "policy").write_text(text)
    policy = Policy.parse(text)
    settings = quiet.settings.model_copy(update={"witness_policy": tmp_path / "policy"})
    runtime = replace(quiet, settings=settings)
    with serving(runtime) as client:
        refused = ask(client, "checkpoint")
        assert (refused.status_code, refused.json()["code"]) == (404, "checkpoint_not_witnessed")
        assert client.get("/v1/log").json()["witnesses"][0]["cosigned_at"] is None

        with runtime.sessions.begin() as session:
            record_policy(session, "2026", settings.origin, policy, quiet.keys.statements, quiet.clock())
        grow(quiet, 5)
        note = ask(client, "checkpoint/integrated").content
        signed = add_signatures(note, witness.cosign(Note.parse(note).text, 1_800_000_000))
        with runtime.sessions.begin() as session:
            session.add(LogWitnessed(shard="2026", size=7, policy_sha256=policy.sha256, note=signed))
            session.add(LogWitnessed(shard="2026", size=1, policy_sha256=bytes(32), note=b"of another policy"))
        grow(quiet, 5, first=5)

        assert ask(client, "checkpoint").content == signed
        assert tiled_log.checkpoint(signed, quiet.keys.log.vkey)[0] == 7
        assert tiled_log.checkpoint(ask(client, "checkpoint/integrated").content, quiet.keys.log.vkey)[0] == 12
        assert len(tiled_log.read_log(reader(client), quiet.keys.log.vkey)) == 7
        published = client.get("/log/policy").text
        assert published == f"log {quiet.keys.log.vkey} http://127.0.0.1:8000/log/2026\n{text}"
        found = client.get("/v1/log").json()
        assert (found["size"], found["witnessed_size"]) == (12, 7)
        leaves = [merkle.leaf_hash(b"entry %d" % number).hex() for number in (0, 9)]
        first = client.get(f"/v1/statements/{leaves[0]}/proof?until=witnessed")
        reading = check_tlog_proof(b"entry 0", first.content, [quiet.keys.log.vkey], policy=policy)
        assert reading.quorum
        refused = client.get(f"/v1/statements/{leaves[1]}/proof?until=witnessed")
        assert (refused.status_code, refused.json()["code"]) == (404, "entry_not_witnessed")


def test_a_policy_that_cannot_be_read_is_the_operators_fault(quiet: Runtime, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text("quorum nobody\n")
    settings = quiet.settings.model_copy(update={"witness_policy": tmp_path / "policy"})
    with serving(replace(quiet, settings=settings)) as client:
        for address in ("/log/policy", "/log/2026/checkpoint", "/v1/log"):
            refused = client.get(address)
            assert (refused.status_code, refused.json()["code"]) == (503, "policy_unusable"), address


def test_proof_and_receipt_of_a_record_prove_its_statement(runtime: Runtime) -> None:
    record_id = generated(runtime)
    with serving(runtime) as client:
        proof = client.get(f"/v1/records/{record_id}/proof")
        receipt = client.get(f"/v1/records/{record_id}/receipt")
        by_link = client.get(receipt.links["alternate"]["url"])
        by_index = client.get(f"/v1/log/proofs/{client.get(f'/v1/records/{record_id}').json()['log']['index']}")
        for refused in ("x", "-1", "1.5"):
            assert client.get(f"/v1/log/proofs/{refused}").status_code == 404
        assert client.get(f"/v1/log/proofs/{10**30}").json()["code"] == "entry_not_integrated"
        assert client.get("/v1/log/proofs/0?size=0").status_code == 422
        assert client.get(f"/v1/log/proofs/0?size={10**30}").status_code in (404, 422)
        assert client.get("/v1/statements/AB/proof").json()["code"] == "leaf_hash_malformed"
        assert client.get(f"/v1/statements/{'ab' * 32}/proof").json()["code"] == "entry_not_integrated"
    with runtime.sessions() as session:
        statement = session.get_one(Record, record_id).statement
    assert statement is not None
    for each in (proof, by_link, by_index):
        assert each.headers["content-type"] == "text/plain; charset=utf-8"
        check_tlog_proof(statement, each.content, [runtime.keys.log.vkey])
    reading = verify_receipt(receipt.content, statement, runtime.keys.receipts.public_key_der)
    assert Note.parse(tiled_log_checkpoint(by_link.content)).text.split("\n")[1] == str(reading.size)
    assert receipt.headers["content-type"].startswith("application/cose")


def tiled_log_checkpoint(proof: bytes) -> bytes:
    return proof.partition(b"\n\n")[2]


def test_the_newest_timestamp_leads_to_the_checkpoint_it_was_made_for(quiet: Runtime) -> None:
    with serving(quiet) as client:
        refused = ask(client, "timestamp")
        assert (refused.status_code, refused.json()["code"]) == (404, "timestamp_missing")
        with quiet.sessions.begin() as session:
            session.add(LogTimestamp(shard="2026", size=1, token=b"a token, as stored"))
        grow(quiet, 5)
        found = ask(client, "timestamp")
        assert found.content == b"a token, as stored"
        assert found.headers["content-type"] == "application/timestamp-reply"
        stamped = client.get(found.links["describes"]["url"]).content
    assert tiled_log.checkpoint(tiled_log_checkpoint(stamped), quiet.keys.log.vkey)[0] == 1


def test_a_growing_log_is_never_seen_torn(runtime: Runtime) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.01):
            with runtime.sessions.begin() as session:
                entries.append_many(session, [b"entry %d" % each for each in range(number, number + 37)])
            number += 37

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[bytes] = []
    try:
        with serving(runtime) as client:
            until = time.monotonic() + 20
            while len(seen) < 1500 and time.monotonic() < until:
                found = tiled_log.read_log(reader(client), runtime.keys.log.vkey)
                assert found[: len(seen)] == seen, "what was there has changed"
                seen = found
    finally:
        stop.set()
        writer.join()
    assert len(seen) >= 1500
