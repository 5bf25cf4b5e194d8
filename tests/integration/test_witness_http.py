"""A witness as others meet it: over HTTP, from the command line, with clients that behave and clients that do not."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from ledger.cli import main
from ledger.log import merkle
from ledger.log.cosignatures import cosigned_at
from ledger.log.notes import Checkpoint, Note, NoteSigner, open_note, sign_note
from ledger.witness.witness import MAX_REQUEST_BYTES, Submission, origin_hash
from tests.integration.witness_at_work import Served, a_witness

ORIGIN = "example.org/ledger/2026"
LEAVES = [merkle.leaf_hash(b"entry %d" % i) for i in range(40)]


@pytest.fixture
def signer() -> NoteSigner:
    return NoteSigner.generate(ORIGIN)


@pytest.fixture
def served(tmp_path: Path, signer: NoteSigner) -> Iterator[Served]:
    with a_witness(tmp_path / "w", signer.verifier) as opened:
        yield opened


def note(signer: NoteSigner, size: int) -> bytes:
    return sign_note(Checkpoint(signer.name, size, merkle.root(LEAVES[:size])).text, signer)


def request(signer: NoteSigner, old: int, size: int) -> bytes:
    return Submission.write(old, merkle.consistency_proof(merkle.reader_over(LEAVES), old, size), note(signer, size))


CLIENT = httpx.Client(trust_env=False, timeout=20, verify=False)  # no TLS here, and loading roots takes time


def post(url: str, body: bytes) -> httpx.Response:
    return CLIENT.post(f"{url}/add-checkpoint", content=body)


def test_a_checkpoint_is_cosigned_and_shown_to_monitors(served: Served, signer: NoteSigner) -> None:
    address = f"{served.url}/{origin_hash(ORIGIN)}/checkpoint"
    assert CLIENT.get(address).status_code == 404
    answer = post(served.url, request(signer, 0, 7))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert cosigned_at(Note.parse(note(signer, 7) + answer.content), [served.witness.cosigner.verifier])
    shown = CLIENT.get(address)
    assert (shown.status_code, shown.headers["cache-control"]) == (200, "no-cache")
    assert len(open_note(shown.content, [signer.verifier, served.witness.cosigner.verifier]).signed_by) == 2


def test_each_refusal_has_its_status(served: Served, signer: NoteSigner) -> None:
    post(served.url, request(signer, 0, 7))
    stranger = NoteSigner.generate(ORIGIN)
    elsewhere = NoteSigner.generate("example.org/else")
    bad_proof = Submission.write(7, [bytes(32)], note(signer, 9))
    statuses = [
        post(served.url, body).status_code
        for body in (request(elsewhere, 0, 9), request(stranger, 7, 9), b"old", request(signer, 0, 9), bad_proof)
    ]
    assert statuses == [404, 403, 400, 409, 422]
    conflict = post(served.url, request(signer, 3, 9))
    assert (conflict.content, conflict.headers["content-type"]) == (b"7\n", "text/x.tlog.size")


def test_a_body_over_16_kib_is_413(served: Served, signer: NoteSigner) -> None:
    assert post(served.url, request(signer, 0, 7).ljust(MAX_REQUEST_BYTES + 1, b"\n")).status_code == 413
    chunks = (b"x" * 1024 for _ in range(64))  # no length is announced
    assert CLIENT.post(f"{served.url}/add-checkpoint", content=chunks).status_code == 413


def test_a_body_that_does_not_come_holds_nobody_else_up(
    served: Served, signer: NoteSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.web.witness.BODY_SECONDS", 1.0)
    port = int(served.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 500\r\n\r\nold 0\n")
        began = time.monotonic()
        assert post(served.url, request(signer, 0, 7)).status_code == 200
        assert time.monotonic() - began < 5
        slow.settimeout(20)
        assert b" 408 " in slow.recv(1000).split(b"\r\n")[0]


@pytest.mark.parametrize("path", ["/nothing", "/%2e%2e/witness.skey/checkpoint", "/witness.skey", "/x/checkpoint"])
def test_there_is_nothing_else_to_be_had(served: Served, path: str) -> None:
    assert CLIENT.get(served.url + path).status_code == 404
    assert CLIENT.get(f"{served.url}/add-checkpoint").status_code == 405


def test_the_first_page_says_who_it_is_and_what_it_watches(served: Served, signer: NoteSigner) -> None:
    post(served.url, request(signer, 0, 7))
    page = CLIENT.get(served.url).text
    assert served.vkey in page
    assert f"log {ORIGIN}: 7 entries" in page


def test_a_damaged_state_answers_500_and_tells_nothing_of_it(served: Served, signer: NoteSigner) -> None:
    post(served.url, request(signer, 0, 7))
    (served.folder / "state" / f"{origin_hash(ORIGIN)}.checkpoint").write_bytes(b"x")
    answer = post(served.url, request(signer, 7, 9))
    assert answer.status_code == 500
    assert str(served.folder) not in answer.text


@pytest.mark.slow
def test_twenty_clients_at_once_move_it_forward_only(served: Served, signer: NoteSigner) -> None:
    seen: list[int] = []

    def client() -> None:
        old = 0
        while old < len(LEAVES):
            answer = post(served.url, request(signer, old, old + 1))
            if answer.status_code == 200:
                seen.append(old + 1)
            old = old + 1 if answer.status_code == 200 else int(answer.content)

    threads = [threading.Thread(target=client) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(1, len(LEAVES) + 1))  # each step was given to one of them, and to nobody else
    assert served.size(ORIGIN) == len(LEAVES)


# ---- the command line ------------------------------------------------------------------------------------------------


def lawful(*words: str) -> dict[str, object]:
    done = CliRunner().invoke(main, [*words, "--json"])
    answer: dict[str, object] = json.loads(done.stdout)
    return answer | {"exit": done.exit_code}


def run_witness(folder: Path, *logs: str, port: int = 0) -> subprocess.Popen[bytes]:
    words = ["witness", "run", "--folder", str(folder), "--port", str(port), "--json"]
    for log in logs:
        words += ["--log", log]
    return subprocess.Popen(
        [sys.executable, "-m", "ledger.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ
    )


def announced(process: subprocess.Popen[bytes]) -> dict[str, object]:
    assert process.stdout is not None
    text = b""
    while not text.endswith(b"}\n"):
        line = process.stdout.readline()
        assert line, "it ended"
        text += line
    said: dict[str, object] = json.loads(text)
    return said


@pytest.mark.slow
def test_init_prints_the_key_that_run_signs_with_through_kills(tmp_path: Path, signer: NoteSigner) -> None:
    """The whole life: made by one command, run by the other, killed amid work, and never of two minds."""
    folder = tmp_path / "witness"
    made = lawful("witness", "init", "witness.example/w1", "--folder", str(folder))
    assert made["exit"] == 0
    size = 0
    for _ in range(2):
        with run_witness(folder, f"{signer.vkey}@https://log.example/2026") as process:
            said = announced(process)
            assert (said["vkey"], said["logs"]) == (made["vkey"], [ORIGIN])
            url = str(said["url"])
            for _ in range(3):
                assert post(url, request(signer, size, size + 2)).status_code == 200
                size += 2
            assert "read at https://log.example/2026" in CLIENT.get(url).text
            process.send_signal(signal.SIGKILL)
        with run_witness(folder, signer.vkey) as process:
            url = str(announced(process)["url"])
            assert post(url, request(signer, 0, size + 1)).content == b"%d\n" % size
            process.terminate()
            assert process.wait(15) == 0


@pytest.mark.slow
def test_two_processes_with_one_folder_promise_as_one(tmp_path: Path, signer: NoteSigner) -> None:
    folder = tmp_path / "witness"
    lawful("witness", "init", "w", "--folder", str(folder))
    with run_witness(folder, signer.vkey) as one, run_witness(folder, signer.vkey) as other:
        urls = [str(announced(process)["url"]) for process in (one, other)]
        for size in range(1, 9):
            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(post, urls, [request(signer, size - 1, size)] * 2))
            assert sorted(answer.status_code for answer in answers) == [200, 409]
        for process in (one, other):
            process.terminate()


def test_bad_arguments_are_told(tmp_path: Path, signer: NoteSigner) -> None:
    folder = str(tmp_path / "witness")
    assert lawful("witness", "run", "--folder", folder, "--log", signer.vkey)["error"]["code"] == "witness_missing"  # type: ignore[index]
    made = lawful("witness", "init", "w", "--folder", folder)
    again = lawful("witness", "init", "w", "--folder", folder)
    assert again["error"]["code"] == "witness_exists"  # type: ignore[index]
    for log in ("nonsense", str(made["vkey"]), f"{signer.vkey}@ftp://log.example", f"{signer.vkey} "):
        refused = lawful("witness", "run", "--folder", folder, "--log", log)
        assert (refused["error"]["code"], refused["exit"]) == ("witness_log_invalid", 3)  # type: ignore[index]
    wrong = signer.vkey.replace("+", "+0", 1)[: -len("x")] + "x"
    assert lawful("witness", "run", "--folder", folder, "--log", wrong)["exit"] == 3
    (tmp_path / "witness" / "witness.skey").chmod(0o644)
    exposed = lawful("witness", "run", "--folder", folder, "--log", signer.vkey)
    assert exposed["error"]["code"] == "witness_key_exposed"  # type: ignore[index]
