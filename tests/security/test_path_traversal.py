"""No address and no key leads out of the folder that it is meant for."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import genesis
from ledger.errors import LedgerError
from ledger.runtime import open_runtime
from ledger.settings import Settings
from ledger.storage import Storage

from ..integration.audited import token  # noqa: TID252 - tests are no package
from ..integration.http_ledger import served, with_a_port  # noqa: TID252

SECRET = "what lies beside the folder"
UP = (
    "../",
    "..%2f",
    "%2e%2e/",
    "%2e%2e%2f",
    "..%5c",
    "..\\",
    "%252e%252e%252f",
    "....//",
    "..;/",
    "%c0%ae%c0%ae/",
    "/",
)
TAILS = ("secret.txt", "keys/log.skey", "app.py", "etc/passwd", "ledger/web/app.py")
FOLDERS = (
    "/static/", "/pictures/", "/schema/", "/r/", "/v/", "/v1/records/", "/v1/manifests/", "/log/", "/log/2026/tile/",
    "/log/2026/tile/0/", "/v1/audit/exports/", "/sign-in/", "/",
)  # fmt: skip


@pytest.fixture
def server(settings: Settings) -> Iterator[tuple[int, str]]:
    """The real server, beside whose folders a secret lies; its port and an auditor's token."""
    settings = with_a_port(settings)
    genesis.found(settings)
    (settings.home / "secret.txt").write_text(SECRET)
    with open_runtime(settings) as runtime, served(runtime):
        yield settings.port, token(runtime)


def asked(server: tuple[int, str], path: str) -> tuple[int, bytes]:
    """Status and body for exactly this path: a client library would make a plainer one of it."""
    port, shown = server
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {shown}\r\n\r\n"
        connection.sendall(head.encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.mark.postgres
def test_no_address_leads_to_a_file_that_is_not_served(server: tuple[int, str], settings: Settings) -> None:
    status, style = asked(server, "/static/style.css")
    assert (status, b"{" in style) == (200, True)  # so that what follows could find something
    private = (settings.home / "keys" / "log.skey").read_bytes().split(b"+", 4)[-1].strip()
    assert len(private) > 20
    for folder in FOLDERS:
        for up in UP:
            for tail in TAILS:
                path = folder + up * 6 + tail
                status, body = asked(server, path)
                assert status < 500, (path, status)  # /sign-in/… shows its button whatever comes
                for leaked in (SECRET.encode(), private, b"def create_app", b"root:x:0"):
                    assert leaked not in body, path


@pytest.mark.parametrize(
    "key", ["../secret", "files/../../secret", "../secret#1", "files/../../secret#1", "a\0b", "/.."]
)
def test_no_key_leads_out_of_the_store(tmp_path: Path, key: str) -> None:
    (tmp_path / "store" / "files").mkdir(parents=True)
    for name in ("secret", "secret#1"):
        (tmp_path / name).write_text(SECRET)
    storage = Storage((tmp_path / "store").as_uri())
    with pytest.raises((LedgerError, ValueError)):
        storage.get(key)
    with pytest.raises((LedgerError, ValueError)):
        storage.put(key, b"overwritten")
    with pytest.raises((LedgerError, ValueError, TypeError)):  # as the library words it
        storage.delete(key)
    assert [(tmp_path / name).read_text() for name in ("secret", "secret#1")] == [SECRET, SECRET]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "secret#1", "store"]
