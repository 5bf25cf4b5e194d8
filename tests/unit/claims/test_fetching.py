"""The fetcher asks nothing but what it was allowed to: addresses, hosts, redirects, certificates, size and time."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ledger.claims import control
from ledger.claims.fetching import MOST_BYTES, Fetcher, PageRefused, checked_host, is_public

HOST = "artist.example.org"


class Pages(BaseHTTPRequestHandler):
    """A site with everything that a page can do to whoever fetches it."""

    asked: list[tuple[str, str]]  # (Host, path)
    heard: list[tuple[str | None, bytes]]  # (Webhook-Id, body) of what was handed over

    def do_GET(self) -> None:
        type(self).asked.append((self.headers["host"], self.path))
        answers = {
            "/": (200, {}, b"<p>about me: lawful-ledger-0123</p>"),
            "/moved": (302, {"location": "/"}, b""),
            "/round": (302, {"location": "/round"}, b""),
            "/away": (302, {"location": "https://elsewhere.example.org/"}, b""),
            "/inside": (302, {"location": "http://169.254.169.254/latest/"}, b""),
            "/plain": (302, {"location": f"http://{HOST}/"}, b""),
            "/big": (200, {}, b"x" * (MOST_BYTES + 1)),
            "/zip": (200, {"content-encoding": "gzip"}, b"\x1f\x8b"),
            "/gone": (404, {}, b"lawful-ledger-0123"),
        }
        if self.path in {"/slow", "/slow-headers"}:
            self.send_response(200)
            if self.path == "/slow":
                self.end_headers()
            self.flush_headers()
            for _ in range(40):
                self.wfile.write(b".")
                self.wfile.flush()
                if self.server.stopped.wait(0.1):  # type: ignore[attr-defined]
                    return
            return
        status, headers, body = answers[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        type(self).asked.append((self.headers["host"], self.path))
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).heard.append((self.headers["webhook-id"], body))
        if self.path == "/slow":
            self.send_response(200)
            for _ in range(40):
                self.wfile.write(b".")
                if self.server.stopped.wait(0.1):  # type: ignore[attr-defined]
                    return
            return
        status = {"/hook": 204, "/moved": 307, "/gone": 410}[self.path]
        self.send_response(status)
        self.send_header("location", "/hook")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetcher]:
    """A fetcher that believes the site's own certificate, and may connect to this machine."""
    folder = tmp_path_factory.mktemp("site")
    certificate, key = _certificate(folder, HOST)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.stopped = threading.Event()  # type: ignore[attr-defined]
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # whoever is refused hangs up
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    server.socket = serving.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Fetcher(
        resolve=lambda _: ["127.0.0.1"],
        may_connect=lambda _: True,
        port=server.server_address[1],
        context=ssl.create_default_context(cafile=str(certificate)),
        seconds=5,
    )
    server.stopped.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _nothing_asked() -> None:
    Pages.asked, Pages.heard = [], []


def _certificate(folder: Path, host: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


# ---- what is fetched ----


def test_a_page_is_fetched_with_its_own_name_and_certificate(site: Fetcher) -> None:
    page = site.fetch(f"https://{HOST}/")
    assert control.shows(page, "lawful-ledger-0123")
    assert Pages.asked == [(HOST, "/")]


def test_a_redirect_within_the_host_is_followed(site: Fetcher) -> None:
    assert b"about me" in site.fetch(f"https://{HOST}/moved")


def test_a_token_is_a_word_of_its_own() -> None:
    assert not control.shows(b"lawful-ledger-01234", "lawful-ledger-0123")
    assert not control.shows(b"xlawful-ledger-0123", "lawful-ledger-0123")
    assert control.shows(b">lawful-ledger-0123<", "lawful-ledger-0123")


# ---- what is handed over ----


def test_a_notice_is_handed_over_with_its_headers(site: Fetcher) -> None:
    site.post(f"https://{HOST}/hook", b"{}", {"Webhook-Id": "one"})
    assert (Pages.asked, Pages.heard) == ([(HOST, "/hook")], [("one", b"{}")])


@pytest.mark.parametrize(("path", "says"), [("/moved", "307"), ("/gone", "410"), ("/slow", "longer than 1 seconds")])
def test_a_notice_that_is_not_taken_there_and_then_did_not_arrive(site: Fetcher, path: str, says: str) -> None:
    """Neither is a redirect followed: it could lead anywhere."""
    with pytest.raises(PageRefused, match=says):
        replace(site, seconds=1).post(f"https://{HOST}{path}", b"{}", {})
    assert [path for _, path in Pages.asked] == [path]


@pytest.mark.parametrize("found", [["127.0.0.1"], ["93.184.216.34", "169.254.169.254"], ["::1"]])
def test_no_notice_goes_to_an_address_that_is_not_public(site: Fetcher, found: list[str]) -> None:
    with pytest.raises(PageRefused):
        replace(site, may_connect=is_public, resolve=lambda _: found).post(f"https://{HOST}/hook", b"{}", {})
    assert Pages.asked == []


# ---- what is not ----


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/away", "another host"),
        ("/inside", "https"),
        ("/plain", "https"),
        ("/round", "more than 3 times"),
        ("/big", "512 KiB"),
        ("/zip", "encoding"),
        ("/gone", "404"),
    ],
    ids=lambda each: str(each).strip("/").replace(" ", "-"),
)
def test_what_leads_elsewhere_or_is_too_much_is_refused(site: Fetcher, path: str, says: str) -> None:
    with pytest.raises(PageRefused, match=says) as refused:
        site.fetch(f"https://{HOST}{path}")
    assert refused.value.code == "page_refused"
    assert {host for host, _ in Pages.asked} == {HOST}


@pytest.mark.parametrize("path", ["/slow", "/slow-headers"])
def test_a_page_that_drips_is_given_up_in_time(site: Fetcher, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(PageRefused, match="longer than 1 seconds"):
        replace(site, seconds=1).fetch(f"https://{HOST}{path}")
    assert time.monotonic() - began < 3  # the server would go on for four


def test_a_certificate_for_another_host_is_refused_before_anything_is_asked(site: Fetcher) -> None:
    with pytest.raises(PageRefused, match="could not be fetched"):
        site.fetch("https://another.example.org/")
    assert Pages.asked == []


def test_a_name_that_leads_to_a_private_address_is_never_connected_to(site: Fetcher) -> None:
    careful = replace(site, may_connect=is_public)
    for found in (["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::1"], ["fe80::1%eth0"], [], ["not an address"]):
        with pytest.raises(PageRefused):
            replace(careful, resolve=lambda _, found=found: found).fetch(f"https://{HOST}/")
    assert Pages.asked == []


def test_a_name_is_looked_up_once_for_each_question_and_connected_to_as_it_was_looked_up(site: Fetcher) -> None:
    """A name that changes its address in between gains nothing: what was judged is what is connected to."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    rebinding = replace(site, resolve=lambda _: next(answers))
    assert b"about me" in rebinding.fetch(f"https://{HOST}/")
    assert next(answers) == ["10.0.0.1"]  # nobody asked again


def test_a_host_that_is_not_there_is_refused(site: Fetcher) -> None:
    def nobody(_: str) -> list[str]:
        raise socket.gaierror(8, "unknown")

    with pytest.raises(PageRefused):
        replace(site, resolve=nobody).fetch(f"https://{HOST}/")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
     "::7f00:1", "fec0::1", "64:ff9b:1::a00:1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1"],
)  # fmt: skip
def test_no_address_but_a_public_one_is_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"])
def test_a_public_address_is(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    ["http://example.org/", "ftp://example.org/", "file:///etc/passwd", "https://", "https://localhost/",
     "https://127.0.0.1/", "https://2130706433/", "https://0x7f.0.0.0x1/", "https://[::1]/", "https://127.1/",
     "https://user@example.org/", "https://example.org:8443/", "https://example.org:99999/", "https://example.org./",
     "https://example.org\\@evil.example/", "https://exämple.org/", "https://example.org/ x", "https://example.org/\n",
     "https://example.org/" + "x" * 2000],
    ids=lambda url: url[:32].encode().hex(),
)  # fmt: skip
def test_an_address_that_is_not_plainly_a_public_page_is_refused(url: str) -> None:
    with pytest.raises(PageRefused):
        checked_host(url)
