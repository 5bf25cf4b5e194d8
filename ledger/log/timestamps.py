"""An outsider's word on when: RFC 3161 timestamps over checkpoints, asked for beside the log and never in its way.

What is stamped is SHA-256 of a published checkpoint's note text, so that signatures added to the note later change
nothing. What is kept is the authority's answer as it came (TimeStampResp, DER): `openssl ts -verify -in … -data …`
reads it, with the note's text as data.

A timestamp that verifies shows that this tree head existed at that time, by the word of an authority the checker chose;
with it, everything that has a proof of inclusion under it. It does not show that the log shows everybody the same head,
nor that an entry is as young as that: it may be older.
"""

import datetime as dt
import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import httpx
import psycopg
import structlog
from asn1crypto import cms, tsp  # type: ignore[import-untyped]
from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    PKIStatus,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)
from rfc3161_client.verify import SHA256_OID
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from ledger.errors import BadRequest, LedgerError, Unavailable
from ledger.log.notes import Note
from ledger.log.shard import Query, published_head, query_of

MAX_ANSWER_BYTES = 65_536  # a token with a chain of certificates has about 6,000
ANSWER_SECONDS = 20.0
LOOK_SECONDS = 10.0  # between two looks at a log that has not moved
RETRY_SECONDS, RETRY_MOST_SECONDS = 5.0, 300.0

_logger = structlog.get_logger(__name__)


class TimestampError(BadRequest):
    """An answer that is no timestamp, or one that does not show what it should."""

    def __init__(self, detail: str, *, code: str) -> None:
        super().__init__(
            detail, code=code, next_step="Fetch it again from the log, with the checkpoint of the size it is for."
        )


def verify_timestamp(token: bytes, checkpoint_text: str, roots_pem: str) -> dt.datetime:
    """When the authority saw this checkpoint (aware UTC, by its own clock).

    `token` is a TimeStampResp with its certificates, `checkpoint_text` the note's text with its last newline,
    `roots_pem` the roots that the checker chose to believe; certificates have to be valid at that time, not now.
    Raises TimestampError with code `timestamp_malformed` or `timestamp_invalid`, and BadRequest code
    `timestamp_roots_malformed` for roots that are none.
    """
    response = _decoded(token)
    try:
        roots = x509.load_pem_x509_certificates(roots_pem.encode())
    except ValueError as error:
        raise BadRequest(
            "the roots given are no certificates in PEM",
            code="timestamp_roots_malformed",
            next_step="Give the authority's root certificate as a PEM file.",
        ) from error
    _check_imprint(response, checkpoint_text)
    verifier = VerifierBuilder()
    for root in dict.fromkeys(roots):
        verifier = verifier.add_root_certificate(root)
    try:
        verifier.build().verify_message(response, checkpoint_text.encode())
    except (VerificationError, ValueError) as error:
        raise TimestampError(f"the timestamp does not verify: {error}"[:300], code="timestamp_invalid") from error
    return response.tst_info.gen_time.astimezone(dt.UTC)


def claimed_time(token: bytes) -> dt.datetime:
    """The time that a kept token tells (aware UTC). Nothing is verified: whose word counts is the checker's choice.

    Raises TimestampError code `timestamp_malformed`.
    """
    return _decoded(token).tst_info.gen_time.astimezone(dt.UTC)


def newest_timestamp(query: Query, shard: str) -> tuple[int, bytes] | None:
    """(size, token) of the largest checkpoint that was stamped; None while none was. As stored, nothing verified."""
    rows = query("SELECT size, token FROM log_timestamps WHERE shard = %s ORDER BY size DESC LIMIT 1", (shard,))
    return (rows[0][0], rows[0][1]) if rows else None


def ask_authority(url: str, checkpoint_text: str) -> bytes:
    """A TimeStampResp (DER) for this text, which repeats our imprint and nonce (RFC 3161, section 2.4).

    Its signature is not verified: whose word counts is the checker's choice. Raises Unavailable code `tsa_down`.
    """
    request = TimestampRequestBuilder().data(checkpoint_text.encode()).hash_algorithm(HashAlgorithm.SHA256).build()
    answer = post_query(url, request.as_bytes())
    try:
        response = _decoded(answer)
        _check_imprint(response, checkpoint_text)
    except TimestampError as error:
        raise _down(f"gave no timestamp: {error.detail}") from error
    if response.tst_info.nonce != request.nonce:
        raise _down("answered another question than ours")
    return answer


class Timestamps:
    """Stamps the newest published checkpoint of one shard, at most one each `interval` seconds by the database's clock,
    whichever process asks."""

    def __init__(self, sessions: sessionmaker[Session], shard: str, url: str, interval: float) -> None:
        self._sessions, self._shard, self._url, self._interval = sessions, shard, url, interval

    def stamp_if_due(self) -> float:
        """Stamp if the log has moved and it is time; seconds until it is worth looking again.

        No connection is held while the authority is asked. Raises Unavailable, and as the database does.
        """
        with self._sessions() as session:
            head = published_head(query_of(session), self._shard)
            rows = query_of(session)(
                "SELECT size, extract(epoch FROM now() - created_at)::float8 FROM log_timestamps"
                " WHERE shard = %s ORDER BY size DESC LIMIT 1",
                (self._shard,),
            )
        last = cast("Sequence[tuple[int, float]]", rows)
        look_again = min(LOOK_SECONDS, self._interval)
        if head is None or head.size <= (last[0][0] if last else 0):
            return look_again
        if last and last[0][1] < self._interval:
            return max(0.01, min(look_again, self._interval - last[0][1]))
        token = ask_authority(self._url, Note.parse(head.note).text)
        with self._sessions.begin() as session:
            session.connection().exec_driver_sql(
                "INSERT INTO log_timestamps (shard, size, token) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (self._shard, head.size, token),
            )
        _logger.info("checkpoint_timestamped", shard=self._shard, size=head.size)
        return look_again


class TimestampingThread(threading.Thread):
    """Stamps beside a sequencer until it is stopped. An authority that fails is warned of and asked again, ever later
    up to `most` seconds apart; the log does not notice."""

    def __init__(
        self, timestamps: Timestamps, *, retry: float = RETRY_SECONDS, most: float = RETRY_MOST_SECONDS
    ) -> None:
        super().__init__(name="timestamps", daemon=True)
        self._timestamps, self._retry, self._most = timestamps, retry, most
        self._stop_asked = threading.Event()

    def stop(self, timeout: float | None = 1.0) -> None:
        """End it; an answer that is still awaited is given up."""
        self._stop_asked.set()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        """Called by `start`."""
        pause, failures = 0.0, 0
        while not self._stop_asked.wait(pause):
            try:
                pause, failures = self._timestamps.stamp_if_due(), 0
            except (LedgerError, SQLAlchemyError, psycopg.Error) as error:
                detail = error.detail if isinstance(error, LedgerError) else type(error).__name__
                pause = min(self._retry * 2**failures, self._most)
                failures = min(failures + 1, 16)
                _logger.warning("timestamp_failed", detail=detail, again_in_seconds=pause)


@contextmanager
def timestamping(sessions: sessionmaker[Session], shard: str, url: str | None, interval: float) -> Iterator[None]:
    """Have checkpoints stamped while the context lasts, where an authority is set."""
    if url is None:
        yield
        return
    thread = TimestampingThread(Timestamps(sessions, shard, url, interval))
    thread.start()
    try:
        yield
    finally:
        thread.stop()


# ---- parts ---------------------------------------------------------------------------------------------------------


def _decoded(token: bytes) -> TimeStampResponse:
    try:
        try:
            response = decode_timestamp_response(token)
        except ValueError:
            response = decode_timestamp_response(_sorted(token))
        status = PKIStatus(response.status)
        if status is PKIStatus.GRANTED:
            response.tst_info  # noqa: B018 - reads the token inside, which a grant must have
    except Exception as error:  # the parser has several errors of its own
        raise TimestampError("not a TimeStampResp in DER", code="timestamp_malformed") from error
    if status is not PKIStatus.GRANTED:
        raise TimestampError(f"an answer without a timestamp: {status.name.lower()}", code="timestamp_invalid")
    return response


def _sorted(token: bytes) -> bytes:
    """The same answer with its certificates in DER's order, which the verifier insists on and OpenSSL and others do not
    keep. Signed is none of it: the set of certificates stands beside what the signature covers (RFC 5652, section 5.1).
    """
    answer = tsp.TimeStampResp.load(token, strict=True)
    signed = answer["time_stamp_token"]["content"]
    signed["certificates"] = cms.CertificateSet(sorted(signed["certificates"], key=lambda each: each.dump()))
    return bytes(answer.dump())


def _check_imprint(response: TimeStampResponse, checkpoint_text: str) -> None:
    imprint = response.tst_info.message_imprint
    digest = hashlib.sha256(checkpoint_text.encode()).digest()
    if (imprint.hash_algorithm.dotted_string, imprint.message) != (SHA256_OID, digest):
        raise TimestampError("the timestamp is for something else than this checkpoint", code="timestamp_invalid")


def post_query(url: str, body: bytes) -> bytes:
    """What the authority answers to a TimeStampReq (RFC 3161, section 3.4), unread. Raises Unavailable `tsa_down`."""
    deadline = time.monotonic() + ANSWER_SECONDS
    answer = bytearray()
    try:
        # A proxy from the environment leads out of this machine; an authority on it is asked directly.
        beyond = httpx.URL(url).host not in {"localhost", "127.0.0.1", "::1"}
        with (
            httpx.Client(timeout=ANSWER_SECONDS / 2, trust_env=beyond) as client,
            client.stream("POST", url, content=body, headers={"Content-Type": "application/timestamp-query"}) as got,
        ):
            if got.status_code != 200:
                raise _down(f"answered {got.status_code}")
            for chunk in got.iter_raw():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES or time.monotonic() > deadline:
                    raise _down(f"gave {len(answer)} bytes and had not ended within {ANSWER_SECONDS:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _down(f"cannot be reached: {type(error).__name__}") from error
    return bytes(answer)


def _down(what: str) -> Unavailable:
    return Unavailable(
        f"The timestamp authority {what}.",
        code="tsa_down",
        next_step="It is asked again by itself; see that LAWFUL_TSA_URL names an RFC 3161 authority.",
    )
