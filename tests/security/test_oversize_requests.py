"""Two gigabytes that are announced are read by no address, whoever sends them. (Bodies without an announced length:
tests/integration/test_http_server.py.)"""

import re
import socket

import pytest

from ledger import genesis
from ledger.claims import identities
from ledger.runtime import Runtime, open_runtime
from ledger.settings import Settings
from ledger.web.access import ACCESS
from ledger.web.sessions import cookie_name

from ..integration.http_ledger import api_key, served, with_a_port  # noqa: TID252 - tests are no package

pytestmark = pytest.mark.postgres

ID = "01990000-0000-7000-8000-000000000000"


def test_no_address_waits_for_a_body_beyond_its_limit(settings: Settings) -> None:
    settings = with_a_port(settings)
    genesis.found(settings)
    with open_runtime(settings) as runtime, served(runtime):
        who = _headers(runtime)
        writing = [(method, path) for method, path in sorted(ACCESS) if method != "GET"]
        assert len(writing) > 25
        for method, path in writing:
            address = re.sub(r"\{\w+\}", ID, path)
            for media_type in ("multipart/form-data; boundary=x", "application/json"):
                status = _announced(settings.port, method, address, media_type, who)
                assert status in range(300, 500), (method, path, media_type, status)


def _headers(runtime: Runtime) -> str:
    """Of somebody who is let in nearly everywhere, so that nothing is refused for the wrong reason alone."""
    now = runtime.clock()
    with runtime.sessions.begin() as session:
        cookie = identities.sign_in(session, identities.new_link(session, "jane@example.org", now), now)
    return f"Authorization: Bearer {api_key(runtime)}\r\nCookie: {cookie_name(runtime.settings)}={cookie}\r\n"


def _announced(port: int, method: str, address: str, media_type: str, who: str) -> int:
    """The status that is answered before a byte of the body is sent."""
    head = (
        f"{method} {address} HTTP/1.1\r\nHost: x\r\n{who}Content-Type: {media_type}\r\n"
        f"Content-Length: {2 * 2**30}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head.encode())
        return int(connection.recv(65536).split(b" ", 2)[1])
