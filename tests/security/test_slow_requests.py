"""Whoever sends slowly loses the connection and takes nobody else's; whoever waits for our answer does not."""

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from ledger import genesis
from ledger.runtime import open_runtime
from ledger.settings import Settings
from ledger.web import serving

from ..integration.http_ledger import api_key, served, with_a_port  # noqa: TID252 - tests are no package

pytestmark = pytest.mark.postgres

HANDS = 200


@pytest.fixture
def port(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, str]]:
    """Where the real server listens, which waits two seconds instead of its ten; and a key."""
    monkeypatch.setattr(serving, "SECONDS", {"headers": 2.0, "body": 2.0})
    settings = with_a_port(settings)
    genesis.found(settings)
    with open_runtime(settings) as runtime, served(runtime):
        yield settings.port, api_key(runtime)


def dripping(connection: socket.socket, drops: bytes) -> float:
    """Seconds until the server hangs up on whoever sends a byte every tenth of a second; at most 20."""
    connection.settimeout(0.1)
    began = time.monotonic()
    for number in range(200):
        try:
            connection.sendall(drops[number % len(drops) :][:1])
            if connection.recv(65536) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


def connected(port: int, beginning: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(beginning)
    return connection


def test_many_who_send_their_headers_slowly_are_cut_off_and_nobody_waits_for_them(port: tuple[int, str]) -> None:
    number = port[0]
    hands = [connected(number, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ") for _ in range(HANDS)]
    try:
        began = time.monotonic()
        assert httpx.get(f"http://127.0.0.1:{number}/healthz", trust_env=False, timeout=20).status_code == 200
        assert time.monotonic() - began < 10
        assert dripping(hands[0], b"a") < 15
        for each in hands[1:]:
            each.settimeout(15)
            assert each.recv(65536) == b""
    finally:
        for each in hands:
            each.close()


@pytest.mark.parametrize("beginning", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "later"])
def test_a_connection_on_which_a_request_never_ends_is_closed(port: tuple[int, str], beginning: bytes) -> None:
    """Also after a request that was answered: the server's own timeout ends with the first byte of the next."""
    with connected(port[0], beginning) as connection:
        if beginning:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert dripping(connection, b"G") < 15


def test_a_body_that_drips_is_given_up(port: tuple[int, str]) -> None:
    head = (
        "POST /v1/stamps HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000000\r\n"
        f"Authorization: Bearer {port[1]}\r\n\r\n"
    )
    with connected(port[0], head.encode()) as connection:
        assert dripping(connection, b"x") < 15


def test_headers_without_end_are_refused_before_they_fill_the_memory(port: tuple[int, str]) -> None:
    answer, sent = b"", 0
    with connected(port[0], b"GET / HTTP/1.1\r\nHost: x\r\n") as connection:
        try:
            while sent < 64 * 2**20:
                connection.sendall(b"X-Long: " + b"x" * 8000 + b"\r\n")
                sent += 8010
            answer = connection.recv(65536)
        except OSError:  # it hung up while we were sending
            pass
    assert sent < 32 * 2**20 or answer.startswith(b"HTTP/1.1 400 ")


def test_a_client_that_waits_between_requests_or_for_a_long_answer_is_not_cut_off(port: tuple[int, str]) -> None:
    number, key = port
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(number) as connection:
        for _ in range(2):
            connection.sendall(ask)
            answer = b""
            while not answer.endswith(b"}"):  # head and body may come apart
                piece = connection.recv(65536)
                assert piece, "it hung up"
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 ")
            time.sleep(3)  # longer than headers may take, shorter than the silence that is allowed
        waits = f"POST /v1/generations?wait=4 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        body = b'{"prompt": "a boat"}'
        connection.sendall(
            f"{waits}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")  # no worker runs: all of the four seconds
