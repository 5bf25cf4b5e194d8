"""A log's files over HTTP, from a server that may be broken or wish the auditor ill.

The files lie below one prefix, as C2SP tlog-tiles has it: `<prefix>/checkpoint`, `<prefix>/tile/…`. The prefix is the
URL that was given, whatever path it has; nothing outside of it is ever asked for, and no redirect is followed.
"""

import threading
import time
import zlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx
import stamina

from ledger.audit.findings import Finding, Refuted
from ledger.errors import BadRequest, Unavailable

Fetch = Callable[[str, int], bytes]
"""(path below the prefix, most bytes that its body may have) → the body.

Raises Refuted (codes `not_served`, `redirected`, `body_too_large`, `encoding_broken`) for an answer that no log gives,
Unavailable for none. May be called from several threads at once.
"""

ATTEMPTS = 4
ANSWER_SECONDS = 30.0
"""Longest silence of the server."""
BODY_SECONDS = 120.0
"""Longest body: one that drips for ever is no body. A full bundle of the largest entries has 16.8 MB."""

_PASSING = {408, 425, 429}


class _Passing(Exception):
    """What may well be over the next time: no connection, a server that is busy or broken."""


class HttpLog:
    """The log below `url`. `fetch` is a `Fetch`. Use it as a context manager; it keeps connections open.

    Raises BadRequest code `log_url_invalid`. Lost connections and 5xx are tried again, four times in all.
    """

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        prefix = _prefix(url)
        self.url = str(prefix)
        # A proxy from the environment leads out of this machine; a log on it is asked directly.
        beyond = prefix.host not in {"localhost", "127.0.0.1", "::1"}
        self._client = httpx.Client(
            base_url=prefix,
            timeout=ANSWER_SECONDS,
            transport=transport,
            trust_env=beyond,
            verify=prefix.scheme == "https",  # loading certificates takes longer than many an audit
            follow_redirects=False,
            headers={"Accept-Encoding": "gzip, identity", "User-Agent": "lawful-audit"},
        )
        self.requests = 0
        self.bytes = 0
        self._counting = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def fetch(self, path: str, limit: int) -> bytes:
        """The body at `path`; see `Fetch`."""
        try:
            for attempt in stamina.retry_context(
                on=_Passing, attempts=ATTEMPTS, timeout=None, wait_initial=0.2, wait_max=5.0
            ):
                with attempt:
                    return self._get(path, limit)
        except _Passing as error:
            raise Unavailable(
                f"{self.url}{path}: {error}",
                code="log_unreachable",
                next_step="Check the URL and the network, then run the same command again: it goes on where it was.",
            ) from error
        raise AssertionError("stamina returns or raises")

    def _get(self, path: str, limit: int) -> bytes:
        with self._counting:
            self.requests += 1
        try:
            with self._client.stream("GET", path) as response:
                status = response.status_code
                if response.is_redirect:
                    raise Refuted(Finding("redirected", f"{path} is answered with a redirect, which is not followed"))
                if status in _PASSING or status >= 500:
                    raise _Passing(f"HTTP status {status}")
                if status != 200:
                    raise Refuted(Finding("not_served", f"{path} is answered with HTTP status {status}"))
                return self._body(response, path, limit)
        except httpx.HTTPError as error:
            raise _Passing(f"{type(error).__name__}: {error}") from error

    def _body(self, response: httpx.Response, path: str, limit: int) -> bytes:
        """At most `limit` bytes, however many come: httpx's own decoders would unpack a bomb before we see it."""
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip"}:
            raise Refuted(Finding("encoding_broken", f"{path} comes in the encoding {encoding[:40]!r}, not asked for"))
        unpack = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
        deadline = time.monotonic() + BODY_SECONDS
        body = bytearray()
        received = 0
        for chunk in response.iter_raw():  # as it comes in: a chunk size would wait for a slow server to fill it
            received += len(chunk)
            if unpack is None:
                body += chunk
            else:
                try:
                    body += unpack.decompress(chunk, limit + 1 - len(body))
                except zlib.error as error:
                    raise Refuted(Finding("encoding_broken", f"{path} is not the gzip that it says")) from error
            # gzip adds 18 bytes and a little a block; more than this comes from blocks without content
            if len(body) > limit or received > limit + limit // 100 + 1024:
                raise Refuted(Finding("body_too_large", f"{path} has more than the {limit} bytes that it can have"))
            if time.monotonic() > deadline:
                raise _Passing(f"the body is not complete after {BODY_SECONDS:g} s")
        with self._counting:
            self.bytes += received
        if unpack is not None and (not unpack.eof or unpack.unused_data):
            raise Refuted(Finding("encoding_broken", f"{path} is not the gzip that it says"))
        return bytes(body)


def _prefix(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise _invalid(url) from error
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.query or parsed.fragment or parsed.userinfo:
        raise _invalid(url)
    return parsed.copy_with(path=parsed.path.rstrip("/") + "/")


def _invalid(url: str) -> BadRequest:
    return BadRequest(
        f"{url[:200]!r} is not the http or https address of a log",
        code="log_url_invalid",
        next_step="Give the address below which `checkpoint` lies, such as https://example.org/log/2026/.",
    )
