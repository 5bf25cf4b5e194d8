"""Who makes this ledger ask another server: whoever can, can do it through the careful fetcher alone.

The fetcher itself: tests/unit/claims/test_fetching.py. Addresses inside a file: tests/unit/credentials/test_read.py.
"""

import ast
import socket
from pathlib import Path

import pytest

import ledger
from ledger.artists import links
from ledger.claims import control
from ledger.claims.fetching import PageRefused
from ledger.database.tables.claims import ArtistPage
from ledger.runtime import Runtime

from ..integration.audited import artist  # noqa: TID252 - tests are no package
from ..integration.claiming import somebody  # noqa: TID252
from ..integration.desks import desk, sign_in  # noqa: TID252
from ..integration.http_ledger import serving  # noqa: TID252

CONNECTING = ("httpx", "http.client", "urllib3", "requests", "aiohttp", "smtplib", "ftplib", "urllib.request.urlopen")
WHO = {
    "claims/fetching.py": "the careful fetcher: pages of artists, notices to webhooks",
    "claims/mail.py": "the operator's mail server",
    "log/timestamps.py": "the operator's timestamp authority",
    "witness/client.py": "witnesses of the operator's policy",
    "witness/asking.py": "witnesses of the operator's policy",
    "audit/fetch.py": "the log that an auditor names on their own machine",
    "client.py": "the ledger that a developer names on their own machine",
    "supervisor.py": "the web process that this one started",
    "alive.py": "the process of this machine that a container's health check names",
}
"""Modules that open connections, and to whom. A new one needs its reason here: may a stranger choose the address?"""

INSIDE = (
    "https://127.0.0.1/", "https://localhost/", "https://169.254.169.254/latest/meta-data/", "https://[::1]/",
    "https://10.0.0.1/", "https://2130706433/", "http://example.org/", "file:///etc/passwd", "gopher://example.org/",
    "https://user:pass@example.org/", "https://example.org:5432/",
)  # fmt: skip


def connects(path: Path) -> bool:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return "urllib.request" in names or any(f"{name}.".startswith(f"{each}.") for name in names for each in CONNECTING)


def test_every_module_that_opens_connections_is_known() -> None:
    folder = Path(next(iter(ledger.__path__)))
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if connects(path)}
    assert found == set(WHO)


@pytest.mark.postgres
def test_no_webhook_is_set_to_an_address_of_the_inside(runtime: Runtime) -> None:
    ada = artist(runtime, "Ada", named=True)
    with serving(runtime) as client:
        person = sign_in(client, runtime)
        with runtime.sessions.begin() as session:
            links.link(session, runtime, ada, person)
        for url in INSIDE:
            answer = client.post(desk(ada, "/webhook"), data={"url": url})
            assert (answer.status_code, answer.json()["code"]) == (400, "webhook_malformed"), url


@pytest.mark.postgres
def test_a_page_on_record_whose_name_leads_inside_is_not_asked(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is public and its address is not, as after a change in the DNS: nothing is connected to."""
    ada, person = artist(runtime, "Ada", named=True), somebody(runtime)
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.settimeout(0.5)
        with runtime.sessions.begin() as session:
            session.add(ArtistPage(artist_id=ada, url="https://ada.example.org/"))
            session.flush()
            control.ask(session, person, ada)
        port = inside.getsockname()[1]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with pytest.raises(PageRefused, match="public internet"):
            control.check(runtime, person, ada)
        with pytest.raises(TimeoutError):
            inside.accept()
