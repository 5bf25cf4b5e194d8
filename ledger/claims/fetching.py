"""Fetching one page that the operator has allow-listed, so that nobody can make this ledger ask anything else; and
handing a notice to an address that an artist has set, under the same rules.

HTTPS with a certificate for the page's own host, on port 443; only addresses of the public internet, looked up once and
connected to as they were looked up (a name cannot change its address in between); a redirect counts only within the
host; a page of at most MOST_BYTES within MOST_SECONDS. No cookie, no proxy and no key of ours goes along. Of the
answer to a notice nothing but the status is looked at, and a redirect is no arrival.
"""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx

from ledger.errors import BadRequest

MOST_BYTES = 512 * 1024
MOST_SECONDS = 10.0
MOST_REDIRECTS = 3
MAX_URL_CHARS = 2000

Answer = TypeVar("Answer")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # RFC 4291, section 2.4, as far as it is given out
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address


class PageRefused(BadRequest):
    """The page was not fetched, or not to its end."""

    code = "page_refused"
    status = 422

    def __init__(self, detail: str) -> None:
        super().__init__(
            detail,
            next_step="the page has to be public, served over https, by the host on record, in at most 512 KiB",
        )


def is_public(address: Address) -> bool:
    """Whether an address lies on the public internet; an IPv4 address within an IPv6 one is judged by itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is not None:
            return is_public(inner)
        if address in NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in GLOBAL_UNICAST:  # among what is left, Python holds ::127.0.0.1 and fec0:: for global
            return False
    return address.is_global and not address.is_multicast


def look_up(host: str) -> Sequence[str]:
    """Every address of a host, by the system's resolver."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class Fetcher:
    """How pages are fetched. Everything but the defaults is for tests that serve a page themselves."""

    resolve: Callable[[str], Sequence[str]] = look_up
    may_connect: Callable[[Address], bool] = is_public
    port: int = 443
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    seconds: float = MOST_SECONDS

    def fetch(self, url: str) -> bytes:
        """The bytes of the page at `url`. Blocks, for `seconds` and what the resolver takes. Raises PageRefused."""
        host, deadline = checked_host(url), time.monotonic() + self.seconds
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._in_time(self._ask(url, host, self._address(host)), deadline)
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
            if checked_host(url) != host:
                raise PageRefused("the page leads to another host, which is not the one on record")
        raise PageRefused(f"the page was moved more than {MOST_REDIRECTS} times")

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Hand `body` to `url`. Blocks as `fetch` does. Raises PageRefused unless the answer's status is 2xx."""
        host, deadline = checked_host(url), time.monotonic() + self.seconds
        status = self._in_time(self._hand_over(url, host, self._address(host), body, headers), deadline)
        if not 200 <= status < 300:
            raise PageRefused(f"the page's server answered {status}")

    def _in_time(self, asking: Coroutine[Any, Any, Answer], deadline: float) -> Answer:
        """httpx times single reads; a page that drips its headers would hold a thread for days."""

        async def ask() -> Answer:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await asking

        try:
            with ThreadPoolExecutor(1) as thread:  # the caller's may run a loop of its own
                return thread.submit(asyncio.run, ask()).result()
        except TimeoutError as error:
            raise PageRefused(f"the page took longer than {self.seconds:g} seconds") from error
        except (httpx.HTTPError, OSError) as error:
            raise PageRefused(f"the page could not be fetched: {type(error).__name__}") from error

    async def _ask(self, url: str, host: str, address: Address) -> bytes | str:
        """The body, or where the answer says that it went."""
        async with (
            self._client() as client,
            client.stream(
                "GET",
                self._target(url, address),
                headers={"Host": host, "Accept": "text/html, text/plain", "Accept-Encoding": "identity"},
                extensions={"sni_hostname": host},  # the certificate has to be the host's, not the address's
            ) as answer,
        ):
            if answer.is_redirect:
                return str(answer.headers.get("location", ""))
            if answer.status_code != 200:
                raise PageRefused(f"the page's server answered {answer.status_code}")
            return await self._body(answer)

    async def _hand_over(self, url: str, host: str, address: Address, body: bytes, headers: Mapping[str, str]) -> int:
        async with (
            self._client() as client,
            client.stream(
                "POST",
                self._target(url, address),
                content=body,
                headers={**headers, "Host": host},
                extensions={"sni_hostname": host},
            ) as answer,
        ):
            return answer.status_code

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=self.context, trust_env=False, timeout=self.seconds)

    def _target(self, url: str, address: Address) -> httpx.URL:
        """The address in the host's place."""
        return httpx.URL(scheme="https", host=str(address), port=self.port, raw_path=_path(urlsplit(url)))

    async def _body(self, answer: httpx.Response) -> bytes:
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise PageRefused("the page comes in an encoding that was not asked for")
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MOST_BYTES:
                raise PageRefused(f"the page has more than {MOST_BYTES // 1024} KiB")
        return bytes(body)

    def _address(self, host: str) -> Address:
        try:
            found = [ipaddress.ip_address(each.partition("%")[0]) for each in self.resolve(host)]
        except (OSError, ValueError) as error:
            raise PageRefused("the page's host has no address") from error
        # One private address among public ones is refused as well: which one is taken must not decide.
        if not found or not all(self.may_connect(each) for each in found):
            raise PageRefused("the page's host does not lie on the public internet")
        return found[0]


def checked_host(url: str) -> str:
    """The host of an https URL that may be fetched at all. Raises PageRefused."""
    if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        raise PageRefused(f"an https address of at most {MAX_URL_CHARS} ASCII characters is wanted")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise PageRefused("the address cannot be read") from error
    if parts.scheme != "https" or not host:
        raise PageRefused("only pages at https:// are fetched")
    if parts.username is not None or parts.password is not None or port not in {None, 443}:
        raise PageRefused("an address with a user's name or a port of its own is not fetched")
    if _is_number(host) or "." not in host or host.endswith(".") or "\\" in url:
        raise PageRefused("the address has to name its host")
    return host.lower()


def _is_number(host: str) -> bool:
    """Also as 0x7f000001, 2130706433 or 127.1, which some resolvers take for addresses."""
    if ":" in host:
        return True
    last = host.rpartition(".")[2]
    return last.isdigit() or last.lower().startswith("0x")


def _path(parts: object) -> bytes:
    path, query = getattr(parts, "path", ""), getattr(parts, "query", "")
    return ((path or "/") + (f"?{query}" if query else "")).encode("ascii")
