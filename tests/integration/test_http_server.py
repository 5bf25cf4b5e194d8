"""The web process as it runs: `lawful run web`, a real socket, uploads that never end, a clean stop."""

import contextlib
import signal
import socket
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import structlog

from ledger import genesis, supervisor
from ledger.errors import Conflict, LedgerError
from ledger.runtime import Runtime
from ledger.settings import Settings
from ledger.web.app import serve

from .http_ledger import api_key, png, process, served, with_a_port

pytestmark = pytest.mark.postgres

LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


@pytest.fixture
def founded(settings: Settings) -> Settings:
    settings = with_a_port(settings)
    genesis.found(settings)
    return settings


@pytest.mark.slow
@LINUX
def test_an_endless_upload_is_refused_early_and_fills_neither_memory_nor_disk(founded: Settings) -> None:
    with process(founded) as web, socket.create_connection(("127.0.0.1", founded.port)) as connection:
        before, files = _memory(web.pid), _open_temporary_files(web.pid)
        connection.sendall(
            b"POST /v1/verifications HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        _chunk(connection, b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n')
        megabyte, sent = b"x" * 2**20, 0
        connection.setblocking(False)
        answer = b""
        while sent < 2 * 2**30 and not answer:
            connection.setblocking(True)
            _chunk(connection, megabyte)
            sent += len(megabyte)
            connection.setblocking(False)
            try:
                answer = connection.recv(65536)
            except BlockingIOError:
                continue
        assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
        assert b"application/problem+json" in answer
        assert sent < founded.max_upload_bytes + 40 * 2**20
        assert _memory(web.pid) - before < 3 * founded.max_upload_bytes
        assert _open_temporary_files(web.pid) == files, "the spooled part is gone"
        httpx.get(f"http://127.0.0.1:{founded.port}/healthz", trust_env=False).raise_for_status()


@LINUX
def test_an_announced_upload_over_the_limit_or_without_a_key_is_refused_unread(founded: Settings) -> None:
    with process(founded) as web:
        for path, status in (("/v1/verifications", b"413"), ("/v1/stamps", b"401")):
            with socket.create_connection(("127.0.0.1", founded.port)) as connection:
                connection.settimeout(20)
                connection.sendall(
                    f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
                    f"Content-Length: {2 * 2**30}\r\n\r\n".encode()
                )
                assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)
        maps = Path(f"/proc/{web.pid}/maps").read_text()
        assert "libtorch" not in maps, "the web process never loads torch"
        assert "faiss" not in maps


@pytest.mark.slow
def test_the_server_tells_nothing_of_itself_and_ends_when_it_is_told_to(founded: Settings) -> None:
    with process(founded) as web:
        response = httpx.post(
            f"http://127.0.0.1:{founded.port}/v1/verifications",
            content=png(),
            headers={"content-type": "image/png"},
            trust_env=False,
        )
        assert response.status_code == 202
        assert "server" not in response.headers
        began = time.monotonic()
        web.send_signal(signal.SIGTERM)
        assert web.wait(20) in {0, 128 + signal.SIGTERM, -signal.SIGTERM}
        assert time.monotonic() - began < 15


@pytest.mark.slow
def test_no_answer_waits_for_the_network_to_gather_it(founded: Settings) -> None:
    """Nagle's algorithm against a delayed ACK costs every single answer 40 ms; the fastest of many would show it."""
    with process(founded), httpx.Client(base_url=f"http://127.0.0.1:{founded.port}", trust_env=False) as client:
        times = []
        for _ in range(60):
            began = time.monotonic()
            client.get("/healthz").raise_for_status()
            times.append(time.monotonic() - began)
    assert min(times) < 0.03


def test_a_busy_address_is_one_clear_error(founded: Settings) -> None:
    with socket.create_server(("127.0.0.1", founded.port)), pytest.raises(Conflict) as error:
        supervisor.listen("127.0.0.1", founded.port)
    assert error.value.code == "address_in_use"


def test_a_ledger_that_was_never_founded_is_one_clear_error(settings: Settings) -> None:
    with pytest.raises(LedgerError) as error:
        serve(settings, supervisor.listen("127.0.0.1", 0), threading.Event())
    assert "lawful init" in error.value.next_step


def _chunk(connection: socket.socket, data: bytes) -> None:
    connection.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _memory(pid: int) -> int:
    """Most memory the process ever had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def _open_temporary_files(pid: int) -> list[str]:
    """Files without a name that the process has open at some time during this; it may close any of them meanwhile."""
    targets = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(str(each.readlink()))
    return [each for each in targets if each.startswith(tempfile.gettempdir()) and "deleted" in each]


@pytest.mark.parametrize(("proxies", "second"), [([], 429), (["10.9.0.0/16"], 429), (["127.0.0.0/8"], 303)])
def test_a_visitor_is_who_connects_or_whom_a_believed_proxy_names(
    runtime: Runtime, proxies: list[str], second: int
) -> None:
    more = {"proxies": proxies, "looks_per_minute": 1}
    settings = with_a_port(runtime.settings.model_copy(update=more))
    with served(replace(runtime, settings=settings)) as address:
        answers = [
            httpx.post(
                address,
                files={"file": ("a.png", png())},
                headers={"X-Forwarded-For": f"192.0.2.{visitor}"},
                trust_env=False,
            ).status_code
            for visitor in (1, 2)
        ]
    assert answers == [303, second]


def test_who_leaves_before_an_upload_is_whole_is_no_error_of_ours(runtime: Runtime) -> None:
    runtime = replace(runtime, settings=with_a_port(runtime.settings))
    uploads = {
        "/v1/stamps": "multipart/form-data; boundary=x",
        "/v1/verifications": "image/png",
        "/v1/generations": "application/json",
    }
    head = "POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: {}\r\nContent-Length: 1000\r\n\r\n"
    key = api_key(runtime)
    with structlog.testing.capture_logs() as logged, served(runtime):
        for path, content_type in uploads.items():
            with socket.create_connection(("127.0.0.1", runtime.settings.port)) as connection:
                connection.sendall(head.format(path, key, content_type).encode() + b"--x\r\n")
                time.sleep(0.2)
        deadline = time.monotonic() + 20
        while len(told := [each for each in logged if each["event"] == "request" and each["method"] == "POST"]) < 3:
            assert time.monotonic() < deadline, logged
            time.sleep(0.05)
    assert {each["route"]: each["status"] for each in told} == dict.fromkeys(uploads, 400)
    assert not [each for each in logged if each["event"] == "request_failed"]
